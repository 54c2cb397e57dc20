"""Choosing the next token from logits: temperature, top-k, top-p, and the draw.

Notation:  B batch · V vocab_size. Order, as in `transformers`: temperature, then top-k, then top-p.
Every step works on the full vocabulary and returns new logits with −∞ for what it removed, so that
the softmax afterwards is the distribution that is really drawn from.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_core.probability import softmax


@dataclass(frozen=True)
class SamplingConfig:
    """How to choose. temperature 0 = always the favourite (greedy); top_k 0 and top_p 1.0 switch a filter off.

    >>> SamplingConfig(temperature=-1.0)
    Traceback (most recent call last):
    ValueError: temperature -1.0 is negative: use 0 for greedy, 1 for the model's own distribution
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0 or math.isinf(self.temperature):  # `not >=` also catches NaN
            raise ValueError(
                f"temperature {self.temperature} is {'negative' if self.temperature < 0 else 'not a finite number'}: "
                "use 0 for greedy, 1 for the model's own distribution"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k {self.top_k} is negative: use 0 to switch it off")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} is not in (0, 1]: use 1 to switch it off")


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide the logits by τ: below 1 sharpens, above 1 flattens the distribution. [B V] -> [B V]; τ > 0.

    >>> softmax(apply_temperature(torch.tensor([0.0, math.log(3.0)]), 0.5))
    tensor([0.1000, 0.9000])
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be positive here; 0 (greedy) is `sample`'s business")
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits, −∞ elsewhere; ties with the k-th are kept too. [B V] -> [B V]. Fan et al. 2018.

    >>> keep_top_k(torch.tensor([1.0, 3.0, 2.0]), 2)
    tensor([-inf, 3., 2.])
    """
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < kth, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose probabilities reach p, −∞ elsewhere. [B V] -> [B V].

    The token that crosses p is kept, so the set is never empty.  Holtzman et al. 2020, section 3.1.

    >>> keep_top_p(torch.log(torch.tensor([0.5, 0.3, 0.2])), 0.6).exp()
    tensor([0.5000, 0.3000, 0.0000])
    """
    ordered, index = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = softmax(ordered)
    before = probabilities.cumsum(dim=-1) - probabilities  # mass of the strictly better tokens
    removed = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, index, before >= p)
    return logits.masked_fill(removed, -math.inf)


def filter_logits(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Temperature, top-k, top-p in this order; [B V] -> [B V]. With temperature 0 only the favourite is left.

    >>> filter_logits(torch.tensor([1.0, 3.0, 2.0]), SamplingConfig(temperature=0.0))
    tensor([-inf, 3., -inf])
    """
    if config.temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best))
    logits = apply_temperature(logits, config.temperature)
    if config.top_k:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p < 1:
        logits = keep_top_p(logits, config.top_p)
    return logits


def sample(logits: Tensor, config: SamplingConfig, uniform: Tensor | None = None) -> Tensor:
    """Draw one token: walk along the cumulative distribution until it passes the drawn number.

    logits [B V], uniform [B] in [0, 1) (drawn by the caller, so that the same numbers give the same text; may be
    None when greedy) -> token ids int64 [B].

    >>> sample(torch.log(torch.tensor([[0.5, 0.5]])), SamplingConfig(), torch.tensor([0.7]))
    tensor([1])
    """
    filtered = filter_logits(logits.float(), config)
    if config.temperature == 0:
        return filtered.argmax(dim=-1)
    if uniform is None:
        raise ValueError("a draw at temperature > 0 needs `uniform` numbers")
    cumulative = softmax(filtered).cumsum(dim=-1)
    # 1 − 2⁻²⁴ is the largest float32 below 1: a 0.99999999 rounded up to 1 would land beyond the last kept token.
    below_one = uniform.to(cumulative).clamp(max=1 - 2**-24)
    target = below_one[:, None] * cumulative[:, -1:]  # rounding can leave the last sum below 1
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
