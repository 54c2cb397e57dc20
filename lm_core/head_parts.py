"""What each head writes: the output of attention taken apart, head by head.

Notation:  H heads · H_kv key/value heads · T positions · Dh d_head · D d_model.
"""

import torch
from torch import Tensor


def written_by_head(head_out: Tensor, w_o: Tensor) -> Tensor:
    """The row that each head adds to the stream: `part_h = head_out_h · W_O,h`; their sum is concat(head_out) · W_O.

    head_out [H T Dh], w_o [D H·Dh] (torch's layout of the matrix: out, in) -> [H T D].
    The concatenation is a way to compute, no mixing: rows h·Dh … (h+1)·Dh of W_O belong to head h alone.
    Elhage et al. 2021, "Attention heads are independent and additive".

    >>> head_out = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])  # H 2, T 1, Dh 2
    >>> written_by_head(head_out, torch.ones(1, 4)).flatten()
    tensor([3., 7.])
    """
    own = w_o.unflatten(-1, (len(head_out), -1)).transpose(0, 1)  # [H D Dh]: each head's columns
    return head_out @ own.mT


def shares(parts: Tensor) -> Tensor:
    """How much of a sum comes from each of its parts: `share_h = part_h · whole / ‖whole‖²`; they add up to 1.

    parts [H D] -> [H]. A share below 0 is a part that points against the whole. (Lengths of vectors do not add up: two
    long parts may cancel.) All shares are NaN when the whole is zero.

    >>> shares(torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    whole = parts.sum(dim=0)
    return torch.mv(parts, whole) / torch.dot(whole, whole)


def group_of(head: int, n_heads: int, n_kv_heads: int) -> int:
    """Which key/value head a query head reads from: `⌊head · H_kv / H⌋`, as in `attention.repeat_heads`.

    Ainslie et al. 2023 (GQA), section 2.2.

    >>> [group_of(h, n_heads=6, n_kv_heads=2) for h in range(6)]
    [0, 0, 0, 1, 1, 1]
    """
    return head * n_kv_heads // n_heads


def kept_numbers(n_layers: int, n_kv_heads: int, d_head: int) -> int:
    """How many numbers a model keeps for each position of a text while it writes: a key and a value in every layer.

    Generation reads all of them again for every new token: this, not the arithmetic, is what grouping saves.
    Shazeer 2019, section 2.4.

    >>> kept_numbers(n_layers=6, n_kv_heads=8, d_head=32)
    3072
    """
    return 2 * n_layers * n_kv_heads * d_head
