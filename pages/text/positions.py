"""Positions: what a model without them cannot tell, four ways to give it them, and what lies beyond their end."""

import streamlit as st

from lab import course
from lab.ui import attention_formulas, model_choice, panels, view, whose_code
from lab.ui import position_charts as charts
from lab.ui import position_data as data
from lab.ui import position_formulas as formulas
from lab.ui import position_panels as show
from lab.ui import position_questions as questions
from lab.ui.panels import formula, prose, source
from lab.ui.position_panels import t
from lab.ui.reading import Reading, token_bar
from lab.ui.walk import sides, walk
from lm_core import learned_positions, masks, positions
from lm_core import position_experiments as experiments

LESSON = course.lesson("positions")
SLUG = LESSON.slug
DEFAULT_LAYER, DEFAULT_HEAD = 0, 0


def shuffle(r: Reading) -> None:
    """Without positions attention cannot tell the order."""
    found = data.shuffled(r, show.chosen_seed())
    left, right = sides()
    with left:
        prose(SLUG, "shuffle", query=r.query, key=r.key)
        if r.n_tokens - r.trace.has_start < 2:
            st.caption(t("too_short"))
        questions.shuffle(r, found)
    with right:
        show.shuffle_bar(r, found, "none")
        formula(formulas.shuffled_weight(r, found, "none"))
        st.caption(t("largest", value=f"{found.difference('none', r.view.head):.1e}"))
    show.both_orders(r, found, "none")
    source(experiments.attention_of_layer, "placed(model, token_ids, positions)")


def leak(r: Reading) -> None:
    """The mask alone already leaks the order."""
    found = data.shuffled(r, show.chosen_seed())
    left, right = sides()
    with left:
        prose(SLUG, "leak")
        show.differences(r, found)
    with right:
        show.shuffle_bar(r, found, "mask")
        formula(formulas.seen(r, found))
        st.caption(t("layer_note"))
    show.both_orders(r, found, "mask")
    source(masks.causal_mask, "return key <= query")


def sinusoidal(r: Reading) -> None:
    """Sines and cosines: a vector for each position."""
    table = data.sinusoids(2 * show.ROWS, r.shape.d_model)
    wide = min(show.COLUMNS, table.shape[1])
    row, column = cell = show.chosen_cell("sinusoidal", show.ROWS, wide)
    left, right = sides()
    with left:
        prose(SLUG, "sinusoidal", d_model=table.shape[1])
        formula(formulas.sinusoid(row, column, table.shape[1], float(table[row, column])))
        charts.waves(table, column, row)
    with right:
        names = [str(i) for i in range(show.ROWS)]
        show.table_map("sinusoidal", table[: show.ROWS, :wide], names, cell, t("sines", shown=wide, all=table.shape[1]))
        source(positions.sinusoidal_positions, "torch.stack([angles.sin()")


def learned(r: Reading) -> None:
    """A table that training fills."""
    size = f"{r.shape.context_length * r.shape.d_model:,}"
    left, right = sides()
    with left:
        prose(SLUG, "learned", context=r.shape.context_length, d_model=r.shape.d_model, size=size)
    if r.shape.has_rope:
        with left:
            prose(SLUG, "learned_toy")
            record = show.training_slider()
            formula(formulas.likeness(record.table, show.chosen_rows(len(record.table))))
            show.alike_strip(record.table)
        with right:
            show.alike_map(record.alike, t("alike_toy", step=record.step), "alike")
            st.caption(t("table_loss", loss=f"{record.loss_nats:.3f}"))
            source(learned_positions.learn_position_table, "weights = masked_softmax")
    else:
        with left:
            formula(formulas.added(r, show.chosen_cell("learned", r.n_tokens, min(show.COLUMNS, r.shape.d_model))[1]))
            show.own_alike(r)
        with right:
            show.own_table(r)
            source(experiments.placed, "return x + model.embed_positions")


def rope(r: Reading) -> None:
    """RoPE: pairs of numbers turn like clock hands."""
    angles = data.angles(r, max(r.n_tokens, 2))
    pair = show.chosen_pair(show.shown_pairs(angles.shape[1]))
    angle = float(angles[r.view.query, pair])
    left, right = sides()
    with left:
        prose(SLUG, "rope", pairs=angles.shape[1], query=r.query)
        formula(formulas.dial(r.view.query, pair, 2 * angles.shape[1], data.theta(r.model), angle))
        if r.shape.has_rope:
            formula(attention_formulas.turned(r, "q", pair, r.head("q_proj")[r.view.query], angle), t("turned"))
        else:
            st.caption(t("not_turned"))
    with right:
        show.dial_board(r, angles, pair)
        prose(SLUG, "rope_pairs")
        show.pairings()
        if r.shape.has_rope:
            st.caption(t("pairing_difference", value=f"{data.pairing_difference(r):.1e}"))
        source(positions.rotate, "return torch.cat")


