"""A home with tiny models, and runs in it: what the tests of fine-tunes share."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from lab import runs, settings, store
from lab.runs import worker
from lab.store_attempts import LEASE
from tests import tiny_models

TEXT = {"train.txt": "".join(f"The old king looked at bird number {i}.\n" for i in range(200)).encode()}
LABELS = {"train.csv": "\n".join(
    ["text,label", *(f"a {'good' if i % 2 else 'bad'} bird number {i},{'yes' if i % 2 else 'no'}" for i in range(60))]
).encode()}  # fmt: skip
LAB = "[runs]\nkeep_free_gb = 0\nat_once = 2\n"


def make(home: Path, monkeypatch: pytest.MonkeyPatch, lab: str = LAB) -> Path:
    """An empty home with the models kept:tiny and kept:bert, in the environment of this process and its children."""
    home.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("LM_LAB_HOME", str(home))
    for name in ("LM_LAB_MODE", "LM_LAB_CONFIG", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (home / "lab.toml").write_text(lab)
    tiny_models.save(home / "models" / "tiny", tiny_models.gpt2())
    tiny_models.save(home / "models" / "llama", tiny_models.llama(d_model=24))  # H divides D
    return home


def spec(**changes: Any) -> dict[str, Any]:
    """A run of 12 steps; fields of the config may be given beside those of the spec."""
    usual = {"model": "kept:tiny", "data": {"kind": "text", "preset": None}, "prompts": ["The old"],
             "probe": "The old king", "max_seconds": 600, "max_new": 4}  # fmt: skip
    config = {"task": "causal", "n_steps": 12, "n_tokens": 8, "batch_size": 2, "save_every": 4, "validate_every": 4,
              "validation_batches": 2, "precision": "float32", "lr": 0.003}  # fmt: skip
    other = {name: value for name, value in changes.items() if name in (*usual, "probe_every", "layer", "head")}
    return usual | {"config": config | {n: v for n, v in changes.items() if n not in other}} | other


def submit(key: str = "key", owner: str = "local", files: dict[str, bytes] | None = None, **changes: Any) -> store.Run:
    """Submit it as a page does."""
    return runs.submit(owner, key, f"run {key}", spec(**changes), TEXT if files is None else files)


def work(run: store.Run, lease: float = LEASE) -> int:
    """One attempt at the run that is next, in this process; returns the exit code."""
    there = store.current()
    attempt = there.claim("test", lease)
    assert attempt is not None and attempt.run_id == run.id
    now = there.read_run(run.id)
    assert now is not None
    return worker.Worker(there, now, attempt.token).work()


def now(run: store.Run) -> store.Run:
    """As it is by now."""
    found = store.current().read_run(run.id)
    assert found is not None
    return found


def steps(run: store.Run) -> list[int]:
    """The steps whose records the store has, in its order."""
    return [record["step"] for _, record in store.current().records(run.id)]


def when_at(run: store.Run, step: int, wanted: str) -> threading.Thread:
    """Ask for something as soon as the store knows of a step."""

    def wait() -> None:
        while now(run).step < step and not now(run).is_over:
            threading.Event().wait(0.02)
        store.current().ask(run.id, run.owner, wanted)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def worker_pid(run: store.Run) -> int:
    """The process of the attempt that is at work; 0 while there is none."""
    open_attempts = [a for a in store.current().open_attempts() if a.run_id == run.id and a.handle]
    return int(open_attempts[-1].handle.partition(":")[0]) if open_attempts else 0


def limits(**changes: Any) -> settings.RunLimits:
    """The limits of the home with changes, for a monkeypatch."""
    from dataclasses import replace

    return replace(settings.current().runs, **changes)


KILL = signal.SIGKILL
