"""Masks: who may look at whom, what happens when that goes wrong, and what hiding words has to do with it."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from lab import course, masked_word, masking, traces
from lab.ui import components, mask_board, model_choice, panels, view, whose_code
from lab.ui import masking_batches as batches
from lab.ui import masking_formulas as formulas
from lab.ui import masking_gap as gaps
from lab.ui import masking_leak as leaks
from lab.ui import masking_panels as figure
from lab.ui import masking_rows as rows
from lab.ui.mask_board import t
from lab.ui.panels import formula, prose, shown_if, source
from lab.ui.reading import Reading, token_bar
from lab.ui.walk import current_step, sides, walk
from lm_core import attention, mask_experiments, masks, objectives
from lm_core.encoder import Encoder

LESSON = course.lesson("masking")
SLUG = LESSON.slug
DEFAULT_LAYER, DEFAULT_HEAD = 1, 7
RULES: dict[masking.Kind, tuple[Callable[..., Any], str]] = {
    "none": (masks.full_mask, "return torch.ones"), "causal": (masks.causal_mask, "return key <= query"),
    "window": (masks.sliding_window_mask, "return causal_mask"), "prefix": (masks.prefix_mask, "return causal_mask"),
    "documents": (masks.document_mask, "return same"),
}  # fmt: skip


def kinds(r: Reading) -> None:
    """Who may look at whom?"""
    left, right = sides()
    with left:
        prose(SLUG, "kinds")
        mask_board.controls(r, "kinds")
        here = mask_board.board(r)
        prose(SLUG, f"kinds_{here.kind}", size=here.size)
        formula(formulas.rule(r, here))
        mask_board.ask_growth(r, here)
    with right:
        mask_board.board_map(r, here, "kinds")
        rule, line = RULES[here.kind]
        source(rule, line)


def cells(r: Reading) -> None:
    """Scores, masked scores, weights."""
    here, i = mask_board.board(r), r.view.query
    steps = traces.attend_arrays(r.head("q"), r.head("k"), r.head("v"), here.allowed)
    left, right = sides()
    with left:
        prose(SLUG, "cells", query=r.query, mask=mask_board.board_words(here))
        mask_board.board_map(r, here, "cells")
        formula(formulas.weight(r, steps["masked"], steps["weights"]))
        both = {t("as_trained"): r.head("weights")[i], t("your_mask"): steps["weights"][i]}
        figure.row_bars(r.labels, both, "own_row", figure.likeliest(*both.values()))
    with right:
        for name in ("scaled", "masked", "weights"):
            figure.pair_map(r, name, steps[name], here.allowed, title=t(f"map_{name}"), weights=name == "weights")
        source(attention.apply_mask, "masked_fill(~allowed")


def padding(r: Reading) -> None:
    """Sentences of different length in one rectangle."""
    left, right = sides()
    with left:
        prose(SLUG, "padding")
        shown = batches.padded(r)
        formula(batches.padded_formula(shown))
    with right:
        figure.batch_grid(shown.texts, shown.found, shown.row)
        batches.padded_mask(shown)
        answered = batches.ask_padded(r, shown)
        shown_if(answered, lambda: batches.padded_bars(shown))
        source(masks.padding_mask, "real = position")


def empty(r: Reading) -> None:
    """A row with nothing allowed."""
    allowed, spoilt = rows.emptied(r)
    left, right = sides()
    with left:
        prose(SLUG, "empty", query=r.query)
        formula(formulas.empty(r.n_tokens), t("formula_here"))
        answered = rows.ask_empty(r, spoilt)
    with right:
        rows.empty_ways(r, allowed)
        shown_if(answered, lambda: figure.nan_grid(r, spoilt))
        source(attention.masked_softmax, "return exponentials / torch.where")


def infinity(r: Reading) -> None:
    """−∞ or −10,000?"""
    left, right = sides()
    with left:
        prose(SLUG, "infinity", query=r.query, other=r.key)
        shown = rows.case(r)
        answered = rows.ask(r, shown)
        rows.case_formula(r, shown, answered)
    with right:
        shown_if(answered, lambda: figure.three_ways(r, shown.ways, "ways"))
        rows.half_note()
        source(masks.fill_forbidden, "return torch.where")
        source(masks.add_penalty, "return scaled + torch.where")


def documents(r: Reading) -> None:
    """Several texts in one row."""
    left, right = sides()
    with left:
        prose(SLUG, "documents")
        shown = batches.packed(r)
        answered = batches.ask_packed(r, shown)
        shown_if(answered, lambda: figure.packing_bars(shown.found, shown.row))
    with right:
        batches.packed_mask(shown)
        source(masks.document_mask, "return same")
        source(masks.positions_in_documents, "return position")


def leak(r: Reading) -> None:
    """The leak detector."""
    left, right = sides()
    with left:
        prose(SLUG, "leak", other=r.key)
        leaks.word_strip(r)
        new_id = leaks.new_token(r)
        mask_board.controls(r, "leak")
        here = mask_board.board(r)
    with right:
        mask_board.board_map(r, here, "leak")
    if new_id is None:
        return
    found = leaks.detect(r, new_id, here)
    with left:
        answered = leaks.ask(r, found, here)
        formula(formulas.moved(*found.at, float(found.moved[found.at]) if answered else None))
    with right:
        shown_if(answered, lambda: leaks.show(r, found, here))
        source(mask_experiments.leak, "return (after - before)")
        source(masks.reachable, "brought = ")


def corruption(r: Reading) -> None:
    """Another thing called masking: hiding words."""
    left, right = sides()
    with left:
        prose(SLUG, "corruption")
        hidden, share = gaps.hide(r.model)
        if hidden is None:
            st.info(t("no_words"))
            return
        formula(formulas.selected(share, hidden.n_words), t("formula_here"))
        panels.predict_section(SLUG, "corruption", [t("input"), t("who_sees")], 0, n=int((hidden.kind > 0).sum()))
        if not masked_word.has_mask_token(r.model):
            st.caption(t("no_mask_token"))
    with right:
        gaps.hidden_grid(hidden)
        gaps.hidden_shares(hidden, share)
        source(objectives.corrupt, "masked = selected &")


def encoder(r: Reading) -> None:
    """The same gap, read from one side and from both."""
    name = masked_word.encoder()
    left, right = sides()
    with left:
        prose(SLUG, "encoder")
        gap = gaps.read_gap(r.model, name)
        if gap is None:
            st.info(t("no_words"))
            return
        gaps.bytes_note(gap, name)
        formula(gaps.gap_formula(gap), t("formula_here"))
        answered = gaps.ask_gap(r.model, gap)
    with right:
        gaps.show_gap(gap)
        gaps.encoder_answers(name, gap, answered)
        gaps.decoder_answers(r.model, gap, answered)
        source(Encoder.hidden, "x = block(x, None")
        figure.experiment()


STEPS = (kinds, cells, padding, empty, infinity, documents, leak, corruption, encoder)


def tokens(r: Reading) -> None:
    """The tokens, and layer and head where a step shows one head; steps with sentences of their own have neither."""
    step = LESSON.steps[current_step(LESSON)]
    if whole_page or step in ("cells", "empty", "infinity"):
        token_bar(r)
    elif step == "kinds":
        components.token_strip(
            r.labels, ids=r.trace.token_ids, selected_query=r.view.query, selected_key=r.view.key, key="tokens",
            on_select=r.choose_query,
        )  # fmt: skip


view.adopt_address()
model = model_choice.choose()
_, whole_page = panels.page_tools(LESSON, has_toy=False)
reading = whose_code.open_reading(LESSON, model, DEFAULT_LAYER, DEFAULT_HEAD)
steps = {step.__name__: lambda step=step: step(reading) for step in STEPS}
walk(LESSON, steps, lambda: tokens(reading), whole_page=whole_page)
KEPT = ("text", "layer", "head", "q", "k", "step", "model", "code", "ops")
view.mirror_address(*KEPT, *map(mask_board.entry, mask_board.KEPT))
