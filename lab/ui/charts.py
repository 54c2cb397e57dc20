"""Plotly figures on a page: theme, alternative text and CSV in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from numpy.typing import ArrayLike

from lab import figures
from lab.language import text
from lab.ui.page_style import is_dark
from lab.ui.panels import figure_head
from lab.ui.reading import Reading

MOST_BARS = 8


def chart(draw: Callable[..., go.Figure], *arguments: Any, title: str, file: str, **options: Any) -> None:
    """Draw one of `lab.figures` in the reader's theme, under its title, with its numbers to take away."""
    figure = draw(*arguments, dark=is_dark(), **options)
    figure_head(title, figures.to_csv(figure), file)
    st.plotly_chart(
        figure, config={"displayModeBar": False}, theme=None, key=f"chart_{file}", alt=figures.alt_of(figure)
    )


def row_of_weights(reading: Reading, rows: Mapping[str, ArrayLike], file: str) -> None:
    """The weights of the chosen row as bars, once for each way of computing it, on one axis from 0 to 1.

    At most eight words: those with the largest weight in the first way, in the order of the sentence.
    """
    first = np.asarray(next(iter(rows.values())))
    shown = sorted(np.argsort(-first)[: min(MOST_BARS, reading.view.query + 1)].tolist())
    columns = st.columns(len(rows)) if len(rows) > 1 else [st.container()]
    for number, (column, (title, row)) in enumerate(zip(columns, rows.items(), strict=True)):
        with column:
            chart(
                figures.bars, [reading.labels[s] for s in shown], np.asarray(row)[shown], value_range=(0, 1.18),
                decimals=2, alt=text("self_attention.bars_alt", query=reading.labels[reading.view.query]),
                title=title, file=f"{file}_row_{number + 1}",
            )  # fmt: skip
