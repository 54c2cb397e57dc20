"""Byte-level byte-pair encoding (BPE): from text to token ids and back, every step readable.

Notation, from large to small:
    text       what the user typed                                  "low lower"
    pretoken   a piece no merge may cross (about a word)            "low", " lower"
    symbol     bytes that are one unit at this moment               b"l", b"o", b"w"  ->  b"low"
    merge      two neighbouring symbols become one; its rank is the order in which training found it
    token      a symbol when no merge is left; it has an id in the vocabulary
    span       the fewest neighbouring tokens that make whole characters (猫 takes three in GPT-2)

    text --pretokenize--> pretokens --UTF-8--> bytes --merges, lowest rank first--> tokens --vocabulary--> ids

Any text can be written, because each of the 256 bytes is a token: there is no "unknown".

Sources:  Sennrich, Haddow & Birch 2016, "Neural Machine Translation of Rare Words with Subword Units": merges.
          Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2), section 2.2: bytes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import regex

from lm_core.bpe_merges import learn_merges, merge_pair
from lm_core.token_spans import TokenSpan, byte_alphabet, group_pieces, label_spans

Pair = tuple[bytes, bytes]

# GPT-2's rule: English endings; a run of letters, of digits, or of other signs, each with at most one space
# in front; white space, leaving its last character to the word that follows.
# Which characters are letters follows the Unicode table of the library: for signs newer than Unicode 14 the Rust
# path may cut otherwise; a test holds the two together on the rest.
PRETOKEN = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


# --- text to pretokens to bytes ---------------------------------------------------------------------------------------


def well_formed(text: str) -> str:
    """The text as UTF-8 can hold it: a surrogate pair becomes its character, a lone surrogate becomes U+FFFD.

    Half characters reach Python from JSON ("\\ud83d"); UTF-8 has no bytes for them. Browsers repair text the same way.

    >>> well_formed("cat \\ud83d\\ude00") == "cat 😀", well_formed("cat \\ud83d") == "cat \\ufffd"
    (True, True)
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def pretokenize(text: str) -> list[str]:
    """Cut text into the pieces within which merges may happen; joined, they give the text again.

    >>> pretokenize("It's 3 cats,  ok")
    ['It', "'s", ' 3', ' cats', ',', ' ', ' ok']
    """
    return PRETOKEN.findall(well_formed(text))


def split_specials(text: str, special_tokens: Iterable[str]) -> list[str]:
    """Cut text before and after each special token; of two that start at one place the longer wins.

    >>> split_specials("a<|end|>b", ["<|end|>"])
    ['a', '<|end|>', 'b']
    """
    longest_first = sorted(special_tokens, key=len, reverse=True)
    if not longest_first:
        return [text] if text else []
    return [part for part in regex.split("(" + "|".join(map(regex.escape, longest_first)) + ")", text) if part]


# --- the tokenizer ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MergeStep:
    """One merge within a pretoken: the pair, its rank (0 = learned first), and the symbols after it."""

    pair: Pair
    rank: int
    symbols: tuple[bytes, ...]


@dataclass(frozen=True)
class MergeTrace:
    """How one pretoken became tokens: `start` is its single bytes, `steps` the merges in order, `token_ids` the end."""

    pretoken: str
    start: tuple[bytes, ...]
    steps: tuple[MergeStep, ...]
    token_ids: tuple[int, ...]


