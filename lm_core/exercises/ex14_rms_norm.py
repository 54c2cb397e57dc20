"""14. Write `rms_norm`.

Check it:  python -m lm_core check rms_norm
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Divide each position by its root mean square: a LayerNorm that leaves the mean alone.

    `x / √(mean(x²) + eps) · weight`; `bias` must be None (the argument is there so that both norms are
    called alike). x [B T D], weight [D] -> [B T D].  Zhang and Sennrich 2019, eq. 4.

    >>> rms_norm(torch.tensor([[3.0, 4.0]]), torch.ones(2), None, eps=0.0)
    tensor([[0.8485, 1.1314]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
