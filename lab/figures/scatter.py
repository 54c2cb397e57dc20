"""A cloud of labelled points, some of them picked out: a map of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from lab.figures.frame import framed, literal
from lab.theme import Role, palette

MOST_NAMED = 40  # labels beside points
ROOM = (0.17, 0.05)  # of the span: how far apart two labels stand, so that neither covers the other
MARGIN = 0.04  # of the span, around the outermost points


def scatter(
    points: ArrayLike,
    labels: Sequence[str],
    *,
    alt: str,
    found: Sequence[int] = (),
    found_role: Role = "weights",
    chosen: int | None = None,
    chosen_role: Role = "q",
    x_title: str = "",
    y_title: str = "",
    height: int = 470,
    dark: bool = False,
) -> go.Figure:
    """Points [n 2] with a label each, shown on hovering; `found` are drawn large, and named where there is room.

    `chosen` is drawn largest, in the colour of its role. The axes hold all points, so that nothing moves when other
    points are picked out; drawing a box zooms in, a double click zooms out. The two axes have the same unit.

    Raises:
        ValueError: not n points of two finite numbers each, lengths differ, or an index is none.
    """
    across = np.asarray(points, dtype=np.float64)
    n = len(labels)
    if across.shape != (n, 2) or not n or not np.isfinite(across).all():
        raise ValueError(f"points of shape {across.shape} are not {n} finite pairs, one a label")
    if not {*found, *([] if chosen is None else [chosen])} <= set(range(n)):
        raise ValueError(f"a point that is picked out is not within 0..{n - 1}")
    colours = palette(dark)
    shown = [literal(label) for label in labels]
    figure = go.Figure()
    names = _with_room(across, found if chosen is None else [chosen, *found])
    rows = np.empty((n, 3), dtype=object)  # plotly copies lists value by value, arrays at once
    none: NDArray[np.object_] = np.empty((0, 3), dtype=object)
    rows[:, 0], rows[:, 1:] = labels, across

    def add(
        indices: Sequence[int], role: Role, size: int, opacity: float, named: bool, values: NDArray[np.object_]
    ) -> None:
        figure.add_scatter(
            x=across[indices, 0], y=across[indices, 1], mode="markers+text" if named else "markers",
            marker={"color": colours.roles[role].fill, "size": size, "opacity": opacity, "line": {"width": 0}},
            text=[shown[i] if i in names else "" for i in indices] if named else None,
            textposition="top center", textfont={"color": colours.roles[role].text}, cliponaxis=False,
            hovertext=np.array([shown[i] for i in indices], dtype=object), hoverinfo="text", customdata=values,
        )  # fmt: skip

    add(range(n), "neutral", 4, 0.22 if found else 0.38, False, rows)
    if found:
        add([i for i in found if i != chosen], found_role, 7, 0.95, True, none)
    if chosen is not None:
        add([chosen], chosen_role, 11, 1.0, False, none)
        figure.add_annotation(
            x=across[chosen, 0], y=across[chosen, 1], text=shown[chosen], showarrow=False, yshift=18,
            bgcolor=colours.background, opacity=0.92, font={"color": colours.roles[chosen_role].text, "size": 14},
        )  # fmt: skip
    framed(figure, alt=alt, dark=dark, height=height, columns=("label", "x", "y"))
    for update, title, values in (
        (figure.update_xaxes, x_title, across[:, 0]),
        (figure.update_yaxes, y_title, across[:, 1]),
    ):
        update(title_text=literal(title), range=_span(values), fixedrange=False, zeroline=True)
    figure.update_yaxes(scaleanchor="x", scaleratio=1)
    figure.update_layout(dragmode="zoom", hovermode="closest")
    return figure


def _with_room(points: NDArray[np.float64], wanted: Sequence[int]) -> set[int]:
    """Those of the wanted points whose labels do not meet, the first ones first; at most `MOST_NAMED`."""
    room = np.array(ROOM) * max(float(np.ptp(points, axis=0).max()), 1e-12)
    kept: list[int] = []
    for i in wanted:
        if len(kept) < MOST_NAMED and not any((np.abs(points[i] - points[k]) < room).all() for k in kept):
            kept.append(i)
    return set(kept)


def _span(values: NDArray[np.float64]) -> list[float]:
    """A range that holds all values, with a little room; of one value, a range around it."""
    low, high = float(values.min()), float(values.max())
    room = MARGIN * (high - low) or 1.0
    return [low - room, high + room]
