"""20. Write `perplexity_of`, `bits_per_byte_of`.

Check it:  python -m lm_core check perplexity
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def perplexity_of(log_probs: Tensor) -> float:
    """As undecided as among this many equally likely tokens: `exp(−mean log P)`. log_probs [N] in nats, N ≥ 1.

    >>> round(perplexity_of(torch.log(torch.tensor([0.5, 0.125]))), 4)
    4.0
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")


def bits_per_byte_of(log_probs: Tensor, text: str) -> float:
    """What a text costs a byte: `−Σ log2 P / bytes`, its bytes in UTF-8. log_probs [N] in nats.

    Unlike perplexity it is comparable between tokenizers: all divide by the same bytes. Raises ValueError for an
    empty text.

    >>> round(bits_per_byte_of(torch.log(torch.tensor([0.25, 0.25])), "é"), 4)
    2.0
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