class BPETokenizer:
    """A byte-level BPE vocabulary with its merges: encode, decode, and every step between.

    vocab           bytes -> id, all 256 single bytes among them; without the special tokens
    merges          the pairs in the order learned: position = rank
    special_tokens  text -> id; they stand for no bytes and are found in text only on request
    Errors: ValueError where a byte or the result of a merge has no id, or two tokens share one.

    >>> tokenizer = train_bpe(["low low low lower lower"], 260, ["<|end|>"])
    >>> tokenizer.encode("lower low"), tokenizer.labels(tokenizer.encode("lower low"))
    ([258, 69, 82, 259], ['low', 'e', 'r', '␣low'])
    """

    def __init__(
        self, vocab: Mapping[bytes, int], merges: Sequence[Pair], special_tokens: Mapping[str, int] | None = None
    ) -> None:
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.special_tokens = dict(special_tokens or {})
        self.ranks: dict[Pair, int] = {}
        for rank, pair in enumerate(self.merges):
            self.ranks.setdefault(pair, rank)
        self._pieces: dict[int, bytes | str] = {token_id: token for token, token_id in self.vocab.items()}
        self._pieces.update({token_id: special for special, token_id in self.special_tokens.items()})
        self._check()
        self._encode_pretoken = lru_cache(maxsize=1 << 16)(self._encode_pretoken_anew)  # words come back

    def _check(self) -> None:
        missing = [byte for byte in range(256) if bytes([byte]) not in self.vocab]
        if missing:
            raise ValueError(f"{len(missing)} of the 256 bytes have no token (the first: 0x{missing[0]:02x})")
        if "" in self.special_tokens:
            raise ValueError("a special token has an empty name")
        if len(self._pieces) != len(self.vocab) + len(self.special_tokens):
            raise ValueError("two tokens share one id")
        for rank, (left, right) in enumerate(self.merges):
            if not {left, right, left + right} <= self.vocab.keys():
                raise ValueError(f"merge {rank} ({left!r} + {right!r}) uses or makes a token that has no id")

    @property
    def vocab_size(self) -> int:
        """Rows an embedding needs: the highest id + 1."""
        return max(self._pieces) + 1

    @property
    def bos_id(self) -> int | None:
        """The document-start token: GPT-2's `<|endoftext|>`, which stands between documents, or None."""
        return self.special_tokens.get("<|endoftext|>")

    eos_id = bos_id  # the end of one document is the start of the next

    def merge_steps(self, pretoken: str) -> MergeTrace:
        """Merge one pretoken: while any neighbours form a known pair, merge the pair of lowest rank.

        Rank decides, not position: the pair learned first goes first, wherever it stands.

        >>> tokenizer = train_bpe(["low low low lower lower"], 259)
        >>> [(step.pair, step.rank) for step in tokenizer.merge_steps("slow").steps]
        [((b'o', b'w'), 0), ((b'l', b'ow'), 1)]
        """
        start = tuple(bytes([byte]) for byte in well_formed(pretoken).encode())
        symbols: Sequence[bytes] = start
        steps: list[MergeStep] = []
        while known := [pair for pair in pairwise(symbols) if pair in self.ranks]:
            left, right = min(known, key=self.ranks.__getitem__)
            symbols = tuple(merge_pair(symbols, left, right, left + right))
            steps.append(MergeStep((left, right), self.ranks[left, right], symbols))
        return MergeTrace(pretoken, start, tuple(steps), tuple(self.vocab[symbol] for symbol in symbols))

    def _encode_pretoken_anew(self, pretoken: str) -> tuple[int, ...]:
        return self.merge_steps(pretoken).token_ids

    def encode_steps(self, text: str) -> list[MergeTrace]:
        """Encode text and keep every step: one `MergeTrace` a pretoken. Special tokens are read as plain text.

        >>> [trace.token_ids for trace in train_bpe([], 256).encode_steps("ab c")]
        [(64, 65), (220, 66)]
        """
        return [self.merge_steps(pretoken) for pretoken in pretokenize(text)]

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Text -> token ids.

        With allow_special, `<|endoftext|>` in the text becomes its one id; without, it is plain text, so that
        what a user types can never end a document.

        >>> tokenizer = train_bpe([], 257, ["<|end|>"])
        >>> tokenizer.encode("a<|end|>", allow_special=True), len(tokenizer.encode("a<|end|>"))
        ([65, 0], 8)
        """
        token_ids: list[int] = []
        for part in split_specials(text, self.special_tokens) if allow_special else [text]:
            if allow_special and part in self.special_tokens:
                token_ids.append(self.special_tokens[part])
            else:
                for pretoken in pretokenize(part):
                    token_ids.extend(self._encode_pretoken(pretoken))
        return token_ids

    def piece(self, token_id: int) -> bytes | str:
        """What one id stands for: bytes, or the name (str) of a special token. ValueError for an unknown id.

        >>> train_bpe([], 257, ["<|end|>"]).piece(0)
        '<|end|>'
        """
        try:
            return self._pieces[token_id]
        except KeyError:
            raise ValueError(f"token id {token_id} is not in this vocabulary of {len(self._pieces)} tokens") from None

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one id stands for; for a special token, its name in UTF-8. ValueError for an unknown id.

        >>> train_bpe([], 256).token_bytes(64)
        b'a'
        """
        piece = self.piece(token_id)
        return piece.encode() if isinstance(piece, str) else piece

    def spans(self, token_ids: Iterable[int]) -> tuple[TokenSpan, ...]:
        """Token ids -> spans of whole characters.

        >>> tokenizer = train_bpe([], 256)
        >>> [(span.start, span.end, span.text) for span in tokenizer.spans(tokenizer.encode("a猫"))]
        [(0, 1, 'a'), (1, 4, '猫')]
        """
        return group_pieces([self.piece(token_id) for token_id in token_ids])

    def decode(self, token_ids: Iterable[int]) -> str:
        r"""Token ids -> text. Bytes that are no UTF-8 are written `\xe7`; special tokens by their names.

        >>> tokenizer = train_bpe([], 256)
        >>> tokenizer.decode(tokenizer.encode("猫")), tokenizer.decode(tokenizer.encode("猫")[:1])
        ('猫', '\\xe7')
        """
        return "".join(span.text for span in self.spans(token_ids))

    def labels(self, token_ids: Iterable[int]) -> list[str]:
        """One short, visible label a token (see `label_spans`).

        >>> tokenizer = train_bpe([], 256)
        >>> tokenizer.labels(tokenizer.encode(" 猫"))
        ['␣', '猫¹⁄₃', '猫²⁄₃', '猫³⁄₃']
        """
        return label_spans(self.spans(token_ids))


