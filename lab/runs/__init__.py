"""Fine-tunes as processes of their own: submitted by a page, worked on one after the other, still there tomorrow.

    run = submit(owner, key, title, spec, files)      checks every limit, writes the run's folder, puts it in the queue
    supervisor   a process of its own: takes runs from the queue, starts workers through a launcher, watches them
    worker       one attempt at one run: trains, reports to the store, stops when told
    launcher     what starts, polls and stops a worker; local processes now

A page reads all of it from `lab.store`. A run's folder:

    run.toml  data/          what to do; `python -m lm_core finetune --config run.toml --out ELSEWHERE` does the same
    state/  best/            the last save, and the best weights by validation
    metrics.jsonl            a record a step
    result/                  what the run leaves: model/ and adapter/, once it has ended or was paused
    worker.log               what the worker said

Nothing heavy is imported here: the supervisor needs no torch.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import settings, store


def folder(run_id: str) -> Path:
    """Where a run lies on disk. Raises ValueError for what is no run's id: no id leads out of the folder of runs."""
    if not (run_id.isascii() and run_id.isalnum() and len(run_id) <= 32):
        raise ValueError("no run has such an id")
    return settings.home() / "runs" / run_id


def submit(
    owner: str, key: str, title: str, spec: Mapping[str, Any], files: Mapping[str, bytes], race: str | None = None
) -> store.Run:
    """Check a run against every limit, write its folder and put it in the queue; see `lab.runs.entry.submit`."""
    from lab.runs import entry  # brings torch, which the supervisor does without

    return entry.submit(owner, key, title, spec, files, race)


def ask(run_id: str, owner: str, wanted: str) -> bool:
    """`Store.ask` within the teacher's limit of runs a user. Raises QuotaError."""
    return store.current().ask(run_id, owner, wanted, most_active=settings.current().runs.a_user)


def delete(run_id: str, owner: str) -> bool:
    """Forget a run that nobody works on, and remove its folder; False where it cannot be forgotten."""
    done = store.current().delete(run_id, owner)
    if done:
        shutil.rmtree(folder(run_id), ignore_errors=True)
    return done
