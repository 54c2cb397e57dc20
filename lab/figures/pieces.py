"""The interval from 0 to 1 cut into pieces, one a label, and a number that falls into one of them."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from numpy.typing import ArrayLike

from lab.figures.frame import finite_vector, framed, literal
from lab.theme import palette

NAMED_FROM = 0.04  # of the interval: a narrower piece has no room for its name


def pieces(
    labels: Sequence[str], widths: ArrayLike, *, at: float, highlight: int | None, alt: str, dark: bool = False
) -> go.Figure:
    """Pieces of the given widths side by side, in order, and a line at `at`; `highlight` is the piece it fell into.

    Raises:
        ValueError: lengths differ, a width is negative or not finite, or `at` is not within 0..1.
    """
    sizes = finite_vector("widths", widths)
    if len(sizes) != len(labels) or (sizes < 0).any() or not 0 <= at <= 1:
        raise ValueError(f"{len(labels)} labels, {len(sizes)} widths from {sizes.min()}, a number {at}")
    colours = palette(dark)
    starts = sizes.cumsum() - sizes
    shown = [literal(label) for label in labels]
    figure = go.Figure(
        go.Bar(
            x=sizes.tolist(),
            base=starts.tolist(),
            y=[0] * len(sizes),
            orientation="h",
            marker={
                "color": colours.roles["weights"].map_end,
                "opacity": [1.0 if i == highlight else 0.35 for i in range(len(sizes))],
                "line": {"color": colours.background, "width": 1 if len(sizes) < 80 else 0},
            },
            text=[name if size >= NAMED_FROM else "" for name, size in zip(shown, sizes, strict=True)],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": colours.ink},
            customdata=[
                [label, low, low + size]
                for label, low, size in zip(labels, starts.tolist(), sizes.tolist(), strict=True)
            ],
            hovertext=[
                f"{name} {low:.4f} – {low + size:.4f}" for name, low, size in zip(shown, starts, sizes, strict=True)
            ],
            hoverinfo="text",
        )
    )
    framed(figure, alt=alt, dark=dark, height=130, columns=("label", "from", "to"))
    line = colours.roles["loss"]
    figure.add_vline(x=at, line={"color": line.fill, "width": 3})
    figure.add_annotation(
        x=at, y=0.62, text=f"u = {at:.4f}", showarrow=False, font={"color": line.text}, yanchor="bottom",
        xanchor="right" if at > 0.8 else "left", xshift=-6 if at > 0.8 else 6,
    )  # fmt: skip
    figure.update_layout(bargap=0)
    figure.update_xaxes(range=[0, 1], showgrid=False)
    figure.update_yaxes(visible=False, range=[-0.5, 1.0])
    return figure
