"""Maps of a head's numbers: queries against keys, or tokens against the numbers of their vectors."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from lab import figures, traces
from lab.language import text
from lab.theme import Role
from lab.ui import attention_formulas as formulas
from lab.ui import components, panels, view
from lab.ui.reading import Reading
from lm_core.attention import masked_softmax

Array = NDArray[np.floating]
COLOUR_STATE = "colour_within_rows"


def below_row_maximum(scores: Array, allowed: NDArray[np.bool_]) -> Array:
    """Each score minus the largest allowed one of its row: all that softmax sees of it. [T T] -> [T T].

    >>> below_row_maximum(np.array([[1.0, 9.0], [4.0, 6.0]]), np.array([[True, False], [True, True]])).tolist()
    [[0.0, 8.0], [-2.0, 0.0]]
    """
    highest = np.where(allowed, scores, -np.inf).max(axis=1, keepdims=True)
    return scores - np.where(np.isfinite(highest), highest, 0.0)  # a row that may look at nothing: a learner's mask


def colour_depth(scores: Array, allowed: NDArray[np.bool_]) -> float:
    """How far below its row's maximum a score must lie to be drawn palest: nine tenths of the allowed pairs are above.

    One depth serves the scores and the scaled step alike, so that dividing by √d is seen.
    """
    below = -below_row_maximum(scores, allowed)[allowed]
    return max(float(np.quantile(below, 0.9)), 1e-6) if below.size else 1.0


def pair_map(reading: Reading, name: str, values: Array, title: str, *, decimals: int = 1) -> None:
    """A [query, key] map of scores in any state: coloured within its rows, the masked corner faint, cells to click."""
    allowed = reading.allowed
    within_rows = _within_rows()
    depth = colour_depth(reading.head("scores"), allowed)
    finite = np.where(np.isfinite(values), values, np.nan)
    paint = below_row_maximum(values, allowed) if within_rows else values
    low = -depth if within_rows else np.nanmin(finite).item()
    high = 0.0 if within_rows else np.nanmax(finite).item()
    i, j = reading.view.query, reading.view.key
    axes = f":blue[{text('self_attention.query_axis')}] :orange[{text('self_attention.key_axis')}]"
    panels.figure_head(
        f"{title} &nbsp; {axes}",
        figures.matrix_csv(values, reading.labels, reading.labels),
        f"{name}_{_place(reading)}",
        lambda: _colour_switch(name),
    )
    components.matrix(
        values, reading.labels, reading.labels, selected=(i, j), faint=~allowed,
        colour_values=paint, vmin=low, vmax=high, decimals=decimals,
        alt=_alt(reading, title, values[i, j]), key=f"map_{name}", on_select=reading.choose_pair,
    )  # fmt: skip


def weight_map(reading: Reading, weights: Array, title: str) -> None:
    """A [query, key] map of weights, 0 pale to 1 full."""
    i, j = reading.view.query, reading.view.key
    panels.figure_head(title, figures.matrix_csv(weights, reading.labels, reading.labels), f"weights_{_place(reading)}")
    components.matrix(
        weights, reading.labels, reading.labels, selected=(i, j), faint=~reading.allowed, vmin=0.0, vmax=1.0,
        decimals=2, alt=_alt(reading, title, weights[i, j]), key="map_weights", on_select=reading.choose_pair,
    )  # fmt: skip


def vector_map(
    reading: Reading,
    name: str,
    values: Array,
    title: str,
    role: Role,
    chosen: tuple[int, int],
    rows: list[str] | None = None,
) -> None:
    """Rows of numbers, one a token: signed, so white in the middle; a click chooses token and number."""
    labels = reading.labels if rows is None else rows
    columns = [str(c + 1) for c in range(values.shape[1])]
    reach = colour_reach(values)

    def choose(cell: tuple[int, int]) -> None:
        if cell[0] < reading.n_tokens and rows is None:
            view.put("q", cell[0])
        view.put(f"column.{name}", cell[1])

    panels.figure_head(title, figures.matrix_csv(values, labels, columns), f"{name}_{_place(reading)}")
    components.matrix(
        values, labels, columns, selected=chosen, vmin=-reach, vmax=reach, scale="diverging", role=role, decimals=2,
        row_role="q" if rows is None else "neutral", col_role="neutral", key=f"map_{name}", on_select=choose,
        alt=text("self_attention.rows_alt", name=title, columns=len(columns)),
    )  # fmt: skip
    say_outliers(values, reach)


def colour_reach(values: Array) -> float:
    """From which number on, up or down, the colours of a signed map are full: its largest, unless a few numbers dwarf
    all others, as they do in the stream of large models, and would leave the rest of the map pale.

    >>> colour_reach(np.array([-1.0, 0.5, 2.0])), round(colour_reach(np.append(np.full(999, 0.1), 50.0)), 6)
    (2.0, 0.4)
    """
    sizes = np.abs(values)
    largest, usual = float(sizes.max()), 4 * float(np.quantile(sizes, 0.95))  # of a bell curve: 8 deviations
    return usual if 0 < usual < largest / 1.5 else largest


def say_outliers(values: Array, reach: float) -> None:
    """A line under a map in which some numbers are beyond the colours."""
    if (largest := float(np.abs(values).max())) > reach:
        n = int((np.abs(values) > reach).sum())
        words = {"n": f"{n:,}", "total": f"{values.size:,}", "largest": f"{largest:.1f}", "reach": f"{reach:.2g}"}
        st.caption(text("self_attention.outliers", **words))


def chosen_column(name: str, count: int) -> int:
    """Which number of the vectors is chosen in map `name`; the first until one is clicked."""
    column = view.get(f"column.{name}", 0)
    return column if isinstance(column, int) and 0 <= column < count else 0


def _within_rows() -> bool:
    """Whether cells are coloured within their row (softmax sees no more) or over the whole map."""
    return bool(st.session_state.setdefault(COLOUR_STATE, True))


def _colour_switch(name: str) -> None:
    """The switch `within a row | all`."""
    key = f"{COLOUR_STATE}_{name}"
    st.session_state[key] = _within_rows()

    def changed() -> None:
        st.session_state[COLOUR_STATE] = st.session_state[key]

    names = {True: text("controls.colour_row"), False: text("controls.colour_all")}
    st.segmented_control(
        text("controls.colour"), [True, False], key=key, on_change=changed, required=True,
        format_func=names.__getitem__,
        label_visibility="collapsed",
    )  # fmt: skip


def _place(reading: Reading) -> str:
    return f"layer{reading.view.layer + 1}_head{reading.view.head + 1}"


def _alt(reading: Reading, title: str, value: float) -> str:
    return text(
        "self_attention.matrix_alt", name=title, layer=reading.view.layer + 1, head=reading.view.head + 1,
        query=reading.labels[reading.view.query], other=reading.labels[reading.view.key], value=f"{value:.2f}",
    )  # fmt: skip


def choose_part(reading: Reading) -> tuple[Role, bool]:
    """Which of q, k, v to look at, and whether after turning (only q and k of a model with RoPE turn)."""
    with st.container(horizontal=True, vertical_alignment="center"):
        parts: tuple[Role, ...] = ("q", "k", "v")
        part: Role = st.segmented_control(
            text("self_attention.reading"), parts, key="qkv_part", default="q", required=True,
            format_func=part_title, label_visibility="collapsed", persist_state="session",
        )  # fmt: skip
        turns = reading.shape.has_rope and part != "v"
        turned = turns and st.toggle(text("self_attention.turned"), key="qkv_turned", persist_state="session")
    return part, bool(turned)


def part_title(part: str) -> str:
    """`Q`, `K`, `V` in their colours."""
    return f":{panels.COLOURS[part]}[**{part.upper()}**]"


def product_strip(reading: Reading, part: Role, column: int) -> None:
    """How one number of q, k or v came about: the formula, x, a column of W, and their products."""
    learned = traces.head_weights(reading.model, reading.view.layer, reading.view.head)
    x, w = reading.layer("attn_in")[reading.view.query], getattr(learned, part)[:, column]
    bias = float(getattr(learned, f"{part}_bias")[column])
    label = reading.labels[reading.view.query]
    panels.formula(formulas.projected(reading, part, column, x, w, bias))
    matrix_name = f"W_{part.upper()}"
    components.operand_strip(
        [
            {"label": text("self_attention.vector", name="x", token=label, count=len(x)), "role": "neutral",
             "symbol": "x", "values": x},
            {"label": text("self_attention.column_of", name=matrix_name, column=column + 1), "role": part,
             "symbol": "W", "values": w},
            {"label": text("self_attention.product", total=f"{float(x @ w):.3f}"), "role": "weights",
             "symbol": "x·W", "values": x * w},
        ],
        key=f"strip_{part}",
    )  # fmt: skip


def score_strip(reading: Reading) -> None:
    """q of the chosen query, k of the chosen key, their products."""
    i, j = reading.view.query, reading.view.key
    q, k = reading.head("q")[i], reading.head("k")[j]
    components.operand_strip(
        [
            {"label": text("self_attention.vector", name="q", token=reading.labels[i], count=len(q)), "role": "q",
             "values": q},
            {"label": text("self_attention.vector", name="k", token=reading.labels[j], count=len(k)), "role": "k",
             "values": k},
            {"label": text("self_attention.product", total=f"{float(q @ k):.2f}"), "role": "weights",
             "symbol": "q·k", "values": q * k},
        ],
        key="strip_scores",
    )  # fmt: skip


def mix_strip(reading: Reading, column: int) -> None:
    """The weights of the row, one number of every value, their products."""
    i = reading.view.query
    w, v = reading.head("weights")[i, : i + 1], reading.head("v")[: i + 1, column]
    components.operand_strip(
        [
            {"label": text("self_attention.weights_j", query=reading.labels[i]), "role": "weights", "symbol": "w",
             "values": w},
            {"label": text("self_attention.value_column", column=column + 1), "role": "v", "values": v},
            {"label": text("self_attention.product", total=f"{float(w @ v):.3f}"), "role": "v", "symbol": "w·v",
             "values": w * v},
        ],
        key="strip_mix",
    )  # fmt: skip


def softmax_strip(reading: Reading, temperature: float) -> None:
    """The scores that the chosen query may see, less the largest; e to that; and each one's share of the sum."""
    i = reading.view.query
    label = reading.labels[i]
    s = reading.head("masked")[i, : i + 1].astype(np.float64) / temperature
    s = s[np.isfinite(s)]  # all of them, unless a learner's mask closes more
    if not s.size:
        return
    below = s - s.max()
    powers = np.exp(below)
    shares = powers / powers.sum()
    components.operand_strip(
        [
            {"label": text("self_attention.below_max", query=label), "role": "weights", "symbol": "s−max",
             "values": below},
            {"label": text("self_attention.powers", total=f"{powers.sum():.4f}"), "role": "weights", "symbol": "e^",
             "values": powers, "scale": 1.0},
            {"label": text("self_attention.shares"), "role": "weights", "symbol": "w", "values": shares, "scale": 1.0},
        ],
        key="strip_softmax",
    )  # fmt: skip


