"""3. Write `sinusoidal_positions`.

Check it:  python -m lm_core check sinusoidal_positions
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sinusoidal_positions(n_positions: int, d_model: int, device: torch.device | None = None) -> Tensor:
    """One vector a position, made of sines and cosines of falling frequency; returns float32 [T D].

    PE[t, 2i] = sin(t / 10000^(2i/D)),  PE[t, 2i+1] = cos(t / 10000^(2i/D)).
    Raises ValueError for odd d_model.  Vaswani et al. 2017, section 3.5.

    >>> sinusoidal_positions(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
