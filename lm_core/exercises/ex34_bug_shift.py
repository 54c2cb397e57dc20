"""34. Find and repair the mistake in `next_token_nats`.

Check it:  python -m lm_core check bug_shift
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def log_softmax(logits: Tensor) -> Tensor:
    """log softmax in nats, without ever forming the probability: `z_i − log Σ_j exp(z_j)`; [.. V] -> [.. V].

    A probability of 1e-50 is 0 in float32; its logarithm, −115.1, is an ordinary number.

    >>> log_softmax(torch.tensor([0.0, -200.0]))
    tensor([   0., -200.])
    """
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def cross_entropy(logits: Tensor, targets: Tensor, ignored: int = -100) -> Tensor:
    """How surprised a model is on average: the mean of `−log P(target)` in nats, over the positions that count.

    logits [.. V], targets int [..] -> a scalar. A position whose target is `ignored` (padding, say) enters neither the
    sum nor the count. NaN where nothing counts.  `log_softmax` first, never the log of a softmax: that is −inf soon.

    >>> round(cross_entropy(torch.zeros(3, 4), torch.tensor([1, 0, -100])).item(), 4)  # ln 4
    1.3863
    """
    counted = targets != ignored
    picked = targets.masked_fill(~counted, 0)[..., None]
    nats = -log_softmax(logits).gather(-1, picked).squeeze(-1)
    return torch.where(counted, nats, 0).sum() / counted.sum()


def next_token_nats(logits: Tensor, token_ids: Tensor) -> Tensor:
    """The loss of a causal model on whole texts: each row of logits is held against the token AFTER it.

    logits [B T V] of the texts token_ids int [B T], T ≥ 2 -> the mean of −log P in nats over B·(T − 1) predictions, a
    scalar. The last row predicts a token that is not there, and the first token is predicted by nobody.

    >>> logits = torch.tensor([[[0.0, 9.0], [9.0, 0.0], [0.0, 0.0]]])  # after the first token 1, then 0
    >>> round(next_token_nats(logits, torch.tensor([[0, 1, 0]])).item(), 4)
    0.0001
    """
    return cross_entropy(logits, token_ids)
