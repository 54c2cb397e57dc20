"""Panels of the lesson on tokens: rows of the embedding matrix, nearest neighbours, the map of the vocabulary."""

from __future__ import annotations

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from lab import figures, vocabulary
from lab.ui import components, panels, view
from lab.ui.charts import chart
from lab.ui.panels import tex, tex_name, tex_sum
from lab.ui.token_panels import Cut, t
from lab.vocabulary import MOST_MAPPED, Neighbours, VocabularyMap

MOST_COLUMNS = 256  # numbers of a row drawn at once: beyond, a cell is hard to point at

Floats = NDArray[np.floating]


def chosen_number(cut: Cut) -> int:
    """Which number of the vectors is chosen (from 0); the first until one is clicked."""
    number = view.get("column.tokens", 0)
    return number if isinstance(number, int) and 0 <= number < vocabulary.size(cut.model)[1] else 0


def vectors_map(cut: Cut, number: int) -> None:
    """The rows of the embedding matrix that the text takes, one a token; click a number."""
    rows = np.array([vocabulary.vector(cut.model, token_id) for token_id in cut.tokens.token_ids])
    first = number // MOST_COLUMNS * MOST_COLUMNS
    shown = rows[:, first : first + MOST_COLUMNS]
    reach = float(np.abs(rows).max())
    names = [str(c + 1) for c in range(rows.shape[1])]
    labels = cut.tokens.labels

    def pick(cell: tuple[int, int]) -> None:
        cut.choose(cell[0])
        view.put("column.tokens", first + cell[1])

    panels.figure_head(t("vectors_title"), figures.matrix_csv(rows, labels, names), "embeddings")
    components.matrix(
        shown, labels, names[first : first + MOST_COLUMNS], selected=(cut.at, number - first), vmin=-reach, vmax=reach,
        scale="diverging", role="neutral", row_role="q", col_role="neutral", decimals=3, key="map_vectors",
        on_select=pick, alt=t("vectors_alt", rows=len(labels), columns=rows.shape[1]),
    )  # fmt: skip
    if rows.shape[1] > MOST_COLUMNS:
        _other_columns(first, rows.shape[1])


def _other_columns(first: int, count: int) -> None:
    """Which stretch of the numbers is drawn, where a row has too many for one map."""
    starts = range(0, count, MOST_COLUMNS)
    st.session_state["tokens_columns"] = first

    def changed() -> None:
        view.put("column.tokens", st.session_state["tokens_columns"])

    st.segmented_control(
        t("columns"), starts, key="tokens_columns", required=True, on_change=changed,
        format_func=lambda start: f"{start + 1}–{min(count, start + MOST_COLUMNS)}",
    )  # fmt: skip


def lookup_formula(cut: Cut, number: int, value: float) -> list[str]:
    """A number of the vector is a number of the matrix: that of row id."""
    name, c = tex_name(cut.label, cut.at), number + 1
    return [
        rf"{tex('q', 'x')}_{{{name},{c}}} = \sum_v \mathrm{{onehot}}_v \, E_{{v,{c}}}",
        rf"= 0 + \dots + 1 \cdot E_{{{cut.token_id},{c}}} + \dots + 0 = \mathbf{{{value:.4f}}}",
    ]


def vector_strip(cut: Cut, row: Floats) -> None:
    """The whole row of the chosen token as bars."""
    label = t("row_of", token=cut.label, id=cut.token_id, count=len(row))
    components.operand_strip(
        [{"label": label, "role": "q", "symbol": "x", "values": row}], key="strip_vector", decimals=4
    )


def column_histogram(cut: Cut, number: int, own: float) -> None:
    """The same number of every token of the vocabulary; the title says where the chosen token stands."""
    chart(
        figures.histogram, {t("column_name", n=number + 1): vocabulary.column(cut.model, number)},
        alt=t("column_alt", n=number + 1), title=t("column_title", n=number + 1, token=cut.named, value=f"{own:.4f}"),
        count_title=t("tokens"), file="embedding_column",
    )  # fmt: skip


# --- neighbours ---------------------------------------------------------------------------------------------------


def chosen_neighbour(found: Neighbours) -> int:
    """Which neighbour is compared (its place in the list); the nearest until one is clicked."""
    asked = view.get("tokens_near")
    place = int(asked) if isinstance(asked, str) and asked.isascii() and asked.isdecimal() and len(asked) < 3 else 1
    return min(max(place, 1), len(found.token_ids)) - 1


def neighbour_figure(cut: Cut, found: Neighbours, place: int) -> None:
    """The nearest tokens as chips to choose from, and their cosines as bars."""
    st.caption(t("neighbours_pick"))
    components.token_strip(
        found.labels, ids=found.token_ids, selected_key=place, key="tokens_near_strip",
        on_select=lambda index: view.put("tokens_near", str(index + 1)),
    )  # fmt: skip
    top = max(found.cosines)
    chart(
        figures.bars, found.labels, found.cosines, highlight=place, role="k", decimals=3, file="neighbours",
        value_range=(min(0.0, min(found.cosines)), max(1.15 * top, 0.1)), alt=t("neighbours_alt", token=cut.label),
        title=t("neighbours_title", token=cut.named),
    )  # fmt: skip


