"""A whole GPT-2 as plain functions of a dictionary of weights: nothing hidden in classes, every step with a name.

Notation:  B batch · T positions · H heads · Dh d_head · D d_model · M d_mlp · V vocab_size.
Weights go by the names of `Decoder.state_dict()` and follow `nn.Linear`: [out in], y = x Wᵀ + b. The same weights give
the same numbers as `model.Decoder` (tested); for reading, not for speed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core.attention import merge_heads, split_heads
from lm_core.layers import feed_forward, gelu_tanh, layer_norm
from lm_core.masks import causal_mask
from lm_core.probability import softmax

Weights = Mapping[str, Tensor]
EPS = 1e-5  # GPT-2's


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
    keys, values = torch.cat([past_k, k], dim=-2), torch.cat([past_v, v], dim=-2)
    allowed = causal_mask(q.shape[-2], keys.shape[-2], device=q.device)
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=allowed), keys, values


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
    positions = torch.arange(token_ids.shape[-1], device=token_ids.device)
    embedded = weights["embed_tokens.weight"][token_ids] + weights["embed_positions.weight"][positions]
    stream: list[Tensor] = []
    for layer in range(n_layers):
        begin = f"blocks.{layer}."
        own = {name.removeprefix(begin): w for name, w in weights.items() if name.startswith(begin)}
        stream.append(pre_norm_block(stream[-1] if stream else embedded, own, n_heads).resid_post)
    final = layer_norm(
        stream[-1] if stream else embedded, weights["final_norm.weight"], weights["final_norm.bias"], EPS
    )
    return GPTSteps(embedded, tuple(stream), final, final @ weights["embed_tokens.weight"].mT)


def next_token_distribution(resid_post: Tensor, weights: Weights) -> Tensor:
    """P(next token | the text): the last position's stream, normed, compared with every token, softmax.

    resid_post [T D] after the last block -> [V]. The stream has D numbers and no meaning as scores; only `final · Eᵀ`
    has one logit a token: `softmax(E · norm(h_T))`. Radford et al. 2019.

    >>> weights = {"embed_tokens.weight": torch.eye(3, 2)}
    >>> norm = {"final_norm.weight": torch.ones(2), "final_norm.bias": torch.zeros(2)}
    >>> next_token_distribution(torch.tensor([[0.0, 0.0], [2.0, 1.0]]), weights | norm)
    tensor([0.6652, 0.0900, 0.2447])
    """
    final = layer_norm(resid_post[-1], weights["final_norm.weight"], weights["final_norm.bias"], EPS)
    return softmax(weights["embed_tokens.weight"] @ final)
