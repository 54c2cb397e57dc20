"""Switching heads off, to see what they were for.

Notation:  B batch · H heads · L layers · T positions · Dh d_head · V vocab_size.

A head hands over head_out [B H T Dh]. *Zero ablation* puts zeros there, as if the head had never been wired in. *Mean
ablation* puts the head's mean over the positions there: what it always says stays, what depends on this word is gone.
The rest of the model receives something closer to what it is used to. Wang et al. 2022, section 2.1, compare the two.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lm_core.attention import AttentionTrace, attend
from lm_core.block import over_heads
from lm_core.masks import causal_mask
from lm_core.model import Decoder, ModelTrace
from lm_core.ops import Ops
from lm_core.probability import BITS_PER_NAT, log_softmax


def attend_without(keep: Tensor, instead: Tensor | None = None) -> Callable[..., AttentionTrace]:
    """An `attend` in which the heads with keep = False hand over `instead`: by default zeros.

    keep bool [H] or [B H], instead [H Dh]. A head still looks where it always looked: only its output is replaced.

    >>> x = torch.ones(1, 2, 3, 4)
    >>> attend_without(torch.tensor([True, False]))(x, x, x).head_out[0, :, 0, 0]
    tensor([1., 0.])
    """

    def ablated(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        allowed: Tensor | None = None,
        bias: Tensor | None = None,
        scale: float | None = None,
    ) -> AttentionTrace:
        steps = attend(q, k, v, allowed, bias, scale)
        other = torch.zeros_like(steps.head_out) if instead is None else instead[:, None, :]
        return replace(steps, head_out=torch.where(keep[..., None, None], steps.head_out, other))

    return ablated


@torch.no_grad()
def logits_without(
    model: Decoder, token_ids: Tensor, keep: Tensor, instead: Tensor | None = None, trace: ModelTrace | None = None
) -> Tensor:
    """The model's logits when only some heads work; token_ids [1 T], keep bool [L H] or [B L H] -> [B T V].

    instead [L H Dh] is what the others hand over (see `mean_head_out`), zeros when None. `trace`, the untouched run of
    the same tokens, saves the layers below the first that is changed.
    """
    keep = keep if keep.dim() == 3 else keep[None]
    trace = model.trace(token_ids) if trace is None else trace
    untouched = keep.all(dim=-1).all(dim=0).tolist()
    first = untouched.index(False) if False in untouched else 0
    stream = trace.layers[first].resid_pre.expand(len(keep), -1, -1)
    allowed = over_heads(causal_mask(token_ids.shape[-1], device=token_ids.device))
    angles = model._embed(token_ids, 0)[1]
    for layer in range(first, len(model.blocks)):
        ops = Ops(attend=attend_without(keep[:, layer], None if instead is None else instead[layer]))
        stream = model.blocks[layer].trace(stream, angles, allowed, ops).resid_post
    return model.unembed(model.final_norm.trace(stream, Ops()))


def mean_head_out(trace: ModelTrace) -> Tensor:
    """What each head hands over on average over the positions of a text: [L H Dh]."""
    return torch.stack([layer.attention.head_out[0].mean(dim=-2) for layer in trace.layers])


def kl_bits(logits: Tensor, other_logits: Tensor) -> Tensor:
    """How far the second prediction is from the first: KL(p ‖ p') = Σ p log2 (p / p'), in bits; [.. V] twice -> [..].

    What one pays on average a token for betting on p' while words come by p; 0 only when the two agree. Always over the
    whole vocabulary.  Kullback & Leibler 1951.

    >>> kl_bits(torch.tensor([0.0, 0.0]), torch.tensor([0.0, -1000.0])) > 700
    tensor(True)
    >>> kl_bits(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 5.0]))  # softmax sees differences only
    tensor(0., dtype=torch.float64)
    """
    log_p, log_q = log_softmax(logits.double()), log_softmax(other_logits.double())
    return ((log_p.exp() * (log_p - log_q)).sum(dim=-1) * BITS_PER_NAT).clamp(min=0)


@torch.no_grad()
def head_costs(model: Decoder, token_ids: Tensor, mean: bool = False) -> Tensor:
    """What each head is worth to the prediction after the last token: KL in bits when it alone is off; [1 T] -> [L H].

    All heads of a layer are tried in one batch.
    """
    trace = model.trace(token_ids)
    instead = mean_head_out(trace) if mean else None
    n_layers, n_heads = len(model.blocks), model.config.n_heads
    costs = torch.zeros(n_layers, n_heads, dtype=torch.float64, device=token_ids.device)
    for layer in range(n_layers):
        keep = torch.ones(n_heads, n_layers, n_heads, dtype=torch.bool, device=token_ids.device)
        keep[:, layer].fill_diagonal_(False)
        without = logits_without(model, token_ids, keep, instead, trace)
        costs[layer] = kl_bits(trace.logits[0, -1], without[:, -1])
    return costs
