"""The store of models and traces: bounded by bytes and number, each thing made once, failures not kept."""

from __future__ import annotations

import threading
import time

import pytest

from lab.bounded_store import BoundedStore


def fill(store: BoundedStore[str], key: str, size: int = 1, most: int = 10) -> str:
    return store.get(key, lambda: size, lambda: f"made {key}", most_bytes=most)


def test_the_least_recently_used_goes_first_by_number() -> None:
    store = BoundedStore[str](3)
    for key in ("a", "b", "c", "a", "d"):
        assert fill(store, key) == f"made {key}"
    assert store.keys() == ["c", "a", "d"]


def test_the_least_recently_used_goes_first_by_bytes() -> None:
    store = BoundedStore[str](9)
    for key, size in (("a", 4), ("b", 3), ("c", 3), ("a", 4)):
        fill(store, key, size)
    assert store.keys() == ["b", "c", "a"] and store.n_bytes() == 10
    fill(store, "d", 5)  # b and c must both go for it
    assert store.keys() == ["a", "d"] and store.n_bytes() == 9


def test_room_is_made_before_the_new_one() -> None:
    store = BoundedStore[str](9)
    fill(store, "old", 8)
    there: list[list[object]] = []
    store.get("new", lambda: 8, lambda: there.append(store.keys()) or "made", most_bytes=10)
    assert there == [[]] and store.keys() == ["new"]


def test_what_is_too_large_is_made_and_not_kept() -> None:
    store = BoundedStore[str](9)
    fill(store, "small", 3)
    assert fill(store, "large", 11) == "made large"
    assert store.keys() == ["small"]


def test_a_failure_is_not_kept() -> None:
    store = BoundedStore[str](9)

    def fail() -> str:
        raise ValueError("no")

    for size, make in ((lambda: 3, fail), (lambda: len(fail()), lambda: "never")):
        with pytest.raises(ValueError, match="no"):
            store.get("a", size, make, most_bytes=10)
        assert store.keys() == [] and store.n_bytes() == 0
    assert fill(store, "a") == "made a"


def test_many_threads_one_making() -> None:
    store, made, started = BoundedStore[object](9), [], threading.Barrier(8)
    got: list[object] = []

    def make() -> object:
        time.sleep(0.1)
        made.append(object())
        return made[-1]

    def ask() -> None:
        started.wait()
        got.append(store.get("a", lambda: 1, make, most_bytes=10))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1 and got == made * 8


def test_two_that_do_not_fit_together_are_made_one_after_the_other() -> None:
    store, now, most = BoundedStore[str](9), [0], [0]
    lock = threading.Lock()

    def make() -> str:
        with lock:
            now[0] += 6
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 6
        return "made"

    threads = [
        threading.Thread(target=lambda key=key: store.get(key, lambda: 6, make, most_bytes=10)) for key in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert most[0] == 6 and len(store.keys()) == 1
