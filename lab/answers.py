"""A classifier's answers on a few sentences: at a threshold, counted, and compared with its answers before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lm_core.metrics import classification_report


@dataclass(frozen=True)
class Answers:
    """texts, their true class (an index into `labels`), and the probability of every class: probabilities [N C]."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    true: NDArray[np.int64]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Answers at one threshold: `answer` [N] class indices; confusion [C C], rows true; the rest goes by class."""

    answer: NDArray[np.int64]
    confusion: NDArray[np.int64]
    accuracy: float
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]

    @property
    def standard_error(self) -> float:
        """Of the accuracy: √(a (1 − a) / N)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / len(self.answer))


@dataclass(frozen=True)
class Flip:
    """A sentence whose answer changed; `probability` is that of the answer now."""

    text: str
    true: str
    before: str
    now: str
    probability: float


def read(kept: Mapping[str, Any]) -> Answers:
    """From a probe's `predictions`; `true` may hold labels or their indices. Raises ValueError where sizes differ."""
    labels = tuple(str(label) for label in kept["labels"])
    true = np.array([labels.index(v) if isinstance(v, str) else int(v) for v in kept["true"]], dtype=np.int64)
    probabilities = np.asarray(kept["probabilities"], dtype=np.float64)
    if probabilities.shape != (len(kept["texts"]), len(labels)) or len(true) != len(probabilities):
        raise ValueError(f"{len(kept['texts'])} texts, {len(true)} classes, probabilities {probabilities.shape}")
    return Answers(tuple(kept["texts"]), labels, true, probabilities)


def judge(found: Answers, threshold: float | None = None) -> Judged:
    """The answers and every measure. With two classes the second one above `threshold`; else the likeliest.

    At exactly one half the first class is the answer, as in `finetune.validate`.

    >>> kept = {"texts": ["a", "b"], "labels": ["no", "yes"], "true": [0, 1], "probabilities": [[0.4, 0.6], [0.1, 0.9]]}
    >>> judge(read(kept), 0.5).accuracy, judge(read(kept), 0.7).accuracy
    (0.5, 1.0)
    """
    if threshold is None:
        answer = found.probabilities.argmax(axis=1)
    else:
        answer = (found.probabilities[:, 1] > threshold).astype(np.int64)
    report = classification_report(torch.from_numpy(found.true), torch.from_numpy(answer), len(found.labels))
    return Judged(
        answer, np.array(report.confusion), report.accuracy, report.precision, report.recall, report.f1
    )  # fmt: skip


def flipped(found: Answers, before: Judged, now: Judged) -> list[Flip]:
    """The sentences with another answer than before: those that are right now, then the rest, the surest first."""
    flips = [
        Flip(
            found.texts[i], found.labels[found.true[i]], found.labels[before.answer[i]], found.labels[now.answer[i]],
            float(found.probabilities[i, now.answer[i]]),
        )
        for i in np.flatnonzero(before.answer != now.answer)
    ]  # fmt: skip
    return sorted(flips, key=lambda f: (f.now != f.true, -f.probability))