# --- training ---------------------------------------------------------------------------------------------------------


def count_pretokens(texts: Iterable[str], special_tokens: Sequence[str] = ()) -> Counter[str]:
    """How often each pretoken occurs. Special tokens are cut out: no merge is learned from them or across them.

    >>> count_pretokens(["a cat<|end|>a dog"], ["<|end|>"])
    Counter({'a': 2, ' cat': 1, ' dog': 1})
    """
    counts: Counter[str] = Counter()
    for text in texts:
        for part in split_specials(text, special_tokens):
            if part not in special_tokens:
                counts.update(pretokenize(part))
    return counts


def train_bpe(texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()) -> BPETokenizer:
    """Learn a vocabulary: begin with the 256 bytes; again and again merge the most frequent pair (`learn_merges`).

    Ids: special tokens, then the bytes in GPT-2's order (`byte_alphabet`), then one new token a merge.
    The vocabulary is smaller than asked if nothing is left to merge. ValueError if vocab_size < 256 + specials.

    >>> tokenizer = train_bpe(["low low low lower lower"], vocab_size=259)
    >>> tokenizer.merges
    [(b'o', b'w'), (b'l', b'ow'), (b' ', b'low')]
    """
    specials = list(dict.fromkeys(special_tokens))
    if vocab_size < 256 + len(specials):
        raise ValueError(f"vocab_size {vocab_size} is below 256 bytes + {len(specials)} special tokens")
    counts = count_pretokens(texts, specials)
    merges = learn_merges({word.encode(): count for word, count in counts.items()}, vocab_size - 256 - len(specials))
    tokens = [bytes([byte]) for byte in byte_alphabet()] + [left + right for left, right in merges]
    vocab = {token: token_id for token_id, token in enumerate(dict.fromkeys(tokens), start=len(specials))}
    return BPETokenizer(vocab, merges, {special: token_id for token_id, special in enumerate(specials)})
