"""7. Write `causal_mask`.

Check it:  python -m lm_core check causal_mask
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_mask(n_queries: int, n_keys: int | None = None, device: torch.device | None = None) -> Tensor:
    """Every position may look at itself and at what came before: `allowed[i, j] = (j <= i)`.

    With more keys than queries (a KV cache holds the earlier ones) the queries are the LAST positions, so the
    diagonal moves right by n_keys - n_queries. Returns bool [Tq Tk].
    Raises ValueError when there are fewer keys than queries. Source: Vaswani et al. 2017, section 3.2.3.

    >>> causal_mask(3).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    >>> causal_mask(1, 3).int()
    tensor([[1, 1, 1]], dtype=torch.int32)
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
