"""What every figure shares: theme, margins, alternative text, and labels that stay text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from lab.theme import BODY_FONT, SMALL_SIZE_PX, Palette, palette

Range = tuple[float, float]


def literal(label: str) -> str:
    """`label` so that Plotly shows it as it is: its pseudo-HTML (`<b>`, `&lt;`, `<br>`) is escaped.

    Example:
        >>> literal("<b>x</b> & y")
        '&lt;b&gt;x&lt;/b&gt; &amp; y'
    """
    return label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def finite_vector(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """`values` as a float64 vector [n]; ValueError unless it is one, not empty and finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} must be a vector with at least one value, not of shape {array.shape}")
    if not np.isfinite(array).all():
        i = int(np.argmin(np.isfinite(array)))
        raise ValueError(f"{name}[{i}] is {array[i]}")
    return array


def checked_range(name: str, span: Range | None) -> list[float] | None:
    """A fixed axis range as Plotly takes it; ValueError unless it runs upwards between finite numbers."""
    if span is None:
        return None
    low, high = float(span[0]), float(span[1])
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"{name} from {low} to {high} is not a range")
    return [low, high]


def framed(figure: go.Figure, *, alt: str, dark: bool, height: int, columns: Sequence[str]) -> go.Figure:
    """`figure` with the lab's theme, on a transparent ground, and its alternative text and CSV column names kept.

    Raises:
        ValueError: `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt is empty: a figure needs its description")
    colours = palette(dark)
    figure.update_layout(
        template=None,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": BODY_FONT, "size": SMALL_SIZE_PX, "color": colours.ink},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        height=height,
        showlegend=False,
        dragmode=False,
        hoverlabel={"bgcolor": colours.ink, "bordercolor": colours.ink, "font": {"color": colours.background}},
        meta={"alt": alt, "columns": list(columns)},
    )
    figure.update_xaxes(**_axis(colours))
    figure.update_yaxes(**_axis(colours))
    return figure


def _axis(colours: Palette) -> dict[str, Any]:
    return {
        "automargin": True,
        "fixedrange": True,
        "gridcolor": colours.line,
        "linecolor": colours.line,
        "zerolinecolor": colours.line,
        "tickfont": {"color": colours.muted},
        "title": {"font": {"color": colours.muted, "size": SMALL_SIZE_PX}, "standoff": 8},
    }


def alt_of(figure: go.Figure) -> str:
    """The alternative text of a figure made here."""
    return str(figure.layout.meta["alt"])
