"""Figures of the lesson on the block: what flows through a layer (stream, norm, attention)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from lab import figures
from lab.language import text
from lab.lessons import Markdown
from lab.theme import Role
from lab.ui import block_numbers as numbers
from lab.ui import components, panels, view
from lab.ui.attention_formulas import number, signed
from lab.ui.attention_maps import chosen_column, colour_reach, say_outliers
from lab.ui.charts import chart
from lab.ui.panels import tex, tex_name, word
from lab.ui.reading import Reading

Array = NDArray[np.floating]
MOST_COLUMNS = 512  # what a map or a strip can draw


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"block.{key}", language=None, **values)


def row_map(
    name: str, values: Array, title: str, rows: Sequence[str], row: int, alt: str, paint: Array | None = None
) -> None:
    """Some rows of the stream, a column a number; a click chooses a column. At most 512 columns are drawn.

    The colour range is that of `paint` (all rows by default), but for its few largest numbers, beside which the rest
    would be pale.
    """
    shown = values[:, :MOST_COLUMNS]
    columns = [str(c + 1) for c in range(shown.shape[1])]
    panels.figure_head(title, figures.matrix_csv(values, rows, [str(c + 1) for c in range(values.shape[1])]), name)
    reach = float(np.quantile(np.abs(values if paint is None else paint), 0.98)) or 1.0
    components.matrix(
        shown, rows, columns, selected=(row, column(name, values.shape[1])), vmin=-reach, vmax=reach,
        scale="diverging", role="neutral", row_role="neutral", col_role="neutral", decimals=2, key=f"map_{name}",
        alt=alt, on_select=lambda cell: view.put(f"column.{name}", cell[1]),
    )  # fmt: skip
    if values.shape[1] > MOST_COLUMNS:
        st.caption(t("first_columns", shown=MOST_COLUMNS, count=values.shape[1]))


def column(name: str, count: int) -> int:
    """Which number of the rows is chosen."""
    return chosen_column(name, min(count, MOST_COLUMNS))


def strip(rows: Sequence[tuple[str, Role, str, Array]], key: str, *, common: bool = False) -> None:
    """Rows of numbers as bars: (label, role, symbol, values); `common` draws all to one scale."""
    scale = max(float(np.abs(values).max()) for *_, values in rows) if common else None
    components.operand_strip(
        [
            {"label": label, "role": role, "symbol": symbol, "values": values[:MOST_COLUMNS], "scale": scale}
            for label, role, symbol, values in rows
        ],
        key=key,
    )
    count = len(rows[0][3])
    if count > MOST_COLUMNS:
        st.caption(t("first_columns", shown=MOST_COLUMNS, count=count))


def said(model: str, token_id: int) -> Markdown:
    """A token of the vocabulary in a sentence: in quotation marks, so that a full stop is seen too."""
    return Markdown(f"“{word(numbers.label(model, token_id), 'loss')}”")


# --- the stream -------------------------------------------------------------------------------------------------------


def stream_rows(r: Reading) -> Array:
    """The chosen token's row before this layer, the two that are added, and the row after: [4 D]."""
    return np.vstack([r.layer(name)[r.view.query] for name in ("resid_pre", "attn_out", "mlp_out", "resid_post")])


def stream_formula(r: Reading) -> None:
    """One number of the stream after the layer."""
    rows, c = stream_rows(r), column("stream", r.shape.d_model)
    before, attention, mlp, after = (float(x) for x in rows[:, c])
    name = tex_name(r.labels[r.view.query], r.view.query)
    panels.formula(
        [
            r"r_{\text{after}} = r_{\text{before}} + a + f",
            rf"r_{{{name},{c + 1}}} = {before:.3f} + {signed(attention, 3)} + {signed(mlp, 3)} = {number(after, 3)}",
        ]
    )


