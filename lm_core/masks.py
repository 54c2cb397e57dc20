"""Who may look at whom.

Notation:  B batch · Tq queries · Tk keys.
One polarity everywhere: `allowed[..., i, j]` is True when query i MAY attend to key j. It is the polarity of
`torch.nn.functional.scaled_dot_product_attention`, and the opposite of `nn.MultiheadAttention`'s `attn_mask`.
A row in which nothing is allowed gives weights of zero (see `attention.masked_softmax`).

Masks are combined with `&` (both must allow it) and `|`; they broadcast: causal [T T] & padding [B 1 T] = [B T T].
"""

from collections.abc import Iterable

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


def full_mask(n_tokens: int, device: torch.device | None = None) -> Tensor:
    """Everybody may look at everybody: what an encoder does. Returns bool [T T].  Devlin et al. 2019, section 3.

    >>> full_mask(2).int()
    tensor([[1, 1],
            [1, 1]], dtype=torch.int32)
    """
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=device)


def padding_mask(lengths: Tensor, n_keys: int, left: bool = False) -> Tensor:
    """Nobody may look at padding: `allowed[b, 0, j] = (j < lengths[b])`.

    lengths int [B] -> bool [B 1 Tk], which broadcasts over the queries. With `left` the padding stands in front, as
    generation wants it: `j >= Tk - lengths[b]`; joined with the causal mask, the queries that are padding themselves
    then have nothing to look at.

    >>> padding_mask(torch.tensor([2, 3]), 3).int()
    tensor([[[1, 1, 0]],
    <BLANKLINE>
            [[1, 1, 1]]], dtype=torch.int32)
    """
    position = torch.arange(n_keys, device=lengths.device)
    real = position >= n_keys - lengths[:, None] if left else position < lengths[:, None]
    return real[:, None, :]


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
    Source: Raffel et al. 2020 (T5), figure 3, "causal with prefix".

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


def positions_in_documents(document_ids: Tensor) -> Tensor:
    """At which place of its own document each token of a packed row stands: the count begins again at each document.

    document_ids int [T], each document in one piece -> int64 [T].
    With `document_mask` and these positions a packed row gives each document what it gets alone (tested).
    Source: Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination" (arXiv:2107.02027).

    >>> positions_in_documents(torch.tensor([0, 0, 0, 1, 1]))
    tensor([0, 1, 2, 0, 1])
    """
    position = torch.arange(len(document_ids), device=document_ids.device)
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[1:] = document_ids[1:] != document_ids[:-1]
    return position - torch.where(begins, position, 0).cummax(dim=0).values


def flipped(allowed: Tensor, cells: Iterable[tuple[int, int]]) -> Tensor:
    """The mask with some of its cells (query, key) turned to the opposite; `allowed` [Tq Tk] itself is left alone.

    Raises IndexError for a cell outside the mask.

    >>> flipped(causal_mask(2), [(0, 1)]).int()
    tensor([[1, 1],
            [1, 1]], dtype=torch.int32)
    """
    changed = allowed.clone()
    for i, j in cells:
        changed[i, j] = ~changed[i, j]
    return changed


def reachable(allowed: Tensor, n_layers: int) -> Tensor:
    """From which positions anything can have come to each position after 0, 1 … n_layers layers.

    `R_0 = I`, then `R_l[i, j] = R_{l-1}[i, j] or any_k (allowed[i, k] and R_{l-1}[k, j])`: a residual stream keeps what
    it has, and attention brings what the other has gathered. allowed bool [T T] -> bool [L + 1 T T].
    A window of w sees w - 1 further back with every layer.  Beltagy et al. 2020 (Longformer), section 3.1.

    >>> reachable(sliding_window_mask(4, 2), 2)[:, 3].int()
    tensor([[0, 0, 0, 1],
            [0, 0, 1, 1],
            [0, 1, 1, 1]], dtype=torch.int32)
    """
    steps = [torch.eye(allowed.shape[-1], dtype=torch.bool, device=allowed.device)]
    for _ in range(n_layers):
        brought = (allowed.float() @ steps[-1].float()) > 0
        steps.append(steps[-1] | brought)
    return torch.stack(steps)


def fill_forbidden(scaled: Tensor, allowed: Tensor, value: float = -1e4) -> Tensor:
    """The mask with a large negative number in place of −∞: forbidden scores are REPLACED by `value`.

    `filled[i, j] = scaled[i, j] if allowed[i, j] else value`, shape of `scaled`. It looks the same and is not: where
    the allowed scores lie below `value`, the forbidden ones win, and a row of nothing but forbidden pairs gives 1/T
    each. Seen in: earlier versions of GPT-2 in `transformers`: `torch.where(mask.bool(), w, self.masked_bias)`, its
    `masked_bias` being −1e4.

    >>> fill_forbidden(torch.tensor([[1.0, 2.0]]), torch.tensor([[True, False]]))
    tensor([[ 1.0000e+00, -1.0000e+04]])
    """
    return torch.where(allowed, scaled, value)


def add_penalty(scaled: Tensor, allowed: Tensor, value: float = -1e4) -> Tensor:
    """The other mask with a large negative number: `value` is ADDED to the forbidden scores.

    `added[i, j] = scaled[i, j] + (0 if allowed[i, j] else value)`, shape of `scaled`. A forbidden score that lies more
    than |value| above the allowed ones wins, and a row of nothing but forbidden pairs is not masked at all.
    Seen in: BERT's code as its authors published it (google-research/bert, modeling.py): `attention_scores += adder`,
    −10000.0 where the mask holds 0.

    >>> add_penalty(torch.tensor([[1.0, 2.0]]), torch.tensor([[True, False]]))
    tensor([[ 1.0000e+00, -9.9980e+03]])
    """
    return scaled + torch.where(allowed, 0.0, value)
