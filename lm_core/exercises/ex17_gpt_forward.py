"""17. Write `gpt_forward`.

Check it:  python -m lm_core check gpt_forward
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


Weights = Mapping[str, Tensor]  # name -> matrix or vector


EPS = 1e-5  # GPT-2's


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


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Cut the last dimension into heads: [B T H·Dh] -> [B H T Dh].

    Raises ValueError when the width is not divisible by n_heads.

    >>> split_heads(torch.arange(8.0).view(1, 2, 4), 2).shape
    torch.Size([1, 2, 2, 2])
    """
    if x.shape[-1] % n_heads:
        raise ValueError(f"width {x.shape[-1]} is not divisible by n_heads {n_heads}")
    return x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """Undo `split_heads`: [B H T Dh] -> [B T H·Dh], the heads side by side ("concat").

    >>> x = torch.arange(8.0).view(1, 2, 4)
    >>> torch.equal(merge_heads(split_heads(x, 2)), x)
    True
    """
    return x.transpose(-3, -2).flatten(-2)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Shift and stretch each position to mean 0 and variance 1, then give it a learned scale and offset.

    `(x − mean) / √(variance + eps) · weight + bias`; the variance divides by D, not by D − 1, and eps is
    inside the root. x [B T D], weight, bias [D] -> [B T D].  Ba et al. 2016, eq. 3-4.

    >>> layer_norm(torch.tensor([[1.0, 3.0]]), torch.ones(2), torch.zeros(2), eps=0.0)
    tensor([[-1.,  1.]])
    """
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    normal = centred / torch.sqrt(variance + eps) * weight
    return normal if bias is None else normal + bias


def gelu_tanh(x: Tensor) -> Tensor:
    """GPT-2's GELU: Φ approximated with tanh (off by up to 5e-4). Hendrycks and Gimpel 2016, section 2.

    >>> gelu_tanh(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1588,  0.0000,  0.8412])
    """
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def feed_forward(
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor | None,
    w_out: Tensor,
    b_out: Tensor | None,
    activation: Activation,
    w_gate: Tensor | None = None,
    b_gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Widen, bend, narrow: `act(x W_inᵀ + b_in) W_outᵀ + b_out`, on each position alone.

    With a gate (SwiGLU) the widened vector is multiplied by a second one: `act(x W_gateᵀ) ⊙ (x W_inᵀ)`.
    x [B T D]; w_in, w_gate [M D]; w_out [D M]. Returns (hidden [B T M], out [B T D]): the neurons, and what they add.
    Vaswani et al. 2017, eq. 2; Shazeer 2020 (GLU variants), eq. 6.

    >>> x, eye = torch.tensor([[1.0, -2.0]]), torch.eye(2)
    >>> feed_forward(x, eye, None, eye, None, torch.relu)[1]
    tensor([[1., 0.]])
    """
    wide = F.linear(x, w_in, b_in)
    hidden = activation(wide) if w_gate is None else activation(F.linear(x, w_gate, b_gate)) * wide
    return hidden, F.linear(hidden, w_out, b_out)


@dataclass(frozen=True)
class MultiHeadSteps:
    """q, k, v, head_out [B H T Dh], each head by itself; concat [B T D], side by side; out [B T D] = concat · W_O."""

    q: Tensor
    k: Tensor
    v: Tensor
    head_out: Tensor
    concat: Tensor
    out: Tensor


