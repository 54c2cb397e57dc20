"""The operations a model is made of, as one value that can be exchanged.

A model computes with the functions in its `Ops`. The default, `REFERENCE`, is this package's own; to run a whole
trained model on YOUR `attend` or `layer_norm`, give it another `Ops`:

    model.trace(token_ids, ops=replace(REFERENCE, attend=my_attend))

Nothing is patched: two models with different `Ops` live side by side. `attend` and `sample` are themselves made of
steps; `attend_with` and `sample_with` build them from YOUR steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lm_core.attention import (
    AttentionTrace,
    apply_mask,
    attend,
    attention_scores,
    masked_softmax,
    merge_heads,
    mix_values,
    repeat_heads,
    scale_scores,
    split_heads,
)
from lm_core.layers import feed_forward, layer_norm, rms_norm
from lm_core.masks import causal_mask
from lm_core.positions import rotate
from lm_core.sampling import USUAL_STEPS, SamplingConfig, SamplingSteps, sample


@dataclass(frozen=True)
class Ops:
    """One function for each operation; signatures are those of the defaults.

    >>> Ops() == REFERENCE
    True
    """

    attend: Callable[..., AttentionTrace] = attend
    causal_mask: Callable[..., Tensor] = causal_mask
    layer_norm: Callable[..., Tensor] = layer_norm
    rms_norm: Callable[..., Tensor] = rms_norm
    feed_forward: Callable[..., tuple[Tensor, Tensor]] = feed_forward
    rotate: Callable[..., Tensor] = rotate
    split_heads: Callable[..., Tensor] = split_heads
    merge_heads: Callable[..., Tensor] = merge_heads
    sample: Callable[..., Tensor] = sample

    def norm(self, kind: str) -> Callable[..., Tensor]:
        """The normalisation called `layer_norm` or `rms_norm` in a config."""
        return self.rms_norm if kind == "rms_norm" else self.layer_norm


REFERENCE = Ops()


def attend_with(
    attention_scores: Callable[..., Tensor] = attention_scores,
    scale_scores: Callable[..., Tensor] = scale_scores,
    masked_softmax: Callable[..., Tensor] = masked_softmax,
) -> Callable[..., AttentionTrace]:
    """`attend` made of other steps: each has the signature of its default. Without bias and scale, as a model calls it.

    >>> import torch
    >>> x = torch.eye(2)
    >>> attend_with(scale_scores=lambda scores, d_head: 0 * scores)(x, x, x).weights  # all scores alike
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """

    def attend_of_steps(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> AttentionTrace:
        n_heads = q.shape[-3] if q.dim() >= 3 else 1
        keys, values = repeat_heads(k, n_heads), repeat_heads(v, n_heads)
        scores = attention_scores(q, keys)
        scaled = scale_scores(scores, q.shape[-1])
        masked = apply_mask(scaled, allowed)
        weights = masked_softmax(masked)
        return AttentionTrace(q, k, v, scores, scaled, masked, weights, mix_values(weights, values))

    return attend_of_steps


def sample_with(steps: SamplingSteps = USUAL_STEPS) -> Callable[..., Tensor]:
    """`sample` made of other steps.

    >>> import torch
    >>> nothing_cut = SamplingSteps(keep_top_k=lambda logits, k: logits)
    >>> sample_with(nothing_cut)(torch.log(torch.tensor([[0.5, 0.5]])), SamplingConfig(top_k=1), torch.tensor([0.7]))
    tensor([1])
    """

    def sample_of_steps(
        logits: Tensor, config: SamplingConfig, uniform: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:
        return sample(logits, config, uniform, seen, steps)

    return sample_of_steps
