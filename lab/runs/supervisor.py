"""The supervisor: `python -m lab.runs.supervisor`, one process a home, started by `ensure()` from `app.py`.

It takes runs from the queue while there is room, starts a worker for each, and watches them: a wish that is not obeyed
in time, a lease that ran out, a worker that fell. It keeps nothing in memory that matters: killed and started again, it
finds its workers by process number and start time and goes on.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from lab import settings, store
from lab.runs import folder as run_folder
from lab.runs import limits, reasons
from lab.runs.launcher import ROOT, Launcher, LocalLauncher
from lab.runs.processes import is_alive, start_of
from lab.runs.reporter import FENCED
from lab.store_attempts import LEASE
from lab.store_tables import Attempt

EVERY = 0.2  # seconds between two looks
OBEY = 2.0  # seconds that a worker has to do what is wanted, before it is killed
SAVING = 30.0  # ... once it has said that it writes its result
OVERTIME = 120.0  # seconds beyond max_seconds after which a worker that does not keep to it is killed
RETRIES = 2  # of a run whose worker was lost
SWEEP_EVERY = 600.0
SWITCH = "LM_LAB_SUPERVISOR"  # "off": somebody else runs `python -m lab.runs.supervisor`, or nobody


class Supervisor:
    """What is done at every look, `tick`; the process around it is `main`."""

    def __init__(self, there: store.Store, launcher: Launcher, *, place: str, lease: float = LEASE) -> None:
        """place: which attempts are ours. lease: seconds without a beat after which a worker counts as lost."""
        self.store, self.launcher, self.place, self.lease = there, launcher, place, lease
        self._wished: dict[int, float] = {}  # token -> since when its owner wants something
        self._leaving: dict[str, float] = {}  # handle of a worker that has said its last word -> until when it may go
        self._known: dict[int, Attempt] = {}
        self._last_look = time.monotonic()
        self._lenient_until = 0.0

    def tick(self) -> bool:
        """One look at everything; whether there is work. Raises what the store raises."""
        now = time.monotonic()
        if now - self._last_look > self.lease / 2:  # we slept, or the database was away: so may have our workers
            self._lenient_until = now + self.lease
        open_attempts = self.store.open_attempts(self.place)
        for attempt in open_attempts:
            self._watch(attempt)
        self._see_off({attempt.token for attempt in open_attempts})
        self._known = {attempt.token: attempt for attempt in open_attempts}
        started = self._start(len(self.store.open_attempts(self.place)))
        self._last_look = time.monotonic()
        return bool(open_attempts or started or self._leaving)

    # --- one worker

    def _watch(self, attempt: Attempt) -> None:
        run = self.store.read_run(attempt.run_id)
        if run is None:
            return
        if attempt.handle:
            state = self.launcher.poll(attempt.handle)
            if not state.alive:
                self._fallen(attempt, run, state.code)
                return
        if run.wanted in ("pause", "cancel"):
            self._urge(attempt, run)
        elif time.time() - attempt.started > run.spec.get("max_seconds", 1e9) + OVERTIME:
            minutes = round(run.spec["max_seconds"] / 60, 1)
            self._kill(attempt)
            self._end(attempt, "failed", reasons.pack("time_over", minutes=minutes))
        elif attempt.lease < time.time() and time.monotonic() > self._lenient_until:
            self._kill(attempt)
            self._retry(attempt, "its lease ran out")

    def _urge(self, attempt: Attempt, run: store.Run) -> None:
        """See to it that a wish is obeyed: a word first, then force."""
        now = time.monotonic()
        if attempt.token not in self._wished:
            self._wished[attempt.token] = now
            if attempt.handle:
                self.launcher.stop(attempt.handle, force=False)
        patience = SAVING if attempt.state == "saving" else OBEY
        if now - self._wished[attempt.token] > patience:
            self._kill(attempt)
            self._end(attempt, {"pause": "paused", "cancel": "cancelled"}[run.wanted])

    def _kill(self, attempt: Attempt) -> None:
        """Kill the worker and all it has started, and wait until it is gone: nobody may write to its folder."""
        if not attempt.handle:
            return
        self.launcher.stop(attempt.handle, force=True)
        until = time.monotonic() + 2
        while self.launcher.poll(attempt.handle).alive and time.monotonic() < until:
            time.sleep(0.01)

    def _fallen(self, attempt: Attempt, run: store.Run, code: int | None) -> None:
        """A worker is gone and has not said how it ended."""
        self.launcher.stop(attempt.handle, force=True)  # what it has started
        if run.wanted in ("pause", "cancel"):
            self._end(attempt, {"pause": "paused", "cancel": "cancelled"}[run.wanted])
        elif code == 1 or code == 2:  # it fell by itself, and would again
            self._end(attempt, "failed", reasons.pack("crashed", why=f"exit code {code}"))
        elif code != FENCED:
            self._retry(attempt, f"lost, exit code {code}")

    def _retry(self, attempt: Attempt, why: str) -> None:
        with suppress(store.Fenced):
            if not self.store.retry(attempt.run_id, attempt.token, why, RETRIES):
                self._end(attempt, "failed", reasons.pack("lost", times=RETRIES + 1))

    def _end(self, attempt: Attempt, status: str, reason: str = "") -> None:
        with suppress(store.Fenced):  # the worker was faster
            self.store.end(attempt.run_id, attempt.token, status, reason)

    def _see_off(self, still_open: set[int]) -> None:
        """Workers that have said how they ended get a few seconds to leave."""
        now = time.monotonic()
        for token, attempt in self._known.items():
            if token not in still_open:
                self._wished.pop(token, None)
                if attempt.handle:
                    self._leaving[attempt.handle] = now + 5
        for handle, until in list(self._leaving.items()):
            if not self.launcher.poll(handle).alive:
                del self._leaving[handle]
            elif now > until:
                self.launcher.stop(handle, force=True)

    # --- the queue

    def _start(self, at_work: int) -> bool:
        """Take runs from the queue while there is room; whether any was."""
        bounds, started = settings.current().runs, False
        for _ in range(max(0, bounds.at_once - at_work)):
            if (attempt := self.store.claim(self.place, self.lease)) is None:
                break
            started = True
            try:
                handle = self.launcher.submit(
                    command_of(attempt), run_folder(attempt.run_id) / "worker.log", threads_of(bounds.at_once)
                )
            except OSError as error:
                self._end(attempt, "failed", reasons.pack("crashed", why=type(error).__name__))
                continue
            self.store.set_handle(attempt.token, handle)
        return started


def command_of(attempt: Attempt) -> list[str]:
    """The command line of an attempt."""
    return [sys.executable, "-m", "lab.runs.worker", "--run", attempt.run_id, "--attempt", str(attempt.token)]


def threads_of(at_once: int) -> dict[str, str]:
    """How many threads a worker may use: one core is left for the pages, the workers share the rest."""
    threads = str(max(1, ((os.cpu_count() or 2) - 1) // at_once))
    return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}


# --- the process ------------------------------------------------------------------------------------------------------


def _lock_path() -> Path:
    return settings.home() / "supervisor.lock"


def _info_path() -> Path:
    return settings.home() / "supervisor.json"


def alive() -> int | None:
    """The process number of this home's supervisor, or None."""
    try:
        info = json.loads(_info_path().read_text(encoding="utf-8"))
        return int(info["pid"]) if is_alive(int(info["pid"]), str(info["start"])) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


