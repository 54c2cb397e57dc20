"""Self-attention, one readable step at a time.

Notation:  B batch · H heads · T positions (Tq queries, Tk keys) · Dh d_head · D d_model.
Arrays are [B H T Dh]. The functions also take arrays without B, or without B and H: [H T Dh], [T Dh].

The staircase, each step tied to the next by a test:
    average of the past  =  a causal head whose W_Q is 0
    one head             =  multi-head with H = 1
    grouped-query        =  multi-head with K and V repeated
    `attend`             =  `fused_attend`, in values and in gradients
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AttentionTrace:
    """Every intermediate of one attention, in the order in which it is computed.

    q, k, v    [B H T Dh]    as they enter the dot product (after rotation, where there is one)
    scores     [B H Tq Tk]   q kᵀ, raw
    scaled     [B H Tq Tk]   scores / √Dh (+ bias)
    masked     [B H Tq Tk]   −∞ where not allowed
    weights    [B H Tq Tk]   softmax over the keys: rows sum to 1 (or are all 0 where nothing is allowed)
    head_out   [B H Tq Dh]   weights · v
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scores: Tensor
    scaled: Tensor
    masked: Tensor
    weights: Tensor
    head_out: Tensor


def attention_scores(q: Tensor, k: Tensor) -> Tensor:
    """How well each query matches each key: the dot product of every pair, `scores[i, j] = q_i · k_j`.

    q [B H Tq Dh], k [B H Tk Dh] -> [B H Tq Tk].  Vaswani et al. 2017, eq. 1.

    >>> attention_scores(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[11.,  2.]])
    """
    return q @ k.mT


def scale_scores(scores: Tensor, d_head: int) -> Tensor:
    """Divide by √d_head, so that the spread of the scores does not grow with the length of the vectors.

    If the components of q and k are independent with mean 0 and variance 1, q·k has variance d_head;
    divided by √d_head it has variance 1 again, and softmax stays off its flat ends.
    scores [B H Tq Tk] -> the same shape.  Vaswani et al. 2017, section 3.2.1, footnote 4.

    >>> scale_scores(torch.tensor([[8.0, -4.0]]), d_head=16)
    tensor([[ 2., -1.]])
    """
    return scores / math.sqrt(d_head)


def apply_mask(scaled: Tensor, allowed: Tensor | None) -> Tensor:
    """Put −∞ where a query may not look; `allowed` True = may attend, broadcast to [B H Tq Tk].

    −∞ and not −10000: exp(−∞) is exactly 0, whatever the other scores are. Nothing is overwritten:
    `scaled` is still there to be drawn.

    >>> apply_mask(torch.tensor([[1.0, 2.0]]), torch.tensor([[True, False]]))
    tensor([[1., -inf]])
    """
    return scaled if allowed is None else scaled.masked_fill(~allowed, -math.inf)


