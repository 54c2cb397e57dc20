"""A product that dies of its smallness, beside the sum of logarithms that does not."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lab.figures.frame import finite_vector, framed, literal
from lab.theme import palette


def underflow(
    products: ArrayLike,
    log2_sums: ArrayLike,
    *,
    floors: dict[str, float],
    names: tuple[str, str],
    alt: str,
    x_title: str = "",
    y_title: str = "",
    dark: bool = False,
) -> go.Figure:
    """log₂ of the products [T] as far as they are above 0 (thick, loss), and the sums of logarithms [T] (thin, ink).

    floors: name -> log₂ of a smallest number, drawn as dashed lines. names: what the two lines are called.

    Raises:
        ValueError: lengths differ, or a product is negative or not finite.
    """
    values, sums = finite_vector("products", products), finite_vector("log2_sums", log2_sums)
    if len(values) != len(sums):
        raise ValueError(f"{len(values)} products for {len(sums)} sums")
    if (values < 0).any():
        raise ValueError("a product of probabilities is not negative")
    colours = palette(dark)
    places = np.arange(1, len(values) + 1)
    alive = values > 0
    figure = go.Figure()
    for name, xs, ys, colour, width in (
        (names[1], places, sums, colours.roles["neutral"].fill, 2),
        (names[0], places[alive], np.log2(values[alive]), colours.roles["loss"].fill, 5),
    ):
        figure.add_scatter(
            x=xs.tolist(), y=ys.tolist(), mode="lines", name=literal(name),
            line={"color": colour, "width": width}, opacity=0.85,
            customdata=[[name, x, y] for x, y in zip(xs.tolist(), ys.tolist(), strict=True)],
            hovertext=[f"{literal(name)}: 2^{y:.1f} after {x}" for x, y in zip(xs, ys, strict=True)], hoverinfo="text",
        )  # fmt: skip
    framed(figure, alt=alt, dark=dark, height=330, columns=("series", "tokens", "log2"))
    highest = max(floors.values(), default=0.0)
    for name, floor in floors.items():  # the names stand apart: the upper one above its line, the others below theirs
        side = "top" if floor == highest else "bottom"
        figure.add_hline(
            y=floor, line={"color": colours.muted, "dash": "dash", "width": 1}, annotation_text=literal(name),
            annotation_position=f"{side} right", annotation_font={"color": colours.muted, "size": 11},
        )  # fmt: skip
    figure.update_layout(
        showlegend=True, legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemclick": False}
    )
    figure.update_xaxes(title_text=literal(x_title), range=[0, len(values) + 1], showgrid=False)
    figure.update_yaxes(title_text=literal(y_title), range=[min(-190.0, float(sums.min())) - 10, 6])
    return figure
