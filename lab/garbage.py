"""Python's garbage collector, run by our clock instead of after every click.

Streamlit by default collects all generations after each rerun, and a collection holds the interpreter lock for 0.1 to
0.3 s once torch and transformers are imported: sixty learners then wait for one another's garbage. So
`runner.postScriptGC` is off in `.streamlit/config.toml`, and this one thread collects at a steady pace instead.
"""

from __future__ import annotations

import gc
import sys
import threading

THREAD_NAME = "lab-garbage"
INTERVAL_SECONDS = 30.0
# A library such as torch brings some thousand modules. So many new ones since the last freeze are worth another.
NEW_MODULES = 200

_LOCK = threading.Lock()


class _Collector(threading.Thread):
    """Runs `gc.collect()` every `interval` seconds until the process ends, or until `stop()` in a test."""

    def __init__(self, interval: float) -> None:
        super().__init__(name=THREAD_NAME, daemon=True)
        self._interval = interval
        self._stopped = threading.Event()

    def run(self) -> None:
        modules = len(sys.modules)
        while not self._stopped.wait(self._interval):
            gc.collect()
            if len(sys.modules) >= modules + NEW_MODULES:
                modules = len(sys.modules)
                gc.freeze()

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def running() -> threading.Thread | None:
    """The collector thread of this process, or None.

    It is looked up by name: when a learner saves a file, Streamlit evicts and re-imports our modules, so a module-level
    variable would forget the thread and a second one would start.
    """
    return next((thread for thread in threading.enumerate() if thread.name == THREAD_NAME), None)


def start(interval: float = INTERVAL_SECONDS) -> bool:
    """Start collecting every `interval` seconds, once for the process; True if this call started it.

    Everything alive at the first start (modules, mostly) is frozen: moved out of the collector's sight, so that each
    later collection looks only at what sessions made since; and again after a page has imported something large. Frozen
    objects still die by their reference count. Safe to call on every rerun.

    Raises ValueError if `interval` is not positive.
    """
    if interval <= 0:
        raise ValueError(f"interval {interval} is not a positive number of seconds")
    if running():  # the usual case, without waiting for the lock
        return False
    with _LOCK:
        if running():
            return False
        gc.collect()
        gc.freeze()
        _Collector(interval).start()
        return True
