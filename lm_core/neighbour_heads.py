"""First weights with which an encoder sees its neighbours from the first step.

Notation:  T positions · H heads · Dh d_head · D d_model · w_k frequency of pair k (radians a position).

At a hidden word's own place there is nothing to read: with random weights an encoder attends to all places alike, and
stays for a long time at guessing what is frequent. So the position vectors begin as waves, and the heads of the first
layer begin as "the token δ places on", δ = −1, +1, −2, +2 … Everything is trained from there.

Sources:  Vaswani et al. 2017, section 3.5: waves, of which a shift is a rotation. Raganato et al. 2020, "Fixed Encoder
          Self-Attention Patterns": heads that look at one neighbour. Rahimi and Recht 2007: random frequencies.
"""

import math

import torch
from torch import Tensor

from lm_core.encoder import Encoder

LOUDNESS = 1.5  # how long a position's vector is, in lengths of a token's
SHARPNESS = 1.3  # how much W_Q and W_K of the first layer lengthen what they read


def offsets(n_heads: int) -> list[int]:
    """Which neighbour each head looks at.

    >>> offsets(5)
    [-1, 1, -2, 2, -3]
    """
    return [(head // 2 + 1) * (-1 if head % 2 == 0 else 1) for head in range(n_heads)]


def waves(n_positions: int, frequencies: Tensor) -> Tensor:
    """Position t as pairs (cos w_k t, sin w_k t): frequencies [D/2] -> [T D].

    >>> waves(3, torch.tensor([math.pi / 2])).round().int().tolist()
    [[1, 0], [0, 1], [-1, 0]]
    """
    angles = torch.arange(n_positions)[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(1)


def shift_matrix(frequencies: Tensor, offset: int) -> Tensor:
    """The matrix [D D] that turns position t into position t + offset: each pair is rotated by w_k · offset.

    >>> w = torch.tensor([0.3, 2.0])
    >>> bool(torch.allclose(waves(9, w)[2] @ shift_matrix(w, 3).T, waves(9, w)[5], atol=1e-6))
    True
    """
    cos, sin = (frequencies * offset).cos(), (frequencies * offset).sin()
    return torch.block_diag(*torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2))


@torch.no_grad()
def look_at_neighbours(model: Encoder, generator: torch.Generator) -> Encoder:
    """Set the position vectors and the first layer's W_Q, W_K; all other weights stay. Changes `model`, returns it.

    Head h reads Dh coordinates of its own, with frequencies drawn from 0 … π, so that its scores
    `Σ_k cos w_k (t + δ_h − s)` are large at s = t + δ_h alone. Raises ValueError for an odd d_head.
    """
    c = model.config
    if c.d_head % 2:
        raise ValueError(f"d_head {c.d_head} is odd: waves come in pairs")
    frequencies = torch.rand(c.d_model // 2, generator=generator) * math.pi
    length = LOUDNESS * model.embed_tokens.weight.std() * math.sqrt(2)  # a wave's deviation is 1/√2
    model.embed_positions.weight.copy_(waves(c.context_length, frequencies) * length)
    first = model.blocks[0].attention
    for head, offset in enumerate(offsets(c.n_heads)):
        rows = slice(head * c.d_head, (head + 1) * c.d_head)
        first.w_k.weight[rows] = SHARPNESS * torch.eye(c.d_model)[rows]
        first.w_q.weight[rows] = SHARPNESS * shift_matrix(frequencies, offset)[rows]
    return model
