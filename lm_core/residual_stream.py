"""The residual stream read as a sum: who wrote what, and what it does to a logit.

Notation:  T positions · H heads · H_kv key/value heads · Dh d_head · D d_model · L n_layers · V vocab_size · N parts.

In a pre-norm model nothing ever overwrites the stream: the embedding starts it, then attention and the feed-forward
network of each layer add a row. So the last state is a sum of N = 2L + 1 rows, and every logit is a sum of N numbers
as soon as the final norm's division is held fixed.  Elhage et al. 2021, "A Mathematical Framework for Transformer
Circuits"; nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

import torch
from torch import Tensor

from lm_core.block import Norm


def stream_parts(embedded: Tensor, attn_out: Tensor, mlp_out: Tensor) -> Tensor:
    """All rows that were added to the stream, in the order in which they were.

    embedded [T D], attn_out and mlp_out [L T D] -> [2L+1 T D]: embedding, attention 1, feed-forward 1, attention 2 ...
    `parts.cumsum(0)` are the states of the stream; the last one is what the final norm reads.

    >>> one = torch.ones(1, 1, 1)
    >>> stream_parts(torch.zeros(1, 1), 2 * one, 3 * one).cumsum(0).flatten()
    tensor([0., 2., 5.])
    """
    layers = torch.stack([attn_out, mlp_out], dim=1).flatten(0, 1)
    return torch.cat([embedded[None], layers])


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """`a · b / (‖a‖ ‖b‖)` along the last dimension: 1 the same direction, 0 at right angles, −1 opposite.

    >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]))
    tensor(0.7071)
    """
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def written_by_source(weights: Tensor, v: Tensor, w_o: Tensor) -> Tensor:
    """What each earlier position, through each head, writes into the stream of one position.

    Attention adds `Σ_h Σ_j weights[h, j] · v[h, j] · W_O[h]` (+ bias); here is every term of it.
    weights [H T] (one query's row in every head), v [H_kv T Dh], w_o [D H·Dh] -> [H T D].
    Elhage et al. 2021, section "Attention heads as independent and additive".

    >>> weights, v = torch.tensor([[0.25, 0.75]]), torch.tensor([[[4.0], [8.0]]])
    >>> written_by_source(weights, v, w_o=torch.tensor([[10.0]])).flatten()
    tensor([10., 60.])
    """
    n_heads, d_head = weights.shape[0], v.shape[-1]
    v = v.repeat_interleave(n_heads // v.shape[0], dim=0)  # grouped queries share a value
    each_head = w_o.unflatten(1, (n_heads, d_head))  # [D H Dh]
    return torch.einsum("hj,hjk,dhk->hjd", weights, v, each_head)


def share_of_length(written: Tensor, total: Tensor) -> Tensor:
    """How far each row reaches in the direction of their sum: `row · total / ‖total‖`. The shares add up to ‖total‖.

    written [... D], total [D] -> [...]. A negative share pulls the other way.

    >>> rows = torch.tensor([[3.0, 1.0], [0.0, -1.0]])
    >>> share_of_length(rows, rows.sum(0))
    tensor([3., 0.])
    """
    return written @ (total / total.norm())


def through_frozen_norm(rows: Tensor, stream: Tensor, norm: Norm) -> Tensor:
    """Rows of a sum through the final norm, its division frozen at what it is for the whole stream.

    A norm is not linear: it divides by the size of its input. Frozen means: every row is divided by the size of the
    WHOLE stream, the number that the model really divided by. What is left is linear (LayerNorm also takes the mean
    from each row), so the results add up to `norm(stream)` less its bias.  Elhage et al. 2021.
    rows [... D], stream [D] -> [... D].

    >>> rows, norm = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), Norm("rms_norm", 2, eps=0.0)
    >>> torch.equal(through_frozen_norm(rows, rows.sum(0), norm).sum(0), norm(rows.sum(0)))
    True
    """
    if norm.kind == "layer_norm":
        rows = rows - rows.mean(dim=-1, keepdim=True)
        stream = stream - stream.mean()
    size = torch.sqrt(stream.square().mean() + norm.eps)
    return rows / size * norm.weight


def logit_parts(parts: Tensor, norm: Norm, unembed: Tensor) -> Tensor:
    """How much each part of the stream adds to each of K logits (direct logit attribution).

    parts [N D] of one position, unembed [K D] (the rows of W_U of the K tokens) -> [N+1 K]: the last row is what the
    norm's bias adds, zeros where it has none. Every column sums to that token's logit exactly.  Elhage et al. 2021.

    >>> parts, norm = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), Norm("rms_norm", 2, eps=0.0)
    >>> logit_parts(parts, norm, unembed=torch.eye(2)).sum(0)
    tensor([0.8485, 1.1314], grad_fn=<SumBackward1>)
    """
    read = through_frozen_norm(parts, parts.sum(0), norm)
    bias = torch.zeros_like(read[:1]) if norm.bias is None else norm.bias[None].to(read)
    return torch.cat([read, bias]) @ unembed.T


def logit_lens(states: Tensor, norm: Norm, unembed: Tensor) -> Tensor:
    """What the model would predict if its remaining layers added nothing: the final norm and W_U on every state.

    states [... D], unembed [V D] -> logits [... V]; on the last state it is the model's own.
    nostalgebraist 2020, "interpreting GPT: the logit lens".

    >>> logit_lens(torch.tensor([[3.0, 4.0]]), Norm("rms_norm", 2, eps=0.0), torch.eye(2)).detach()
    tensor([[0.8485, 1.1314]])
    """
    return norm(states) @ unembed.T


def rank_of(logits: Tensor, token: int) -> Tensor:
    """The place of one token when the vocabulary is sorted by logit: 1 is the top. logits [... V] -> int [...].

    >>> rank_of(torch.tensor([[0.5, 2.0, 1.0]]), token=2)
    tensor([2])
    """
    return (logits > logits[..., token, None]).sum(-1) + 1
