"""The first result that differs, as arrays to draw and in words: where, how many, and by which simple rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Relation = Literal["ratio", "offset", "negative", "transposed", "reversed", "constant"]
MOST_SIDE = 48  # rows or columns that are drawn; a case of an exercise is far smaller


@dataclass(frozen=True)
class Gap:
    """How two results of one shape differ.

    differs bool of their shape; worst: the index of the largest difference; `relation` a rule that turns the one into
    the other everywhere, with its `value` (yours = value · expected, yours = expected + value), or None.
    """

    differs: NDArray[np.bool_]
    worst: tuple[int, ...]
    relation: Relation | None
    value: float = 0.0

    @property
    def count(self) -> int:
        """How many numbers differ."""
        return int(self.differs.sum())


def gap(expected: ArrayLike, yours: ArrayLike, tolerance: float = 2e-5) -> Gap:
    """Compare two results of one shape. Equal infinities, and NaN where NaN is expected, do not differ.

    Raises ValueError for different shapes.

    >>> found = gap([1.0, 2.0, 4.0], [0.5, 1.0, 2.0])
    >>> found.count, found.worst, found.relation, found.value
    (3, (2,), 'ratio', 0.5)
    """
    e, y = (np.asarray(x, dtype=np.float64) for x in (expected, yours))
    if e.shape != y.shape:
        raise ValueError(f"results of shape {e.shape} and {y.shape} cannot be compared cell by cell")
    scale = float(np.abs(e[np.isfinite(e)]).max(initial=1e-3))
    differs = ~np.isclose(y, e, rtol=tolerance, atol=tolerance * min(scale, 1.0), equal_nan=True)
    size = np.where(differs, distance(e, y), -1.0)
    worst = tuple(int(k) for k in np.unravel_index(int(size.argmax()), e.shape)) if e.ndim else ()
    relation, value = _relation(e, y)
    return Gap(differs, worst, relation if differs.any() else None, value)


def distance(expected: Array, yours: Array) -> Array:
    """|yours − expected| cell by cell: 0 for equal infinities, infinite where only one of the two is a number."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(yours - expected)
    same = (expected == yours) | (np.isnan(expected) & np.isnan(yours))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def signed_difference(expected: Array, yours: Array) -> Array:
    """yours − expected; 0 for equal infinities, NaN where only one of the two is a number."""
    apart = distance(expected, yours)
    with np.errstate(invalid="ignore"):
        plain = yours - expected
    return np.where(apart == 0, 0.0, np.where(np.isfinite(apart), plain, np.nan))


def _relation(e: Array, y: Array) -> tuple[Relation | None, float]:
    """The first simple rule that holds everywhere. A rule needs at least three numbers to be told from chance."""
    if e.size < 3 or not (np.isfinite(e).all() and np.isfinite(y).all()):
        return None, 0.0

    def same(a: Array, b: Array) -> bool:
        return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-4, atol=1e-6))

    if np.ptp(y) < 1e-9:
        return "constant", float(y.flat[0])
    if same(y, -e):
        return "negative", -1.0
    power = float((e * e).sum())
    ratio = float((e * y).sum()) / power if power else 0.0
    if ratio and same(y, ratio * e):
        return "ratio", ratio
    offset = float((y - e).mean())
    if same(y, e + offset):
        return "offset", offset
    if e.ndim >= 2 and same(y, e.swapaxes(-1, -2)):
        return "transposed", 0.0
    return ("reversed", 0.0) if same(y, e[..., ::-1]) else (None, 0.0)


def colour_range(expected: Array) -> float:
    """The end of the colour range, from what is expected alone: it stays while the learner edits, so nothing jumps."""
    finite = np.abs(expected[np.isfinite(expected)])
    return float(finite.max(initial=0.0)) or 1.0


def plane(values: Array, index: Sequence[int]) -> Array:
    """The last two axes at `index` of the axes before them; a vector as one row, cut to what can be drawn.

    >>> plane(np.arange(8.0).reshape(2, 2, 2), (1,))
    array([[4., 5.],
           [6., 7.]])
    """
    chosen = values[tuple(index)] if values.ndim > 2 else values
    return np.atleast_2d(chosen)[:MOST_SIDE, :MOST_SIDE]