def multi_head(x: Tensor, weights: Weights, n_heads: int, allowed: Tensor | None = None) -> MultiHeadSteps:
    """Project, split, attend in every head at once, put side by side, project: `concat(head_1 … head_H) W_O`.

    x [B T D]; weights `w_q`, `w_k`, `w_v`, `w_o`, each with .weight [D D] and .bias [D]; allowed bool, True = may
    attend, broadcasts to [B H T T]. Head h owns the columns h·Dh … (h+1)·Dh of q, k and v. Attention itself may be
    `F.scaled_dot_product_attention`, which is `attend` without the trace. Vaswani et al. 2017, section 3.2.2.

    >>> eye = {f"w_{name}.weight": torch.eye(4) for name in "qkvo"} | {f"w_{n}.bias": torch.zeros(4) for n in "qkvo"}
    >>> multi_head(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), eye, n_heads=2).head_out.tolist()
    [[[[1.0, 2.0]], [[3.0, 4.0]]]]
    """
    q, k, v = (
        split_heads(F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"]), n_heads)
        for name in ("w_q", "w_k", "w_v")
    )
    head_out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    concat = merge_heads(head_out)
    return MultiHeadSteps(q, k, v, head_out, concat, F.linear(concat, weights["w_o.weight"], weights["w_o.bias"]))


@dataclass(frozen=True)
class BlockSteps:
    """Everything a block adds up, each [B T D]: see `pre_norm_block`."""

    attn_in: Tensor
    attn_out: Tensor
    resid_mid: Tensor
    mlp_in: Tensor
    mlp_out: Tensor
    resid_post: Tensor


def pre_norm_block(resid_pre: Tensor, weights: Weights, n_heads: int) -> BlockSteps:
    """One block of GPT-2: norm, causal attention, add; norm, feed-forward, add. The stream itself is never divided.

        attn_in = norm_1(resid_pre)     resid_mid  = resid_pre + attention(attn_in)
        mlp_in  = norm_2(resid_mid)     resid_post = resid_mid + mlp(mlp_in)

    resid_pre [B T D]; weights `norm_1`, `norm_2`, `attention.w_q` … `attention.w_o`, `mlp.w_in`, `mlp.w_out`, each with
    .weight and .bias; activation `gelu_tanh`, eps 1e-5. Radford et al. 2019, section 2.3.

    >>> norms = {f"norm_{i}.{part}": torch.ones(2) for i in (1, 2) for part in ("weight", "bias")}
    >>> names = ["attention.w_q", "attention.w_k", "attention.w_v", "attention.w_o", "mlp.w_in", "mlp.w_out"]
    >>> zeros = {f"{name}.weight": torch.zeros(2, 2) for name in names} | {f"{n}.bias": torch.zeros(2) for n in names}
    >>> pre_norm_block(torch.tensor([[[1.0, 3.0]]]), norms | zeros, n_heads=1).resid_post  # nothing is added
    tensor([[[1., 3.]]])
    """
    inside = {name.removeprefix("attention."): w for name, w in weights.items() if name.startswith("attention.")}
    attn_in = layer_norm(resid_pre, weights["norm_1.weight"], weights["norm_1.bias"], EPS)
    causal = causal_mask(resid_pre.shape[-2], device=resid_pre.device)
    attn_out = multi_head(attn_in, inside, n_heads, causal).out
    resid_mid = resid_pre + attn_out
    mlp_in = layer_norm(resid_mid, weights["norm_2.weight"], weights["norm_2.bias"], EPS)
    mlp_out = feed_forward(
        mlp_in,
        weights["mlp.w_in.weight"],
        weights["mlp.w_in.bias"],
        weights["mlp.w_out.weight"],
        weights["mlp.w_out.bias"],
        gelu_tanh,
    )[1]
    return BlockSteps(attn_in, attn_out, resid_mid, mlp_in, mlp_out, resid_mid + mlp_out)


@dataclass(frozen=True)
class GPTSteps:
    """embedded [B T D]; stream, resid_post [B T D] of every block; final [B T D], normed; logits [B T V]."""

    embedded: Tensor
    stream: tuple[Tensor, ...]
    final: Tensor
    logits: Tensor


def gpt_forward(token_ids: Tensor, weights: Weights, n_layers: int, n_heads: int) -> GPTSteps:
    """A whole GPT-2: token vector + position vector, the blocks one after another, the last norm, one logit a token.

    token_ids int [B T]; weights `embed_tokens.weight` [V D], `embed_positions.weight` [C D] with C ≥ T,
    `blocks.0.` … (see `pre_norm_block`), `final_norm.weight`, `.bias` [D]. The token table is used twice: it reads
    tokens in, and its rows are what the last norm is compared with, `logits = final · Eᵀ`. Radford et al. 2019.

    >>> weights = {"embed_tokens.weight": torch.eye(3, 2), "embed_positions.weight": torch.zeros(1, 2)}
    >>> norm = {"final_norm.weight": torch.ones(2), "final_norm.bias": torch.zeros(2)}
    >>> gpt_forward(torch.tensor([[0]]), weights | norm, n_layers=0, n_heads=1).logits
    tensor([[[ 1.0000, -1.0000,  0.0000]]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
