"""The training doctor: reads the curve of a run and says what is wrong, with the numbers it saw.

Losses are in nats. A finding is an id, the evidence, and the id of what to try; `lab` puts it in words (strings
`doctor.*`). Nothing here looks at a model: the same history gives the same findings.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, variance


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: `id`, the `step` it was seen at, the numbers, and the id of a suggestion."""

    id: str
    step: int
    evidence: dict[str, float]
    suggestion: str


FINDINGS = {  # id -> what to try
    "start_off": "check_start",
    "start_no_better_than_chance": "check_text",
    "not_a_number": "lower_lr",
    "divergence": "lower_lr",
    "lr_too_high": "lower_lr",
    "lr_too_low": "raise_lr",
    "plateau": "change_something",
    "clipping_always": "raise_clip",
    "overfitting": "stop_earlier",
}


@dataclass(frozen=True)
class Expected:
    """What the first loss should be: `loss`, and `chance`, the loss of somebody who knows nothing (ln V or ln C).

    `fresh` says that it should be chance exactly: random weights, or a new head. Else the base model's own loss.
    """

    loss: float
    chance: float
    fresh: bool


@dataclass(frozen=True)
class History:
    """The run so far, one entry a step, oldest first: loss, gradient norm before clipping, share of the peak learning
    rate, and (step, ‖Δθ‖/‖θ‖) of the steps where the size of the change was measured; validations are (step, loss).
    """

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    lr_shares: list[float] = field(default_factory=list)
    updates: list[tuple[int, float]] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)


