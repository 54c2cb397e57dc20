"""`python -m lab.runs.mask_race FILE`: the race of two tiny models, with and without the mask, as a process of its own.

Every record of `lm_core.mask_race.race` is appended to FILE as a line of JSON; the last one says `"last": true`. The
process is bounded by time from inside, so that nobody has to watch it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "assets" / "data"
SET = "style.ship_log.en"
GRACE_SECONDS = 60.0  # to import torch before the race, to measure and to write after it


def documents(part: str) -> list[str]:
    """The days of the ship's log, `train` or `validation`."""
    from lm_core.data import read_documents

    return [document.text for document in read_documents(DATA / f"{SET}.{part}.txt")]


def run(place: Path, seconds: float, n_steps: int, seed: int) -> None:
    """Run the race and write its records."""
    from lm_core.mask_race import RaceConfig, race

    config = RaceConfig(n_steps=n_steps, seed=seed, max_seconds=seconds)
    with place.open("a", encoding="utf-8") as file:
        for record in race(documents("train"), documents("validation"), config):
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
            file.flush()


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Race as the command line says, in the process of who calls."""
    given = options(arguments)
    run(given.file, given.seconds, given.steps, given.seed)


def bound_this_process(seconds: float) -> None:
    """One thread, low priority, and an end to all of it after so long: only for a process that does nothing else."""
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(10)
    watchdog = threading.Timer(seconds, os._exit, args=(3,))
    watchdog.daemon = True
    watchdog.start()
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    bound_this_process(options().seconds + GRACE_SECONDS)
    main()
