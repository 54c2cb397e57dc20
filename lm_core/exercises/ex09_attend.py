"""9. Write `attend`.

Check it:  python -m lm_core check attend
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
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
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
