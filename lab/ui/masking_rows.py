"""One row of scores, masked: the cases in which a number in place of −∞ fails, and a row with nothing allowed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from lab import masking
from lab.masking import Array, Bool, Way
from lab.ui import mask_board, panels, view
from lab.ui import masking_formulas as formulas
from lab.ui import masking_panels as figure
from lab.ui.mask_board import SLUG, entry, t
from lab.ui.reading import Reading

CASES = {"usual": (0, 0), "beaten": (12000, 0), "fails": (0, 12000)}  # forbidden scores up, the whole row down
BROKEN: dict[tuple[Way, ...], int] = {(): 0, ("added",): 1, ("filled",): 2, ("filled", "added"): 3}
ANSWERS = ("none", "added", "filled", "two")


@dataclass(frozen=True)
class Case:
    """The chosen query's row [T] brought to a case, masked in every way; `name` is None for the reader's own values."""

    name: str | None
    row: Array
    allowed: Bool
    ways: dict[Way, tuple[Array, Array]]

    @property
    def leaked(self) -> dict[Way, float]:
        """How much weight the forbidden places get, in each way."""
        return {way: float(found[1][~self.allowed].sum()) for way, found in self.ways.items()}


def case(r: Reading) -> Case:
    """Buttons for the three cases, two sliders for any other; the chosen key is hidden, and all that comes later."""
    i, j = r.view.query, r.view.key
    allowed = masking.mask("causal", 0, r.n_tokens)[i].copy()
    if allowed.sum() > 1 or j > i:  # a query that sees only itself keeps that
        allowed[j] = False
    _buttons()
    up = mask_board.amount("raise", 0, 20000, 0, 500)
    down = mask_board.amount("lower", 0, 20000, 0, 500)
    name = next((name for name, values in CASES.items() if values == (up, down)), None)
    row = masking.case_scores(r.head("scaled")[i], allowed, up, down)
    return Case(name, row, allowed, masking.row_ways(row, allowed))


def _buttons() -> None:
    def put(up: int, down: int) -> None:
        view.put(entry("raise"), str(up))
        view.put(entry("lower"), str(down))

    with st.container(horizontal=True, gap="small"):
        for name, values in CASES.items():
            st.button(t(f"preset_{name}"), key=f"preset_{name}", on_click=put, args=values)


def ask(r: Reading, shown: Case) -> bool:
    """In which ways does the mask leak? Asked of the three cases; with values of his own the reader just looks."""
    if shown.name is None:
        return True
    leaked = {way: f"{value:.4f}" for way, value in shown.leaked.items()}
    return panels.predict_first(
        SLUG, "infinity", [t(f"broken_{answer}") for answer in ANSWERS],
        BROKEN[masking.broken(shown.ways, shown.allowed)], about=(r.model, r.view, shown.name, tuple(r.labels)),
        case=t(f"preset_{shown.name}"), **leaked,
    )  # fmt: skip


def case_formula(r: Reading, shown: Case, answered: bool) -> None:
    """What each way puts in place of the hidden key's score; what comes of it once the question is answered."""
    i, j = r.view.query, r.view.key
    if not shown.allowed.any() or shown.allowed[j]:
        return
    weights = {way: found[1] for way, found in shown.ways.items()} if answered else None
    best, hidden = float(shown.row[shown.allowed].max()), float(shown.row[j])
    panels.formula(formulas.three_ways(hidden, best, weights, j), t("formula_of", i=i + 1, j=j + 1))


def half_note() -> None:
    """Why just −10,000: what float16 makes of it, and of a larger number."""

    def written(value: float) -> str:
        return f"{masking.in_half(value):,.0f}".replace("-", "−").replace("inf", "∞")

    st.caption(t("half", small=written(masking.PENALTY), large=written(-1e9)))


def emptied(r: Reading) -> tuple[Bool, Bool]:
    """The causal mask with nothing left for the chosen query [T T], and where NaN stands under it [L + 1 T]."""
    allowed = masking.mask("causal", 0, r.n_tokens).copy()
    allowed[r.view.query] = False
    return allowed, masking.spoilt(r.model, r.trace.token_ids, allowed)


def ask_empty(r: Reading, spoilt: Bool) -> bool:
    """How far does NaN get in one more layer?"""
    counts, i = [int(n) for n in spoilt.sum(axis=1)], r.view.query
    after = counts[min(2, len(counts) - 1)]
    options = sorted({after, 1, i + 1, r.n_tokens - i, r.n_tokens})
    return panels.predict_first(
        SLUG, "empty", [str(o) for o in options], options.index(after), about=(r.model, tuple(r.labels), i),
        query=r.query, first=counts[1], second=after, n=r.n_tokens,
    )  # fmt: skip


def empty_ways(r: Reading, allowed: Bool) -> None:
    """The emptied row masked in three ways, and what torch's own softmax makes of it."""
    row, none = r.head("scaled")[r.view.query], allowed[r.view.query]
    ways = masking.row_ways(row, none)
    figure.three_ways(r, ways, "ways_empty")
    bad = int(np.isnan(masking.plain_softmax(row, none)).sum())
    st.caption(t("empty_note", nan=bad, filled=f"{ways['filled'][1].sum():.3f}", n=r.n_tokens))
