"""22. Write `keep_top_p`.

Check it:  python -m lm_core check top_p
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


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose probabilities reach p, −∞ elsewhere. [B V] -> [B V].

    The token that crosses p is kept, so the set is never empty.  Holtzman et al. 2020, section 3.1.

    >>> keep_top_p(torch.log(torch.tensor([0.5, 0.3, 0.2])), 0.6).exp()
    tensor([0.5000, 0.3000, 0.0000])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
