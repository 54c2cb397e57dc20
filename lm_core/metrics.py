"""How well a classifier does, and how much a computation takes.

Notation:  N examples · C classes. Losses are in nats, `perplexity` is exp(nats a token).
Everything about a classifier is read off its confusion matrix, so that each measure shows what it counts.
"""

import math
import sys
from dataclasses import dataclass

import torch
from torch import Tensor


def perplexity(loss_nats: float) -> float:
    """exp(mean loss): as undecided as among this many equally likely answers; inf where that is beyond a float.

    >>> round(perplexity(math.log(8.0)), 6)
    8.0
    """
    return math.inf if loss_nats > 709 else math.exp(loss_nats)


def confusion_matrix(labels: Tensor, predictions: Tensor, n_classes: int) -> Tensor:
    """How often each true class (row) was called each class (column): int64 [C C].

    labels, predictions int [N]. Raises ValueError when they differ in length, are empty, or hold no class 0 … C−1.

    >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    if labels.shape != predictions.shape or labels.dim() != 1 or not len(labels):
        raise ValueError(f"need as many labels as predictions, at least one: {len(labels)} and {len(predictions)}")
    both = torch.stack([labels, predictions]).long()
    if both.min() < 0 or both.max() >= n_classes:
        raise ValueError(f"classes must lie in 0 … {n_classes - 1}; found {int(both.min())} … {int(both.max())}")
    return torch.bincount(both[0] * n_classes + both[1], minlength=n_classes**2).view(n_classes, n_classes)


def accuracy(confusion: Tensor) -> float:
    """The share that was called what it is: the diagonal over all.

    >>> accuracy(torch.tensor([[1, 1], [0, 2]]))
    0.75
    """
    return float(confusion.diagonal().sum() / confusion.sum())


def precision(confusion: Tensor) -> Tensor:
    """For each class: of those called so, the share that are. float64 [C]; 0 where nothing was called so.

    >>> precision(torch.tensor([[1, 1], [0, 2]]))
    tensor([1.0000, 0.6667], dtype=torch.float64)
    """
    return _share(confusion.diagonal(), confusion.sum(dim=0))


def recall(confusion: Tensor) -> Tensor:
    """For each class: of those that are, the share called so. float64 [C]; 0 where there are none.

    >>> recall(torch.tensor([[1, 1], [0, 2]]))
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    return _share(confusion.diagonal(), confusion.sum(dim=1))


def f1(confusion: Tensor) -> Tensor:
    """For each class the harmonic mean of precision and recall, `2·P·R/(P + R)`. float64 [C]; 0 where both are 0.

    The shortest way there: twice the hits over (called so + are so).  van Rijsbergen 1979, with β = 1.

    >>> f1(torch.tensor([[1, 1], [0, 2]]))
    tensor([0.6667, 0.8000], dtype=torch.float64)
    """
    return _share(2 * confusion.diagonal(), confusion.sum(dim=0) + confusion.sum(dim=1))


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part.double() / whole.clamp(min=1), 0.0)


@dataclass(frozen=True)
class ClassificationReport:
    """Every measure of a classifier on N examples: `confusion` rows are true classes; lists go by class."""

    n_examples: int
    accuracy: float
    macro_f1: float
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]


def classification_report(labels: Tensor, predictions: Tensor, n_classes: int) -> ClassificationReport:
    """All measures at once. macro_f1 is the plain mean over the classes that occur (as label or prediction).

    >>> classification_report(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2).macro_f1
    0.6666666666666666
    """
    confusion = confusion_matrix(labels, predictions, n_classes)
    occurs = (confusion.sum(dim=0) + confusion.sum(dim=1)) > 0
    return ClassificationReport(
        n_examples=len(labels),
        accuracy=accuracy(confusion),
        macro_f1=float(f1(confusion)[occurs].mean()),
        precision=tuple(precision(confusion).tolist()),
        recall=tuple(recall(confusion).tolist()),
        f1=tuple(f1(confusion).tolist()),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most memory taken so far: on cuda by tensors, else by this whole process. None where none can tell.

    >>> peak_memory_bytes(torch.device("meta")) is None or peak_memory_bytes(torch.device("meta")) > 2**20
    True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kibibytes
