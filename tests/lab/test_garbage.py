"""The one collector thread: started once, found by name even by a module imported anew, and really collecting."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import time
import types
import weakref
from collections.abc import Iterator

import pytest

from lab import garbage


@pytest.fixture
def no_collector() -> Iterator[None]:
    """A process without a collector thread and without the interpreter's own collection, before and after."""
    _stop()
    gc.disable()
    yield
    gc.enable()
    _stop()
    gc.unfreeze()


def _stop() -> None:
    if thread := garbage.running():
        thread.stop()  # type: ignore[attr-defined]


def _collectors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == garbage.THREAD_NAME]


@pytest.mark.usefixtures("no_collector")
def test_starts_once_even_when_the_module_was_evicted() -> None:
    assert garbage.start(60) is True
    assert garbage.start(60) is False
    anew = importlib.reload(garbage)
    assert anew.start(60) is False
    assert len(_collectors()) == 1
    assert _collectors()[0].daemon


@pytest.mark.usefixtures("no_collector")
def test_many_sessions_at_once_start_one_thread() -> None:
    ready = threading.Barrier(20)
    results: list[bool] = []

    def session() -> None:
        ready.wait()
        results.append(garbage.start(60))

    threads = [threading.Thread(target=session) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 19 + [True]
    assert len(_collectors()) == 1


@pytest.mark.usefixtures("no_collector")
def test_freezes_what_is_alive_and_collects_what_dies() -> None:
    garbage.start(0.05)
    assert gc.get_freeze_count() > 1000

    class Node:
        pass

    node = Node()
    node.itself = node  # a cycle, which only the collector can free
    gone = weakref.ref(node)
    del node
    deadline = time.monotonic() + 10
    while gone() is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone() is None


@pytest.mark.usefixtures("no_collector")
def test_freezes_again_after_a_large_import(monkeypatch: pytest.MonkeyPatch) -> None:
    garbage.start(0.05)
    frozen = gc.get_freeze_count()
    kept = [[number] for number in range(5000)]
    time.sleep(0.3)
    assert gc.get_freeze_count() <= frozen, "what sessions make stays in the collector's sight"
    for number in range(garbage.NEW_MODULES):
        monkeypatch.setitem(sys.modules, f"large_library_{number}", types.ModuleType(f"large_library_{number}"))
    deadline = time.monotonic() + 10
    while gc.get_freeze_count() < frozen + len(kept) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gc.get_freeze_count() >= frozen + len(kept)


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="interval 0"):
        garbage.start(0)
