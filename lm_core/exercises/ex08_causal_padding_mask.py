"""8. Write `causal_padding_mask`.

Check it:  python -m lm_core check causal_padding_mask
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_padding_mask(lengths: Tensor, n_tokens: int) -> Tensor:
    """Both at once, for a batch of texts padded at their ends: `allowed[b, i, j] = (j <= i) and (j < lengths[b])`.

    lengths int [B] -> bool [B T T]. Rows of padding queries stay: their outputs are ignored, and a row that sees
    nothing would have to be treated apart.

    >>> causal_padding_mask(torch.tensor([2]), 3).int()
    tensor([[[1, 0, 0],
             [1, 1, 0],
             [1, 1, 0]]], dtype=torch.int32)
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
