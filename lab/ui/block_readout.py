"""Figures of the lesson on the block: from the stream to the prediction (logit attribution, logit lens)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from lab import figures
from lab.language import text
from lab.lessons import Markdown
from lab.ui import block_numbers as numbers
from lab.ui import panels, view
from lab.ui.attention_formulas import number, signed
from lab.ui.block_panels import said, strip, t
from lab.ui.charts import chart
from lab.ui.reading import Reading
from lab.ui.token_grid import Cell, token_grid


def part_names(r: Reading, has_bias: bool) -> list[str]:
    """The parts of the stream, in order: embedding, then attention and feed-forward of each layer, and the bias."""
    names = [t("part_embedding")]
    for n in range(1, r.shape.n_layers + 1):
        names += [t("part_attention", n=n), t("part_mlp", n=n)]
    return [*names, t("part_bias")] if has_bias else names


def chosen_part(column: Sequence[float]) -> int:
    """Which part's number is looked at: the one clicked, else the largest of the candidate's column."""
    part = view.get("block.part")
    return part if isinstance(part, int) and 0 <= part < len(column) else int(np.argmax(column))


def chosen_candidate(count: int) -> int:
    """Which of the likeliest tokens is looked at (counted from 1 in the address)."""
    asked = str(view.get("block_token", ""))
    index = int(asked) - 1 if asked.isascii() and asked.isdecimal() and len(asked) < 3 else 0
    return index if 0 <= index < count else 0


def logit_map(r: Reading, found: numbers.LogitTable, labels: list[str]) -> None:
    """Parts against candidate tokens: what each adds to each logit; the last row is the sum, the logit itself."""
    has_bias = r.shape.norm == "layer_norm"
    table = found.table if has_bias else found.table[:-1]
    rows, chosen = [*part_names(r, has_bias), t("part_sum")], chosen_candidate(len(labels))
    values = np.vstack([table, table.sum(axis=0)])
    names = [f"{k + 1} {label}" for k, label in enumerate(labels)]
    panels.figure_head(t("logit_title"), figures.matrix_csv(values, rows, names), "logit_parts")

    def choose(cell: tuple[int, int]) -> None:
        view.put("block.part", min(cell[0], len(table) - 1))
        view.put("block_token", str(cell[1] + 1))

    reach = float(np.abs(table).max()) or 1.0
    cells = [
        [Cell(f"{value:+.2f}", value / reach,
              (f"{value:+.5f}", f"{rows[i]} → {labels[j]}")) for j, value in enumerate(line)]
        for i, line in enumerate(table.tolist())
    ]  # fmt: skip
    cells.append([Cell(f"{v:.2f}", None, (f"{v:.5f}", f"{rows[-1]} → {labels[j]}")) for j, v in enumerate(values[-1])])
    token_grid(
        cells, rows, names, selected=(chosen_part(table[:, chosen].tolist()), chosen), key="map_logit",
        on_select=choose, alt=t("logit_alt", token=r.labels[r.view.query], top=labels[0]),
    )  # fmt: skip
    gap = float(np.abs(values[-1] - found.logits).max())
    st.caption(t("logit_gap", gap=f"{gap:.0e}"))


def logit_formula(r: Reading, found: numbers.LogitTable, labels: list[str]) -> None:
    """The logit as a sum of its parts, and the chosen part with its operands."""
    has_bias = r.shape.norm == "layer_norm"
    table = found.table if has_bias else found.table[:-1]
    k = chosen_candidate(len(labels))
    column = table[:, k].tolist()
    p = chosen_part(column)
    terms = [signed(x) if n else f"{x:.2f}" for n, x in enumerate(column)]
    shown = [*terms[:3], r"\dots", terms[-1]] if len(terms) > 5 else terms
    panels.formula(
        [
            r"\mathrm{logit}_t = \sum_{p} \Big( \dfrac{p}{s} \odot g \Big) \cdot u_t \quad (+\, b \cdot u_t)"
            if has_bias
            else r"\mathrm{logit}_t = \sum_{p} \Big( \dfrac{p}{s} \odot g \Big) \cdot u_t",
            rf"= {' + '.join(shown)} = {number(sum(column))} \quad (s = {found.size:.3f})",
        ]
    )
    if p < len(found.rows):
        row, u = found.rows[p], found.columns[k]
        name = part_names(r, has_bias)[p]
        strip(
            [
                (t("part_row", part=name), "neutral", "p/s·g", row),
                (t("unembed_row", token=labels[k]), "neutral", "u", u),
                (text("self_attention.product", total=f"{float(row @ u):.3f}"), "weights", "·", row * u),
            ],
            "strip_logit",
        )


# --- the lens ---------------------------------------------------------------------------------------------------------


def state_names(r: Reading) -> list[str]:
    """The states of the stream that the lens reads."""
    return [t("part_embedding"), *(t("after_layer", n=n) for n in range(1, r.shape.n_layers + 1))]


def chosen_scope() -> str:
    """Whether the lens shows one word's guesses or every word's first guess; it stands in the address."""
    names = {"word": t("scope_word"), "all": t("scope_all")}
    asked = view.get("block_scope")
    st.session_state["block_scope_menu"] = asked if asked in names else "word"
    scope = st.segmented_control(
        t("scope"), list(names), key="block_scope_menu", required=True, format_func=names.__getitem__,
        label_visibility="collapsed", on_change=lambda: view.put("block_scope", st.session_state["block_scope_menu"]),
    )  # fmt: skip
    return str(scope)


def arrow(ranks: list[int], s: int) -> str:
    """How a rank has moved since the state before: ↑ nearer the top, ↓ further from it.

    >>> [arrow([9, 4, 4, 7], s) for s in range(4)]
    ['', ' ↑', '', ' ↓']
    """
    if s == 0 or ranks[s] == ranks[s - 1]:
        return ""
    return " ↑" if ranks[s] < ranks[s - 1] else " ↓"


def lens_of_word(r: Reading, found: numbers.Lens) -> None:
    """The likeliest tokens after each layer at the chosen position, and the rank of the token that is followed."""
    i, names = r.view.query, state_names(r)
    target = found.followed[i]
    label = numbers.label(r.model, target)
    ranks = found.ranks[:, i].tolist()
    cells = []
    for s in range(len(names)):
        guesses = [(int(token), float(p)) for token, p in zip(found.ids[s, i], found.probabilities[s, i], strict=True)]
        line = []
        for place, (token, p) in enumerate(guesses):
            guess = numbers.label(r.model, token)
            line.append(Cell(guess, p, (f"{p:.2%}", t("tip_rank", token=guess, rank=place + 1)), mark=token == target))
        share = float(found.shares[s, i])
        tip = (f"{share:.3%}", t("tip_rank", token=label, rank=ranks[s]))
        cells.append([Cell(f"{ranks[s]}{arrow(ranks, s)}", None, tip), *line])
    columns = [t("rank_of", token=label), *(f"{k + 1}" for k in range(found.ids.shape[-1]))]
    csv = figures.matrix_csv(
        np.stack([found.ranks[:, i], found.shares[:, i]], axis=1), names, [t("rank_of", token=label), "p"]
    )
    panels.figure_head(t("lens_title", layers=r.shape.n_layers), csv, "lens")

    def choose(cell: tuple[int, int]) -> None:
        view.put("layer", max(0, cell[0] - 1))

    token_grid(
        cells, names, columns, selected=(r.view.layer + 1, 0), key="map_lens", on_select=choose,
        alt=t("lens_alt", token=r.labels[i], followed=label, rank=ranks[-1]), caption=t("lens_mark", token=label),
    )  # fmt: skip


def lens_of_all(r: Reading, found: numbers.Lens) -> None:
    """The likeliest token after each layer at every position: the whole sentence at a glance."""
    names = state_names(r)
    cells = []
    for s in range(len(names)):
        line = []
        for i in range(r.n_tokens):
            guess, p = numbers.label(r.model, int(found.ids[s, i, 0])), float(found.probabilities[s, i, 0])
            followed = numbers.label(r.model, found.followed[i])
            tip = (f"{guess} {p:.2%}", t("tip_rank", token=followed, rank=int(found.ranks[s, i])))
            line.append(Cell(guess, p, tip, mark=int(found.ids[s, i, 0]) == found.followed[i]))
        cells.append(line)
    panels.figure_head(t("lens_all_title"), figures.matrix_csv(found.ranks, names, r.labels), "lens_all")

    def choose(cell: tuple[int, int]) -> None:
        view.put("layer", max(0, cell[0] - 1))
        view.put("q", cell[1])

    token_grid(
        cells, names, r.labels, selected=(r.view.layer + 1, r.view.query), col_role="q", key="map_lens_all",
        alt=t("lens_all_alt"), on_select=choose, caption=t("lens_mark_all"),
    )  # fmt: skip


def rank_chart(r: Reading, found: numbers.Lens) -> None:
    """The probability of the followed token after each layer."""
    i = r.view.query
    label = numbers.label(r.model, found.followed[i])
    chart(
        figures.bars, state_names(r), found.shares[:, i], highlight=r.view.layer + 1, value_range=(0, 1.18),
        decimals=3, title=t("share_of", token=said(r.model, found.followed[i])), alt=t("share_alt", token=label),
        file="lens_share",
    )  # fmt: skip


def lens_formula(r: Reading, found: numbers.Lens) -> None:
    """What the lens computes at the chosen state."""
    i, s = r.view.query, r.view.layer + 1
    panels.formula(
        [
            r"p_\ell = \mathrm{softmax}\big(W_U \, \mathrm{norm}(r_\ell)\big)",
            rf"p_{{{s}}} = {number(float(found.shares[s, i]), 4)}, \quad \mathrm{{rank}}_{{{s}}} ="
            rf" {number(float(found.ranks[s, i]), 0)}",
        ],
        t("formula_label"),
    )


def first_on_top(found: numbers.Lens, position: int) -> int:
    """The first state from which the model's final guess stays on top to the end."""
    top = found.ids[:, position, 0]
    differs = np.flatnonzero(top != top[-1])
    return int(differs[-1]) + 1 if len(differs) else 0


def followed(r: Reading, found: numbers.Lens) -> Markdown:
    """The token whose rank is followed, for a sentence."""
    return said(r.model, found.followed[r.view.query])
