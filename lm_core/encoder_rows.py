"""Rows for an encoder, cut out of a long stream of tokens: [CLS] text [SEP], or [CLS] A [SEP] B [SEP].

Notation:  N tokens of the stream · T positions of a row.

A learner types a sentence, not the middle of one. So a row begins where a sentence begins, without the space before it,
and ends where a sentence ends. A pair is cut at the beginning of a sentence: B is what follows A, or it begins at
another sentence of the stream, one time in two. Either way B is drawn from the same places, so nothing but the
meaning tells which it is.  Devlin et al. 2019, section 3.1 (task 2).
"""

from dataclasses import dataclass

import numpy as np

from lm_core.token_kinds import TokenKinds

IS_NEXT, NOT_NEXT, NO_PAIR = 0, 1, -100  # BERT's classes, and the label that cross-entropy skips


@dataclass(frozen=True)
class Frame:
    """The ids of the special tokens an encoder needs."""

    pad: int
    cls: int
    sep: int
    mask: int

    @classmethod
    def of(cls, special_tokens: dict[str, int]) -> "Frame":
        """Read off a tokenizer's special tokens. Raises ValueError naming the one that is missing.

        >>> Frame.of({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[MASK]": 3}).mask
        3
        """
        names = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
        if missing := [name for name in names if name not in special_tokens]:
            raise ValueError(f"this tokenizer has no {missing[0]}, which an encoder needs")
        return cls(*(special_tokens[name] for name in names))


@dataclass(frozen=True)
class Row:
    """One row without padding: token_ids int64 [T], segments [T] (0 for A and its frame, 1 for B and the last [SEP]),
    and the answer to "does B follow A?": IS_NEXT, NOT_NEXT or NO_PAIR.
    """

    token_ids: np.ndarray
    segments: np.ndarray
    is_next: int


class SentenceStream:
    """A stream of documents that knows where its sentences begin.

    token_ids uint16/int32 [N]: documents one after the other, a special token before each.
    Raises ValueError for a stream without any sentence.
    """

    def __init__(self, token_ids: np.ndarray, kinds: TokenKinds) -> None:
        self.token_ids, self.kinds = token_ids, kinds
        self.starts = np.flatnonzero(kinds.begins_sentence(token_ids))
        self.edges = np.append(np.flatnonzero(kinds.special[token_ids]), len(token_ids))  # documents lie between them
        if not len(self.starts):
            raise ValueError(f"no sentence begins in these {len(token_ids)} tokens")

    def draw_start(self, random: np.random.Generator) -> int:
        """The first sentence after a place drawn evenly from the stream: long texts are visited more often."""
        place = random.integers(len(self.token_ids))
        return int(self.starts[np.searchsorted(self.starts, place) % len(self.starts)])

    def after(self, start: int, most: int) -> np.ndarray:
        """At most `most` tokens from `start` to the last end of a sentence among them; cut hard if there is none."""
        edge = int(self.edges[np.searchsorted(self.edges, start, side="right")])
        if (end := start + most) < edge:
            stop = int(self.starts[np.searchsorted(self.starts, end, side="right") - 1])
            edge = stop if stop > start else end
        return self._clean(start, edge)

    def before(self, end: int, most: int) -> np.ndarray:
        """At most `most` tokens up to `end`, from the first sentence that begins within them; empty at a document's
        beginning.
        """
        document = np.searchsorted(self.edges, end) - 1
        first = max(end - most, int(self.edges[document]) + 1 if document >= 0 else 0)
        begin = int(self.starts[np.searchsorted(self.starts, first)])
        return self._clean(begin if begin < end else first, end)

    def _clean(self, start: int, end: int) -> np.ndarray:
        """A copy without newlines at its end and without the space at its beginning."""
        while end > start + 1 and self.kinds.newline[self.token_ids[end - 1]]:
            end -= 1
        text = self.token_ids[start:end].astype(np.int64)
        text[:1] = self.kinds.without_space[text[:1]]
        return text

    def single(self, random: np.random.Generator, n_tokens: int, frame: Frame) -> Row:
        """[CLS] text [SEP], at most n_tokens long."""
        text = self.after(self.draw_start(random), n_tokens - 2)
        token_ids = np.concatenate([[frame.cls], text, [frame.sep]])
        return Row(token_ids, np.zeros_like(token_ids), NO_PAIR)

    def pair(self, random: np.random.Generator, n_tokens: int, frame: Frame) -> Row:
        """[CLS] A [SEP] B [SEP], at most n_tokens long; A takes a quarter to three quarters of the room.

        At a document's beginning there is no A: then the row is a single one.
        """
        place, other = self.draw_start(random), self.draw_start(random)
        room = n_tokens - 3
        for_a = int(random.integers(room // 4, 3 * room // 4 + 1))
        is_next = IS_NEXT if random.random() < 0.5 else NOT_NEXT
        a = self.before(place, for_a)
        if not len(a):
            return self.single(random, n_tokens, frame)
        b = self.after(place if is_next == IS_NEXT else other, room - len(a))
        token_ids = np.concatenate([[frame.cls], a, [frame.sep], b, [frame.sep]])
        segments = np.repeat([0, 1], [len(a) + 2, len(b) + 1])
        return Row(token_ids, segments, is_next)
