"""What a fine-tune changed: next tokens, attention, parts of the model, right and wrong answers, curves of a race."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lab.figures.charts import _DASHES, _end_places
from lab.figures.frame import Range, checked_range, finite_vector, framed, literal
from lab.theme import Role, palette

_ROOM = 1.9  # the axis is so many times as long as the longest bar: room for `12.3 → 45.6 %` beside it
RACE_ROLES: tuple[Role, ...] = ("weights", "loss", "neutral", "k", "v")


def _percent(value: float | None, bound: float | None) -> str:
    """`12.3`, or `< 0.4` where only a bound is known.

    >>> _percent(0.123, None), _percent(None, 0.004), _percent(None, None)
    ('12.3', '< 0.4', '?')
    """
    if value is not None:
        return f"{100 * value:.1f}"
    return "?" if bound is None else f"< {100 * bound:.1f}"


def next_token_bars(
    tokens: Sequence[str],
    now: Sequence[float | None],
    before: Sequence[float | None],
    *,
    alt: str,
    value_max: float,
    bounds: tuple[float | None, float | None] = (None, None),
    dark: bool = False,
) -> go.Figure:
    """How probable each token is now, as a bar, and was before, as an upright tick; both numbers in per cent beside it.

    tokens: n texts, shown as they are. now, before: n probabilities; None where none was kept, then the number shown is
    `< bound` of `bounds` (now, before). `value_max` is the longest bar there will be: it fixes the axis.

    Raises:
        ValueError: lengths differ, a probability is not within 0..1, or value_max is not above 0.
    """
    if not len(tokens) == len(now) == len(before) or not tokens:
        raise ValueError(f"{len(tokens)} tokens for {len(now)} and {len(before)} probabilities")
    for value in (*now, *before):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{value} is no probability")
    colours, rows = palette(dark), list(range(len(tokens)))
    shown = [literal(token) for token in tokens]
    words = [f"{_percent(b, bounds[1])} → {_percent(n, bounds[0])} %" for n, b in zip(now, before, strict=True)]
    figure = go.Figure(
        go.Bar(
            x=[value or 0.0 for value in now], y=rows, orientation="h", width=0.62,
            marker={"color": colours.roles["weights"].fill, "cornerradius": 2},
            customdata=[
                [token, "" if b is None else b, "" if n is None else n]
                for token, n, b in zip(tokens, now, before, strict=True)
            ],
            hovertext=[f"{token}: {word}" for token, word in zip(shown, words, strict=True)], hoverinfo="text",
        )
    )  # fmt: skip
    ticks = [(row, b) for row, b in zip(rows, before, strict=True) if b is not None]
    for row, b in ticks:
        figure.add_shape(type="line", x0=b, x1=b, y0=row - 0.36, y1=row + 0.36, line={"color": colours.ink, "width": 2})
    for row, word in zip(rows, words, strict=True):
        figure.add_annotation(
            x=1, xref="paper", xanchor="right", y=row, text=word, showarrow=False, font={"color": colours.muted}
        )
    framed(figure, alt=alt, dark=dark, height=24 + 30 * len(rows), columns=("token", "before", "now"))
    span = checked_range("value_max", (0.0, _ROOM * value_max))
    figure.update_xaxes(range=span, visible=False)
    figure.update_yaxes(
        tickvals=rows, ticktext=shown, range=[len(rows) - 0.5, -0.5], showgrid=False, zeroline=False,
        ticklabelstandoff=6, tickfont={"color": colours.ink},
    )  # fmt: skip
    return figure


def attention_map(tokens: Sequence[str], weights: ArrayLike, *, alt: str, dark: bool = False) -> go.Figure:
    """Attention weights [T, T] as cells, row = query, column = key, from 0 (pale) to 1 (full) on every call.

    Where a query may not look (an exact 0 to the right of it, in every row) the cell stays empty.

    Raises:
        ValueError: shapes differ, or a weight is not within 0..1.
    """
    array = np.asarray(weights, dtype=np.float64)
    n = len(tokens)
    if array.shape != (n, n) or n == 0:
        raise ValueError(f"weights of shape {array.shape} for {n} tokens")
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError("a weight is not within 0..1")
    causal = not np.triu(array, 1).any()
    pairs = [(q, k) for q in range(n) for k in range(q + 1 if causal else n)]
    colours, shown = palette(dark), [literal(token) for token in tokens]
    figure = go.Figure(
        go.Heatmap(
            x=[k for _, k in pairs], y=[q for q, _ in pairs], z=[float(array[p]) for p in pairs], zmin=0, zmax=1,
            colorscale=[[0, colours.map_floor], [1, colours.roles["weights"].fill]], showscale=False, xgap=2, ygap=2,
            customdata=[[tokens[q], tokens[k], float(array[q, k])] for q, k in pairs],
            hovertext=[f"{shown[q]} → {shown[k]}: {array[q, k]:.4f}" for q, k in pairs], hoverinfo="text",
        )
    )  # fmt: skip
    framed(figure, alt=alt, dark=dark, height=90 + 22 * n, columns=("query", "key", "weight"))
    ticks = {"tickvals": list(range(n)), "ticktext": shown, "showgrid": False, "zeroline": False}
    figure.update_xaxes(**ticks, tickangle=-60, range=[-0.5, n - 0.5])
    figure.update_yaxes(**ticks, range=[n - 0.5, -0.5])
    return figure


def change_bars(
    names: Sequence[str], values: ArrayLike, *, alt: str, value_max: float, value_title: str = "", dark: bool = False
) -> go.Figure:
    """How far each part of the model has moved, ‖θ − θ₀‖/‖θ₀‖, in the order given; `value_max` fixes the axis.

    Raises:
        ValueError: lengths differ, a value is negative or not finite, or value_max is not above 0.
    """
    heights = finite_vector("values", values)
    if len(names) != len(heights) or heights.min() < 0:
        raise ValueError(f"{len(names)} names for {len(heights)} values from {heights.min()}")
    rows, colours = list(range(len(names))), palette(dark)
    shown = [literal(name) for name in names]
    figure = go.Figure(
        go.Bar(
            x=heights.tolist(), y=rows, orientation="h", width=0.62,
            marker={"color": colours.roles["neutral"].fill, "cornerradius": 2},
            text=[f"{height:.4f}" if height else "0" for height in heights], textposition="outside", cliponaxis=False,
            customdata=[[name, height] for name, height in zip(names, heights.tolist(), strict=True)],
            hovertext=[f"{name}: {height:.6g}" for name, height in zip(shown, heights, strict=True)], hoverinfo="text",
        )
    )  # fmt: skip
    framed(figure, alt=alt, dark=dark, height=56 + 24 * len(rows), columns=("part", "relative_change"))
    figure.update_xaxes(range=checked_range("value_max", (0.0, 1.25 * value_max)), title_text=literal(value_title))
    figure.update_yaxes(
        tickvals=rows, ticktext=shown, range=[len(rows) - 0.5, -0.5], showgrid=False, zeroline=False,
        ticklabelstandoff=6,
    )  # fmt: skip
    return figure


def confusion_map(
    labels: Sequence[str], counts: ArrayLike, *, alt: str, axes: tuple[str, str], dark: bool = False
) -> go.Figure:
    """counts [C, C], row = what it is, column = what the model says, as cells with their numbers; right ones violet.

    `axes` names rows and columns. A cell's colour is its share of its row.

    Raises:
        ValueError: the shape does not fit the labels, or a count is negative.
    """
    array = np.asarray(counts)
    n = len(labels)
    if array.shape != (n, n) or n == 0 or (array < 0).any():
        raise ValueError(f"counts of shape {array.shape} for {n} labels, none below 0")
    colours, shown = palette(dark), [literal(label) for label in labels]
    totals = np.maximum(array.sum(axis=1, keepdims=True), 1)
    figure = go.Figure()
    for role, right in (("weights", True), ("loss", False)):
        cells = [(i, j) for i in range(n) for j in range(n) if (i == j) is right]
        if not cells:
            continue
        figure.add_heatmap(
            x=[j for _, j in cells], y=[i for i, _ in cells], z=[float((array / totals)[c]) for c in cells],
            zmin=0, zmax=1, showscale=False, xgap=3, ygap=3,
            colorscale=[[0, colours.map_floor], [1, colours.roles[role].map_end]],  # type: ignore[index]
            customdata=[[labels[i], labels[j], int(array[i, j])] for i, j in cells],
            hovertext=[f"{shown[i]} → {shown[j]}: {array[i, j]}" for i, j in cells], hoverinfo="text",
        )  # fmt: skip
    for i in range(n):
        for j in range(n):
            figure.add_annotation(x=j, y=i, text=str(array[i, j]), showarrow=False, font={"size": 16})
    framed(figure, alt=alt, dark=dark, height=96 + 52 * n, columns=("true", "answer", "count"))
    ticks = {"tickvals": list(range(n)), "ticktext": shown, "showgrid": False, "zeroline": False}
    figure.update_xaxes(**ticks, range=[-0.5, n - 0.5], title_text=literal(axes[1]))
    figure.update_yaxes(**ticks, range=[n - 0.5, -0.5], title_text=literal(axes[0]))
    return figure


def overlaid_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    alt: str,
    x_range: Range,
    y_range: Range,
    x_title: str = "",
    y_title: str = "",
    roles: Mapping[str, Role] | None = None,
    mark: float | None = None,
    dark: bool = False,
) -> go.Figure:
    """Curves with their own xs: name -> (xs, ys), each named at its end, told apart by colour and dash; fixed axes.

    `mark` draws an upright line at one x. A curve without points yet is left out.

    Raises:
        ValueError: xs and ys differ in length, a value is not finite, or no range is one.
    """
    figure, colours = go.Figure(), palette(dark)
    kept = {name: pair for name, pair in curves.items() if len(pair[0])}
    places = _end_places([float(ys[-1]) for _, ys in kept.values()]) if kept else []
    for k, (name, (xs, ys)) in enumerate(kept.items()):
        across, heights = finite_vector(f"{name} x", xs), finite_vector(name, ys)
        if len(across) != len(heights):
            raise ValueError(f"{name} has {len(across)} xs and {len(heights)} ys")
        shades = colours.roles[(roles or {}).get(name, RACE_ROLES[k % len(RACE_ROLES)])]
        figure.add_scatter(
            x=across.tolist(), y=heights.tolist(), mode="lines+text", name=literal(name),
            text=[""] * (len(heights) - 1) + [" " + literal(name)], textposition=places[k],
            textfont={"color": shades.text}, cliponaxis=False,
            line={"color": shades.fill, "width": 2, "dash": _DASHES[k % len(_DASHES)]},
            customdata=[[name, x, y] for x, y in zip(across.tolist(), heights.tolist(), strict=True)],
            hovertext=[f"{literal(name)}: {y:.4g} ({x:.6g})" for x, y in zip(across, heights, strict=True)],
            hoverinfo="text",
        )  # fmt: skip
    if mark is not None:
        figure.add_vline(x=mark, line={"color": colours.ink, "width": 1, "dash": "dot"})
    framed(figure, alt=alt, dark=dark, height=300, columns=("curve", "x", "y"))
    longest = max((sum(2 if ord(c) > 0x2E7F else 1 for c in name) for name in kept), default=0)
    figure.update_layout(margin_r=16 + 8 * min(longest, 24))
    figure.update_xaxes(
        title_text=literal(x_title), range=checked_range("x_range", x_range), showgrid=False, zeroline=False
    )
    figure.update_yaxes(title_text=literal(y_title), range=checked_range("y_range", y_range))
    return figure
