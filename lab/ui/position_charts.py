"""The charts of the lesson on positions: waves, penalties, dot products by distance, and the long story."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from lab import figures
from lab.theme import Role, palette
from lab.ui import components, panels, view
from lab.ui import position_data as data
from lab.ui.charts import chart, row_of_weights
from lab.ui.position_data import Array
from lab.ui.position_panels import t
from lab.ui.reading import Reading

BIN = 32  # tokens to a point of the long story
FAR = 16  # how far the penalties are drawn


def marked_line(*arguments: Any, mark: float | None, dark: bool = False, **options: Any) -> go.Figure:
    """`figures.line` with a thin upright line at x = `mark`, if there is one."""
    figure = figures.line(*arguments, dark=dark, **options)
    if mark is not None:
        figure.add_vline(x=mark, line={"color": palette(dark).muted, "width": 1, "dash": "dot"})
    return figure


def waves(table: Array, column: int, row: int) -> None:
    """The sine and the cosine of one pair along the positions."""
    pair = column - column % 2
    chart(
        marked_line, np.arange(len(table)), {"sin": table[:, pair], "cos": table[:, pair + 1]}, mark=row,
        y_range=(-1.1, 1.1), x_title=t("position"), alt=t("waves_alt", pair=pair // 2), file="waves",
        title=t("waves", first=pair, second=pair + 1),
    )  # fmt: skip


def slope_chart(r: Reading, slopes: Array) -> None:
    """The penalty of the first heads, the chosen and the last, by distance."""
    away = np.arange(FAR + 1)
    heads = sorted({*range(min(3, r.shape.n_heads)), r.view.head, r.shape.n_heads - 1})
    roles: dict[str, Role] = {t("head_n", n=h + 1): "weights" if h == r.view.head else "neutral" for h in heads}
    chart(
        figures.line, away, {t("head_n", n=h + 1): -slopes[h] * away for h in heads}, x_range=(0, FAR), roles=roles,
        y_range=(-0.55 * FAR, 0.4), x_title=t("distance"), y_title=t("penalty"), alt=t("slopes_alt"),
        title=t("slopes"), file="slopes",
    )  # fmt: skip


def bias_map(r: Reading, bias: Array) -> None:
    """The penalty of the chosen head for every pair of words."""
    cell, head = (r.view.query, r.view.key), r.view.head + 1
    panels.figure_head(t("bias", head=head), figures.matrix_csv(bias, r.labels, r.labels), "bias")
    components.matrix(
        bias, r.labels, r.labels, selected=cell, faint=~r.allowed, vmin=float(bias.min()) or -1.0, vmax=0.0,
        decimals=1 if bias.min() < -1 else 2, key="map_bias", on_select=r.choose_pair,
        alt=t("bias_alt", head=head, value=f"{bias[cell]:.4f}"),
    )  # fmt: skip


def penalised(r: Reading, bias: Array) -> None:
    """The weights of the chosen row without and with the penalty."""
    weights = {t("without"): data.with_penalty(r, None), t("with"): data.with_penalty(r, bias)}
    row_of_weights(r, {name: w[r.view.query] for name, w in weights.items()}, "alibi")


def chosen_distance(r: Reading, count: int) -> int:
    """Which distance is looked at, below `count`; at first that of the two chosen words."""
    asked = str(view.get("positions_distance", ""))
    if asked.isascii() and asked.isdecimal() and len(asked) < 5 and int(asked) < count:
        return int(asked)
    return min(abs(r.view.query - r.view.key), count - 1)


def distance_slider(chosen: int, count: int) -> None:
    """Chooses the distance whose waves are shown."""
    if count < 2:
        return
    st.session_state["positions_distance_slider"] = chosen

    def changed() -> None:
        view.put("positions_distance", str(st.session_state["positions_distance_slider"]))

    st.slider(t("distance_of"), 0, count - 1, key="positions_distance_slider", on_change=changed)


def distance_chart(values: Array, title: str, file: str, mark: int | None, alt: str) -> None:
    """One number a distance, the chosen distance marked."""
    low, high = float(values.min()), float(values.max())
    room = 0.08 * (high - low) or 1.0
    chart(
        marked_line, np.arange(len(values)), {" ": values}, mark=mark, y_range=(low - room, high + room),
        x_title=t("distance"), alt=alt, title=title, file=file,
    )  # fmt: skip


def parts_strip(parts: Array, chosen: int) -> None:
    """What each turning pair adds at the chosen distance, on one scale for all distances."""
    label = t("parts", d=chosen, total=f"{parts[chosen].sum():.2f}")
    reach = float(np.abs(parts).max()) or 1.0
    row = {"label": label, "role": "weights", "symbol": t("pair_symbol"), "values": parts[chosen], "scale": reach}
    components.operand_strip([row], key="strip_parts")


def sine_distance(r: Reading, count: int, mark: int | None) -> None:
    """The dot product of two of the paper's vectors, by distance: the same wherever the first one stands."""
    table = data.sinusoids(count, r.shape.d_model)
    distance_chart(table @ table[0], t("sine_by_distance"), "sine_distance", mark, t("sine_distance_alt"))


def _story_lines(*arguments: Any, **options: Any) -> go.Figure:
    """`marked_line` whose two names do not lie on each other."""
    figure = marked_line(*arguments, **options)
    if len(figure.data) == 2:
        upper = int(figure.data[1].y[-1] > figure.data[0].y[-1])
        figure.data[upper].textposition, figure.data[1 - upper].textposition = "top right", "bottom right"
    figure.update_layout(margin_r=76)  # room for the wide characters of Chinese
    return figure


def story_chart(found: data.Beyond, context: int) -> None:
    """Surprisal along the long story, in one run and in windows, a point for every `BIN` tokens."""
    places = np.arange(1, found.n_tokens)
    series = {t("windows"): found.windows}
    if found.one_run is not None:
        series = {t("one_run"): found.one_run, **series}
    edges = range(0, len(places), BIN)
    middle = [float(places[e : e + BIN].mean()) for e in edges]
    points = {name: [float(values[e : e + BIN].mean()) for e in edges] for name, values in series.items()}
    highest = max(max(ys) for ys in points.values())
    chart(
        _story_lines, middle, points, mark=context, y_range=(0, 1.1 * highest), x_range=(0, found.n_tokens),
        roles={t("one_run"): "loss", t("windows"): "neutral"}, x_title=t("place_in_story"), y_title=t("nats"),
        alt=t("story_alt", context=context), title=t("story", context=context, bin=BIN), file="story",
    )  # fmt: skip
