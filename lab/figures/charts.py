"""Bars, lines and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lab.figures.frame import Range, checked_range, finite_vector, framed, literal
from lab.theme import Role, palette

# Blue, orange and green mean query, key and value: a series takes one only when the caller says so.
_SERIES_ROLES: tuple[Role, ...] = ("weights", "neutral", "loss", "masked")
NUMBER_ROOM = 0.2  # of the axis: room for the number beside a bar below zero
_DASHES = ("solid", "dash", "dot", "dashdot")


def bars(
    labels: Sequence[str],
    values: ArrayLike,
    *,
    alt: str,
    highlight: int | Sequence[int] = (),
    role: Role = "weights",
    value_range: Range | None = None,
    value_title: str = "",
    decimals: int = 3,
    dark: bool = False,
) -> go.Figure:
    """Horizontal bars in the order given, the first on top (next-token probabilities), each with its number.

    labels: n texts, shown as they are. values: [n] finite floats. `highlight` are indices drawn in full strength when
    there are any; the rest is then paler. `value_range` fixes the axis; below zero it is widened where the number of
    a bar would lie over its label.

    Raises:
        ValueError: lengths differ, a value is not finite, a highlighted index is none, or no range is one.
    """
    heights = finite_vector("values", values)
    if len(labels) != len(heights):
        raise ValueError(f"{len(labels)} labels for {len(heights)} values")
    chosen = {highlight} if isinstance(highlight, int) else set(highlight)
    if not chosen <= set(range(len(labels))):
        raise ValueError(f"highlight {sorted(chosen)} is not within 0..{len(labels) - 1}")
    fill = palette(dark).roles[role].fill
    rows = list(range(len(labels)))  # by index, not by label: the same token may stand there twice
    shown = [literal(label) for label in labels]
    figure = go.Figure(
        go.Bar(
            x=heights.tolist(),
            y=rows,
            orientation="h",
            marker={
                "color": fill,
                "opacity": [1.0 if not chosen or i in chosen else 0.4 for i in rows],
                "cornerradius": 2,
            },
            text=[f"{height:.{decimals}f}" for height in heights],
            textposition="outside",
            cliponaxis=False,
            customdata=[[label, height] for label, height in zip(labels, heights.tolist(), strict=True)],
            hovertext=[f"{label} {height:.6g}" for label, height in zip(shown, heights, strict=True)],
            hoverinfo="text",
        )
    )
    framed(figure, alt=alt, dark=dark, height=40 + 28 * len(rows), columns=("label", "value"))
    fixed = checked_range("value_range", value_range)
    if fixed is not None and heights.size and heights.min() < 0:
        fixed = [min(fixed[0], float(heights.min()) - NUMBER_ROOM * (fixed[1] - fixed[0])), fixed[1]]
    figure.update_xaxes(range=fixed, title_text=literal(value_title))
    figure.update_yaxes(
        tickvals=rows,
        ticktext=shown,
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        ticklabelstandoff=6,
    )
    return figure


def line(
    xs: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    alt: str,
    x_title: str = "",
    y_title: str = "",
    x_range: Range | None = None,
    y_range: Range | None = None,
    roles: Mapping[str, Role] | None = None,
    dark: bool = False,
) -> go.Figure:
    """One line a series over common `xs` [n], each named at its right end and told apart by colour and dash.

    Raises:
        ValueError: no series, lengths differ, a value is not finite, or no range is one.
    """
    across = finite_vector("xs", xs)
    if not series:
        raise ValueError("series is empty")
    figure = go.Figure()
    places = _end_places([float(np.asarray(values, dtype=np.float64).ravel()[-1:].sum()) for values in series.values()])
    for k, (name, values) in enumerate(series.items()):
        ys = finite_vector(name, values)
        if len(ys) != len(across):
            raise ValueError(f"{name} has {len(ys)} values, xs has {len(across)}")
        shades = palette(dark).roles[(roles or {}).get(name, _SERIES_ROLES[k % len(_SERIES_ROLES)])]
        figure.add_scatter(
            x=across.tolist(),
            y=ys.tolist(),
            mode="lines+text",
            name=literal(name),
            text=[""] * (len(ys) - 1) + [" " + literal(name)],
            textposition=places[k],
            textfont={"color": shades.text},
            cliponaxis=False,
            line={"color": shades.fill, "width": 2, "dash": _DASHES[k % len(_DASHES)]},
            customdata=[[name, x, y] for x, y in zip(across.tolist(), ys.tolist(), strict=True)],
            hovertext=[f"{literal(name)}: {y:.6g} at {x:.6g}" for x, y in zip(across, ys, strict=True)],
            hoverinfo="text",
        )
    framed(figure, alt=alt, dark=dark, height=300, columns=("series", "x", "y"))
    longest = max(sum(2 if ord(c) > 0x2E7F else 1 for c in name) for name in series)  # a Chinese character is wider
    across_range = checked_range("x_range", x_range)
    if across_range is None and across.min() < across.max():
        across_range = [float(across.min()), float(across.max())]
    figure.update_layout(margin_r=16 + 8 * min(longest, 24))
    figure.update_xaxes(title_text=literal(x_title), range=across_range, showgrid=False, zeroline=False)
    figure.update_yaxes(title_text=literal(y_title), range=checked_range("y_range", y_range))
    return figure


def _end_places(ends: Sequence[float]) -> list[str]:
    """Where each line's name stands beside its end: of two ends that are close, the upper one's a little higher.

    >>> _end_places([1.0, 0.0]), _end_places([5.0, 1.0, 1.1])
    (['middle right', 'middle right'], ['middle right', 'bottom right', 'top right'])
    """
    places = ["middle right"] * len(ends)
    close = 0.12 * max(map(abs, ends))
    order = sorted(range(len(ends)), key=ends.__getitem__)
    for low, high in zip(order, order[1:], strict=False):
        if len(ends) > 1 and ends[high] - ends[low] < close:
            places[low], places[high] = "bottom right", "top right"
    return places


def histogram(
    values_by_name: Mapping[str, ArrayLike],
    *,
    alt: str,
    bins: int = 40,
    value_range: Range | None = None,
    count_max: float | None = None,
    value_title: str = "",
    count_title: str = "",
    roles: Mapping[str, Role] | None = None,
    dark: bool = False,
) -> go.Figure:
    """How often values fall in each bin: one outlined shape a name, all on the same bins and axes.

    values_by_name: name -> vector of finite floats (lengths may differ). `value_range` fixes the bins and the axis, by
    default the span of all values together; it must hold every value, so that none is dropped unsaid. `count_max` fixes
    the other axis. Bins are half open, [low, high), the last one closed, as numpy counts.

    Raises:
        ValueError: no names, fewer than one bin, a value that is not finite or lies outside `value_range`.
    """
    if not values_by_name or bins < 1:
        raise ValueError(f"a histogram needs values and at least one bin, not {len(values_by_name)} and {bins}")
    data = {name: finite_vector(name, values) for name, values in values_by_name.items()}
    together = np.concatenate(list(data.values()))
    span = checked_range("value_range", value_range)
    if span and (together.min() < span[0] or together.max() > span[1]):
        raise ValueError(f"values run from {together.min()} to {together.max()}, beyond value_range {value_range}")
    edges = np.histogram_bin_edges(together, bins, (span[0], span[1]) if span else None)
    figure = go.Figure()
    for k, (name, values) in enumerate(data.items()):
        counts = np.histogram(values, edges)[0].tolist()
        shades = palette(dark).roles[(roles or {}).get(name, _SERIES_ROLES[k % len(_SERIES_ROLES)])]
        figure.add_bar(
            x=((edges[:-1] + edges[1:]) / 2).tolist(),
            y=counts,
            width=np.diff(edges).tolist(),
            name=literal(name),
            marker={"color": shades.fill, "opacity": 0.6, "line": {"color": shades.text, "width": 1}},
            customdata=[
                [name, low, high, count]
                for low, high, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts, strict=True)
            ],
            hovertext=[
                f"{literal(name)}: {count} in [{low:.4g}, {high:.4g})"
                for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
            ],
            hoverinfo="text",
        )
    framed(figure, alt=alt, dark=dark, height=280, columns=("series", "bin_low", "bin_high", "count"))
    figure.update_layout(
        barmode="overlay",
        showlegend=len(data) > 1,
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "itemclick": False,
            "itemdoubleclick": False,
        },
    )
    figure.update_xaxes(title_text=literal(value_title), range=[float(edges[0]), float(edges[-1])], showgrid=False)
    figure.update_yaxes(
        title_text=literal(count_title), range=None if count_max is None else checked_range("count_max", (0, count_max))
    )
    return figure