def stream_figures(r: Reading) -> None:
    """The four rows, and how long each is in every layer."""
    i, label = r.view.query, r.labels[r.view.query]
    names = [t("before"), t("attention"), t("mlp"), t("after")]
    title = t("stream_rows", layer=r.view.layer + 1)
    row_map("stream", stream_rows(r), title, names, 3, t("rows_alt", name=title, token=label))
    layers = np.arange(1, r.shape.n_layers + 1)
    arrays = {"resid_post": t("stream"), "attn_out": t("attention"), "mlp_out": t("mlp")}
    lengths = {name: np.linalg.norm(r.trace.arrays[key][:, i], axis=1) for key, name in arrays.items()}
    if len(layers) > 1:
        chart(
            figures.line, layers, lengths, alt=t("lengths_alt", token=label), x_title=t("layer_axis"),
            y_range=(0, 1.06 * max(float(v.max()) for v in lengths.values())), title=t("lengths"), file="lengths",
            roles={t("stream"): "neutral", t("attention"): "weights", t("mlp"): "loss"},
        )  # fmt: skip


def cosines(r: Reading) -> Array:
    """The cosine between the chosen token's row before and after each layer, [L]."""
    before, after = (r.trace.arrays[name][:, r.view.query].astype(np.float64) for name in ("resid_pre", "resid_post"))
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return (before * after).sum(axis=1) / np.where(lengths > 0, lengths, 1)


def cosine_bars(r: Reading) -> None:
    """Those cosines as bars."""
    found = cosines(r)
    chart(
        figures.bars, [text("controls.layer", n=n + 1) for n in range(len(found))], found, highlight=r.view.layer,
        value_range=(min(0.0, 1.25 * float(found.min())), 1.2), decimals=2, role="neutral", title=t("cosine"),
        alt=t("cosine_alt", token=r.labels[r.view.query]), file="cosine",
    )  # fmt: skip


# --- the norm ---------------------------------------------------------------------------------------------------------


def norm_formula(r: Reading) -> None:
    """One number that the feed-forward network reads."""
    i, c = r.view.query, column("norm", r.shape.d_model)
    row = r.layer("resid_mid")[i].astype(np.float64)
    weight, offset = numbers.norm_weights(r.model, r.view.layer)
    name, g = tex_name(r.labels[i], i), signed(float(weight[c]))
    result = number(float(r.layer("mlp_in")[i, c]), 3)
    if r.shape.norm == "rms_norm":
        size = float(np.sqrt((row**2).mean() + r.shape.norm_eps))
        lines = [
            r"x = \dfrac{r}{\sqrt{\mathrm{mean}(r^2) + \varepsilon}} \cdot g",
            rf"x_{{{name},{c + 1}}} = \dfrac{{{row[c]:.3f}}}{{{size:.3f}}} \cdot {g} = {result}",
        ]
    else:
        mean, size = float(row.mean()), float(np.sqrt(row.var() + r.shape.norm_eps))
        lines = [
            r"x = \dfrac{r - \mathrm{mean}(r)}{\sqrt{\mathrm{var}(r) + \varepsilon}} \cdot g + b",
            rf"x_{{{name},{c + 1}}} = \dfrac{{{row[c]:.3f} - {signed(mean, 3)}}}{{{size:.3f}}} \cdot {g}"
            rf" + {signed(float(offset[c]))} = {result}",
        ]
    panels.formula(lines)


