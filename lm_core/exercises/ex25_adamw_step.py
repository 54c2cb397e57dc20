"""25. Write `adamw_step`.

Check it:  python -m lm_core check adamw_step
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AdamState:
    """What Adam remembers of one parameter: `step` t, the running means `m` of g and `v` of g², both shaped as θ."""

    step: int
    m: Tensor
    v: Tensor


def adam_start(param: Tensor) -> AdamState:
    """Before the first step: t = 0, m = v = 0.

    >>> adam_start(torch.ones(2))
    AdamState(step=0, m=tensor([0., 0.]), v=tensor([0., 0.]))
    """
    return AdamState(0, torch.zeros_like(param), torch.zeros_like(param))


def adamw_step(
    param: Tensor,
    grad: Tensor,
    state: AdamState,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[Tensor, AdamState]:
    """Adam with the decay taken out of the gradient: first `θ ← θ·(1 − η·λ)`, then Adam's step without λ.

    Loshchilov and Hutter 2019, algorithm 2 (with their schedule multiplier inside η, as in torch).

    >>> one, five = torch.tensor([1.0]), torch.tensor([5.0])
    >>> adamw_step(one, five, adam_start(one), lr=0.1, weight_decay=0.5)[0]
    tensor([0.8500])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
