"""The operations a model is made of, as one value that can be exchanged.

A model computes with the functions in its `Ops`. The default, `REFERENCE`, is this package's own; to run a whole
trained model on YOUR `attend` or `layer_norm`, give it another `Ops`:

    model.trace(token_ids, ops=replace(REFERENCE, attend=my_attend))

Nothing is patched: two models with different `Ops` live side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lm_core.attention import AttentionTrace, attend
from lm_core.layers import feed_forward, layer_norm, rms_norm
from lm_core.masks import causal_mask
from lm_core.positions import rotate
from lm_core.sampling import sample


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
    sample: Callable[..., Tensor] = sample

    def norm(self, kind: str) -> Callable[..., Tensor]:
        """The normalisation called `layer_norm` or `rms_norm` in a config."""
        return self.rms_norm if kind == "rms_norm" else self.layer_norm


REFERENCE = Ops()
