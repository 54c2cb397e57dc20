"""Choosing the next token from logits: repetition penalty, temperature, top-k, top-p, min-p, and the draw.

Notation:  B batch · T positions · V vocab_size.
Order, as in `transformers`: repetition penalty, temperature, top-k, top-p, min-p. Another order leaves other tokens.
Every step works on the full vocabulary and returns new logits with −∞ for what it removed, so that
the softmax afterwards is the distribution that is really drawn from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_core.probability import softmax


@dataclass(frozen=True)
class SamplingConfig:
    """How to choose. temperature 0 = always the favourite (greedy).

    top_k 0, top_p 1.0, min_p 0.0 and repetition_penalty 1.0 switch a step off.

    >>> SamplingConfig(temperature=-1.0)
    Traceback (most recent call last):
    ValueError: temperature -1.0 is negative: use 0 for greedy, 1 for the model's own distribution
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    min_p: float = 0.0

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
        if not self.repetition_penalty > 0 or math.isinf(self.repetition_penalty):
            raise ValueError(
                f"repetition_penalty {self.repetition_penalty} is not a positive number: use 1 to switch it off, "
                "above 1 to make repeating less likely"
            )
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p {self.min_p} is not in [0, 1]: use 0 to switch it off")


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make every token that already stands in the text less likely: `z/θ` where z > 0, `z·θ` where z < 0.

    logits [B V], seen int [B T] (the whole text so far, repeats count once) -> [B V]; θ > 0, 1 changes nothing.
    Keskar et al. 2019, section 4.1, divides always, which would make a token with a negative logit *more* likely;
    so negative ones are multiplied, as in `transformers`.  Raises ValueError unless θ > 0.

    >>> penalize_repetition(torch.tensor([[4.0, -4.0, 1.0]]), torch.tensor([[0, 1, 0]]), 2.0)
    tensor([[ 2., -8.,  1.]])
    """
    if not penalty > 0:
        raise ValueError(f"repetition_penalty {penalty} is not a positive number")
    once = logits.gather(-1, seen)
    return logits.scatter(-1, seen, torch.where(once < 0, once * penalty, once / penalty))


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


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Keep what is at least min_p times as likely as the favourite, −∞ elsewhere. [B V] -> [B V].

    The favourite is always kept. Where it is sure of itself few tokens are left, where it is not, many.
    Nguyen et al. 2024, "Turning Up the Heat", section 3.

    >>> keep_min_p(torch.log(torch.tensor([0.5, 0.3, 0.2])), 0.5).exp()
    tensor([0.5000, 0.3000, 0.0000])
    """
    probabilities = softmax(logits)
    return logits.masked_fill(probabilities < min_p * probabilities.amax(dim=-1, keepdim=True), -math.inf)


def _keep_favourite(logits: Tensor) -> Tensor:
    best = logits.argmax(dim=-1, keepdim=True)
    return torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best))


ORDER = ("repetition", "temperature", "top_k", "top_p", "min_p")


@dataclass(frozen=True)
class SamplingSteps:
    """The functions that the stages are made of; signatures are those of the defaults. Yours can stand here."""

    apply_temperature: Callable[[Tensor, float], Tensor] = apply_temperature
    keep_top_k: Callable[[Tensor, int], Tensor] = keep_top_k
    keep_top_p: Callable[[Tensor, float], Tensor] = keep_top_p


USUAL_STEPS = SamplingSteps()


def _step(
    name: str, logits: Tensor, config: SamplingConfig, seen: Tensor | None, steps: SamplingSteps = USUAL_STEPS
) -> Tensor:
    """One step of `ORDER`; one that is switched off hands its logits on."""
    if name == "repetition" and config.repetition_penalty != 1:
        if seen is None:
            raise ValueError(f"repetition_penalty {config.repetition_penalty} needs the tokens `seen` so far")
        return penalize_repetition(logits, seen, config.repetition_penalty)
    if name == "temperature":
        return steps.apply_temperature(logits, config.temperature) if config.temperature else _keep_favourite(logits)
    if name == "top_k" and config.top_k:
        return steps.keep_top_k(logits, config.top_k)
    if name == "top_p" and config.top_p < 1:
        return steps.keep_top_p(logits, config.top_p)
    if name == "min_p" and config.min_p:
        return keep_min_p(logits, config.min_p)
    return logits


def filter_stages(
    logits: Tensor,
    config: SamplingConfig,
    seen: Tensor | None = None,
    order: Sequence[str] = ORDER,
    steps: SamplingSteps = USUAL_STEPS,
) -> dict[str, Tensor]:
    """The logits after every step by name, in the order of the computation; each [B V].

    `model` is what came in, the last one is what is drawn from. Another `order` is there to be compared.
    Raises ValueError when there is a repetition penalty and no `seen` (int [B T]), and for an unknown step.

    >>> stages = filter_stages(torch.log(torch.tensor([0.5, 0.3, 0.2])), SamplingConfig(top_k=2, min_p=0.7))
    >>> {name: int(z.isfinite().sum()) for name, z in stages.items()}
    {'model': 3, 'repetition': 3, 'temperature': 3, 'top_k': 2, 'top_p': 2, 'min_p': 1}
    """
    if unknown := set(order) - set(ORDER):
        raise ValueError(f"unknown steps {sorted(unknown)}: use {', '.join(ORDER)}")
    stages = {"model": logits}
    for name in order:
        logits = stages[name] = _step(name, logits, config, seen, steps)
    return stages


def filter_logits(
    logits: Tensor, config: SamplingConfig, seen: Tensor | None = None, steps: SamplingSteps = USUAL_STEPS
) -> Tensor:
    """All steps in their order; [B V] -> [B V]. With temperature 0 only the favourite is left.

    >>> filter_logits(torch.tensor([1.0, 3.0, 2.0]), SamplingConfig(temperature=0.0))
    tensor([-inf, 3., -inf])
    """
    return filter_stages(logits, config, seen, steps=steps)[ORDER[-1]]


def sample(
    logits: Tensor,
    config: SamplingConfig,
    uniform: Tensor | None = None,
    seen: Tensor | None = None,
    steps: SamplingSteps = USUAL_STEPS,
) -> Tensor:
    """Draw one token: walk along the cumulative distribution until it passes the drawn number.

    logits [B V], uniform [B] in [0, 1) (drawn by the caller, so that the same numbers give the same text; may be
    None when greedy), seen int [B T] (needed with a repetition penalty only) -> token ids int64 [B].

    >>> sample(torch.log(torch.tensor([[0.5, 0.5]])), SamplingConfig(), torch.tensor([0.7]))
    tensor([1])
    """
    filtered = filter_logits(logits.float(), config, seen, steps)
    if config.temperature == 0:
        return filtered.argmax(dim=-1)
    if uniform is None:
        raise ValueError("a draw at temperature > 0 needs `uniform` numbers")
    cumulative = softmax(filtered).cumsum(dim=-1)
    # 1 − 2⁻²⁴ is the largest float32 below 1: a 0.99999999 rounded up to 1 would land beyond the last kept token.
    below_one = uniform.to(cumulative).clamp(max=1 - 2**-24)
    target = below_one[:, None] * cumulative[:, -1:]  # rounding can leave the last sum below 1
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
