"""One transformer block: attention, then a feed-forward network, each added to the residual stream.

Notation:  B batch · H heads · H_kv key/value heads · T positions · Dh d_head · D d_model · M d_mlp.

Every block has two paths with the same result (tested, values and gradients):
`forward` is fast and keeps nothing; `trace` is the readable one and keeps every intermediate.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm_core.attention import AttentionTrace, fused_attend, merge_heads, split_heads
from lm_core.layers import ACTIVATIONS
from lm_core.ops import Ops
from lm_core.positions import rotate


@dataclass(frozen=True)
class LayerTrace:
    """Everything one block computes, by name.

    resid_pre  [B T D]        the residual stream as it comes in
    attn_in    [B T D]        what the projections read: norm(resid_pre) before-norm, resid_pre post-norm
    q_proj     [B H T Dh]     attn_in · W_Q (+ bias), before rotation;  k_proj [B H_kv T Dh] likewise
    attention                 the steps of `attend`: q, k, v, scores, scaled, masked, weights, head_out
    attn_out   [B T D]        concatenated head_out · W_O (+ bias)
    resid_mid  [B T D]        pre-norm: resid_pre + attn_out;  post-norm: norm(resid_pre + attn_out)
    mlp_in     [B T D]        pre-norm: norm(resid_mid);  post-norm: resid_mid
    mlp_hidden [B T M]        the neurons, after the activation (and the gate)
    mlp_out    [B T D]        what the feed-forward network adds
    resid_post [B T D]        pre-norm: resid_mid + mlp_out;  post-norm: norm(resid_mid + mlp_out)
    """

    resid_pre: Tensor
    attn_in: Tensor
    q_proj: Tensor
    k_proj: Tensor
    attention: AttentionTrace
    attn_out: Tensor
    resid_mid: Tensor
    mlp_in: Tensor
    mlp_hidden: Tensor
    mlp_out: Tensor
    resid_post: Tensor


def over_heads(allowed: Tensor | None) -> Tensor | None:
    """A mask per text, [B Tq Tk], as [B 1 Tq Tk], so that it broadcasts over the heads; [Tq Tk] stays as it is.

    >>> over_heads(torch.ones(2, 1, 5)).shape
    torch.Size([2, 1, 1, 5])
    """
    return allowed[:, None] if allowed is not None and allowed.dim() == 3 else allowed


class LayerCache:
    """Keys and values of the positions seen so far, so that they are not computed again.

    Room for `n_positions` is taken at once; `append` writes the new ones and returns all so far.
    """

    def __init__(self, batch: int, n_kv_heads: int, n_positions: int, d_head: int, like: Tensor) -> None:
        self.k = like.new_empty(batch, n_kv_heads, n_positions, d_head)
        self.v = torch.empty_like(self.k)
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v [B H_kv T Dh] of the new positions -> those of all positions, [B H_kv length Dh]."""
        end = self.length + k.shape[-2]
        if end > self.k.shape[-2]:
            raise ValueError(f"the cache has room for {self.k.shape[-2]} positions, not for {end}")
        self.k[:, :, self.length : end] = k
        self.v[:, :, self.length : end] = v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]


class Norm(nn.Module):
    """LayerNorm or RMSNorm with its learned weight (and bias)."""

    def __init__(self, kind: str, d_model: int, eps: float) -> None:
        super().__init__()
        self.kind, self.eps = kind, eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if kind == "layer_norm" else None

    def forward(self, x: Tensor) -> Tensor:
        """[B T D] -> [B T D] by torch's fused kernels."""
        if self.kind == "layer_norm":
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)

    def trace(self, x: Tensor, ops: Ops) -> Tensor:
        """The same, by the readable function in `ops`."""
        return ops.norm(self.kind)(x, self.weight, self.bias, self.eps)


