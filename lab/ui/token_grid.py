"""A table of tokens in the browser: what stands in each cell, how strongly it is tinted, what hovering tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.theme import Role
from lab.ui import components, payloads

_token_grid = components._register("token_grid")


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a tint -1 to 1 or None (no ground at all), lines for hovering, a mark under it."""

    text: str
    tint: float | None = None
    tip: tuple[str, ...] = ()
    mark: bool = False


def token_grid_payload(
    cells: Sequence[Sequence[Cell]],
    rows: Sequence[str],
    cols: Sequence[str],
    *,
    alt: str,
    selected: tuple[int, int] | None = None,
    role: Role = "weights",
    col_role: Role = "neutral",
    caption: str | None = None,
    least_px: int = 66,
) -> dict[str, Any]:
    """The message of `token_grid`; see there. Raises ValueError where shapes, tints or an index do not fit."""
    if len(cells) != len(rows) or not rows or not cols or any(len(line) != len(cols) for line in cells):
        raise ValueError(f"the cells do not fit {len(rows)} rows and {len(cols)} columns")
    for line in cells:
        for cell in line:
            if cell.tint is not None and not -1 <= cell.tint <= 1:
                raise ValueError(f"a tint of {cell.tint} is not within -1..1")
    if not alt.strip():
        raise ValueError("alt is empty: a figure needs its description")
    if selected is not None and not (0 <= selected[0] < len(rows) and 0 <= selected[1] < len(cols)):
        raise ValueError(f"selected {selected} is no cell of {len(rows)} rows and {len(cols)} columns")
    return {
        "rows": list(rows),
        "cols": list(cols),
        "cells": [
            [
                {"text": c.text, "tint": None if c.tint is None else round(100 * c.tint), "tip": list(c.tip),
                 "mark": c.mark}
                for c in line
            ]
            for line in cells
        ],
        "selected": None if selected is None else list(selected),
        "role": role,
        "colRole": col_role,
        "least": least_px,
        "alt": alt,
        "caption": caption,
    }  # fmt: skip


def token_grid(
    cells: Sequence[Sequence[Cell]],
    rows: Sequence[str],
    cols: Sequence[str],
    *,
    key: str,
    alt: str,
    selected: tuple[int, int] | None = None,
    role: Role = "weights",
    col_role: Role = "neutral",
    caption: str | None = None,
    least_px: int = 66,
    on_select: Callable[[tuple[int, int]], None] | None = None,
) -> tuple[int, int] | None:
    """A table of tokens: hover for the lines of a cell's `tip`, click (or arrows and Enter) to choose a cell.

    Cells narrow down to `least_px` before the table scrolls sideways; below 24 they show their colour alone.

    Returns:
        (row, column) clicked just now, else None. `lab.ui.components` says who holds the selection.

    Raises:
        ValueError: the cells do not fit the names, a tint is not within -1..1, or `selected` is no cell.
    """
    data = token_grid_payload(
        cells, rows, cols, alt=alt, selected=selected, role=role, col_role=col_role, caption=caption, least_px=least_px
    )
    parse = lambda raw: payloads.answered_cell(raw, len(data["rows"]), len(data["cols"]))  # noqa: E731
    return components._mount(_token_grid, "cell", key, data, parse, on_select)
