"""21. Write `apply_temperature`, `keep_top_k`.

Check it:  python -m lm_core check top_k
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax(logits: Tensor) -> Tensor:
    """Probabilities from logits: `p_i = exp(z_i) / Σ_j exp(z_j)`, over the last dimension.

    Subtracting the largest logit first changes nothing but keeps exp from overflowing.
    [.. V] -> [.. V].  Bridle 1990.

    >>> softmax(torch.tensor([1000.0, 1000.0]))
    tensor([0.5000, 0.5000])
    """
    exponentials = torch.exp(logits - logits.amax(dim=-1, keepdim=True))
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide the logits by τ: below 1 sharpens, above 1 flattens the distribution. [B V] -> [B V]; τ > 0.

    >>> softmax(apply_temperature(torch.tensor([0.0, math.log(3.0)]), 0.5))
    tensor([0.1000, 0.9000])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits, −∞ elsewhere; ties with the k-th are kept too. [B V] -> [B V]. Fan et al. 2018.

    >>> keep_top_k(torch.tensor([1.0, 3.0, 2.0]), 2)
    tensor([-inf, 3., 2.])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
