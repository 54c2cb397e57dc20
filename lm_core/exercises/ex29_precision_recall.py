"""29. Write `confusion_matrix`, `accuracy`, `precision`, `recall`, `f1`.

Check it:  python -m lm_core check precision_recall
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def confusion_matrix(labels: Tensor, predictions: Tensor, n_classes: int) -> Tensor:
    """How often each true class (row) was called each class (column): int64 [C C].

    labels, predictions int [N]. Raises ValueError when they differ in length, are empty, or hold no class 0 … C−1.

    >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")


def accuracy(confusion: Tensor) -> float:
    """The share that was called what it is: the diagonal over all.

    >>> accuracy(torch.tensor([[1, 1], [0, 2]]))
    0.75
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")


def precision(confusion: Tensor) -> Tensor:
    """For each class: of those called so, the share that are. float64 [C]; 0 where nothing was called so.

    >>> precision(torch.tensor([[1, 1], [0, 2]]))
    tensor([1.0000, 0.6667], dtype=torch.float64)
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")


def recall(confusion: Tensor) -> Tensor:
    """For each class: of those that are, the share called so. float64 [C]; 0 where there are none.

    >>> recall(torch.tensor([[1, 1], [0, 2]]))
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")


def f1(confusion: Tensor) -> Tensor:
    """For each class the harmonic mean of precision and recall, `2·P·R/(P + R)`. float64 [C]; 0 where both are 0.

    The shortest way there: twice the hits over (called so + are so).  van Rijsbergen 1979, with β = 1.

    >>> f1(torch.tensor([[1, 1], [0, 2]]))
    tensor([0.6667, 0.8000], dtype=torch.float64)
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
