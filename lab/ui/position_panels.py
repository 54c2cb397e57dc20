"""The figures of the lesson on positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from lab import figures
from lab.language import text
from lab.ui import components, panels, view
from lab.ui import position_data as data
from lab.ui.charts import chart
from lab.ui.dials import dials
from lab.ui.position_data import Array, Shuffled, Way
from lab.ui.reading import Reading
from lm_core.positions import interleaved_to_half

MOST_DIALS = 12
SIDE = 12  # places on the map of the moved pair: its numbers stand in the cells
ROWS, COLUMNS = 32, 64  # of a table of positions, as much as a picture can show


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"positions.{key}", language=None, **values)


def chosen_seed() -> int:
    """Which shuffle; nonsense in the address means the first."""
    asked = str(view.get("positions_shuffle", "1"))
    return int(asked) if asked.isascii() and asked.isdecimal() and len(asked) <= data.LONGEST_SEED else 1


def shuffle_bar(r: Reading, found: Shuffled, way: Way) -> None:
    """The shuffled words, and a button for another order."""

    def again() -> None:
        view.put("positions_shuffle", str(chosen_seed() % 9999 + 1))

    def choose(place: int) -> None:
        view.put("q", int(found.order[place]))

    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key=f"shuffle_{way}"
    ):
        st.caption(t("mixed_words"), width="content")
        st.button(t("again"), key=f"shuffle_again_{way}", on_click=again)
    place = np.argsort(found.order)
    components.token_strip(
        [r.labels[i] for i in found.order], selected_query=int(place[r.view.query]),
        selected_key=int(place[r.view.key]), key=f"mixed_tokens_{way}", on_select=choose,
    )  # fmt: skip


def both_orders(r: Reading, found: Shuffled, way: Way) -> None:
    """The head's weights for the words in order, and for the shuffled words put back in order."""
    maps = {"in_order": found.straight[way][r.view.head], "put_back": found.back[way][r.view.head]}
    for column, (name, weights) in zip(st.columns(2, gap="large"), maps.items(), strict=True):
        cell = float(weights[r.view.query, r.view.key])
        with column:
            panels.figure_head(t(name), figures.matrix_csv(weights, r.labels, r.labels), f"{name}_{way}")
            components.matrix(
                weights, r.labels, r.labels, selected=(r.view.query, r.view.key), vmin=0.0, vmax=1.0, decimals=2,
                faint=weights == 0,
                alt=t("map_alt", name=t(name), query=r.labels[r.view.query], other=r.labels[r.view.key],
                      value=f"{cell:.4f}"),
                key=f"map_{name}_{way}", on_select=r.choose_pair,
            )  # fmt: skip


def differences(r: Reading, found: Shuffled) -> None:
    """The largest difference that shuffling makes, in each of the three ways."""
    values = [found.difference(way, r.view.head) for way in data.WAYS]
    chart(
        figures.bars, [t(f"way_{way}") for way in data.WAYS], values, highlight=1, value_range=(0, 1.18), decimals=6,
        alt=t("differences_alt"), title=t("differences"), file="differences",
    )  # fmt: skip


def chosen_cell(name: str, n_rows: int, n_columns: int, first: tuple[int, int] = (5, 20)) -> tuple[int, int]:
    """Which cell of map `name` is chosen: plain whole numbers in the session, as far as they fit."""
    cell = view.get(f"cell.{name}", first)
    return min(max(int(cell[0]), 0), n_rows - 1), min(max(int(cell[1]), 0), n_columns - 1)


def chosen_rows(count: int) -> tuple[int, int]:
    """Which two rows of a table are compared."""
    return chosen_cell("alike", count, count, first=(5, 6))


