"""Two values a label, one bar under the other: before and after."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lab.figures.frame import Range, checked_range, finite_vector, framed, literal
from lab.theme import Role, palette


def paired_bars(
    labels: Sequence[str],
    before: ArrayLike,
    after: ArrayLike,
    *,
    names: tuple[str, str],
    alt: str,
    role: Role = "weights",
    value_range: Range | None = None,
    decimals: int = 3,
    dark: bool = False,
) -> go.Figure:
    """Horizontal bars, two a label: `before` pale, `after` in full strength under it, each with its number.

    labels: n texts, shown as they are. before, after: [n] finite floats. names: what the two are called in the legend.
    `value_range` fixes the axis.

    Raises:
        ValueError: lengths differ, a value is not finite, or no range is one.
    """
    pair = [finite_vector(name, values) for name, values in zip(names, (before, after), strict=True)]
    if any(len(values) != len(labels) for values in pair):
        raise ValueError(f"{len(labels)} labels for {len(pair[0])} and {len(pair[1])} values")
    fill = palette(dark).roles[role].fill
    red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
    rows = list(range(len(labels)))  # by index, not by label: the same token may stand there twice
    shown = [literal(label) for label in labels]
    figure = go.Figure()
    for values, name, opacity in zip(pair, names, (0.4, 1.0), strict=True):
        figure.add_bar(
            x=values.tolist(),
            y=rows,
            orientation="h",
            name=literal(name),
            marker={"color": f"rgba({red},{green},{blue},{opacity})", "cornerradius": 2},
            text=[f"{value:.{decimals}f}" for value in values],
            textposition="outside",
            textfont={"size": 11},
            cliponaxis=False,
            customdata=[[label, name, value] for label, value in zip(labels, values.tolist(), strict=True)],
            hovertext=[f"{label}, {literal(name)}: {value:.6g}" for label, value in zip(shown, values, strict=True)],
            hoverinfo="text",
        )
    framed(figure, alt=alt, dark=dark, height=64 + 36 * len(rows), columns=("label", "when", "value"))
    figure.update_layout(
        barmode="group",
        bargap=0.28,
        bargroupgap=0.06,
        showlegend=True,
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.0,
            "yanchor": "bottom",
            "itemclick": False,
            "itemdoubleclick": False,
        },
    )
    figure.update_xaxes(range=checked_range("value_range", value_range))
    figure.update_yaxes(
        tickvals=rows,
        ticktext=shown,
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        ticklabelstandoff=6,
    )
    return figure
