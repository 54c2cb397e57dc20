"""32. Find and repair the mistake in `next_token_distribution`.

Check it:  python -m lm_core check bug_hidden_state
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]  # name -> matrix or vector


EPS = 1e-5  # GPT-2's


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


def softmax(logits: Tensor) -> Tensor:
    """Probabilities from logits: `p_i = exp(z_i) / Σ_j exp(z_j)`, over the last dimension.

    Subtracting the largest logit first changes nothing but keeps exp from overflowing.
    [.. V] -> [.. V].  Bridle 1990.

    >>> softmax(torch.tensor([1000.0, 1000.0]))
    tensor([0.5000, 0.5000])
    """
    exponentials = torch.exp(logits - logits.amax(dim=-1, keepdim=True))
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


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
    return softmax(final)