def table_map(name: str, values: Array, rows: list[str], chosen: tuple[int, int], title: str, **more: Any) -> None:
    """A table of positions as signed colours, one row a position."""
    columns = [str(c) for c in range(values.shape[1])]
    reach = float(np.abs(values).max()) or 1.0
    more.setdefault("on_select", lambda cell: view.put(f"cell.{name}", cell))
    panels.figure_head(title, figures.matrix_csv(values, rows, columns), name)
    components.matrix(
        values, rows, columns, selected=chosen, vmin=-reach, vmax=reach, scale="diverging", role="weights",
        row_role="neutral", col_role="neutral", decimals=2, key=f"map_{name}", alt=t("table_alt", name=title), **more,
    )  # fmt: skip


def alike_map(values: Array, title: str, file: str) -> None:
    """How alike any two rows of a table are, −1 to 1; a click chooses two rows."""
    names = [str(i) for i in range(len(values))]
    panels.figure_head(title, figures.matrix_csv(values, names, names), file)
    components.matrix(
        values, names, names, vmin=-1.0, vmax=1.0, scale="diverging", role="weights", decimals=2,
        selected=chosen_rows(len(values)), row_role="neutral", col_role="neutral", key=f"map_{file}",
        on_select=lambda cell: view.put("cell.alike", cell), alt=t("alike_alt"),
    )  # fmt: skip


def alike_strip(rows: Array) -> None:
    """The two chosen rows of a table, number by number, and their products."""
    i, j = chosen_rows(len(rows))
    total = f"{float(rows[i] @ rows[j]):.3f}"
    components.operand_strip(
        [
            {"label": t("row", n=i), "role": "neutral", "symbol": "p", "values": rows[i]},
            {"label": t("row", n=j), "role": "neutral", "symbol": "p′", "values": rows[j]},
            {"label": text("self_attention.product", total=total), "role": "weights", "symbol": "p·p′",
             "values": rows[i] * rows[j]},
        ],
        key="strip_alike",
    )  # fmt: skip


def own_rows(r: Reading, count: int) -> Array:
    """The first rows of the model's own table. Raises ValueError for a model without one."""
    table = data.table(r.model, count)
    if table is None:
        raise ValueError(f"{r.model} has no table of positions")
    return table


def own_table(r: Reading) -> None:
    """The rows that the model adds to the words of the sentence."""

    def choose(cell: tuple[int, int]) -> None:
        view.put("q", cell[0])
        view.put("cell.learned", cell)

    shown = own_rows(r, r.n_tokens)[:, :COLUMNS]
    column = chosen_cell("learned", *shown.shape)[1]
    rows = [f"{place} {label}" for place, label in enumerate(r.labels)]
    title = t("own_table", shown=shown.shape[1], all=r.shape.d_model)
    table_map("learned", shown, rows, (r.view.query, column), title, on_select=choose)


def own_alike(r: Reading) -> None:
    """How alike the rows of the model's own table are."""
    rows = own_rows(r, 2 * ROWS)
    alike_map(data.alike(rows), t("alike_own", n=len(rows)), "alike")


def training_slider() -> data.Learned:
    """How far the small table has been trained, chosen by the reader."""
    with st.spinner(t("training")):
        records = {record.step: record for record in data.learned()}
    last = max(records)
    step = st.select_slider(t("trained"), list(records), value=last, key="table_step", persist_state="session")
    return records[step]