def relative(r: Reading) -> None:
    """Only the distance counts."""
    scores = data.score_by_place(r, min(show.SIDE, r.shape.context_length))
    side = len(scores)
    here = show.chosen_places(r, side)
    kind = "rope" if r.shape.has_rope else "table"
    left, right = sides()
    with left:
        prose(SLUG, "relative", query=r.query, key=r.key)
        questions.relative(r, scores, here)
        show.move_slider(here, side)
        formula(formulas.moved(r, scores, here))
        prose(SLUG, f"relative_{kind}")
    with right:
        show.place_map(r, scores, here)
        if r.shape.has_rope:
            source(experiments.rope_scores, "return rotate(q, angles)")
        else:
            source(experiments.table_scores, "return q[0, head]")


def alibi(r: Reading) -> None:
    """ALiBi: a straight penalty for distance."""
    slopes = data.slopes(r.shape.n_heads)
    slope = float(slopes[r.view.head])
    bias = data.penalties(r.n_tokens, slope)
    left, right = sides()
    with left:
        prose(SLUG, "alibi", head=r.view.head + 1)
        formula(formulas.penalty(r, slope))
        charts.penalised(r, bias)
        st.caption(t("alibi_note"))
    with right:
        charts.slope_chart(r, slopes)
        charts.bias_map(r, bias)
        source(positions.alibi_bias, "return -slopes")


def distance(r: Reading) -> None:
    """What distance does to a dot product."""
    n = min(128, r.shape.context_length)
    left, right = sides()
    if r.shape.has_rope:
        parts, chosen = data.pairs_by_distance(r, n), charts.chosen_distance(r, n)
        with left:
            prose(SLUG, "distance", query=r.query, key=r.key)
            charts.distance_slider(chosen, n)
            formula(formulas.wave_sum(parts, chosen))
            charts.parts_strip(parts, chosen)
        with right:
            alt = t("rope_distance_alt", query=r.labels[r.view.query], other=r.labels[r.view.key])
            charts.distance_chart(parts.sum(axis=1), t("by_distance"), "rope_distance", chosen, alt)
            charts.sine_distance(r, n, chosen)
            source(experiments.rope_pairs_by_distance, "products = rotate(q, angles) * k")
    else:
        own = data.alike_by_distance(show.own_rows(r, n))
        with left:
            prose(SLUG, "distance_table")
            chosen = charts.chosen_distance(r, len(own))
            charts.distance_slider(chosen, len(own))
            formula(formulas.mean_likeness(own, chosen))
        with right:
            charts.distance_chart(own, t("own_by_distance"), "own_distance", chosen, t("own_by_distance"))
            charts.sine_distance(r, n, chosen)
            source(learned_positions.cosine_similarity, "return (unit @ unit.mT)")


def beyond(r: Reading) -> None:
    """Past the length that was trained."""
    with st.spinner(t("reading")):
        found = data.beyond(r.model)
    context = r.shape.context_length
    left, right = sides()
    with left:
        prose(SLUG, "beyond", context=context, n=found.n_tokens)
        if not len(found.windows):
            prose(SLUG, "beyond_short", context=context, n=found.n_tokens)
            return
        if found.one_run is None:
            prose(SLUG, "beyond_table", refusal=found.refusal, last=context - 1)
        else:
            questions.beyond(r, found)
            prose(SLUG, "beyond_rope")
    with right:
        charts.story_chart(found, context)
        if r.shape.has_rope:
            source(experiments.losses_in_one_run, "x, angles = placed")
        else:
            source(experiments.losses_in_windows, "final = model.hidden")


STEPS = (shuffle, leak, sinusoidal, learned, rope, relative, alibi, distance, beyond)

view.adopt_address()
model = model_choice.choose()
_, whole_page = panels.page_tools(LESSON, has_toy=False)
reading = whose_code.open_reading(LESSON, model, DEFAULT_LAYER, DEFAULT_HEAD)
steps = {step.__name__: lambda step=step: step(reading) for step in STEPS}
walk(LESSON, steps, lambda: token_bar(reading), whole_page=whole_page)
view.mirror_address(
    "text", "layer", "head", "q", "k", "step", "model", "code", "ops",
    "positions_shuffle", "positions_pair", "positions_places", "positions_distance",
)  # fmt: skip
