"""From files of text to batches of token ids.

Notation:  B batch · T positions. A batch is T + 1 consecutive tokens a row: inputs are the first T, targets the last T.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SEPARATOR = "<|endoftext|>"  # how plain-text collections part their documents


@dataclass(frozen=True)
class Document:
    """One story: its text, the book it comes from, and the share of easy words where the source states it."""

    text: str
    book: str
    simple: float = 1.0


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a `.jsonl` file (fields text, title or source, simple), of a `.json` list of such rows, or of a
    `.txt` file parted by `<|endoftext|>`; each may be gzipped. Poems have `paragraphs` instead of a text: the lines.
    Raises ValueError for another ending, naming it.
    """
    stem = path.name.removesuffix(".gz")
    opener = gzip.open if path.name.endswith(".gz") else open
    if stem.endswith(".jsonl"):
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield _document(json.loads(line), path.name)
    elif stem.endswith(".json"):
        with opener(path, "rt", encoding="utf-8") as file:
            for row in json.load(file):
                yield _document(row, path.name)
    elif stem.endswith(".txt"):
        with opener(path, "rt", encoding="utf-8") as file:
            for i, text in enumerate(file.read().split(SEPARATOR)):
                if text.strip():
                    yield Document(text.strip(), f"{path.name}#{i}")
    else:
        raise ValueError(f"{path.name}: only .jsonl, .json and .txt files (also .gz) can be read")


def _document(row: dict[str, Any], file: str) -> Document:
    book = row.get("title") or row.get("source") or file
    if "text" in row:
        return Document(row["text"], book, float(row.get("simple", 1.0)))
    return Document("\n".join(row["paragraphs"]), f"{row.get('author', '')} {row.get('rhythmic') or book}")


def passages(text: str, length: int) -> Iterator[str]:
    """Cut a text at the ends of its paragraphs (lines) into passages of at least `length` characters, but for the last.

    A model that only ever saw a start token before whole books does not know how to begin in the middle of one; cut
    texts teach it, and a learner's own sentence is nothing else. length 0 leaves the text whole.

    >>> list(passages("One.\\nTwo.\\nThree.", 6))
    ['One.\\nTwo.', 'Three.']
    """
    taken: list[str] = []
    for line in text.split("\n") if length else [text]:
        taken.append(line)
        if length and sum(map(len, taken)) >= length:
            yield "\n".join(taken)
            taken = []
    if taken:
        yield "\n".join(taken)


def hash_share(name: str) -> float:
    """A number in [0, 1) made from a name: evenly spread, and the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def is_held_out(book: str, share: float) -> bool:
    """Whether a whole book belongs to the selection split: decided by a hash of its name, the same on every machine.

    >>> [is_held_out(name, 0.5) for name in ("Emma", "Heidi", "Alice")]
    [False, True, True]
    """
    return hash_share(book) < share


@dataclass(frozen=True)
class TokenStream:
    """Documents joined into one long row of tokens, a document-start token before each. token_ids uint16/int32 [N]."""

    token_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.token_ids)

    def batch(self, step: int, seed: int, batch_size: int, n_tokens: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets int64 [B T] of training step `step`; the same (step, seed) gives the same batch.

        Every epoch cuts the stream into windows at another offset and visits them in another order, so each token is
        predicted once an epoch, but for a rest shorter than two windows at the ends, another one each time. Nothing
        has to be remembered between steps: that is what makes a resumed run exact.
        Raises ValueError when the stream is shorter than one window.
        """
        windows = (len(self.token_ids) - 1) // n_tokens - 1  # one less, to leave room for the offset
        if windows < 1:
            raise ValueError(f"{len(self.token_ids)} tokens of text are too few for windows of {n_tokens}")
        rows = []
        for number in range(step * batch_size, (step + 1) * batch_size):
            epoch, place = divmod(number, windows)
            offset, order = _epoch_plan(seed, epoch, windows, n_tokens)
            start = offset + int(order[place]) * n_tokens
            rows.append(self.token_ids[start : start + n_tokens + 1].astype(np.int64))
        block = torch.from_numpy(np.stack(rows))
        return block[:, :-1], block[:, 1:]


@lru_cache(maxsize=2)  # a batch can straddle two epochs
def _epoch_plan(seed: int, epoch: int, windows: int, n_tokens: int) -> tuple[int, np.ndarray]:
    """The offset and the order in which one epoch visits the windows."""
    random = np.random.default_rng([seed, epoch])
    return int(random.integers(n_tokens)), random.permutation(windows)