def shown_pairs(n_pairs: int) -> list[int]:
    """A handful of turning pairs, from the fastest to the slowest.

    >>> shown_pairs(16), shown_pairs(1)
    ([0, 1, 2, 4, 8, 15], [0])
    """
    return sorted({i for i in (0, 1, 2, n_pairs // 4, n_pairs // 2, n_pairs - 1) if i < n_pairs})


def chosen_pair(pairs: list[int]) -> int:
    """Which turning pair is chosen: one of those shown."""
    asked = str(view.get("positions_pair", ""))
    index = int(asked) - 1 if asked.isascii() and asked.isdecimal() and len(asked) < 5 else -1
    return index if index in pairs else pairs[min(1, len(pairs) - 1)]


def _round(count: float) -> str:
    """A number of steps with as many digits as one can picture."""
    return f"{count:,.1f}" if count < 100 else f"{count:,.0f}"


def dial_board(r: Reading, angles: Array, pair: int) -> None:
    """The hands of a few pairs over the words around the chosen one."""
    pairs = shown_pairs(angles.shape[1])
    start = max(0, r.view.query - MOST_DIALS + 1)
    places = range(start, min(start + MOST_DIALS, r.n_tokens))
    shown = angles[np.ix_(list(places), pairs)].T
    names = [t("pair", n=i + 1) for i in pairs]
    notes = [t("one_turn", n=_round(2 * np.pi / float(angles[1, i]))) for i in pairs]

    def label(row: int, place: int) -> str:
        angle = float(angles[place, pairs[row]])
        return t("dial", pair=pairs[row] + 1, place=place, radians=f"{angle:.4f}", degrees=f"{np.degrees(angle):.1f}")

    def choose(cell: tuple[int, int]) -> None:
        view.put("positions_pair", str(pairs[cell[0]] + 1))
        view.put("q", places[cell[1]])

    csv = figures.matrix_csv(shown, names, [f"{place} {r.labels[place]}" for place in places])
    panels.figure_head(t("dials"), csv, "dials")
    dials(
        shown, names, notes, [r.labels[place] for place in places],
        [[label(row, place) for place in places] for row in range(len(pairs))], key="dials",
        selected=(pairs.index(pair), r.view.query - start), on_select=choose,
        alt=t("dials_alt", dial=label(pairs.index(pair), r.view.query)),
    )  # fmt: skip


def pairings() -> None:
    """The same eight numbers, pairs as neighbours (the paper) and pairs as halves (Llama)."""
    neighbours = [f"{part}{pair + 1}" for pair in range(4) for part in "ab"]
    tints = [pair / 4 for pair in range(4) for _ in "ab"]
    order = interleaved_to_half(8).tolist()
    for key, places in (("neighbours", list(range(8))), ("halves", order)):
        components.token_strip(
            [neighbours[p] for p in places], colours=[tints[p] for p in places], caption=t(key), key=f"pairing_{key}"
        )


def chosen_places(r: Reading, side: int) -> tuple[int, int]:
    """Where the moved pair stands: (query, key), each below `side`; at first as near as the sentence has them."""
    parts = str(view.get("positions_places", "")).split(",")
    if len(parts) == 2 and all(p.isascii() and p.isdecimal() and len(p) < 4 and int(p) < side for p in parts):
        return int(parts[0]), int(parts[1])
    apart = min(max(r.view.query - r.view.key, 1 - side), side - 1)
    return max(apart, 0), max(-apart, 0)


def put_places(cell: tuple[int, int]) -> None:
    """Remember where the moved pair stands."""
    view.put("positions_places", f"{cell[0]},{cell[1]}")


def move_slider(here: tuple[int, int], side: int) -> None:
    """Moves both words along, their distance kept."""
    apart = here[0] - here[1]
    room = side - 1 - abs(apart)
    if room < 1:
        return
    key = f"positions_move_{apart}_{side}"
    st.session_state[key] = min(here)

    def changed() -> None:
        by = int(st.session_state[key])
        put_places((max(apart, 0) + by, max(-apart, 0) + by))

    st.slider(t("move"), 0, room, key=key, on_change=changed)


def place_map(r: Reading, scores: Array, here: tuple[int, int]) -> None:
    """The score of the chosen pair at every two places; equal numbers have one colour."""
    names, masked = [str(i) for i in range(len(scores))], ~np.tri(len(scores), dtype=bool)
    low, high = float(scores.min()), float(scores.max())
    panels.figure_head(t("by_place"), figures.matrix_csv(scores, names, names), "score_by_place")
    components.matrix(
        scores, names, names, selected=here, faint=masked, vmin=low,
        vmax=high if high > low else low + 1.0, decimals=1,
        key="map_places", on_select=put_places,
        alt=t("places_alt", query=r.labels[r.view.query], other=r.labels[r.view.key], m=here[0], n=here[1],
              value=f"{scores[here]:.4f}"),
    )  # fmt: skip
    st.caption(t("faint"))
