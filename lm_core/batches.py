"""Texts as batches to learn from, for both tasks.

Notation:  B batch · T positions · C classes.

Batch number n is a pure function of (n, seed): nothing has to be remembered between steps, so a resumed run meets the
same batches. Tokens that only fill a row up are never learned from and never counted.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lm_core.data import SEPARATOR, Example, TokenStream
from lm_core.fast_tokenizer import Tokenizer
from lm_core.labels import check_labels, split_examples

IGNORED = -100  # a target that no loss counts: torch's own number for it


@dataclass(frozen=True)
class Batch:
    """token_ids int64 [B T], filled up on the right; lengths int64 [B]; targets int64: [B T] next tokens (`IGNORED`
    where there is none), or the classes [B]. n_tokens counts real tokens, n_targets what the loss is a mean over.
    """

    token_ids: Tensor
    lengths: Tensor
    targets: Tensor
    n_tokens: int
    n_targets: int

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        ids, lengths, targets = (t.to(device, non_blocking=True) for t in (self.token_ids, self.lengths, self.targets))
        return Batch(ids, lengths, targets, self.n_tokens, self.n_targets)


def fill_up(rows: Sequence[Sequence[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """(token_ids [B T], lengths [B]) of rows of unequal length, `value` on the right of the shorter ones.

    >>> fill_up([[5, 6, 7], [8]])
    (tensor([[5, 6, 7],
            [8, 0, 0]]), tensor([3, 1]))
    """
    lengths = torch.tensor([len(row) for row in rows])
    block = np.full((len(rows), int(lengths.max())), value, dtype=np.int64)
    for line, row in zip(block, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(block), lengths


# --- causal -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CausalData:
    """A text to continue: windows of n_tokens of its training part, and a validation part that is scored whole."""

    train: TokenStream
    validation: TokenStream
    n_tokens: int

    @property
    def n_units(self) -> int:
        """How many windows an epoch has."""
        return (len(self.train) - 1) // self.n_tokens - 1

    @property
    def fingerprint(self) -> str:
        """A hash of every token: a resumed run must go on with the same data."""
        return _hash(self.train.token_ids, self.validation.token_ids, np.array([self.n_tokens]))

    def batch(self, number: int, seed: int, batch_size: int) -> Batch:
        """Training batch `number`: batch_size windows, see `TokenStream.batch`."""
        inputs, targets = self.train.batch(number, seed, batch_size, self.n_tokens)
        lengths = torch.full((batch_size,), self.n_tokens)
        return Batch(inputs, lengths, targets, inputs.numel(), inputs.numel())

    def validation_batches(self, batch_size: int, at_most: int = 0) -> Iterator[Batch]:
        """The validation part in windows side by side, so that every token but the first is predicted once.

        at_most > 0 ends after so many batches: the same ones each time.
        """
        ids, t = self.validation.token_ids.astype(np.int64), self.n_tokens
        rows = [ids[start : start + t + 1].tolist() for start in range(0, len(ids) - 1, t)]
        for at in range(0, len(rows), batch_size)[: at_most or None]:
            block, lengths = fill_up(rows[at : at + batch_size])
            real = torch.arange(block.shape[1] - 1) < (lengths - 1)[:, None]
            targets = block[:, 1:].masked_fill(~real, IGNORED)
            n = int(real.sum())
            yield Batch(block[:, :-1], lengths - 1, targets, n, n)


def text_stream(documents: Sequence[str], tokenizer: Tokenizer) -> TokenStream:
    """Documents as one row of tokens, a document-start token before each where the model has one."""
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ids = [token for text in documents for token in (*start, *tokenizer.encode(text))]
    return TokenStream(np.array(ids, dtype=np.int32))


def split_text(text: str, share: float) -> tuple[list[str], list[str]]:
    """(train, validation): documents parted by `<|endoftext|>`, the last `share` kept; one document is cut at a line.

    Raises ValueError when there is nothing to part: a single line.

    >>> split_text("one\\ntwo\\nthree\\nfour", 0.25)
    (['one\\ntwo\\nthree'], ['four'])
    """
    documents = [document.strip("\n") for document in text.split(SEPARATOR) if document.strip()]
    if len(documents) >= 2:
        cut = len(documents) - max(1, round(share * len(documents)))
        return documents[:cut], documents[cut:]
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 2:
        raise ValueError("the text is a single line: some of it must be kept for validation, so give it at least two")
    cut = len(lines) - max(1, round(share * len(lines)))
    return ["\n".join(lines[:cut])], ["\n".join(lines[cut:])]


def causal_data(train: Sequence[str], validation: Sequence[str], tokenizer: Tokenizer, n_tokens: int) -> CausalData:
    """Documents ready to learn from. Raises ValueError, with the numbers, where they are too short for one window."""
    stream, kept = text_stream(train, tokenizer), text_stream(validation, tokenizer)
    if len(stream) < 2 * n_tokens + 1:
        most = (len(stream) - 1) // 2
        advice = f"paste more text, or set n_tokens to {most} or less" if most >= 8 else "paste more text"
        raise ValueError(
            f"the text has {len(stream)} training tokens; windows of {n_tokens} need {2 * n_tokens + 1}: {advice}"
        )
    if len(kept) < 2:
        raise ValueError(f"{len(kept)} validation tokens are too few to measure on: at least 2")
    return CausalData(stream, kept, n_tokens)


# --- classification ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledData:
    """Tokenized texts with the number of their class; `labels` names the classes in that order."""

    train: tuple[tuple[list[int], int], ...]
    validation: tuple[tuple[list[int], int], ...]
    labels: tuple[str, ...]
    n_cut: int = 0  # texts that were longer than the model sees, cut at the end
    _orders: dict[tuple[int, int, int], np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def n_units(self) -> int:
        """How many training texts there are."""
        return len(self.train)

    @property
    def fingerprint(self) -> str:
        """A hash of every token and class: a resumed run must go on with the same data."""
        rows = (*self.train, *self.validation)
        flat = np.array([n for ids, label in rows for n in (label, len(ids), *ids)], dtype=np.int64)
        return _hash(flat, np.frombuffer(repr((len(self.train), self.labels)).encode(), dtype=np.uint8))

    def batch(self, number: int, seed: int, batch_size: int) -> Batch:
        """Training batch `number`: texts of about equal length, so that little is filled up.

        An epoch is shuffled, cut into pools of 50 batches, each pool sorted by length and cut into batches, which come
        in random order. A rest smaller than a batch waits for the next epoch, another one each time.
        """
        epoch, place = divmod(number, len(self.train) // batch_size)
        key = (seed, epoch, batch_size)
        if key not in self._orders:
            self._orders.clear()  # one epoch is enough to remember
            self._orders[key] = grouped_order([len(ids) for ids, _ in self.train], seed, epoch, batch_size)
        return _labelled_batch([self.train[i] for i in self._orders[key][place]])

    def validation_batches(self, batch_size: int, at_most: int = 0) -> Iterator[Batch]:
        """Every validation text once, the shortest first; at_most > 0: a sample of so many batches, always the same."""
        rows = self.validation
        if 0 < at_most * batch_size < len(rows):
            chosen = np.random.default_rng(0).permutation(len(rows))[: at_most * batch_size]
            rows = tuple(rows[i] for i in chosen)
        ordered = sorted(rows, key=lambda row: len(row[0]))
        for at in range(0, len(ordered), batch_size):
            yield _labelled_batch(ordered[at : at + batch_size])


def _labelled_batch(rows: Sequence[tuple[list[int], int]]) -> Batch:
    token_ids, lengths = fill_up([ids for ids, _ in rows])
    targets = torch.tensor([label for _, label in rows])
    return Batch(token_ids, lengths, targets, int(lengths.sum()), len(rows))


def grouped_order(lengths: Sequence[int], seed: int, epoch: int, batch_size: int) -> np.ndarray:
    """int [batches B]: which texts make up each batch of an epoch, see `LabelledData.batch`.

    >>> sorted(grouped_order([3, 9, 3, 9], seed=1, epoch=0, batch_size=2).tolist())
    [[0, 2], [1, 3]]
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))[: len(lengths) // batch_size * batch_size]
    measured, pool = np.array(lengths)[order], 50 * batch_size
    for at in range(0, len(order), pool):
        part = slice(at, at + pool)
        order[part] = order[part][np.argsort(measured[part], kind="stable")]
    batches = order.reshape(-1, batch_size)
    return batches[random.permutation(len(batches))]


def labelled_data(
    train: Sequence[Example],
    validation: Sequence[Example],
    tokenizer: Tokenizer,
    n_tokens: int,
    frame: tuple[Sequence[int], Sequence[int]] = ((), ()),
) -> LabelledData:
    """Examples ready to learn from; `frame` is what the model puts before and after a text ([start]; [CLS] … [SEP]).

    Texts longer than n_tokens with their frame lose their end. Raises ValueError as `labels.check_labels`, and when
    there is nothing to validate on.
    """
    labels = check_labels(train, validation)
    if not validation:
        raise ValueError("there are no validation examples: some must be kept to measure on")
    room, n_cut = n_tokens - len(frame[0]) - len(frame[1]), 0
    if room < 1:
        raise ValueError(f"n_tokens {n_tokens} leaves no room for a text")
    parts: list[tuple[tuple[list[int], int], ...]] = []
    for examples in (train, validation):
        rows = []
        for example in examples:
            ids = tokenizer.encode(example.text)
            n_cut += len(ids) > room
            rows.append(([*frame[0], *ids[:room], *frame[1]], labels.index(example.label)))
        parts.append(tuple(rows))
    return LabelledData(parts[0], parts[1], labels, n_cut)


def parts_of(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """(train, validation) as the file's own `split` column says, else by `labels.split_examples`."""
    if any(example.part for example in examples):
        train = [example for example in examples if example.part == "train"]
        return train, [example for example in examples if example.part in ("validation", "dev")]
    return split_examples(examples, share)


def _hash(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
