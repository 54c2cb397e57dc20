"""How a model knows the order of the words: four ways.

Notation:  B batch · H heads · T positions · Dh d_head · D d_model.
Learned positions are a table of parameters (`nn.Embedding` in `model`), so they need no function here.

The paper rotates NEIGHBOURING pairs of a head's components, (0, 1), (2, 3) ...; Hugging Face's Llama rotates HALVES,
(0, Dh/2), (1, Dh/2 + 1) ... The two are the same model with the components of every q and k in another order:
`interleaved_to_half(Dh)` is that permutation. Dot products do not see it. This package stores and rotates halves.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def sinusoidal_positions(n_positions: int, d_model: int, device: torch.device | None = None) -> Tensor:
    """One vector a position, made of sines and cosines of falling frequency; returns float32 [T D].

    PE[t, 2i] = sin(t / 10000^(2i/D)),  PE[t, 2i+1] = cos(t / 10000^(2i/D)).
    Raises ValueError for odd d_model.  Vaswani et al. 2017, section 3.5.

    >>> sinusoidal_positions(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    if d_model % 2:
        raise ValueError(f"d_model {d_model} is odd: sines and cosines come in pairs")
    frequencies = 1.0 / 10000.0 ** (torch.arange(0, d_model, 2, device=device, dtype=torch.float32) / d_model)
    angles = torch.arange(n_positions, device=device)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of slow rotations, to reach further than the length trained on first.

    Source: the `llama3` rope type of Llama 3.1's published configuration.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int

    def apply(self, frequencies: Tensor) -> Tensor:
        """Keep fast rotations, divide slow ones by `factor`, blend in between; [Dh/2] -> [Dh/2]."""
        turns = self.original_context_length * frequencies / (2 * math.pi)  # within the first context
        keep = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        keep = keep.clamp(0, 1)
        return keep * frequencies + (1 - keep) * frequencies / self.factor


def rotary_angles(
    position_ids: Tensor, d_head: int, theta: float = 10000.0, scaling: RopeScaling | None = None
) -> Tensor:
    """By which angle (radians) each pair of components turns at each position: `t · theta^(−2i/Dh)`.

    position_ids int [T] or [B T] -> float32 [T Dh/2] or [B T Dh/2].  Su et al. 2021 (RoFormer), section 3.2.2.

    >>> rotary_angles(torch.tensor([0, 1, 2]), d_head=4)
    tensor([[0.0000, 0.0000],
            [1.0000, 0.0100],
            [2.0000, 0.0200]])
    """
    if d_head % 2:
        raise ValueError(f"d_head {d_head} is odd: rotation turns pairs of components")
    exponents = torch.arange(0, d_head, 2, device=position_ids.device, dtype=torch.float32) / d_head
    frequencies = 1.0 / theta**exponents
    if scaling is not None:
        frequencies = scaling.apply(frequencies)
    return position_ids[..., None].float() * frequencies


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i+Dh/2}) by its angle: RoPE, in the order of components that Llama checkpoints use.

    (a, b) -> (a cos − b sin, a sin + b cos). After it, q_s · k_t depends on s − t only, not on s and t.
    x [B H T Dh], angles [T Dh/2] (or [B 1 T Dh/2]) -> [B H T Dh].  Su et al. 2021, eq. 34.

    >>> rotate(torch.tensor([[1.0, 0.0]]), torch.tensor([[math.pi / 2]])).round(decimals=4)
    tensor([[-0., 1.]])
    """
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def rotate_interleaved(x: Tensor, angles: Tensor) -> Tensor:
    """The same rotation on neighbouring pairs (x_2i, x_2i+1), as the paper writes it; shapes as `rotate`.

    `rotate_interleaved(x) == rotate(x[p])[p⁻¹]` with p = `interleaved_to_half(Dh)` (tested).

    >>> rotate_interleaved(torch.tensor([[1.0, 2.0, 5.0, 5.0]]), torch.tensor([[math.pi / 2, 0.0]])).round(decimals=4)
    tensor([[-2.,  1.,  5.,  5.]])
    """
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


def interleaved_to_half(d_head: int) -> Tensor:
    """The permutation p with which `x[..., p]` puts the paper's pairs (2i, 2i+1) at Llama's places (i, i + Dh/2).

    Returns int64 [Dh].

    >>> interleaved_to_half(6)
    tensor([0, 2, 4, 1, 3, 5])
    """
    return torch.cat([torch.arange(0, d_head, 2), torch.arange(1, d_head, 2)])


def alibi_slopes(n_heads: int) -> Tensor:
    """How steeply each head discounts distance: 2^(−8/H), 2^(−16/H) ... for H a power of two.

    Otherwise the slopes of the next smaller power, then every other slope of the next larger one.
    Returns float32 [H].  Press et al. 2022 (ALiBi), section 3.

    >>> alibi_slopes(4)
    tensor([0.2500, 0.0625, 0.0156, 0.0039])
    """
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(n_heads - power)]
    return torch.tensor(slopes)


def alibi_bias(n_queries: int, n_keys: int, slopes: Tensor) -> Tensor:
    """ALiBi: a penalty on every score that grows with distance, `bias[h, i, j] = −slope_h · |i − j|`.

    slopes [H] -> [H Tq Tk], to be given to `attend(bias=...)`; the queries are the last Tq of the Tk positions.

    >>> alibi_bias(2, 2, torch.tensor([0.5]))
    tensor([[[-0.0000, -0.5000],
             [-0.5000, -0.0000]]])
    """
    query = torch.arange(n_keys - n_queries, n_keys, device=slopes.device)[:, None]
    key = torch.arange(n_keys, device=slopes.device)[None, :]
    return -slopes[:, None, None] * (query - key).abs()
