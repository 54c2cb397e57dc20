"""A component of bars: the probability of some tokens at every stage between the model and the draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lab.theme import Role
from lab.ui import components, payloads

_stage_bars = components._register("stage_bars")

State = Literal["kept", "cross", "cut", "gone"]


@dataclass(frozen=True)
class Bar:
    """One cell: its bar's width (0 to 1 of the full scale), its text, what became of it, lines for hovering.

    state: `kept`, `cross` (kept, and marked: it crossed a limit), `cut` (removed here) or `gone` (removed before).
    """

    width: float
    text: str
    state: State = "kept"
    tip: tuple[str, ...] = ()


def stage_bars_payload(
    bars: Sequence[Sequence[Bar]],
    rows: Sequence[str],
    cols: Sequence[str],
    *,
    alt: str,
    n_tokens: int | None = None,
    selected: tuple[int, int] | None = None,
    role: Role = "weights",
    caption: str | None = None,
) -> dict[str, Any]:
    """The message of `stage_bars`; see there. Raises ValueError where shapes or numbers do not fit."""
    if not rows or not cols or len(bars) != len(rows) or any(len(line) != len(cols) for line in bars):
        raise ValueError(f"the bars do not fit {len(rows)} rows and {len(cols)} columns")
    for bar in (bar for line in bars for bar in line):
        if not 0 <= bar.width <= 1 or bar.state not in get_args(State):
            raise ValueError(f"a bar of width {bar.width} and state {bar.state!r} cannot be drawn")
    if not alt.strip():
        raise ValueError("alt is empty: a figure needs its description")
    n = len(rows) if n_tokens is None else n_tokens
    if selected is not None and not (0 <= selected[0] < n and 0 <= selected[1] < len(cols)):
        raise ValueError(f"selected {selected} is no cell of {n} tokens and {len(cols)} columns")
    return {
        "rows": list(rows), "cols": list(cols), "tokens": n, "role": role, "alt": alt, "caption": caption,
        "selected": None if selected is None else list(selected),
        "cells": [
            [{"width": round(100 * b.width, 1), "text": b.text, "state": b.state, "tip": list(b.tip)} for b in line]
            for line in bars
        ],
    }  # fmt: skip


def stage_bars(
    bars: Sequence[Sequence[Bar]],
    rows: Sequence[str],
    cols: Sequence[str],
    *,
    key: str,
    alt: str,
    n_tokens: int | None = None,
    selected: tuple[int, int] | None = None,
    role: Role = "weights",
    caption: str | None = None,
    on_select: Callable[[tuple[int, int]], None] | None = None,
) -> tuple[int, int] | None:
    """Bars in a table, a row a token and a column a stage; click (or arrows and Enter) to choose a cell.

    n_tokens: how many rows are tokens that can be chosen; what follows them (all other tokens together) cannot.

    Returns:
        (row, column) clicked just now, else None. `lab.ui.components` says who holds the selection.

    Raises:
        ValueError: the bars do not fit the names, a width is not within 0..1, or `selected` is no cell.
    """
    data = stage_bars_payload(
        bars, rows, cols, alt=alt, n_tokens=n_tokens, selected=selected, role=role, caption=caption
    )
    parse = lambda raw: payloads.answered_cell(raw, data["tokens"], len(cols))  # noqa: E731
    return components._mount(_stage_bars, "cell", key, data, parse, on_select)
