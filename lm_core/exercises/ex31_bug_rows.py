"""31. Find and repair the mistake in `masked_softmax`.

Check it:  python -m lm_core check bug_rows
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_softmax(masked: Tensor) -> Tensor:
    """Turn each row into weights: `weights[i, j] = exp(masked[i, j]) / Σ_k exp(masked[i, k])`.

    The row's largest score is subtracted first: the result is the same, and exp cannot overflow.
    A row of nothing but −∞ would be 0/0 = NaN; here it gives zeros: who may look at nothing receives nothing.
    [.. Tq Tk] -> [.. Tq Tk].

    >>> masked_softmax(torch.tensor([[0.0, 0.0, -math.inf], [-math.inf, -math.inf, -math.inf]]))
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    highest = masked.amax(dim=-1, keepdim=True)
    highest = torch.where(highest == -math.inf, 0.0, highest)  # −∞ − (−∞) would be NaN
    exponentials = torch.exp(masked - highest)
    total = exponentials.sum(dim=(-2, -1), keepdim=True)
    return exponentials / torch.where(total == 0, 1.0, total)
