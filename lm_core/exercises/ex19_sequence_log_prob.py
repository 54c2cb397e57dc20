"""19. Write `sequence_log_prob`.

Check it:  python -m lm_core check sequence_log_prob
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


def sequence_log_prob(token_ids: Tensor, logits: Tensor) -> Tensor:
    """The chain rule: `log P(w_1 … w_n | w_0) = Σ_t log P(w_t | w_<t)` in nats, read off one forward pass.

    token_ids int [T], logits [T V] of the same tokens: row t − 1 predicts token t -> a scalar.

    >>> round(sequence_log_prob(torch.tensor([0, 2, 1]), torch.zeros(3, 4)).item(), 4)  # two tokens at ¼ each
    -2.7726
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
