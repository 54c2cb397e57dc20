"""Beam search: several continuations side by side, the likeliest kept.

Notation:  K beams · T positions · V vocab_size. Everything in nats.

A beam's `total` is the sum of the log-probabilities of its new tokens, so by the chain rule log P(beam | prompt).
Each step looks at all K·V ways to go on by one token and keeps the K likeliest. Finished beams are compared by
`score = total / length^α`: a sum of negative numbers only falls, so without α long texts would always lose.

Wu et al. 2016, "Google's Neural Machine Translation System", section 7 (there with another length norm); equal to
`transformers` with `do_sample=False`, which a test holds it to.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lm_core.model import Decoder
from lm_core.probability import log_softmax

Fate = Literal["lives", "ends", "dropped"]


@dataclass(frozen=True)
class BeamConfig:
    """n_beams K, at most max_new tokens, length_penalty α (0 = plain sum, 1 = mean a token, above 1: longer wins).

    early_stopping: end as soon as K beams are finished; else when no living beam can beat the worst finished one at
    its present length. One beam alone always ends with its first end-of-text, as greedy writing does.

    >>> BeamConfig(n_beams=0)
    Traceback (most recent call last):
    ValueError: n_beams 0 is less than 1
    """

    n_beams: int = 4
    max_new: int = 20
    length_penalty: float = 1.0
    early_stopping: bool = False

    def __post_init__(self) -> None:
        for name in ("n_beams", "max_new"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is less than 1")
        if not abs(self.length_penalty) <= 100:  # also catches NaN
            raise ValueError(f"length_penalty {self.length_penalty} is not between −100 and 100")


@dataclass(frozen=True)
class Candidate:
    """One way to go on: living beam number `parent`, one more `token`.

    log_prob of the token alone; total of the whole beam, nats. fate: `lives` on to the next step, `ends` (end of text,
    or no room for more), or is `dropped`.
    """

    parent: int
    token: int
    log_prob: float
    total: float
    fate: Fate


@dataclass(frozen=True)
class Beam:
    """A finished continuation: its new tokens, their summed log-probability, and the score it is compared by."""

    token_ids: tuple[int, ...]
    total: float
    score: float


@dataclass(frozen=True)
class BeamSearch:
    """steps: the best candidates of every step, the best first. finished: at most K beams, the best first.

    The candidates of a step that live, in order, are the parents (0, 1, …) that the next step speaks of.
    """

    steps: tuple[tuple[Candidate, ...], ...]
    finished: tuple[Beam, ...]


@dataclass(frozen=True)
class _Living:
    """The living beams: new tokens [K n], totals [K]."""

    token_ids: Tensor
    totals: Tensor


def extend(log_probs: Tensor, totals: Tensor, n_kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """The n_kept best of all ways to go on: `total_b + log P(w | beam b)` over every beam b and token w.

    log_probs [K V], totals [K] -> (totals, parents, tokens), each [n_kept], the best first.

    >>> extend(torch.tensor([[-1.0, -3.0], [-0.5, -2.0]]), torch.tensor([0.0, -1.0]), 2)
    (tensor([-1.0000, -1.5000]), tensor([0, 1]), tensor([0, 0]))
    """
    ways = totals[:, None] + log_probs
    best = ways.flatten().topk(min(n_kept, ways.numel()))
    return best.values, best.indices // ways.shape[-1], best.indices % ways.shape[-1]


def score_of(total: float, length: int, length_penalty: float) -> float:
    """What finished beams are compared by: `total / length^α`.

    >>> score_of(-6.0, 3, 1.0), score_of(-6.0, 3, 0.0)
    (-2.0, -6.0)
    """
    return total / length**length_penalty


@torch.no_grad()
def beam_search(
    model: Decoder, token_ids: Tensor, config: BeamConfig, stop_ids: frozenset[int] = frozenset()
) -> BeamSearch:
    """Search for the likeliest continuation of `token_ids` (int [T]); every step of the search is kept.

    A beam ends with one of `stop_ids` (which counts in its total and length), after `max_new` tokens, or when the
    context is full. Raises ValueError for an empty prompt and for one that leaves no room to write.
    """
    room = model.config.context_length - token_ids.shape[0]
    if room < 1:
        raise ValueError(f"the prompt has {token_ids.shape[0]} tokens: no room in {model.config.context_length}")
    device = model.embed_tokens.weight.device
    prompt, longest = token_ids.to(device), min(config.max_new, room)
    living = _Living(prompt.new_empty(1, 0), torch.zeros(1, device=device))
    steps: list[tuple[Candidate, ...]] = []
    finished: list[Beam] = []
    for length in range(1, longest + 1):
        texts = torch.cat([prompt.expand(len(living.totals), -1), living.token_ids], dim=1)
        log_probs = log_softmax(model(texts)[:, -1].float())
        n_kept = max(2, 1 + len(stop_ids)) * config.n_beams  # so many that K live on even if others end
        totals, parents, tokens = extend(log_probs, living.totals, n_kept)
        ends = [length == longest or int(token) in stop_ids for token in tokens]
        fates = _fates(ends, config.n_beams)
        steps.append(
            tuple(
                Candidate(int(b), int(w), float(log_probs[b, w]), float(total), fate)
                for total, b, w, fate in zip(totals, parents, tokens, fates, strict=True)
            )
        )
        texts = torch.cat([living.token_ids[parents], tokens[:, None]], dim=1)
        for i in (i for i, fate in enumerate(fates) if fate == "ends"):
            total = float(totals[i])
            finished.append(Beam(tuple(texts[i].tolist()), total, score_of(total, length, config.length_penalty)))
        finished = sorted(finished, key=lambda beam: -beam.score)[: config.n_beams]
        on = [i for i, fate in enumerate(fates) if fate == "lives"]
        if not on or _is_decided(finished, float(totals[on[0]]), length, config):
            break
        living = _Living(texts[on], totals[on])
    return BeamSearch(tuple(steps), tuple(finished))


def _fates(ends: list[bool], n_beams: int) -> list[Fate]:
    """Among the candidates, best first: the K best that do not end live on; of those that end only the K best count."""
    fates: list[Fate] = []
    for rank, end in enumerate(ends):
        if end:
            fates.append("ends" if rank < n_beams else "dropped")
        else:
            fates.append("lives" if fates.count("lives") < n_beams else "dropped")
    return fates


def _is_decided(finished: list[Beam], best_living: float, length: int, config: BeamConfig) -> bool:
    if len(finished) < config.n_beams:
        return False
    if config.early_stopping or config.n_beams == 1:
        return True
    return score_of(best_living, length, config.length_penalty) <= finished[-1].score