class SelfAttention(nn.Module):
    """The four projections around `attend`: W_Q, W_K, W_V read the stream, W_O writes to it."""

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, d_head: int, bias: bool) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.d_head = n_heads, n_kv_heads, d_head
        self.w_q = nn.Linear(d_model, n_heads * d_head, bias=bias)
        self.w_k = nn.Linear(d_model, n_kv_heads * d_head, bias=bias)
        self.w_v = nn.Linear(d_model, n_kv_heads * d_head, bias=bias)
        self.w_o = nn.Linear(n_heads * d_head, d_model, bias=bias)

    def project(
        self, x: Tensor, split_heads: Callable[[Tensor, int], Tensor] = split_heads
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B T D] -> q [B H T Dh], k and v [B H_kv T Dh]; another `split_heads` may cut them."""
        return (
            split_heads(self.w_q(x), self.n_heads),
            split_heads(self.w_k(x), self.n_kv_heads),
            split_heads(self.w_v(x), self.n_kv_heads),
        )


class MLP(nn.Module):
    """The weights of the feed-forward network; with a gate it is SwiGLU."""

    def __init__(self, d_model: int, d_mlp: int, activation: str, gated: bool, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.w_in = nn.Linear(d_model, d_mlp, bias=bias)
        self.w_gate = nn.Linear(d_model, d_mlp, bias=bias) if gated else None
        self.w_out = nn.Linear(d_mlp, d_model, bias=bias)

    def _activate(self, x: Tensor) -> Tensor:
        fused = {"gelu": F.gelu, "gelu_tanh": lambda t: F.gelu(t, approximate="tanh"), "silu": F.silu, "relu": F.relu}
        return fused[self.activation](x)

    def forward(self, x: Tensor) -> Tensor:
        """[B T D] -> [B T D], fast."""
        if self.w_gate is None:
            return self.w_out(self._activate(self.w_in(x)))
        return self.w_out(self._activate(self.w_gate(x)) * self.w_in(x))

    def trace(self, x: Tensor, ops: Ops) -> tuple[Tensor, Tensor]:
        """(hidden [B T M], out [B T D]) by the readable function in `ops`."""
        gate = (None, None) if self.w_gate is None else (self.w_gate.weight, self.w_gate.bias)
        return ops.feed_forward(
            x, self.w_in.weight, self.w_in.bias, self.w_out.weight, self.w_out.bias, ACTIVATIONS[self.activation], *gate
        )


class Block(nn.Module):
    """Attention and feed-forward around the residual stream, normalised before (GPT-2, Llama) or after (BERT)."""

    def __init__(self, attention: SelfAttention, mlp: MLP, norm_1: Norm, norm_2: Norm, pre_norm: bool) -> None:
        super().__init__()
        self.attention, self.mlp, self.norm_1, self.norm_2, self.pre_norm = attention, mlp, norm_1, norm_2, pre_norm

    def _attention_out(
        self, x: Tensor, angles: Tensor | None, allowed: Tensor | None, causal: bool, cache: LayerCache | None
    ) -> Tensor:
        q, k, v = self.attention.project(x)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        if cache is not None:
            k, v = cache.append(k, v)
        return self.attention.w_o(merge_heads(fused_attend(q, k, v, allowed, is_causal=causal)))

    def forward(
        self, x: Tensor, angles: Tensor | None, allowed: Tensor | None, causal: bool, cache: LayerCache | None
    ) -> Tensor:
        """x [B T D] -> [B T D]. `causal` stands for the mask of `causal_mask(T)` without building it."""
        if self.pre_norm:
            x = x + self._attention_out(self.norm_1(x), angles, allowed, causal, cache)
            return x + self.mlp(self.norm_2(x))
        x = self.norm_1(x + self._attention_out(x, angles, allowed, causal, cache))
        return self.norm_2(x + self.mlp(x))

    def trace(self, resid_pre: Tensor, angles: Tensor | None, allowed: Tensor | None, ops: Ops) -> LayerTrace:
        """The readable path: the same numbers, every one of them kept; allowed bool broadcasts to [B H T T]."""
        attn_in = self.norm_1.trace(resid_pre, ops) if self.pre_norm else resid_pre
        q_proj, k_proj, v = self.attention.project(attn_in, ops.split_heads)
        q, k = (q_proj, k_proj) if angles is None else (ops.rotate(q_proj, angles), ops.rotate(k_proj, angles))
        attention = ops.attend(q, k, v, allowed)
        attn_out = self.attention.w_o(ops.merge_heads(attention.head_out))
        if self.pre_norm:
            resid_mid = resid_pre + attn_out
            mlp_in = self.norm_2.trace(resid_mid, ops)
            mlp_hidden, mlp_out = self.mlp.trace(mlp_in, ops)
            resid_post = resid_mid + mlp_out
        else:
            resid_mid = self.norm_1.trace(resid_pre + attn_out, ops)
            mlp_in = resid_mid
            mlp_hidden, mlp_out = self.mlp.trace(mlp_in, ops)
            resid_post = self.norm_2.trace(resid_mid + mlp_out, ops)
        return LayerTrace(
            resid_pre, attn_in, q_proj, k_proj, attention, attn_out, resid_mid, mlp_in, mlp_hidden, mlp_out, resid_post
        )
