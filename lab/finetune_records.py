"""What a run has said so far, as the numbers that its page shows.

A record is the JSON form of `lm_core.finetune_record.FinetuneRecord`, a probe what `lab.runs` takes every now and then.
Losses are in nats: a token (causal task) or a text (classification). Nothing here draws or asks a store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lm_core.doctor import window

Record = dict[str, Any]
Probe = dict[str, Any]
Points = list[tuple[int, float]]
FLAT_LOSS = 1.5  # nats: a loss that begins below this is drawn from 0
LOW_SHARE = 0.25  # of the first loss: where the axis of a larger one begins
ROOM = 1.12  # above the first loss
LOG_SHARE = 0.05  # of the first loss: where a logarithmic axis begins


def merged(old: Sequence[Record], new: Iterable[Record]) -> list[Record]:
    """Records (or probes) in the order of their steps; where a step comes twice, after a resume, the later one holds.

    >>> merged([{"step": 0}, {"step": 1, "loss": 3.0}], [{"step": 1, "loss": 2.5}, {"step": 2}])
    [{'step': 0}, {'step': 1, 'loss': 2.5}, {'step': 2}]
    """
    by_step = {entry["step"]: entry for entry in old}
    for entry in new:
        if by_step and entry["step"] <= max(by_step):  # went back to a save: what lay beyond it is measured again
            by_step = {step: kept for step, kept in by_step.items() if step < entry["step"]}
        by_step[entry["step"]] = entry
    return [by_step[step] for step in sorted(by_step)]


def training(records: Iterable[Record]) -> Points:
    """(step, loss) of every step that learned."""
    return [(r["step"], r["loss"]) for r in records if r.get("loss") is not None]


def validation(records: Iterable[Record]) -> Points:
    """(step, loss) of every validation."""
    found = [(r["step"], (r.get("validation") or {}).get("loss")) for r in records]
    return [(step, loss) for step, loss in found if loss is not None]


def accuracies(records: Iterable[Record]) -> Points:
    """(step, accuracy within 0..1) of every validation of a classifier."""
    reports = [(r["step"], (r.get("validation") or {}).get("report")) for r in records]
    return [(step, report["accuracy"]) for step, report in reports if report]


def best_step(records: Iterable[Record]) -> int | None:
    """The step whose weights the run keeps; None before the first validation."""
    return max((r["step"] for r in records if r.get("best")), default=None)


def findings(records: Iterable[Record]) -> list[dict[str, Any]]:
    """What the doctor has found, in order."""
    return [finding for r in records for finding in r.get("findings") or ()]


def clipped_share(records: Iterable[Record], clip_norm: float) -> float:
    """The share of steps whose gradient was longer than clip_norm, and so was shortened.

    >>> clipped_share([{"grad_norm": 2.0}, {"grad_norm": 0.5}, {}], 1.0)
    0.5
    """
    norms = [r["grad_norm"] for r in records if r.get("grad_norm") is not None]
    return sum(norm > clip_norm for norm in norms) / max(1, len(norms))


def loss_range(*series: Points, log: bool = False) -> tuple[float, float]:
    """Where the axis of the loss begins and ends: decided by the first value, so that nothing moves while a run learns.

    A loss that leaves the range widens it by whole quarters of the first value: rarely, and never by a little.

    >>> loss_range([(0, 4.0), (9, 2.5)]), loss_range([(0, 0.6931)]), loss_range([(0, 4.0), (5, 4.9)])
    ((1.0, 4.48), (0.0, 0.776), (1.0, 5.48))
    """
    points = sorted(point for one in series for point in one)
    first = max(points[0][1], 1e-6) if points else 1.0
    low = first * LOG_SHARE if log else 0.0 if first < FLAT_LOSS else first * LOW_SHARE
    high, quarter = first * ROOM, first / 4
    values = [value for _, value in points]
    if values and max(values) > high:
        high += quarter * math.ceil((max(values) - high) / quarter)
    while values and not log and low > 0 and min(values) < low:
        low = max(0.0, low - quarter)
    while values and log and 0 < min(values) < low:
        low /= 10
    return round(low, 6 if log else 3), round(high, 3)


@dataclass(frozen=True)
class Pace:
    """How far a run is. tokens_per_second is a mean over the last steps; seconds_left is None while it is not known."""

    step: int
    n_steps: int
    tokens_per_second: float
    seconds: float
    seconds_left: float | None


def pace(records: Sequence[Record]) -> Pace | None:
    """How far and how fast, by the last records; None before the first."""
    if not records:
        return None
    last = records[-1]
    recent = [r["tokens_per_second"] for r in records[-window(last["n_steps"]) :] if r.get("tokens_per_second")]
    speed = len(recent) / sum(1 / r for r in recent) if recent else 0.0
    return Pace(last["step"], last["n_steps"], speed, last.get("seconds") or 0.0, last.get("seconds_left"))


@dataclass(frozen=True)
class NextToken:
    """A token that may follow the probe sentence: its probability before the run and now."""

    token: str
    before: float
    now: float


def next_tokens(probes: Sequence[Probe], at: int = -1, most: int = 8) -> list[NextToken]:
    """The tokens worth watching: the likeliest of the first probe and of probe `at`, each with both probabilities.

    In the order in which they came up: those of the base model first. A row so keeps its place while a run goes on.
    """
    if not probes or not probes[0].get("next"):
        return []
    first, now = (
        dict(zip(p["next"]["tokens"], p["next"]["probabilities"], strict=True)) for p in (probes[0], probes[at])
    )
    shown = sorted(first, key=lambda token: -first[token])[: most // 2]
    rising = sorted((token for token in now if token not in shown), key=lambda token: -now[token])
    shown += rising[: most - len(shown)]
    return [NextToken(token, first.get(token, 0.0), now.get(token, 0.0)) for token in shown]


@dataclass(frozen=True)
class Judged:
    """A validation sentence: the probability of its true label before the run and now, and what the model calls it."""

    text: str
    true: str
    said: str
    before: float
    now: float
    was_right: bool
    is_right: bool


def judged(probes: Sequence[Probe], at: int = -1) -> list[Judged]:
    """Every sentence of the probes' predictions, in the order of the first; none for a causal task."""
    if not probes or not probes[0].get("predictions"):
        return []
    first, now = probes[0]["predictions"], probes[at].get("predictions") or probes[0]["predictions"]
    rows = []
    for i, (sentence, true) in enumerate(zip(first["texts"], first["true"], strict=True)):
        label = first["labels"].index(true)
        before, after = first["probabilities"][i], now["probabilities"][i]
        said = max(range(len(after)), key=after.__getitem__)
        was = max(range(len(before)), key=before.__getitem__)
        rows.append(
            Judged(sentence, true, first["labels"][said], before[label], after[label], was == label, said == label)
        )
    return rows
