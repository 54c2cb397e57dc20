"""12. Write `kv_cache_step`.

Check it:  python -m lm_core check kv_cache_step
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
    n_keys = n_queries if n_keys is None else n_keys
    if n_keys < n_queries:
        raise ValueError(f"{n_queries} queries but only {n_keys} keys: a causal query needs its own key")
    query = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]
    key = torch.arange(n_keys, device=device)[None, :]
    return key <= query


def kv_cache_step(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of n new positions over the keys and values kept from the P before them; nothing is computed twice.

    q, k, v [B H n Dh] of the new positions, past_k and past_v [B H P Dh] (P may be 0). Returns (head_out [B H n Dh],
    and all keys and values [B H P+n Dh] for the next step). New position i stands at place P + i and sees the places
    0 … P + i.

    >>> one, none = torch.ones(1, 1, 1, 2), torch.ones(1, 1, 0, 2)
    >>> out, keys, values = kv_cache_step(one, one, 4 * one, none, none)
    >>> kv_cache_step(one, one, 2 * one, keys, values)[0].flatten()
    tensor([3., 3.])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