def window(n_steps: int) -> int:
    """How many steps are averaged before a judgement: a twentieth of the run, 10 to 50.

    >>> window(100), window(400), window(10_000)
    (10, 20, 50)
    """
    return min(50, max(10, n_steps // 20))


# How much is too much: tried on good and spoilt runs of the bundled model and of tiny ones (test_doctor.py).
START_NATS, START_SHARE = 0.15, 0.1  # a first loss this far from what it should be is off
WORSE_NATS, WORSE_SHARE = 0.2, 0.1  # a loss this far above the start diverges
BIG_UPDATE, TINY_UPDATE = 0.1, 2e-5  # ‖Δθ‖/‖θ‖ of one step; about 1e-3 is usual
STILL_SHARE = 0.01  # a loss that fell by less than this stands still
NOTHING_LEFT = 0.02  # a loss below this has nothing left to learn
CLIPPED_SHARE = 0.95
OVERFIT_NATS, OVERFIT_SHARE = 0.05, 0.03  # validation this far above its best, while training goes on falling


def examine(history: History, expected: Expected, n_steps: int, clip_norm: float) -> Iterator[Finding]:
    """Every finding that the history shows at its last step, the most urgent first.

    >>> worse = History(losses=[2.0] * 10 + [3.0] * 10, grad_norms=[0.5] * 20, lr_shares=[1.0] * 20)
    >>> [(f.id, f.evidence["now"]) for f in examine(worse, Expected(2.0, 2.0, True), 200, 1.0)]
    [('divergence', 3.0)]
    """
    step, w = len(history.losses), window(n_steps)
    checks: Sequence[tuple[str, dict[str, float] | None]] = (
        ("not_a_number", _not_a_number(history)),
        ("start_off", _start_off(history, expected)),
        ("start_no_better_than_chance", _start_at_chance(history, expected)),
        ("divergence", _divergence(history, expected, w)),
        ("lr_too_high", _lr_too_high(history)),
        ("lr_too_low", _lr_too_low(history, w)),
        ("plateau", _plateau(history, w)),
        ("clipping_always", _clipping(history, clip_norm, max(4 * w, n_steps // 2))),
        ("overfitting", _overfitting(history, w)),
    )
    for name, evidence in checks:
        if evidence is not None:
            yield Finding(name, step, evidence, FINDINGS[name])


def _not_a_number(h: History) -> dict[str, float] | None:
    if h.losses and not (math.isfinite(h.losses[-1]) and math.isfinite(h.grad_norms[-1])):
        return {"loss": h.losses[-1], "grad_norm": h.grad_norms[-1]}
    return None


def _start_off(h: History, expected: Expected) -> dict[str, float] | None:
    """The first batch's loss: ln V from scratch, ln C of a fresh head, about the base model's own otherwise."""
    if len(h.losses) != 1 or not math.isfinite(h.losses[0]):
        return None
    slack = max(START_NATS, START_SHARE * expected.loss)
    if not expected.fresh:  # one batch is another text than the validation part: only a gulf tells
        slack = max(1.0, 0.5 * expected.loss)
    if abs(h.losses[0] - expected.loss) > slack:
        return {"start": h.losses[0], "expected": expected.loss}
    return None


def _start_at_chance(h: History, expected: Expected) -> dict[str, float] | None:
    if len(h.losses) == 1 and not expected.fresh and h.losses[0] >= 0.95 * expected.chance:
        return {"start": h.losses[0], "chance": expected.chance}
    return None


def _divergence(h: History, expected: Expected, w: int) -> dict[str, float] | None:
    if len(h.losses) < w + 1:
        return None
    start, now = max(h.losses[0], expected.loss), median(h.losses[-w:])  # one bad batch is no trend
    if now > start + max(WORSE_NATS, WORSE_SHARE * start):
        return {"start": start, "now": now}
    return None


def _lr_too_high(h: History) -> dict[str, float] | None:
    """Weights that change by a tenth of their length in one step are thrown about, not led."""
    if h.updates and h.updates[-1][0] == len(h.losses) and h.updates[-1][1] > BIG_UPDATE:
        return {"update": h.updates[-1][1], "limit": BIG_UPDATE}
    return None


def _fall(h: History, steps: int, w: int) -> float:
    """The share by which the loss fell over the last `steps`, between means of w steps."""
    then, now = fmean(h.losses[-steps : len(h.losses) - steps + w]), fmean(h.losses[-w:])
    return (then - now) / max(abs(then), 1e-9)


def _lr_too_low(h: History, w: int) -> dict[str, float] | None:
    if len(h.losses) < 3 * w or not h.updates:
        return None
    fall, update = _fall(h, len(h.losses), w), max(size for _, size in h.updates)
    if fall < STILL_SHARE and update < TINY_UPDATE:
        return {"fall": fall, "update": update, "limit": TINY_UPDATE}
    return None


def _plateau(h: History, w: int) -> dict[str, float] | None:
    """No fall between two stretches of 4 windows that could be told from noise, at a learning rate that still moves."""
    steps = 8 * w
    if len(h.losses) < steps or min(h.lr_shares[-steps:]) < 0.3:
        return None
    before, after = h.losses[-steps : -steps // 2], h.losses[-steps // 2 :]
    then, now = median(before), median(after)
    spread = math.sqrt((variance(before) + variance(after)) / (steps // 2))
    if now > NOTHING_LEFT and abs(then - now) < min(spread, STILL_SHARE * then):
        return {"fall": then - now, "steps": float(steps), "loss": now}
    return None


def _clipping(h: History, clip_norm: float, steps: int) -> dict[str, float] | None:
    """Over half of the run: the first steps of a fine-tune are long in healthy runs too, and clipped on purpose."""
    recent = h.grad_norms[-steps:]
    share = sum(norm > clip_norm for norm in recent) / max(1, len(recent))
    if len(recent) == steps and share >= CLIPPED_SHARE:
        return {"share": share, "norm": median(recent), "clip_norm": clip_norm}
    return None


def _overfitting(h: History, w: int) -> dict[str, float] | None:
    if len(h.validations) < 3 or h.validations[-1][0] != len(h.losses) or len(h.losses) < 2 * w:
        return None
    best_step, best = min(h.validations, key=lambda point: point[1])
    now, gap = h.validations[-1][1], max(OVERFIT_NATS, OVERFIT_SHARE * abs(h.validations[-1][1]))
    training = fmean(h.losses[-w:])
    if best_step < h.validations[-2][0] and now > best + gap and training < now:
        return {"best": best, "best_step": float(best_step), "now": now, "training": training}
    return None
