"""How a worker talks to the store: in batches, from a thread of its own, patient when the database is away.

What cannot be written waits in memory. A worker whose attempt counts no more (`Fenced`) ends at once, in the middle of
whatever it does: another one may be at work on the same folder.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from lab.store import Fenced, Store, is_away
from lab.store_attempts import LEASE

EVERY = 0.5  # seconds between two batches
LARGEST_BATCH = 500
FENCED = 3  # exit codes of a worker, beside 0 (it has said how it ended) and 1 (it fell)
INTERRUPTED = 4  # told to end by the machine and not by its owner: try again later


class Reporter:
    """The line of one attempt to the store. `wanted` is what the owner wants, as of the last beat."""

    def __init__(
        self, store: Store, run_id: str, token: int, *, lease: float = LEASE, on_fence: Callable[[], None] | None = None
    ) -> None:
        self.wanted = ""
        self._store, self._run_id, self._token, self._lease = store, run_id, token, lease
        self._on_fence = on_fence or _leave
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._state: str | None = None
        self._asking, self._sending = threading.Lock(), threading.Lock()
        self._closed = threading.Event()
        self._last_beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to send what comes."""
        self._thread.start()

    def record(self, record: dict[str, Any]) -> None:
        """Send the record of a step, soon."""
        self._put("record", record)

    def probe(self, probe: dict[str, Any]) -> None:
        """Send a probe, soon."""
        self._put("probe", probe)

    def state(self, state: str) -> None:
        """Say what the worker does now, at once if the store is there."""
        self._state = state
        self.send()

    def _put(self, kind: str, content: dict[str, Any]) -> None:
        with self._asking:
            self._waiting.append((kind, content))

    def _run(self) -> None:
        while not self._closed.wait(EVERY):
            self.send()

    def send(self) -> bool:
        """Send all that waits and a beat; False while the database is away. Ends the process when fenced."""
        try:
            with self._sending:
                self.wanted = self._store.beat(self._run_id, self._token, self._state, self._lease)
                self._last_beat = time.monotonic()
                while batch := self._batch():
                    self._write(batch)
                    with self._asking:
                        del self._waiting[: len(batch)]
            return True
        except Fenced:
            self._on_fence()
            return False
        except Exception as error:
            if not is_away(error):
                raise
            print(f"the store is away: {type(error).__name__}", file=sys.stderr, flush=True)  # noqa: T201
            return False

    def _batch(self) -> list[tuple[str, dict[str, Any]]]:
        """The first of what waits: some records, or one probe."""
        with self._asking:
            first = self._waiting[:LARGEST_BATCH]
        n = next((i for i, (kind, _) in enumerate(first) if kind == "probe"), len(first))
        return first[: max(1, n)]

    def _write(self, batch: list[tuple[str, dict[str, Any]]]) -> None:
        if batch[0][0] == "probe":
            self._store.add_probe(self._run_id, self._token, batch[0][1])
        else:
            self._store.add_records(self._run_id, self._token, [content for _, content in batch])

    def may_write(self) -> None:
        """Return if this attempt still counts, so that its files may be replaced.

        While the database is away nobody can have taken the run before the lease is over; after that, wait for it.
        """
        while not self.send() and time.monotonic() - self._last_beat > self._lease / 2:
            time.sleep(EVERY)

    def insist(self, action: Callable[[], Any], seconds: float) -> bool:
        """Do something with the store, again and again while it is away; False if it never came back."""
        until = time.monotonic() + seconds
        while True:
            try:
                if self.send():
                    action()
                    return True
            except Fenced:
                self._on_fence()
                return False
            except Exception as error:
                if not is_away(error):
                    raise
            if time.monotonic() > until:
                return False
            time.sleep(EVERY)

    def close(self) -> None:
        """Send no more."""
        self._closed.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)


def _leave() -> None:
    """End the process here and now, without a clean-up that could touch the run's folder."""
    print("this attempt counts no more", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(FENCED)
