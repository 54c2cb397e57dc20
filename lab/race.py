"""A race: the same model, data and seed, and only another part of the model learns."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from lab import runs, store
from lab.runs.limits import size_of
from lab.store import Run
from lm_core.finetune_config import FinetuneConfig, config_from_dict

Record = Mapping[str, Any]
# What learns, and how many times the whole model's learning rate suits it: fewer numbers must move further.
KINDS: dict[str, tuple[dict[str, Any], float]] = {
    "whole": ({"learns": "whole", "from_scratch": False}, 1.0),
    "head": ({"learns": "head", "from_scratch": False}, 30.0),
    "lora": ({"learns": "lora", "from_scratch": False}, 10.0),
    "soft_prompt": ({"learns": "soft_prompt", "from_scratch": False}, 50.0),
    "scratch": ({"learns": "whole", "from_scratch": True}, 5.0),
}


@dataclass(frozen=True)
class Entry:
    """What a run of a race came to; None where it is not known (yet). quality: accuracy, or loss in nats a token."""

    quality: float | None
    step: int | None
    learned: int | None
    seconds: float | None
    memory: int | None
    disk: int | None


def kind_of(config: Mapping[str, Any]) -> str:
    """Which of KINDS a config is; `last_layers` is no contestant but may be the run that all began with."""
    return "scratch" if config.get("from_scratch") else str(config.get("learns", "whole"))


def config_of(base: FinetuneConfig, kind: str) -> dict[str, Any]:
    """The base's config with another part that learns, and a learning rate that suits it.

    >>> config = FinetuneConfig(task="causal", learns="lora", lr=1e-3)
    >>> config_of(config, "lora")["lr"], config_of(config, "whole")["lr"]
    (0.001, 0.0001)

    Raises ValueError where the task does not permit it.
    """
    changes, factor = KINDS[kind]
    entries = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(base).items()}
    usual = base.lr / KINDS.get(kind_of(entries), ({}, 1.0))[1]
    if kind != kind_of(entries):
        entries |= changes | {"lr": float(f"{min(usual * factor, 0.05):.3g}")}
    if kind in ("head", "soft_prompt"):
        entries["optimizer"] = "adamw"
    config_from_dict(dict(entries))
    return entries


def contestants(spec: Mapping[str, Any], is_encoder: bool) -> list[str]:
    """What else may learn in this task: a causal model has no head of its own, an encoder takes no soft prompt."""
    base, found = config_from_dict(dict(spec["config"])), []
    for kind in KINDS:
        try:
            config_of(base, kind)
        except ValueError:
            continue
        if not (is_encoder and kind == "soft_prompt"):
            found.append(kind)
    return found


def name_of(run: Run) -> str:
    """The name of a run's race: that of the run that it began with."""
    return run.race or run.id


def members(run: Run) -> list[Run]:
    """The runs of a race, the one it began with first."""
    race = name_of(run)
    found = [other for other in store.current().history(run.owner, 500) if name_of(other) == race]
    return sorted(found, key=lambda other: (other.id != race, other.created))


def start(base: Run, kinds: Sequence[str], title: Mapping[str, str]) -> list[Run]:
    """Submit the base's run once for each kind, same words, seed and steps. Idempotent: twice is once.

    Raises as `lab.runs.submit`; what was submitted before stays.
    """
    folder = runs.folder(base.id) / "data"
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    config = config_from_dict(dict(base.spec["config"]))
    started = []
    for kind in kinds:
        spec = dict(base.spec) | {"config": config_of(config, kind)}
        key = f"race {name_of(base)} {kind}"
        started.append(runs.submit(base.owner, key, title[kind], spec, files, race=name_of(base)))
    return started


def learned_numbers(folder: Path) -> int | None:
    """How many numbers learned: those of the best weights that the run has kept. None where there are none yet."""
    place = folder / "best" / "state.safetensors"
    try:
        with place.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 10 * 2**20:
                return None
            header = json.loads(file.read(length))
    except (OSError, struct.error, ValueError):
        return None
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def quality(record: Record) -> float | None:
    """Accuracy where it was measured, else the validation loss."""
    validation = record.get("validation") or {}
    report = validation.get("report")
    return report["accuracy"] if report else validation.get("loss")


def entry_of(folder: Path, records: Sequence[Record]) -> Entry:
    """The line of a run in the table; its quality is that of its best validation."""
    best = next((record for record in reversed(records) if record.get("best")), None)
    last = records[-1] if records else {}
    peaks = [int(record["peak_memory"]) for record in records if record.get("peak_memory")]
    result = folder / "result"
    adapter = result / "adapter"
    size = size_of(adapter if adapter.is_dir() else result / "model")
    return Entry(
        None if best is None else quality(best), None if best is None else int(best["step"]), learned_numbers(folder),
        last.get("seconds"), max(peaks, default=None), size or None,
    )  # fmt: skip


def curve(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """(steps, validation quality) of a run; a step that comes twice counts once, the later one."""
    at = {int(record["step"]): quality(record) for record in records}
    kept = sorted((step, value) for step, value in at.items() if value is not None)
    return [float(step) for step, _ in kept], [float(value) for _, value in kept]