_ensuring = threading.Lock()
_last_try: dict[Path, float] = {}  # home -> when; a supervisor needs a moment until it can be seen


def ensure() -> bool:
    """Start this home's supervisor if none is alive; True if this call did. Quick enough for every rerun."""
    if os.environ.get(SWITCH) == "off" or alive() is not None:
        return False
    home, now = settings.home(), time.monotonic()
    with _ensuring:
        if now - _last_try.get(home, -1e9) < 5:
            return False
        _last_try[home] = now
        try:
            home.mkdir(parents=True, exist_ok=True)
            start()
        except OSError:  # a home that cannot be written holds no runs either
            return False
    return True


def start() -> subprocess.Popen[bytes]:
    """Start a supervisor for this home; if there is one already, the new one ends at once."""
    with open(settings.home() / "supervisor.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lab.runs.supervisor"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=os.environ | {"LM_LAB_STARTED_BY": f"{os.getpid()}:{start_of(os.getpid())}"},
            start_new_session=True,  # a Ctrl-C in the app's terminal is not for it
        )  # fmt: skip


def _lock(file: IO[bytes]) -> bool:
    """Take the home's lock, which the system gives back when this process ends, however it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _starter_is_gone() -> bool:
    pid, _, start = os.environ.get("LM_LAB_STARTED_BY", "").partition(":")
    return bool(pid) and not is_alive(int(pid), start)


def serve(supervisor: Supervisor, stopped: Callable[[], bool]) -> None:
    """Look again and again, until told to stop, or nothing is left to do and the app that started it is gone."""
    idle_since, swept = time.monotonic(), -1e9
    while not stopped():
        try:
            busy = supervisor.tick()
            if time.monotonic() - swept > SWEEP_EVERY:
                limits.sweep(settings.home() / "runs", supervisor.store.all_ids())
                swept = time.monotonic()
        except Exception as error:  # the database is away, the disk is full, lab.toml is wrong: it will pass
            print(f"{time.strftime('%F %T')} {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
            busy = True
            time.sleep(1)
        idle_since = time.monotonic() if busy else idle_since
        if not settings.home().is_dir() or (time.monotonic() - idle_since > 10 and _starter_is_gone()):
            return
        time.sleep(EVERY)


def main() -> int:
    """The command; returns its exit code."""
    home = settings.home()
    home.mkdir(parents=True, exist_ok=True)
    with open(_lock_path(), "ab") as file:
        if not _lock(file):
            return 0  # there is one
        new = _info_path().with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({"pid": os.getpid(), "start": start_of(os.getpid())}), encoding="utf-8")
        new.replace(_info_path())
        told = threading.Event()

        def stop(number: int, frame: Any) -> None:
            told.set()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        place = f"{socket.gethostname()}:{home.resolve()}"[:200]
        serve(Supervisor(_patiently_open(told), LocalLauncher(), place=place), told.is_set)
    return 0


def _patiently_open(told: threading.Event) -> store.Store:
    """The store, waited for if its database is away."""
    while True:
        try:
            return store.current()
        except Exception as error:
            if not store.is_away(error) or told.wait(2):
                raise


if __name__ == "__main__":
    sys.exit(main())
