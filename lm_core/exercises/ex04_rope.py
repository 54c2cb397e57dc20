"""4. Write `rotate`.

Check it:  python -m lm_core check rope
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i+Dh/2}) by its angle: RoPE, in the order of components that Llama checkpoints use.

    (a, b) -> (a cos − b sin, a sin + b cos). After it, q_s · k_t depends on s − t only, not on s and t.
    x [B H T Dh], angles [T Dh/2] (or [B 1 T Dh/2]) -> [B H T Dh].  Su et al. 2021, eq. 34.

    >>> rotate(torch.tensor([[1.0, 0.0]]), torch.tensor([[math.pi / 2]])).round(decimals=4)
    tensor([[-0., 1.]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