def masked_softmax(masked: Tensor) -> Tensor:
    """Turn each row into weights: `weights[i, j] = exp(masked[i, j]) / Σ_k exp(masked[i, k])`.

    The row's largest score is subtracted first: the result is the same, and exp cannot overflow.
    A row of nothing but −∞ would be 0/0 = NaN; here it gives zeros: who may look at nothing receives nothing.
    [.. Tq Tk] -> [.. Tq Tk].

    >>> masked_softmax(torch.tensor([[0.0, 0.0, -math.inf], [-math.inf, -math.inf, -math.inf]]))
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    highest = masked.amax(dim=-1, keepdim=True)
    highest = torch.where(highest == -math.inf, 0.0, highest)  # −∞ − (−∞) would be NaN
    exponentials = torch.exp(masked - highest)
    total = exponentials.sum(dim=-1, keepdim=True)
    return exponentials / torch.where(total == 0, 1.0, total)


def mix_values(weights: Tensor, v: Tensor) -> Tensor:
    """Each position receives the weighted sum of the values: `head_out[i] = Σ_j weights[i, j] · v[j]`.

    weights [B H Tq Tk], v [B H Tk Dh] -> [B H Tq Dh].  Vaswani et al. 2017, eq. 1.

    >>> mix_values(torch.tensor([[0.25, 0.75]]), torch.tensor([[4.0, 0.0], [0.0, 8.0]]))
    tensor([[1., 6.]])
    """
    return weights @ v


def repeat_heads(x: Tensor, n_heads: int) -> Tensor:
    """Give every query head a key/value head to itself, by repeating each one for its group.

    x [B H_kv T Dh] -> [B n_heads T Dh]; heads 0..g-1 read the first, the next g the second, and so on.
    Raises ValueError when n_heads is not a multiple of H_kv.  Ainslie et al. 2023 (GQA), section 2.2.

    >>> repeat_heads(torch.tensor([[[1.0]], [[2.0]]]), 4).flatten()
    tensor([1., 1., 2., 2.])
    """
    n_kv_heads = x.shape[-3] if x.dim() >= 3 else 1
    if n_heads % n_kv_heads:
        raise ValueError(f"{n_heads} query heads cannot share {n_kv_heads} key/value heads evenly")
    return x if n_kv_heads == n_heads else x.repeat_interleave(n_heads // n_kv_heads, dim=-3)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> AttentionTrace:
    """Scaled dot-product attention with every step kept: softmax(q kᵀ · scale + bias, masked) v.

    q [B H Tq Dh], k [B H_kv Tk Dh], v [B H_kv Tk Dv]; allowed bool and bias float broadcast to [B H Tq Tk].
    `scale` defaults to 1/√Dh; 1.0 switches scaling off, 1/(√Dh · τ) is a temperature τ; `bias` is added after
    scaling and carries ALiBi. With fewer key/value heads than query heads, each is shared by a group.
    Vaswani et al. 2017, eq. 1:  Attention(Q, K, V) = softmax(QKᵀ / √d_k) V.

    >>> x = torch.eye(2)
    >>> attend(x, x, x, allowed=torch.tensor([[True, False], [True, True]]), scale=0.0).weights
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    n_heads = q.shape[-3] if q.dim() >= 3 else 1
    keys, values = repeat_heads(k, n_heads), repeat_heads(v, n_heads)
    scores = attention_scores(q, keys)
    scaled = scale_scores(scores, q.shape[-1]) if scale is None else scores * scale
    if bias is not None:
        scaled = scaled + bias
    masked = apply_mask(scaled, allowed)
    weights = masked_softmax(masked)
    return AttentionTrace(q, k, v, scores, scaled, masked, weights, mix_values(weights, values))


def fused_attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
) -> Tensor:
    """What `attend(...).head_out` computes, in one fused kernel that never stores the [Tq Tk] matrices.

    Shapes and arguments as `attend`; `is_causal=True` is the mask of `causal_mask(T)` (Tq = Tk) without building
    it. This is the path that training and generation take.  Dao et al. 2022 (FlashAttention).

    >>> x = torch.eye(2)[None, None]
    >>> torch.allclose(fused_attend(x, x, x, is_causal=True), attend(x, x, x, torch.ones(2, 2).tril().bool()).head_out)
    True
    """
    n_heads = q.shape[-3] if q.dim() >= 3 else 1
    mask = allowed if bias is None else apply_mask(bias, allowed)
    k, v = repeat_heads(k, n_heads), repeat_heads(v, n_heads)
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # torch's CPU kernel computes gradients in bfloat16 2 to 7 times slower than in float32, at T 128 and 32.
        with torch.autocast("cpu", enabled=False):
            q, k, v = q.float(), k.float(), v.float()
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, scale=scale)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, scale=scale)


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


def average_of_past(x: Tensor) -> Tensor:
    """The plainest attention: every position receives the mean of all positions up to itself.

    x [B T D] -> [B T D]. It is a causal head whose queries are 0, so that all scores are equal.

    >>> average_of_past(torch.tensor([[[2.0], [4.0], [9.0]]])).flatten()
    tensor([2., 3., 5.])
    """
    count = torch.arange(1, x.shape[-2] + 1, device=x.device, dtype=x.dtype)
    return x.cumsum(dim=-2) / count[:, None]
