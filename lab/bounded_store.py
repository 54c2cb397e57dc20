"""Things that are dear to make, kept for everybody within a bound of bytes and of number.

Used for loaded models and for traces. Each thing is made once, however many threads ask for it at the same time, and
what was not used for longest makes room for what is new.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class BoundedStore(Generic[Value]):
    """A store of at most `most_things`; the bound of bytes comes with each call, since a teacher may change it.

    >>> store = BoundedStore[str](most_things=2)
    >>> for name in ("a", "b", "a", "c"):
    ...     _ = store.get(name, lambda: 1, lambda: "made", most_bytes=10)
    >>> store.keys(), store.n_bytes()  # "b" was not used for longest
    (['a', 'c'], 2)
    """

    def __init__(self, most_things: int) -> None:
        self._most_things = most_things
        self._changed = threading.Condition()
        self._kept: dict[Hashable, tuple[Value, int]] = {}  # the one used last stands last
        self._in_the_making: dict[Hashable, int] = {}

    def get(self, key: Hashable, size: Callable[[], int], make: Callable[[], Value], *, most_bytes: int) -> Value:
        """What is kept under `key`, or else what `make()` gives.

        `size()` says in bytes how large it will be: room for it is made before it is, so that the old and the new do
        not stand in memory together. What is larger than `most_bytes` is made and not kept. An error of `size` or
        `make` goes to the caller, and the next one who asks tries again.
        """
        with self._changed:
            while key in self._in_the_making:
                self._changed.wait()
            if key in self._kept:
                value, n_bytes = self._kept.pop(key)
                self._kept[key] = value, n_bytes
                return value
            self._in_the_making[key] = 0
        try:
            n_bytes = size()
            fits = n_bytes <= most_bytes
            if fits:
                self._make_room(key, n_bytes, most_bytes)
            value = make()
            with self._changed:
                if fits:
                    self._kept[key] = value, n_bytes
            return value
        finally:
            with self._changed:
                del self._in_the_making[key]
                self._changed.notify_all()

    def _make_room(self, key: Hashable, n_bytes: int, most_bytes: int) -> None:
        """Drop what was not used for longest, then wait while others are making too much for one bound."""
        with self._changed:
            while True:
                making = self._in_the_making.values()
                n_making = sum(1 for size in making if size)
                while self._kept and (
                    self._bytes() + n_bytes > most_bytes or len(self._kept) + n_making >= self._most_things
                ):
                    del self._kept[next(iter(self._kept))]
                if not n_making or (self._bytes() + n_bytes <= most_bytes and n_making < self._most_things):
                    self._in_the_making[key] = n_bytes
                    return
                self._changed.wait()

    def _bytes(self) -> int:
        return sum(n_bytes for _, n_bytes in self._kept.values()) + sum(self._in_the_making.values())

    def keys(self) -> list[Hashable]:
        """What is kept, the one used last at the end."""
        with self._changed:
            return list(self._kept)

    def n_bytes(self) -> int:
        """How much is kept or being made, in bytes."""
        with self._changed:
            return self._bytes()

    def clear(self) -> None:
        """Forget everything that is kept."""
        with self._changed:
            self._kept.clear()
