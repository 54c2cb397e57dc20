"""Attention on numbers that the reader edits: three small tables in, every step out."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # comes with Streamlit; its data_editor takes it
import streamlit as st
from numpy.typing import NDArray

from lab import figures, lessons, traces
from lab.language import current, text
from lab.theme import Role
from lab.ui import components
from lab.ui.attention_formulas import number, signed
from lab.ui.panels import COLOURS, figure_head, formula, predict, prose, source, tex, tex_sum
from lm_core import attention, masks

SLUG = "self_attention"
EXAMPLE = np.arange(1.0, 17.0).reshape(4, 4)  # the tutorial's Q = K = V
PRINTED = np.array([[0.12] * 4, [0.13] * 4, [0.13] * 4, [0.14] * 4])  # its softmax, as printed
LARGEST = 1000.0
Matrix = NDArray[np.float64]


def pairs(left: Matrix, right: Matrix) -> list[tuple[float, float]]:
    """Two vectors as pairs of numbers."""
    return list(zip(left.tolist(), right.tolist(), strict=True))


def read_table(edited: Matrix) -> Matrix | None:
    """The edited table as numbers, or None where a cell is empty, not finite or beyond ±1000.

    >>> read_table(np.array([[1.0, np.nan]])) is None
    True
    """
    good = np.isfinite(edited).all() and (np.abs(edited) <= LARGEST).all()
    return edited if good else None


def _table(name: str) -> Matrix:
    """One editable table; a bad cell gets a message, and the last good table is used."""
    state, version = f"toy.{name}", st.session_state.setdefault("toy.version", 0)
    good = cast(Matrix, st.session_state.setdefault(state, EXAMPLE))
    columns = [str(c + 1) for c in range(4)]
    st.markdown(f":{COLOURS[name]}[**{name.upper()}**]")
    edited = st.data_editor(
        pd.DataFrame(st.session_state.setdefault(f"{state}.start", EXAMPLE), columns=columns, index=columns),
        key=f"{state}.editor.{version}",
        column_config={c: st.column_config.NumberColumn(c, step=0.01, format="%.4g") for c in columns},
        num_rows="fixed",
    )
    values = read_table(edited.to_numpy(dtype=np.float64, na_value=np.nan))
    if values is None:
        st.warning(text("self_attention.toy_bad"))
        return good
    st.session_state[state] = values
    return values


def _reset() -> None:
    for name in ("q", "k", "v"):
        st.session_state.pop(f"toy.{name}", None)
    st.session_state["toy.version"] = st.session_state.get("toy.version", 0) + 1


def _pick(cell: tuple[int, int]) -> None:
    st.session_state["toy.cell"] = cell


def toy_formulas(q: Matrix, k: Matrix, v: Matrix, steps: dict[str, Matrix], cell: tuple[int, int]) -> list[str]:
    """The four numbers of one cell, each written out in full: score, scaled, weight, output."""
    i, j = cell
    place = f"{i + 1},{j + 1}"
    row, weights, score = steps["masked"][i], steps["weights"][i], float(steps["scores"][i, j])
    hidden = r" \;\to\; \mathbf{-\infty}" if np.isneginf(row[j]) else ""  # what the mask makes of it
    top = float(row.max())
    total = float(np.exp(row - top).sum())
    power = r"e^{-\infty}" if np.isneginf(row[j]) else f"e^{{{row[j]:.4g} - {signed(top, 2)}}}"
    result = number(float(steps["head_out"][i, j]), 4)
    return [
        rf"\mathrm{{score}}_{{{place}}} = {tex_sum(pairs(q[i], k[j]), 1, shown=4)} = {number(score, 1)}",
        rf"\mathrm{{scaled}}_{{{place}}} = \dfrac{{{score:.1f}}}{{\sqrt{{4}}}} = {number(score / 2, 1)}{hidden}",
        rf"{tex('weights', 'w')}_{{{place}}} = \dfrac{{{power}}}{{{total:.4f}}} = {number(float(weights[j]), 4)}",
        rf"\mathrm{{out}}_{{{place}}} = {tex_sum(pairs(weights, v[:, j]), 2, shown=4)} = {result}",
    ]


def _map(name: str, values: Matrix, role: Role, decimals: int, cols: str = "k") -> None:
    title = text(f"self_attention.{name}", d=4) if name == "toy_scaled" else text(f"self_attention.{name}")
    rows = [str(i + 1) for i in range(values.shape[0])]
    figure_head(title, figures.matrix_csv(values, rows, rows), name)
    finite = values[np.isfinite(values)]
    bounded = name == "toy_weights"
    components.matrix(
        values, rows, rows, role=role, decimals=decimals, key=name, col_role="k" if cols == "k" else "neutral",
        vmin=0.0 if bounded else float(finite.min()), vmax=1.0 if bounded else float(finite.max()),
        alt=text("self_attention.toy_alt", name=title), selected=st.session_state.get("toy.cell", (0, 0)),
        on_select=_pick,
    )  # fmt: skip


def _spot_the_mistake() -> None:
    """The tutorial's printed softmax beside the right one."""
    right = traces.attend_arrays(EXAMPLE, EXAMPLE, EXAMPLE)
    gaps = np.diff(np.sort(right["scaled"], axis=1)[:, -2:], axis=1)
    rest = float((1 - right["weights"][:, -1]).max())
    st.caption(text("self_attention.toy_printed"))
    st.latex(r"\begin{bmatrix}" + r"\\".join("&".join(f"{x:.2f}" for x in row) for row in PRINTED) + r"\end{bmatrix}")
    options = ["toy_option_scores", "toy_option_sums", "toy_option_axis", "toy_option_negative"]
    answer = lessons.section(SLUG, "toy_answer", current()).fill(
        printed_sums=" · ".join(f"{s:.2f}" for s in PRINTED.sum(axis=1)), gap=f"{gaps.min():.0f}", rest=f"{rest:.1e}"
    )
    predict(
        "toy", lessons.section(SLUG, "toy_spot", current()).body,
        [text(f"self_attention.{option}") for option in options], options.index("toy_option_sums"), answer,
    )  # fmt: skip


def show() -> None:
    """The whole of the toy mode."""
    st.title(lessons.section(SLUG, "toy", current()).title, anchor=False)
    prose(SLUG, "toy")
    st.button(text("self_attention.toy_reset"), on_click=_reset, type="tertiary")
    tables = dict(zip(("q", "k", "v"), st.columns(3, gap="medium"), strict=True))
    values: dict[str, Matrix] = {}
    for name, column in tables.items():
        with column:
            values[name] = _table(name)
    left, right = st.columns(2, gap="large")
    with left:
        _spot_the_mistake()
    causal = right.toggle(text("self_attention.toy_causal"), key="toy.causal")
    with right:
        source(attention.attend, "weights = masked_softmax(masked)")
    allowed = masks.causal_mask(4).numpy() if causal else None
    steps = traces.attend_arrays(values["q"], values["k"], values["v"], allowed)
    left, right = st.columns(2, gap="large")
    with left:
        _map("toy_scores", steps["scores"], "weights", 1)
        _map("toy_weights", steps["weights"], "weights", 3)
    with right:
        _map("toy_scaled", steps["masked"], "weights", 1)
        _map("toy_out", steps["head_out"], "v", 2, cols="neutral")
    cell = st.session_state.get("toy.cell", (0, 0))
    formula(toy_formulas(values["q"], values["k"], values["v"], steps, cell), text("self_attention.toy_pick"))
