"""18. Write `cross_entropy`.

Check it:  python -m lm_core check cross_entropy
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, ignored: int = -100) -> Tensor:
    """How surprised a model is on average: the mean of `−log P(target)` in nats, over the positions that count.

    logits [.. V], targets int [..] -> a scalar. A position whose target is `ignored` (padding, say) enters neither the
    sum nor the count. NaN where nothing counts.  `log_softmax` first, never the log of a softmax: that is −inf soon.

    >>> round(cross_entropy(torch.zeros(3, 4), torch.tensor([1, 0, -100])).item(), 4)  # ln 4
    1.3863
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
