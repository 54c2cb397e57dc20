"""6. Write `attention_scores`, `scale_scores`.

Check it:  python -m lm_core check scaled_scores
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def attention_scores(q: Tensor, k: Tensor) -> Tensor:
    """How well each query matches each key: the dot product of every pair, `scores[i, j] = q_i · k_j`.

    q [B H Tq Dh], k [B H Tk Dh] -> [B H Tq Tk].  Vaswani et al. 2017, eq. 1.

    >>> attention_scores(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[11.,  2.]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")


def scale_scores(scores: Tensor, d_head: int) -> Tensor:
    """Divide by √d_head, so that the spread of the scores does not grow with the length of the vectors.

    If the components of q and k are independent with mean 0 and variance 1, q·k has variance d_head;
    divided by √d_head it has variance 1 again, and softmax stays off its flat ends.
    scores [B H Tq Tk] -> the same shape.  Vaswani et al. 2017, section 3.2.1, footnote 4.

    >>> scale_scores(torch.tensor([[8.0, -4.0]]), d_head=16)
    tensor([[ 2., -1.]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
