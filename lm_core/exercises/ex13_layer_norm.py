"""13. Write `layer_norm`.

Check it:  python -m lm_core check layer_norm
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Shift and stretch each position to mean 0 and variance 1, then give it a learned scale and offset.

    `(x − mean) / √(variance + eps) · weight + bias`; the variance divides by D, not by D − 1, and eps is
    inside the root. x [B T D], weight, bias [D] -> [B T D].  Ba et al. 2016, eq. 3-4.

    >>> layer_norm(torch.tensor([[1.0, 3.0]]), torch.ones(2), torch.zeros(2), eps=0.0)
    tensor([[-1.,  1.]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
