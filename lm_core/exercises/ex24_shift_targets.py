"""24. Write `next_token_targets`.

Check it:  python -m lm_core check shift_targets
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def next_token_targets(token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a causal model: the target of each position is the token after it.

    token_ids int [B T + 1] -> inputs [B T], targets [B T]; the same text, one place apart.
    Raises ValueError for fewer than two tokens. Bengio et al. 2003, eq. 1.

    >>> next_token_targets(torch.tensor([[5, 6, 7]]))
    (tensor([[5, 6]]), tensor([[6, 7]]))
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
