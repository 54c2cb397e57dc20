"""Where words and sentences begin in a row of byte-level tokens, read off the tokens themselves.

Notation:  V vocab_size · N tokens of a stream.

A word here is what the tokenizer never merges across (a pretoken): a run of letters, of digits or of other signs, with
the space before it; a newline is a word of its own. Sentences end at . ! ? and whatever quotation marks close after it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import regex

from lm_core.fast_tokenizer import Tokenizer

SPACE, LETTER, DIGIT, SIGN = range(4)
SENTENCE_END = regex.compile(r"[.!?]\p{P}*$")
CLOSING = regex.compile(r"[\p{Pe}\p{Pf}\"']+")


def _class_of(byte_text: bytes, last: bool) -> int:
    text = byte_text.decode("utf-8", "ignore")  # half a character leaves nothing: a sign
    character = text[-1:] if last else text[:1]
    if character.isspace():
        return SPACE
    return LETTER if character.isalpha() else DIGIT if character.isnumeric() else SIGN


@dataclass(frozen=True)
class TokenKinds:
    """What each token of a vocabulary says about words and sentences; every field is an array [V].

    spaced: it begins with a space.  newline: it is white space with a newline in it.
    continues: its first byte continues a character.  special: it stands for no text.
    first, last: class of its first character after the space, and of its last.  small: the first is a small letter.
    ends_sentence, closes: it ends in . ! ? (and quotes), or is closing quotes only.
    without_space: the id of the same token without its space, or its own id where there is none.
    """

    spaced: np.ndarray
    newline: np.ndarray
    continues: np.ndarray
    first: np.ndarray
    last: np.ndarray
    small: np.ndarray
    ends_sentence: np.ndarray
    closes: np.ndarray
    special: np.ndarray
    without_space: np.ndarray

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "TokenKinds":
        """The table of a byte-level tokenizer.

        >>> from lm_core.tokenizer import train_bpe
        >>> tokenizer = train_bpe(["a cat"] * 2, 260, ["[SEP]"])
        >>> kinds = TokenKinds.of(tokenizer)
        >>> kinds.spaced[tokenizer.encode(" cat")].tolist()
        [True]
        """
        specials = set(tokenizer.special_tokens.values())
        pieces = [b"" if i in specials else tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        bare = [piece.removeprefix(b" ") for piece in pieces]
        texts = [piece.decode("utf-8", "ignore") for piece in bare]
        id_of = {piece: i for i, piece in enumerate(pieces) if piece}
        return cls(
            spaced=_flags(piece.startswith(b" ") for piece in pieces),
            newline=_flags(b"\n" in piece and not piece.strip() for piece in pieces),
            continues=_flags(bool(piece) and piece[0] & 0b1100_0000 == 0b1000_0000 for piece in pieces),
            first=np.array([_class_of(piece or b" ", last=False) for piece in bare], dtype=np.int8),
            last=np.array([_class_of(piece or b" ", last=True) for piece in bare], dtype=np.int8),
            small=_flags(text[:1].islower() for text in texts),
            ends_sentence=_flags(bool(SENTENCE_END.search(text)) for text in texts),
            closes=_flags(bool(CLOSING.fullmatch(text)) for text in texts),
            special=_flags(i in specials for i in range(len(pieces))),
            without_space=np.array([id_of.get(piece, i) for i, piece in enumerate(bare)]),
        )

    def begins_word(self, token_ids: np.ndarray) -> np.ndarray:
        """Whether each token begins a word. token_ids int [... T] -> bool [... T]; the first always does.

        >>> from lm_core.tokenizer import train_bpe
        >>> tokenizer = train_bpe([], 256)
        >>> kinds = TokenKinds.of(tokenizer)
        >>> kinds.begins_word(np.array(tokenizer.encode("it's 42"))).astype(int).tolist()
        [1, 0, 1, 1, 1, 1, 0]
        """
        changes = np.ones(token_ids.shape, dtype=bool)
        changes[..., 1:] = self.first[token_ids[..., 1:]] != self.last[token_ids[..., :-1]]
        begins = self.spaced[token_ids] | self.newline[token_ids] | self.special[token_ids] | changes
        begins &= ~self.continues[token_ids]
        begins[..., :1] = True
        return begins

    def begins_sentence(self, token_ids: np.ndarray) -> np.ndarray:
        """Whether a sentence begins at each token of a stream: int [N] -> bool [N].

        It does after a newline or a special token, and after . ! ? when a space and no small letter follow.

        >>> from lm_core.tokenizer import train_bpe
        >>> tokenizer = train_bpe([], 256)
        >>> ids = np.array(tokenizer.encode('"Who?" asked I. No.'))
        >>> tokenizer.decode(ids[np.flatnonzero(TokenKinds.of(tokenizer).begins_sentence(ids))[-1] :])
        ' No.'
        """
        ids = np.asarray(token_ids)
        before = np.concatenate([ids[:1], ids[:-1]])
        two_before = np.concatenate([before[:1], before[:-1]])
        ended = self.ends_sentence[before] | (self.closes[before] & self.ends_sentence[two_before])
        fresh = self.newline[before] | self.special[before]
        fresh[:1] = True
        text = ~self.newline[ids] & ~self.special[ids]
        return text & (fresh | (ended & self.spaced[ids] & ~self.small[ids]))


def _flags(values: Iterable[bool]) -> np.ndarray:
    return np.fromiter(values, dtype=bool)
