"""15. Write `feed_forward`.

Check it:  python -m lm_core check feed_forward
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def feed_forward(
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor | None,
    w_out: Tensor,
    b_out: Tensor | None,
    activation: Activation,
    w_gate: Tensor | None = None,
    b_gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Widen, bend, narrow: `act(x W_inᵀ + b_in) W_outᵀ + b_out`, on each position alone.

    With a gate (SwiGLU) the widened vector is multiplied by a second one: `act(x W_gateᵀ) ⊙ (x W_inᵀ)`.
    x [B T D]; w_in, w_gate [M D]; w_out [D M]. Returns (hidden [B T M], out [B T D]): the neurons, and what they add.
    Vaswani et al. 2017, eq. 2; Shazeer 2020 (GLU variants), eq. 6.

    >>> x, eye = torch.tensor([[1.0, -2.0]]), torch.eye(2)
    >>> feed_forward(x, eye, None, eye, None, torch.relu)[1]
    tensor([[1., 0.]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
