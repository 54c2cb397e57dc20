"""Masks: who may look at whom, what happens when that goes wrong, and what hiding words has to do with it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st

from lab import course, masked_word, masking, traces
from lab.ui import mask_board, model_choice, panels, view, whose_code
from lab.ui import masking_formulas as formulas
from lab.ui import masking_gap as gap_figure
from lab.ui import masking_panels as figure
from lab.ui.mask_board import t
from lab.ui.panels import formula, prose, source
from lab.ui.reading import Reading, token_bar
from lab.ui.walk import sides, walk
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
        n, count = r.n_tokens, int(here.allowed.sum())
        options = sorted({count, n * n, n * (n + 1) // 2, n * n // 2, n})
        panels.predict_section(
            SLUG, "kinds", [str(o) for o in options], options.index(count), about=(here.kind, here.size, here.cells, n),
            n=n, all=n * n, count=count,
        )  # fmt: skip
    with right:
        mask_board.board_map(r, here, "kinds")
        rule, line = RULES[here.kind]
        source(rule, line)


def cells(r: Reading) -> None:
    """Scores, masked scores, weights."""
    here = mask_board.board(r)
    steps = traces.attend_arrays(r.head("q"), r.head("k"), r.head("v"), here.allowed)
    left, right = sides()
    with left:
        prose(SLUG, "cells", query=r.query, mask=mask_board.board_words(here))
        mask_board.board_map(r, here, "cells")
        formula(formulas.weight(r, steps["masked"], steps["weights"]))
        i = r.view.query
        rows = {t("as_trained"): r.head("weights")[i], t("your_mask"): steps["weights"][i]}
        figure.row_bars(r.labels, rows, "own_row", figure.likeliest(*rows.values()))
    with right:
        figure.pair_map(r, "scaled", steps["scaled"], here.allowed, title=t("map_scaled"), weights=False)
        figure.pair_map(r, "masked", steps["masked"], here.allowed, title=t("map_masked"), weights=False)
        figure.pair_map(r, "weights", steps["weights"], here.allowed, title=t("map_weights"), weights=True)
        source(attention.apply_mask, "masked_fill(~allowed")


def padding(r: Reading) -> None:
    """Sentences of different length in one rectangle."""
    left, right = sides()
    with left:
        prose(SLUG, "padding")
        texts = gap_figure.several(r.model, "padding")
        side = mask_board.choice("side", ("right", "left"))
        rule = mask_board.choice("rule", masking.OFFERED)
        found = masking.padded(r.model, texts, side == "left")
        b = mask_board.whole_number("row", 1, len(texts.ids), len(texts.ids)) - 1
        n, length = found.real.shape[1], len(texts.ids[b])
        own = list(texts.labels[b])
        gaps = [masking.PAD_LABEL] * (n - length)
        labels = gaps + own if side == "left" else own + gaps
        i, j = mask_board.pair("pair", n, n, (n - 1, 0) if side == "left" else (length - 1, n - 1))
        place = j - (n - length) + 1 if side == "left" else j + 1
        both = bool(found.allowed["both"][b, i, j])
        formula(formulas.both(bool(found.real[b, j]), i, j, b, length, place, both))
        gone = found.moved["causal"][b]
        panels.predict_section(
            SLUG, "padding", [t("yes"), t("no")], int(gone < 1e-4), about=(r.model, str(texts.ids), side, b),
            n=b + 1, side=t(f"side_{side}"), causal=f"{gone:.4f}", both=f"{found.moved['both'][b]:.4f}",
        )  # fmt: skip
    with right:
        figure.batch_grid(texts, found, b)
        allowed = found.allowed[rule][b]
        figure.mask_map(allowed, labels, (i, j), title=t("mask_of", n=b + 1), key="padded")
        empty = int((~allowed.any(axis=1)).sum())
        st.caption(t("empty_rows", n=empty))
        names = [t(f"rule_{name}") for name in masking.RULES]
        values = np.array([found.moved[name][b] for name in masking.RULES])
        chosen = masking.RULES.index(rule)
        figure.moved_bars(names, values, chosen, title=t("alone_title", n=b + 1), file="padding")
        source(masks.padding_mask, "real = position")


def empty(r: Reading) -> None:
    """A row with nothing allowed."""
    i = r.view.query
    allowed = masks.causal_mask(r.n_tokens).numpy()
    allowed[i] = False
    spoilt = masking.spoilt(r.model, r.trace.token_ids, allowed)
    row = r.head("scaled")[i]
    ways = masking.row_ways(row, allowed[i])
    left, right = sides()
    with left:
        prose(SLUG, "empty", query=r.query)
        formula(formulas.empty(r.n_tokens))
        counts = [int(n) for n in spoilt.sum(axis=1)]
        after = counts[min(2, len(counts) - 1)]
        options = sorted({after, 1, i + 1, r.n_tokens - i, r.n_tokens})
        panels.predict_section(
            SLUG, "empty", [str(o) for o in options], options.index(after), about=(r.model, tuple(r.labels), i),
            query=r.query, first=counts[1], second=after, n=r.n_tokens,
        )  # fmt: skip
        figure.three_ways(r, ways, "ways_empty")
        bad = int(np.isnan(masking.plain_softmax(row, allowed[i])).sum())
        st.caption(t("empty_note", nan=bad, filled=f"{ways['filled'][1].sum():.3f}", n=r.n_tokens))
    with right:
        figure.nan_grid(r, spoilt)
        source(attention.masked_softmax, "return exponentials / torch.where")


def infinity(r: Reading) -> None:
    """−∞ or −10,000?"""
    i, j = r.view.query, r.view.key
    allowed = masks.causal_mask(r.n_tokens).numpy()[i]
    if allowed.sum() > 1 or j > i:
        allowed[j] = False
    left, right = sides()
    with left:
        prose(SLUG, "infinity", query=r.query, other=r.key)
        mask_board.presets()
        up = mask_board.amount("raise", 0, 20000, 0, 500)
        down = mask_board.amount("lower", 0, 20000, 0, 500)
        row = r.head("scaled")[i].astype(np.float64)
        row = np.where(allowed, row - down, row + up)
        ways = masking.row_ways(row, allowed)
        if allowed.any() and not allowed[j]:
            weights = {way: found[1] for way, found in ways.items()}
            formula(formulas.three_ways(float(row[j]), float(row[allowed].max()), weights, j))
    with right:
        figure.three_ways(r, ways, "ways")
        leaked = {way: float(found[1][~allowed].sum()) for way, found in ways.items()}
        broken = [way for way in masking.WAYS if leaked[way] > 0.01]
        option = {(): 0, ("added",): 1, ("filled",): 2, ("filled", "added"): 3}.get(tuple(broken), 0)
        panels.predict_section(
            SLUG, "infinity", [t(f"broken_{n}") for n in ("none", "added", "filled", "two")], option,
            about=(r.view, up, down, tuple(r.labels)), **{way: f"{leaked[way]:.4f}" for way in masking.WAYS},
        )  # fmt: skip
        half = masking.in_half(-1e9)
        st.caption(t("half", small=f"{masking.in_half(masking.PENALTY):.0f}", large=f"{half:.0f}".replace("inf", "∞")))
        source(masks.fill_forbidden, "return torch.where")
        source(masks.add_penalty, "return scaled + torch.where")


def documents(r: Reading) -> None:
    """Several texts in one row."""
    left, right = sides()
    with left:
        prose(SLUG, "documents")
        texts = gap_figure.several(r.model, "documents")
        found = masking.packed(r.model, texts)
        d = mask_board.whole_number("row", 1, len(texts.ids), len(texts.ids)) - 1
        gap = found.gap
        panels.predict_section(
            SLUG, "documents", [t("yes"), t("no")], int(gap[True, True] <= 1e-2), about=(r.model, str(texts.ids)),
            apart=f"{gap[True, True]:.1e}", open=f"{gap[False, False]:.2f}", through=f"{gap[True, False]:.1e}",
        )  # fmt: skip
        figure.packing_bars(found, d)
        st.caption(t("places_note", places=" ".join(str(p) for p in found.places.tolist())))
    with right:
        labels = [label for each in texts.labels for label in each]
        n = len(labels)
        chosen = mask_board.pair("pair", n, n, (n - 1, 0))
        figure.mask_map(found.allowed, labels, chosen, title=t("packed_map"), key="packed")
        source(masks.document_mask, "return same")
        source(masks.positions_in_documents, "return position")


def leak(r: Reading) -> None:
    """The leak detector."""
    here = mask_board.board(r)
    place = r.view.key
    left, right = sides()
    with left:
        prose(SLUG, "leak", other=r.key, mask=mask_board.board_words(here))
        mask_board.controls(r, "leak")
        here = mask_board.board(r)
        usual = next((label for label in reversed(r.labels[1:]) if label != r.labels[place]), "x")
        typed = mask_board.words_box("new", usual.replace("␣", ""))
        new_id = masking.token_of(r.model, typed, r.labels[place])
        if new_id is None or new_id == r.trace.token_ids[place]:
            st.info(t("same_token"))
            return
        moved = masking.leak(r.model, r.trace.token_ids, place, new_id, here.allowed)
        at = mask_board.pair("at", len(moved), moved.shape[1], (len(moved) - 1, max(0, place - 1)))
        early = int((moved[-1, :place] > 0).sum())
        options = sorted({early, 0, min(1, place), place, place // 2})
        panels.predict_section(
            SLUG, "leak", [str(o) for o in options], options.index(early),
            about=(r.model, tuple(r.labels), place, new_id, here.kind, here.size, here.cells), other=r.key, n=early,
            all=place, largest=f"{moved[:, :place].max(initial=0):.4f}",
        )  # fmt: skip
        formula(formulas.moved(at[0], at[1], float(moved[at])))
        mask_board.board_map(r, here, "leak")
    with right:
        figure.leak_map(r, moved, place, at)
        reach = masking.reachable(here.allowed, len(moved) - 1)[:, :, place]
        counts = [(int(m), int(f)) for m, f in zip((moved > 0).sum(axis=1), reach.sum(axis=1), strict=True)]
        st.caption(t("reach", first=counts[1][0], may_first=counts[1][1], last=counts[-1][0], may_last=counts[-1][1]))
        figure.experiment()
        source(mask_experiments.leak, "return (after - before)")
        source(masks.reachable, "brought = ")


def corruption(r: Reading) -> None:
    """Another thing called masking: hiding words."""
    left, right = sides()
    with left:
        prose(SLUG, "corruption")
        share = mask_board.amount("share", 5, 60, 15, 5) / 100
        whole = mask_board.choice("whole", ("words", "tokens")) == "words"
        seed = mask_board.amount("seed", 1, 50, 1)
        hidden = masked_word.hide(r.model, str(view.get("text")), share, whole, seed)
        if hidden is None:
            st.info(t("no_words"))
            return
        formula(formulas.selected(share, hidden.n_words))
        panels.predict_section(SLUG, "corruption", [t("input"), t("who_sees")], 0, n=int((hidden.kind > 0).sum()))
        if not masked_word.has_mask_token(r.model):
            st.caption(t("no_mask_token"))
    with right:
        gap_figure.hidden_grid(hidden)
        gap_figure.hidden_shares(hidden, share)
        source(objectives.corrupt, "masked = selected &")


def encoder(r: Reading) -> None:
    """The same gap, read from one side and from both."""
    own, name = str(view.get("text")), masked_word.encoder()
    reader = name or r.model
    found = masked_word.gap_text(reader, own)
    left, right = sides()
    with left:
        prose(SLUG, "encoder")
        if found is None:
            st.info(t("no_words"))
            return
        n = len(found.token_ids)
        gap = mask_board.whole_number("gap", 1, n, n // 3 + 1) - 1
        after = mask_board.words_box("after", gap_figure.usual("after", own))
        truth = found.token_ids[gap]
        dec = masked_word.guess_next(r.model, reader, found.token_ids, gap)
        dec2 = masked_word.guess_next(r.model, reader, found.token_ids, gap, after)
        enc = masked_word.fill(name, found.token_ids, gap) if name else None
        enc2 = masked_word.fill(name, found.token_ids, gap, after) if name else None
        own_id = masking.token_of(r.model, found.labels[gap].replace("␣", ""), found.labels[gap])
        seen = None if dec is None or own_id is None else float(dec[own_id])
        formula(formulas.two_guesses(gap, None if enc is None else float(enc[truth]), seen))
        if enc is not None and enc2 is not None and dec is not None and dec2 is not None:
            panels.predict_section(
                SLUG, "encoder", [t("encoder_name"), t("decoder_name"), t("both_move")], 0,
                about=(r.model, tuple(found.labels), gap, after), change=f"{np.abs(enc - enc2).sum() / 2:.3f}",
                still=gap_figure.shown_gap(dec, dec2),
            )  # fmt: skip
    with right:
        shown = [masked_word.MASK_LABEL if i == gap else label for i, label in enumerate(found.labels)]
        mask_board.gap_strip(shown, gap)
        gap_figure.encoder_answers(name, enc, enc2, truth)
        gap_figure.decoder_answers(r.model, dec, dec2, own_id, found.labels[gap])
        source(Encoder.hidden, "x = block(x, None")


STEPS = (kinds, cells, padding, empty, infinity, documents, leak, corruption, encoder)

view.adopt_address()
model = model_choice.choose()
_, whole_page = panels.page_tools(LESSON, has_toy=False)
reading = whose_code.open_reading(LESSON, model, DEFAULT_LAYER, DEFAULT_HEAD)
steps = {step.__name__: lambda step=step: step(reading) for step in STEPS}
walk(LESSON, steps, lambda: token_bar(reading), whole_page=whole_page)
KEPT = ("text", "layer", "head", "q", "k", "step", "model", "code", "ops")
view.mirror_address(*KEPT, *map(mask_board.entry, mask_board.KEPT))
