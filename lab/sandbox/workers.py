"""Workers that wait with torch imported. Each serves one job and is thrown away; another is started behind it.

One thread owns them all. It also starts them all, and lives as long as the server: the kernel ends a box with the
*thread* that started it (`--die-with-parent`), so a passing thread must not.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from lab.sandbox.failure import SandboxError
from lab.sandbox.worker import Worker

THREAD_NAME = "lab-sandbox-pool"
SPARE = {"check": 2, "page": 1}  # 160 MB each
IDLE_SECONDS = 900  # after so long without a job the spare workers are let go
WAIT_SECONDS = 30


class Pool(threading.Thread):
    """At most `spare[profile]` waiting workers of each profile in use, and at most `most` at work."""

    def __init__(
        self,
        spare: Mapping[str, int] = SPARE,
        most: int | None = None,
        launch: Callable[[str], Worker] = Worker,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        super().__init__(name=THREAD_NAME, daemon=True)
        self.most = most or max(2, os.cpu_count() or 2)
        self._spare, self._launch, self._idle_seconds = dict(spare), launch, idle_seconds
        self._slots = threading.BoundedSemaphore(self.most)
        self._change = threading.Condition()
        self._waiting: dict[str, list[Worker]] = {profile: [] for profile in spare}
        self._asked: dict[str, int] = dict.fromkeys(spare, 0)
        self._used: dict[str, float] = {}
        self._working: set[Worker] = set()
        self._failed: dict[str, str] = {}
        self._closed = False

    # --- for the one who has a job ---

    def get_ready(self, profile: str) -> None:
        """Start spare workers of a profile, because a job is likely to come: a page with an editor was opened."""
        with self._change:
            self._used[profile] = time.monotonic()
            self._change.notify_all()

    @contextlib.contextmanager
    def worker(self, profile: str, wait_seconds: float = WAIT_SECONDS) -> Iterator[Worker]:
        """One worker, to be used up. Raises SandboxError: "busy" (all at work for so long), "start", "refused"."""
        if not self._slots.acquire(timeout=wait_seconds):
            raise SandboxError("busy")
        try:
            worker = self._take(profile, time.monotonic() + wait_seconds)
            try:
                yield worker
            finally:
                worker.close()
                with self._change:
                    self._working.discard(worker)
                    self._change.notify_all()
        finally:
            self._slots.release()

    def _take(self, profile: str, deadline: float) -> Worker:
        with self._change:
            self._failed.pop(profile, None)
            self._asked[profile] += 1
            try:
                while not self._closed:
                    self._used[profile] = time.monotonic()
                    self._change.notify_all()
                    alive = [worker for worker in self._waiting[profile] if worker.alive]
                    if alive:
                        chosen = next((worker for worker in alive if worker.ready), alive[0])
                        self._waiting[profile] = [worker for worker in alive if worker is not chosen]
                        self._working.add(chosen)
                        return chosen
                    if profile in self._failed:
                        raise SandboxError(self._failed[profile])
                    if not self._change.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                        raise SandboxError("busy")
                raise SandboxError("refused")
            finally:
                self._asked[profile] -= 1

    # --- the thread ---

    def run(self) -> None:
        """Start what is missing, let go of what nobody wants, until closed."""
        while True:
            with self._change:
                if self._closed:
                    return
                self._let_go()
                profile = self._missing()
                if profile is None:
                    self._change.wait(min(60.0, self._idle_seconds))
                    continue
            self._start_one(profile)

    def _missing(self) -> str | None:
        """A profile that is in use and has fewer workers than spare ones and asked ones together."""
        short = {}
        for profile in self._used:
            have, asked = len(self._waiting[profile]), self._asked[profile]
            busy = self._working and have > 0 and not asked  # importing torch now would slow down those at work
            if profile not in self._failed and not busy:
                short[profile] = self._spare[profile] + asked - have
        wanted = max(short, key=lambda name: (self._asked[name] > 0, short[name]), default=None)
        return wanted if wanted is not None and short[wanted] > 0 else None

    def _start_one(self, profile: str) -> None:
        try:
            worker = self._launch(profile)
        except (SandboxError, OSError, RuntimeError) as error:
            logging.getLogger(__name__).exception("a sandbox worker could not be started")
            with self._change:
                self._failed[profile] = error.reason if isinstance(error, SandboxError) else "start"
                self._change.notify_all()
            return
        with self._change:
            if not self._closed:
                self._waiting[profile].append(worker)
                self._change.notify_all()
                return
        worker.close()

    def _let_go(self) -> None:
        """End the spare workers of a profile that had no job for long, and forget those that died while waiting."""
        now = time.monotonic()
        for profile, workers in self._waiting.items():
            self._waiting[profile] = [worker for worker in workers if worker.alive]
            if not self._asked[profile] and now - self._used.get(profile, now) > self._idle_seconds:
                del self._used[profile]
                for worker in self._waiting[profile]:
                    worker.close()
                self._waiting[profile] = []

    def close(self) -> None:
        """End all workers, waiting or at work, and the thread."""
        with self._change:
            self._closed = True
            ending = [*(worker for workers in self._waiting.values() for worker in workers), *self._working]
            self._waiting = {profile: [] for profile in self._waiting}
            self._change.notify_all()
        for worker in ending:
            worker.close()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout=10)


_LOCK = threading.Lock()


def current() -> Pool:
    """The pool of this process. It is looked up by name: Streamlit imports our modules again after an edit."""
    with _LOCK:
        found = next((thread for thread in threading.enumerate() if thread.name == THREAD_NAME), None)
        if found is None:
            found = Pool()
            found.start()
            atexit.register(found.close)
        return found  # type: ignore[return-value]
