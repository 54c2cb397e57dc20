"""A component of clock hands: what RoPE does to each pair of numbers at each position. See `lab.ui.components`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lab.ui import components, payloads

_dials = components._register("dials")


def dials_payload(
    angles: ArrayLike,
    rows: Sequence[str],
    notes: Sequence[str],
    cols: Sequence[str],
    labels: Sequence[Sequence[str]],
    *,
    alt: str,
    selected: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The message of `dials`; see there. Raises ValueError where shapes or numbers do not fit."""
    array = np.asarray(angles, dtype=np.float64)
    if array.shape != (len(rows), len(cols)) or 0 in array.shape or not np.isfinite(array).all():
        raise ValueError(f"angles of shape {array.shape} for {len(rows)} rows and {len(cols)} columns, all finite")
    if len(notes) != len(rows) or [len(line) for line in labels] != [len(cols)] * len(rows):
        raise ValueError("every row needs a note, every dial a label")
    if selected is not None and not (0 <= selected[0] < len(rows) and 0 <= selected[1] < len(cols)):
        raise ValueError(f"selected {selected} is no dial")
    if not alt.strip():
        raise ValueError("alt is empty: a figure needs its description")
    return {
        "angles": array.round(5).tolist(), "rows": list(rows), "notes": list(notes), "cols": list(cols),
        "labels": [list(line) for line in labels], "selected": None if selected is None else list(selected), "alt": alt,
    }  # fmt: skip


def dials(
    angles: ArrayLike,
    rows: Sequence[str],
    notes: Sequence[str],
    cols: Sequence[str],
    labels: Sequence[Sequence[str]],
    *,
    key: str,
    alt: str,
    selected: tuple[int, int] | None = None,
    on_select: Callable[[tuple[int, int]], None] | None = None,
) -> tuple[int, int] | None:
    """A dial a cell, its hand turned by `angles` [m, n] radians; hover for its label, click to choose it.

    rows: m names, each with a small note under it. cols: n names. labels: [m][n], what a dial says in words.

    Returns:
        (row, column) clicked just now, else None. `lab.ui.components` says who holds the selection.

    Raises:
        ValueError: shapes differ, an angle is not finite, or `selected` is no dial.
    """
    data = dials_payload(angles, rows, notes, cols, labels, alt=alt, selected=selected)
    m, n = len(rows), len(cols)
    return components._mount(_dials, "dial", key, data, lambda raw: payloads.answered_cell(raw, m, n), on_select)
