"""Figures of the lesson on the block: the neurons of a feed-forward network, and what makes them fire."""

from __future__ import annotations

import numpy as np
import streamlit as st

from lab import figures
from lab.theme import Role
from lab.ui import block_numbers as numbers
from lab.ui import components, panels, view
from lab.ui.attention_formulas import number, signed
from lab.ui.block_panels import Array, strip, t
from lab.ui.panels import tex_sum
from lab.ui.reading import Reading

SHOWN_NEURONS = 10


def strongest(r: Reading) -> list[int]:
    """The neurons of the chosen layer that are strongest (either way) at the chosen token, the strongest first."""
    row = np.abs(r.layer("mlp_hidden")[r.view.query])
    order: list[int] = np.argsort(-row, kind="stable")[:SHOWN_NEURONS].tolist()
    return order


def chosen_neuron(r: Reading) -> int:
    """The neuron to look at: the one chosen (counted from 1 in the address), else the strongest."""
    asked = str(view.get("block_neuron", ""))
    index = int(asked) - 1 if asked.isascii() and asked.isdecimal() and len(asked) < 7 else -1
    count = r.layer("mlp_hidden").shape[1]
    return index if 0 <= index < count else strongest(r)[0]


def neuron_formula(r: Reading, neuron: int) -> None:
    """How one neuron's number comes about, and the products behind it."""
    i = r.view.query
    x = r.layer("mlp_in")[i].astype(np.float64)
    w = numbers.neuron_weights(r.model, r.view.layer, neuron)
    value, n = float(r.layer("mlp_hidden")[i, neuron]), neuron + 1
    act = {"gelu_tanh": "gelu"}.get(w.activation, w.activation)
    wide = float(x @ w.w_in) + w.b_in
    added = (r" + b" if w.b_in else "", f" + {signed(w.b_in, 3)}" if w.b_in else "")
    if w.w_gate is None:
        lines = [
            rf"h_{{{n}}} = \mathrm{{{act}}}(x \cdot w_{{in,{n}}}{added[0]})",
            rf"x \cdot w_{{in,{n}}} = {tex_sum(list(zip(x.tolist(), w.w_in.tolist(), strict=True)))}",
            rf"h_{{{n}}} = \mathrm{{{act}}}({wide:.3f}) = {number(value, 3)}",
        ]
    else:
        gate = float(x @ w.w_gate) + w.b_gate
        lines = [
            rf"h_{{{n}}} = \mathrm{{{act}}}(x \cdot w_{{gate,{n}}}) \cdot (x \cdot w_{{in,{n}}})",
            rf"= \mathrm{{{act}}}({gate:.3f}) \cdot {signed(wide, 3)} = {number(value, 3)}",
        ]
    panels.formula(lines)
    rows: list[tuple[str, Role, str, Array]] = [(t("reads", token=r.labels[i]), "neutral", "x", x)]
    if w.w_gate is not None:
        rows.append((t("gate_row", n=n, total=f"{float(x @ w.w_gate):.3f}"), "neutral", "gate", w.w_gate))
    rows.append((t("in_row", n=n, total=f"{float(x @ w.w_in):.3f}"), "neutral", "in", w.w_in))
    rows.append((t("written", n=n), "weights", "h·out", value * w.w_out.astype(np.float64)))
    strip(rows, "strip_neuron")


def neuron_map(r: Reading, neuron: int) -> None:
    """Every token of the sentence against the strongest neurons of the chosen one."""
    shown = strongest(r)
    if neuron not in shown:
        shown = [*shown[:-1], neuron]
    values = r.layer("mlp_hidden")[:, shown]
    names = [f"#{n + 1}" for n in shown]
    count = r.layer("mlp_hidden").shape[1]
    panels.figure_head(
        t("neurons", shown=len(shown), count=count), figures.matrix_csv(values, r.labels, names),
        f"neurons_layer{r.view.layer + 1}",
    )  # fmt: skip

    def choose(cell: tuple[int, int]) -> None:
        view.put("q", cell[0])
        view.put("block_neuron", str(shown[cell[1]] + 1))

    reach = float(np.abs(values).max())
    components.matrix(
        values, r.labels, names, selected=(r.view.query, shown.index(neuron)), vmin=-reach, vmax=reach,
        scale="diverging", role="weights", row_role="q", col_role="weights", decimals=2, key="map_neurons",
        on_select=choose, alt=t("neurons_alt", layer=r.view.layer + 1, token=r.labels[r.view.query]),
    )  # fmt: skip
    row = r.layer("mlp_hidden")[r.view.query].astype(np.float64) ** 2
    half = int(np.searchsorted(np.sort(row)[::-1].cumsum(), 0.5 * row.sum()) + 1)
    st.caption(t("neurons_half", half=half, count=count))


def neuron_examples(r: Reading, neuron: int) -> None:
    """Where in our corpus this neuron is strongest, in the sign that it has at the chosen token."""
    high = float(r.layer("mlp_hidden")[r.view.query, neuron]) >= 0
    with st.spinner(t("reading_corpus"), show_time=False):
        found = numbers.examples(r.model, r.view.layer, neuron, high)
    if not found:
        st.caption(t("corpus_short"))
        return
    whole = ["".join(e.labels[: e.at]) + "»" + e.labels[e.at] + "«" + "".join(e.labels[e.at + 1 :]) for e in found]
    csv = figures.matrix_csv(np.array([[e.activation] for e in found]), whole, [f"#{neuron + 1}"])
    panels.figure_head(t("examples_high" if high else "examples_low", n=neuron + 1), csv, "examples")
    lines = [f"| {t('activation')} | {t('in_context')} |", "|--:|:--|"]
    lines += [f"| {example.activation:+.2f} | {in_context(example)} |" for example in found]
    with st.container(key="examples_neuron"):
        st.markdown("\n".join(lines))
    st.caption(t("corpus_note"))


def in_context(example: numbers.Example) -> str:
    r"""The tokens around a place of the corpus as Markdown, that place bold; spaces stand as spaces.

    >>> in_context(numbers.Example(1.5, ["A", "␣big", "␣*", "!"], at=2))
    'A big :violet[**\\***]\\!'
    """
    first, last = max(0, example.at - 7), min(len(example.labels), example.at + 6)
    pieces = []
    for k in range(first, last):
        label = example.labels[k]
        space = " " if label.startswith("␣") and k > first else ""
        inert = panels.escape_markdown(label.removeprefix("␣").replace("␣", " ")) or "␣"
        pieces.append(space + (f":violet[**{inert}**]" if k == example.at else inert))
    return ("… " if first else "") + "".join(pieces) + (" …" if last < len(example.labels) else "")
