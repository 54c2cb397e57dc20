"""Who may look at whom.

Notation:  B batch · Tq queries · Tk keys.
One polarity everywhere: `allowed[..., i, j]` is True when query i MAY attend to key j. It is the polarity of
`torch.nn.functional.scaled_dot_product_attention`, and the opposite of `nn.MultiheadAttention`'s `attn_mask`.
A row in which nothing is allowed gives weights of zero (see `attention.masked_softmax`).
"""

import torch
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


def padding_mask(lengths: Tensor, n_keys: int) -> Tensor:
    """Nobody may look at padding: `allowed[b, 0, j] = (j < lengths[b])`.

    lengths int [B] -> bool [B 1 Tk], which broadcasts over the queries.

    >>> padding_mask(torch.tensor([2, 3]), 3).int()
    tensor([[[1, 1, 0]],
    <BLANKLINE>
            [[1, 1, 1]]], dtype=torch.int32)
    """
    return (torch.arange(n_keys, device=lengths.device) < lengths[:, None])[:, None, :]


def sliding_window_mask(n_tokens: int, window: int, device: torch.device | None = None) -> Tensor:
    """Causal, but only the last `window` positions (itself included): `i - window < j <= i`.

    Returns bool [T T]. Raises ValueError when window < 1. Source: Beltagy et al. 2020 (Longformer), section 3.1.

    >>> sliding_window_mask(4, 2).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [0, 1, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    if window < 1:
        raise ValueError(f"window {window} is smaller than 1: a position sees at least itself")
    position = torch.arange(n_tokens, device=device)
    return causal_mask(n_tokens, device=device) & (position[:, None] - position[None, :] < window)


def prefix_mask(n_tokens: int, n_prefix: int, device: torch.device | None = None) -> Tensor:
    """The first `n_prefix` positions see each other both ways; the rest is causal.

    `allowed[i, j] = (j <= i) or (j < n_prefix)`. Returns bool [T T].
    Source: Raffel et al. 2020 (T5), figure 4, "prefix LM".

    >>> prefix_mask(3, 2).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return causal_mask(n_tokens, device=device) | (torch.arange(n_tokens, device=device) < n_prefix)[None, :]


def document_mask(document_ids: Tensor) -> Tensor:
    """Causal inside each document of a packed row, and never across: `(j <= i) and doc[i] == doc[j]`.

    document_ids int [B T] or [T] -> bool [B T T] or [T T].

    >>> document_mask(torch.tensor([0, 0, 1])).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 0, 1]], dtype=torch.int32)
    """
    same = document_ids[..., :, None] == document_ids[..., None, :]
    return same & causal_mask(document_ids.shape[-1], device=document_ids.device)


def causal_padding_mask(lengths: Tensor, n_tokens: int) -> Tensor:
    """Both at once, for a batch of texts padded at their ends: `allowed[b, i, j] = (j <= i) and (j < lengths[b])`.

    lengths int [B] -> bool [B T T]. Rows of padding queries stay: their outputs are ignored, and a row that sees
    nothing would have to be treated apart.

    >>> causal_padding_mask(torch.tensor([2]), 3).int()
    tensor([[[1, 0, 0],
             [1, 1, 0],
             [1, 1, 0]]], dtype=torch.int32)
    """
    position = torch.arange(n_tokens, device=lengths.device)
    causal = position[None, :] <= position[:, None]
    real = position[None, :] < lengths[:, None]
    return causal & real[:, None, :]