def output_strip(reading: Reading, column: int) -> None:
    """What all heads of the layer found, laid end to end, times a row of W_O: the number that is added."""
    i = reading.view.query
    found = np.concatenate(reading.trace.arrays["head_out"][reading.view.layer, :, i])
    w, bias = traces.output_column(reading.model, reading.view.layer, column)
    total = float(found @ w) + bias
    components.operand_strip(
        [
            {"label": text("self_attention.all_heads", query=reading.labels[i], count=len(found)), "role": "v",
             "symbol": "out", "values": found},
            {"label": text("self_attention.column_of", name="W_O", column=column + 1), "role": "neutral", "symbol": "W",
             "values": w},
            {"label": text("self_attention.product" if not bias else "self_attention.product_bias",
                           total=f"{total:.3f}", bias=f"{bias:.3f}"),
             "role": "weights", "symbol": "out·W", "values": found * w},
        ],
        key="strip_output",
    )  # fmt: skip


def tempered(reading: Reading, temperature: float) -> Array:
    """The head's weights with every scaled score divided by the temperature: `attend` with another scale."""
    scale = 1 / (math.sqrt(reading.shape.d_head) * temperature)
    steps = traces.attend_arrays(reading.head("q"), reading.head("k"), reading.head("v"), reading.allowed, scale=scale)
    return steps["weights"]


def change_by_shift(reading: Reading, shift: float) -> float:
    """By how much any weight of the chosen row changes when `shift` is added to each of its scores (in float64)."""
    row = torch.from_numpy(reading.head("masked")[reading.view.query].astype(np.float64))
    return float((masked_softmax(row + shift) - masked_softmax(row)).abs().max())
