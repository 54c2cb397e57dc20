"""Numbers in eight bits: a matrix as whole numbers −127 … 127 and one scale a row.

Notation:  out rows · in columns of a weight matrix.
"""

import torch
from torch import Tensor

LEVELS = 127  # of each sign: −128 is left unused, so that the range is symmetric


def quantise_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to multiples of its own step, `scale = max|row| / 127`: the largest number becomes ±127.

    weight [out in] -> (int8 [out in], scale [out 1] in the dtype of weight). A row of zeros gets scale 1.
    One step for the whole matrix would let one large number make all others coarse. Dettmers et al. 2022, section 2.

    >>> quantise_int8(torch.tensor([[1.27, -0.5], [0.0, 0.0]]))
    (tensor([[127, -50],
            [  0,   0]], dtype=torch.int8), tensor([[0.0100],
            [1.0000]]))
    """
    largest = weight.abs().amax(dim=-1, keepdim=True)
    scale = torch.where(largest == 0, 1.0, largest / LEVELS)
    return torch.round(weight / scale).to(torch.int8), scale


def dequantise_int8(quantised: Tensor, scale: Tensor) -> Tensor:
    """Back to numbers, `quantised · scale`, each off by half a step at most. int8 [out in], [out 1] -> [out in].

    >>> dequantise_int8(torch.tensor([[127, -50]], dtype=torch.int8), torch.tensor([[0.01]]))
    tensor([[ 1.2700, -0.5000]])
    """
    return quantised.to(scale.dtype) * scale
