"""The models that a user's own fine-tunes have left: `run:ID`, opened by their owner only."""

from __future__ import annotations

import re
from pathlib import Path

from lab import identity, runs, store, store_engine
from lm_core.checkpoint_error import CheckpointError
from lm_core.learner_files import CLASSIFIER

FRONT = "run:"
MOST = 30  # runs that a menu offers, the newest


class RunModelError(ValueError):
    """A run whose result no lesson can read; `reason` says why: run_soft_prompt, run_classifier, run_unfinished."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def is_name(name: str) -> bool:
    """Whether this could be the model of a run: `run:` and an id as the store gives them."""
    return re.fullmatch(FRONT + r"[0-9a-f]{32}", name) is not None


def folder(name: str) -> Path:
    """The model folder of `run:ID`, a LoRA merged into it.

    Raises CheckpointError for a run that there is not, or that is somebody else's, RunModelError for one that left
    nothing that a lesson can read.
    """
    run_id = name.removeprefix(FRONT)
    try:
        place = runs.folder(run_id) / "result"
    except ValueError:
        raise CheckpointError(f"{name!r} is not the name of a run", "missing") from None
    if not store_engine.exists() or store.current().run(run_id, identity.owner()) is None:
        raise CheckpointError(f"{name!r} is not one of this app's models", "missing")
    if (reason := _unfit(place)) is not None:
        raise RunModelError(f"the run {run_id[:8]} left no model that a lesson can read: {reason}", reason)
    return place / "model"


def _unfit(result: Path) -> str | None:
    """Why lessons cannot read what lies in result/; None where they can."""
    if any((result / part / CLASSIFIER).is_file() for part in ("model", "adapter")):
        return "run_classifier"
    if (result / "model" / "config.json").is_file():
        return None
    return "run_soft_prompt" if (result / "adapter" / "adapter_config.json").is_file() else "run_unfinished"


def mine() -> dict[str, str]:
    """The runs of whoever sits there that lessons can read: name -> title, the newest first."""
    if not store_engine.exists():
        return {}
    try:
        history = store.current().history(identity.owner(), MOST)
    except Exception as error:
        if not store.is_away(error):
            raise
        return {}  # the menu does without them until the database is back
    return {
        FRONT + run.id: run.title or run.id[:8] for run in history if _unfit(runs.folder(run.id) / "result") is None
    }