def cosine_formula(a: Floats, b: Floats) -> list[str]:
    """The cosine of two rows, its dot product written out."""
    one, two = tex("q", "a"), tex("k", "b")
    dot, length_a, length_b = float(a @ b), float(np.linalg.norm(a)), float(np.linalg.norm(b))
    product = length_a * length_b
    cosine = dot / product if product else 0.0
    return [
        rf"\cos({one}, {two}) = \dfrac{{{one} \cdot {two}}}{{|{one}|\,|{two}|}}"
        rf" = \dfrac{{\sum_c {one}_c \, {two}_c}}{{|{one}|\,|{two}|}}",
        rf"{one} \cdot {two} = {tex_sum(list(zip(a.tolist(), b.tolist(), strict=True)))} = {dot:.3f}",
        rf"\cos = \dfrac{{{dot:.3f}}}{{{length_a:.3f} \cdot {length_b:.3f}}} = \mathbf{{{cosine:.3f}}}",
    ]


def cosine_strip(cut: Cut, other: str, a: Floats, b: Floats) -> None:
    """Both rows and their products, on one scale."""
    reach = max(float(np.abs(a).max()), float(np.abs(b).max()))
    components.operand_strip(
        [
            {"label": t("row_short", name="a", token=cut.label), "role": "q", "symbol": "a", "values": a,
             "scale": reach},
            {"label": t("row_short", name="b", token=other), "role": "k", "symbol": "b", "values": b, "scale": reach},
            {"label": t("products", total=f"{float(a @ b):.3f}"), "role": "weights", "symbol": "a·b", "values": a * b},
        ],
        key="strip_cosine",
    )  # fmt: skip


def cosine_histogram(cut: Cut, found: Neighbours) -> None:
    """The cosines to all other tokens: how special the nearest are."""
    chart(
        figures.histogram, {t("cosine_name"): found.all_cosines}, value_range=(-1, 1),
        alt=t("cosines_alt", token=cut.label),
        title=t("cosines_title", n=f"{len(found.all_cosines):,}"), count_title=t("tokens"), file="cosines",
    )  # fmt: skip


# --- the map ------------------------------------------------------------------------------------------------------


def matches(labels: list[str], wanted: str) -> list[int]:
    """Where `wanted` stands in a label, capitals or not; a leading space is asked for by ␣. Nothing for nothing.

    >>> matches(["␣bird", "Bird", "b"], "bird"), matches(["␣bird", "Bird"], "␣b"), matches(["a"], " ")
    ([0, 1], [0], [])
    """
    wanted = wanted.strip().casefold()
    return [i for i, label in enumerate(labels) if wanted in label.casefold()] if wanted else []


def search_box() -> str:
    """The field above the map; returns what is searched for."""
    st.session_state["tokens_find_box"] = str(view.get("tokens_find") or "")[:40]

    def typed() -> None:
        view.put("tokens_find", st.session_state["tokens_find_box"] or None)

    st.text_input(
        t("find"), key="tokens_find_box", max_chars=40, on_change=typed, placeholder=t("find_hint"),
        label_visibility="collapsed",
    )  # fmt: skip
    return str(view.get("tokens_find") or "")


def map_figure(cut: Cut, seen: VocabularyMap, wanted: str) -> None:
    """All tokens on the plane of most variance; those that the search finds stand out."""
    found = matches(seen.labels, wanted)
    here = cut.token_id if cut.token_id < len(seen.labels) else None
    first, second = (100 * share for share in seen.explained)
    n = len(seen.labels)
    title = t("map_title") if n < MOST_MAPPED else t("map_title_first", n=f"{n:,}")
    chart(
        figures.scatter, seen.coordinates, seen.labels, found=found, chosen=here,
        x_title=t("axis", n=1, share=f"{first:.1f}"), y_title=t("axis", n=2, share=f"{second:.1f}"),
        alt=t("map_alt", n=n, found=len(found), token=cut.label), title=title, file="map",
    )  # fmt: skip
    st.caption(t("found", n=len(found)) if wanted.strip() else t("map_hint"))


def coordinate_formula(cut: Cut, seen: VocabularyMap, x: Floats) -> list[str]:
    """Where the chosen token stands along the first direction."""
    name, away = tex_name(cut.label, cut.at), x.astype(np.float64) - seen.mean
    value = float(away @ seen.directions[0])
    products, x_ = list(zip(away.tolist(), seen.directions[0].tolist(), strict=True)), tex("q", "x")
    return [
        rf"z_{{{name},1}} = ({x_} - \bar{{x}}) \cdot u_1 = \sum_c ({x_}_c - \bar{{x}}_c)\, u_{{1,c}}",
        rf"= {tex_sum(products, decimals=3)} = \mathbf{{{value:.3f}}}",
    ]


def coordinate_strip(cut: Cut, seen: VocabularyMap, x: Floats) -> None:
    """How far the token's row is from the middle, the first direction, and their products."""
    away = x.astype(np.float64) - seen.mean
    u = seen.directions[0]
    components.operand_strip(
        [
            {"label": t("away", token=cut.label), "role": "q", "symbol": "x−x̄", "values": away},
            {"label": t("direction"), "role": "neutral", "symbol": "u₁", "values": u},
            {"label": t("products", total=f"{float(away @ u):.3f}"), "role": "weights", "symbol": "·",
             "values": away * u},
        ],
        key="strip_map",
    )  # fmt: skip