def norm_figures(r: Reading) -> None:
    """The row before, divided, and scaled; then the size of every token's row before and after."""
    i, label = r.view.query, r.labels[r.view.query]
    rows = r.layer("resid_mid").astype(np.float64)
    weight, _ = numbers.norm_weights(r.model, r.view.layer)
    centred = rows - rows.mean(axis=1, keepdims=True) if r.shape.norm == "layer_norm" else rows
    divided = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + r.shape.norm_eps)
    read = r.layer("mlp_in").astype(np.float64)
    names = [t("norm_before"), t("norm_divided"), t("norm_read")]
    plain = t("rows_alt", name=t("norm_rows", token=label), token=label)
    shown = np.vstack([rows[i], divided[i], read[i]])
    row_map("norm", shown, t("norm_rows", token=word(label, "q")), names, 2, plain, paint=read[i])

    def rms(values: Array) -> Array:
        return np.sqrt((values**2).mean(axis=1))

    table, kinds = np.stack([rms(rows), rms(divided)]), [t("rms_before"), t("rms_after")]
    if r.shape.norm == "layer_norm":
        table = np.stack([rows.mean(axis=1), table[0], divided.mean(axis=1), table[1]])
        kinds = [t("mean_before"), kinds[0], t("mean_after"), kinds[1]]
    panels.figure_head(t("sizes"), figures.matrix_csv(table, kinds, r.labels), "sizes")
    reach = colour_reach(table)
    components.matrix(
        table, kinds, r.labels, selected=(len(kinds) - 1, i), vmin=-reach, vmax=reach, scale="diverging",
        role="neutral", row_role="neutral", col_role="q", decimals=2, key="map_sizes", alt=t("sizes_alt"),
        on_select=lambda cell: view.put("q", cell[1]),
    )  # fmt: skip
    say_outliers(table, reach)
    st.caption(t("sizes_note", least=f"{float(weight.min()):.2f}", largest=f"{float(weight.max()):.2f}"))


# --- attention --------------------------------------------------------------------------------------------------------


def attention_formula(r: Reading, found: numbers.Sources) -> None:
    """The chosen head's and source's share, and the row behind it."""
    i, j, h = r.view.query, min(r.view.key, r.view.query), r.view.head
    here, there = tex_name(r.labels[i], i), tex_name(r.labels[j], j)
    share, w = float(found.shares[h, j]), tex("weights", "w")
    weight = float(r.head("weights")[i, j])
    panels.formula(
        [
            rf"c_{{{there}}} = {w}_{{{here},{there}}} \, {tex('v', 'v')}_{{{there}}} W_O, \quad a = \textstyle\sum c"
            + (" + b" if found.bias_share else ""),
            rf"c_{{{there}}} \cdot \dfrac{{a}}{{\lVert a \rVert}} = {number(share, 3)}"
            rf" \quad ({w}_{{{here},{there}}} = {weight:.2f})",
        ]
    )
    direction = found.total / max(found.length, 1e-30)
    row = found.rows[h, j]
    strip(
        [
            (t("source_row", source=r.labels[j], head=h + 1), "v", "c", row),
            (t("direction"), "neutral", "a/‖a‖", direction),
            (text("self_attention.product", total=f"{float(row @ direction):.3f}"), "weights", "c·a", row * direction),
        ],
        "strip_sources",
    )


def attention_figure(r: Reading, found: numbers.Sources) -> None:
    """Heads against source tokens: the share of each pair in the length of what attention adds."""
    i, heads = r.view.query, [text("controls.head", n=h + 1) for h in range(r.shape.n_heads)]
    shares = found.shares[:, : i + 1]
    title = t("sources", length=f"{found.length:.2f}")
    sources = r.labels[: i + 1]
    panels.figure_head(title, figures.matrix_csv(shares, heads, sources), f"sources_layer{r.view.layer + 1}")

    def choose(cell: tuple[int, int]) -> None:
        view.put("head", cell[0])
        view.put("k", cell[1])

    reach = float(np.abs(shares).max())
    components.matrix(
        shares, heads, sources, selected=(r.view.head, min(r.view.key, i)), vmin=-reach, vmax=reach, scale="diverging",
        role="v", row_role="neutral", col_role="k", decimals=2, key="map_sources", on_select=choose,
        alt=t("sources_alt", token=r.labels[i], layer=r.view.layer + 1),
    )  # fmt: skip
    total = float(found.shares.sum())
    facts = {"shares": f"{total:.4f}", "length": f"{total + found.bias_share:.4f}", "bias": f"{found.bias_share:.4f}"}
    st.caption(t("sources_sum_bias" if found.bias_share else "sources_sum", **facts))
