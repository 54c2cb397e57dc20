"""One attempt at one run, as a process: `python -m lab.runs.worker --run ID --attempt TOKEN`.

It trains with `lm_core.finetune_run`, reports every step, takes probes, saves, and stops when its owner, a limit or
the supervisor says so. Every way to end says in the store how it ended; the exceptions are a kill and a lost database,
which the supervisor finds out.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lab import settings, store
from lab.runs import folder as run_folder
from lab.runs import limits, reasons
from lab.runs.launcher import own_handle
from lab.runs.probing import Prober
from lab.runs.reporter import INTERRUPTED, Reporter
from lm_core import device as devices
from lm_core.finetune_record import FinetuneRecord
from lm_core.finetune_run import Prepared, finish_run, logged, prepare_run, read_run, train_run
from lm_core.training_state import find_state, read_facts

PROBES = 20  # over a run
NICENESS = 10
PATIENCE = 60.0  # seconds that a worker which has ended waits for a database that is away


class _Interrupted(Exception):
    """SIGTERM, and the owner wants nothing: the machine goes down. The run goes on when it is back."""


class Worker:
    """An attempt, from reading the run's folder to saying how it ended."""

    def __init__(self, there: store.Store, run: store.Run, token: int) -> None:
        self.store, self.run, self.token, self.place = there, run, token, run_folder(run.id)
        self.reporter = Reporter(there, run.id, token)
        self.told = threading.Event()  # by SIGTERM
        self.prober: Prober | None = None

    def work(self) -> int:
        """Do it all; returns the exit code."""
        self.reporter.start()
        self.reporter.state("running")
        try:
            status, reason = self._train()
        except _Interrupted:
            self.reporter.send()
            return INTERRUPTED
        except BaseException as error:
            traceback.print_exc()
            self._sweep()
            status, reason = "failed", reason_of(error)
        self.reporter.close()  # a beat after the end would find itself fenced
        ended = self.reporter.insist(lambda: self.store.end(self.run.id, self.token, status, reason), PATIENCE)
        return 0 if ended else INTERRUPTED

    # --- training

    def _train(self) -> tuple[str, str]:
        """(status, reason) of an attempt that ends by itself or is told to."""
        prepared = prepare_run(read_run(self.place / "run.toml"), self.place, devices.pick(_device(self.run)))
        saved = find_state(self.place / "state")
        done = int(read_facts(saved)["step"]) if saved else -1
        spec, known = self.run.spec, self.store.probes(self.run.id)
        seen = known[-1][1].get("next", {}).get("ids", []) if known else []
        self.prober = Prober(prepared, spec.get("probe", ""), spec.get("layer", -1), spec.get("head", 0), seen)
        self._insist_on(lambda: self.store.rewind(self.run.id, self.token, done))
        self._catch_up()
        how = ("finished", "")
        records = train_run(prepared, self.place, resume=saved is not None, may_save=self._may_save)
        with contextlib.closing(records):  # which saves this very step
            for record in records:
                self._report(record)
                if (end := self._end_of(record)) is not None:
                    how = end
                    break
        self._save_result(prepared)
        return how

    def _catch_up(self) -> None:
        """Send the records up to the last save that an earlier attempt could not send any more."""
        there = {record["step"] for _, record in self.store.records(self.run.id)}
        for record in logged(self.place):
            if record["step"] not in there:
                self.reporter.record(record)

    def _insist_on(self, action: Any) -> None:
        if not self.reporter.insist(action, PATIENCE):
            raise ConnectionError("the store did not come back")

    def _report(self, record: FinetuneRecord) -> None:
        self.reporter.record(record.to_json())
        every = self.run.spec.get("probe_every") or max(1, record.n_steps // PROBES)
        if self.prober is not None and (record.step % every == 0 or record.step == record.n_steps or record.stopped):
            self.reporter.probe(self.prober.take(record.step))

    def _end_of(self, record: FinetuneRecord) -> tuple[str, str] | None:
        """(status, reason) if the run shall not go on after this step."""
        if record.stopped:
            return "failed", record.stopped
        if record.step == record.n_steps:
            return "finished", ""
        if self.told.is_set():
            self.reporter.send()
        if self.reporter.wanted in ("pause", "cancel"):
            return {"pause": "paused", "cancel": "cancelled"}[self.reporter.wanted], ""
        if self.told.is_set():
            raise _Interrupted
        if record.seconds > self.run.spec["max_seconds"]:
            return "finished", reasons.pack("time_over", minutes=round(self.run.spec["max_seconds"] / 60, 1))
        return None

    # --- files

    def _may_save(self) -> None:
        """Whether this attempt still counts, and the disk has room."""
        self.reporter.may_write()
        limits.check_disk(self.run.owner, self.place)

    def _save_result(self, prepared: Prepared) -> None:
        """Write result/ whole or not at all, and list its files in the store."""
        self.reporter.state("saving")
        new, old, place = (self.place / name for name in ("result.tmp", "result.old", "result"))
        for rest in (new, old):
            shutil.rmtree(rest, ignore_errors=True)
        finish_run(prepared, self.place, new)
        self._may_save()
        if place.exists():
            place.rename(old)
        new.rename(place)
        shutil.rmtree(old, ignore_errors=True)
        for path, size, digest in _files(place):
            name = f"result/{path}"
            self._insist_on(lambda n=name, s=size, d=digest: self.store.add_artifact(self.run.id, self.token, n, s, d))

    def _sweep(self) -> None:
        """Remove what a save that failed has left half-written."""
        for rest in self.place.glob("*.tmp"):
            shutil.rmtree(rest, ignore_errors=True)


def _files(folder: Path) -> Iterator[tuple[str, int, str]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield path.relative_to(folder).as_posix(), path.stat().st_size, digest


def _device(run: store.Run) -> str:
    """The device of the spec where the teacher offers it, else the first that is offered."""
    offered = settings.current().devices
    return str(run.spec["device"]) if run.spec.get("device") in offered else offered[0]


def reason_of(error: BaseException) -> str:
    """Why a run failed, from what was raised; see `lab.runs.reasons`."""
    words = str(error)
    if isinstance(error, store.QuotaError):
        return reasons.pack(error.reason, **error.numbers)
    # The library that writes safetensors has an error class of its own, with the number of the system's in its words.
    if getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC}" in words:
        return reasons.pack("disk_full", free_gb=0.0, keep_gb=settings.current().runs.keep_free_gb)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in words:
        return reasons.pack("out_of_memory")
    if isinstance(error, ValueError | FileNotFoundError | ConnectionError):
        return reasons.pack("data", why=words[:400])
    return reasons.pack("crashed", why=type(error).__name__)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab.runs.worker")
    parser.add_argument("--run", required=True)
    parser.add_argument("--attempt", type=int, required=True)
    options = parser.parse_args(arguments)
    if hasattr(os, "nice"):
        os.nice(NICENESS)  # pages come first
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    there = store.current()
    run = there.read_run(options.run)
    if run is None:
        print("there is no such run", file=sys.stderr)  # noqa: T201
        return 1
    there.set_handle(options.attempt, own_handle())  # if the supervisor died before it could
    worker = Worker(there, run, options.attempt)
    signal.signal(signal.SIGTERM, lambda number, frame: worker.told.set())
    return worker.work()


if __name__ == "__main__":
    sys.exit(main())
