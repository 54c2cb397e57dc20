"""One matrix as a heat map on a colour range of the caller's, so that two of them can be laid side by side."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lab.figures.frame import framed, literal
from lab.theme import Role, palette

MOST_NUMBERS = 12  # rows or columns up to which each cell carries its number
MOST_CELLS = 10_000


def shown_number(value: float, decimals: int = 2) -> str:
    """A cell in few characters, infinities and NaN included.

    >>> shown_number(0.5), shown_number(-math.inf), shown_number(math.nan), shown_number(123456.0)
    ('0.50', '−∞', 'NaN', '1.2e+05')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1000 and decimals == 0:
        return str(int(value))
    return f"{value:.{decimals}f}" if abs(value) < 1000 else f"{value:.1e}"


def heat_map(
    values: ArrayLike,
    *,
    high: float,
    alt: str,
    low: float | None = None,
    row_title: str = "",
    column_title: str = "",
    marked: tuple[int, int] | None = None,
    role: Role = "weights",
    decimals: int = 2,
    dark: bool = False,
) -> go.Figure:
    """Cells coloured from `low` to `high`, rows downwards, indices from 0; without `low` from −high to high.

    values [m, n] floats. NaN and infinities have no place on the range: such a cell stays empty and says what it holds.
    A value beyond the range has the colour of its end. `marked` is a cell with a frame.

    Raises:
        ValueError: no matrix, or an empty or too large one; or the range does not run upwards between finite numbers.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not 0 < array.size <= MOST_CELLS:
        raise ValueError(f"a heat map needs a matrix of 1 to {MOST_CELLS:,} cells, not the shape {array.shape}")
    floor = -high if low is None else low
    if not (math.isfinite(floor) and math.isfinite(high) and floor < high):
        raise ValueError(f"colours from {floor} to {high} are not a range")
    colours = palette(dark)
    shades = colours.roles[role]
    scale = [[0.0, colours.map_floor], [1.0, shades.map_end]]
    if low is None:
        scale = [[0.0, shades.map_negative], [0.5, colours.map_floor], [1.0, shades.map_end]]
    m, n = array.shape
    finite = np.isfinite(array)
    words = [[shown_number(float(value), decimals) for value in row] for row in array]
    numbered = max(m, n) <= MOST_NUMBERS
    figure = go.Figure(
        go.Heatmap(
            z=np.where(finite, array, np.nan).tolist(),
            zmin=floor,
            zmax=high,
            colorscale=scale,
            showscale=False,
            hoverongaps=True,
            xgap=1,
            ygap=1,
            hovertext=[[f"[{i}, {j}]  {float(array[i, j]):.6g}" for j in range(n)] for i in range(m)],
            hoverinfo="text",
            customdata=[[i, j, float(array[i, j])] for i in range(m) for j in range(n)],
        )
    )
    framed(figure, alt=alt, dark=dark, height=64 + m * (30 if numbered else max(4, min(20, 420 // m))),
           columns=("row", "column", "value"))  # fmt: skip
    for i in range(m):
        for j in range(n):
            if numbered:
                figure.add_annotation(
                    x=j, y=i, text=words[i][j], showarrow=False,
                    font={"size": 11, "color": colours.ink if finite[i, j] else colours.muted},
                )  # fmt: skip
    if marked is not None:
        i, j = marked
        figure.add_shape(type="rect", x0=j - 0.5, x1=j + 0.5, y0=i - 0.5, y1=i + 0.5,
                         line={"color": colours.ink, "width": 2})  # fmt: skip
    ticks = {"tickmode": "linear", "tick0": 0, "dtick": 1} if numbered else {"nticks": 8}
    figure.update_xaxes(title_text=literal(column_title), showgrid=False, zeroline=False, side="top", **ticks)
    figure.update_yaxes(title_text=literal(row_title), showgrid=False, zeroline=False, range=[m - 0.5, -0.5], **ticks)
    return figure
