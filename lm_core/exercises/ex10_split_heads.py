"""10. Write `split_heads`, `merge_heads`.

Check it:  python -m lm_core check split_heads
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Cut the last dimension into heads: [B T H·Dh] -> [B H T Dh].

    Raises ValueError when the width is not divisible by n_heads.

    >>> split_heads(torch.arange(8.0).view(1, 2, 4), 2).shape
    torch.Size([1, 2, 2, 2])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")


def merge_heads(x: Tensor) -> Tensor:
    """Undo `split_heads`: [B H T Dh] -> [B T H·Dh], the heads side by side ("concat").

    >>> x = torch.arange(8.0).view(1, 2, 4)
    >>> torch.equal(merge_heads(split_heads(x, 2)), x)
    True
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
