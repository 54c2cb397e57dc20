"""11. Write `multi_head`.

Check it:  python -m lm_core check multi_head
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]  # name -> matrix or vector


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Cut the last dimension into heads: [B T H·Dh] -> [B H T Dh].

    Raises ValueError when the width is not divisible by n_heads.

    >>> split_heads(torch.arange(8.0).view(1, 2, 4), 2).shape
    torch.Size([1, 2, 2, 2])
    """
    if x.shape[-1] % n_heads:
        raise ValueError(f"width {x.shape[-1]} is not divisible by n_heads {n_heads}")
    return x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """Undo `split_heads`: [B H T Dh] -> [B T H·Dh], the heads side by side ("concat").

    >>> x = torch.arange(8.0).view(1, 2, 4)
    >>> torch.equal(merge_heads(split_heads(x, 2)), x)
    True
    """
    return x.transpose(-3, -2).flatten(-2)


@dataclass(frozen=True)
class MultiHeadSteps:
    """q, k, v, head_out [B H T Dh], each head by itself; concat [B T D], side by side; out [B T D] = concat · W_O."""

    q: Tensor
    k: Tensor
    v: Tensor
    head_out: Tensor
    concat: Tensor
    out: Tensor


def multi_head(x: Tensor, weights: Weights, n_heads: int, allowed: Tensor | None = None) -> MultiHeadSteps:
    """Project, split, attend in every head at once, put side by side, project: `concat(head_1 … head_H) W_O`.

    x [B T D]; weights `w_q`, `w_k`, `w_v`, `w_o`, each with .weight [D D] and .bias [D]; allowed bool, True = may
    attend, broadcasts to [B H T T]. Head h owns the columns h·Dh … (h+1)·Dh of q, k and v. Attention itself may be
    `F.scaled_dot_product_attention`, which is `attend` without the trace. Vaswani et al. 2017, section 3.2.2.

    >>> eye = {f"w_{name}.weight": torch.eye(4) for name in "qkvo"} | {f"w_{n}.bias": torch.zeros(4) for n in "qkvo"}
    >>> multi_head(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), eye, n_heads=2).head_out.tolist()
    [[[[1.0, 2.0]], [[3.0, 4.0]]]]
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
