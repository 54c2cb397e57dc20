"""The chain rule: how guesses of one token add up to the probability of a sentence."""

import math

import numpy as np
import streamlit as st

from lab import course, scores
from lab.ui import chain_compare, chain_game, chain_panels, chain_parts, components, model_choice, panels, view
from lab.ui.chain_panels import SLUG, place, scored, t
from lab.ui.panels import formula, prose, shown_if, source, tex_name, word
from lab.ui.reading import Reading, open_reading
from lab.ui.walk import current_step, sides, walk
from lm_core import probability, toy_language

LESSON = course.lesson("chain_rule")


def conditional(r: Reading) -> None:
    """One token after all before it: the whole distribution."""
    s, at = scored(r), place(r)
    i = at - 1
    left, right = sides()
    with left:
        prose(SLUG, "conditional", token=word(r.labels[at], "q"), vocab=f"{r.trace.arrays['logits'].shape[1]:,}")
        answered = panels.predict_first(
            SLUG, "conditional", [t("rank_1"), t("rank_10"), t("rank_100"), t("rank_more")],
            chain_panels.rank_class(int(s.ranks[i])), about=(r.model, tuple(r.labels), at),
            token=word(r.labels[at], "q"), rank=int(s.ranks[i]), p=f"{s.probabilities[i]:.4f}",
        )  # fmt: skip
        value = chain_panels.power_of_ten(float(s.probabilities[i])) if answered else "?"
        formula([rf"{chain_panels.given(r, at)} = \mathbf{{{value}}}"])
        if not r.trace.has_start:
            st.caption(t("no_start", token=r.labels[0]))
    with right:
        shown_if(answered, lambda: chain_panels.top_bars(r, at, s))
        source(probability.score_sequence, "log_probs = log_softmax")


def product(r: Reading) -> None:
    """Multiply them all: the probability of the sentence."""
    s = scored(r)
    left, right = sides()
    with left:
        prose(SLUG, "product", n=len(s.labels))
        formula(chain_panels.product_formula(r, s))
        prose(
            SLUG, "product_size", p=chain_panels.scientific(s.total_nats), one_in=chain_panels.scientific(-s.total_nats)
        )
    with right:
        chain_panels.table(s)


def logs(r: Reading) -> None:
    """Add logarithms instead: surprisal, perplexity, bits per byte."""
    s = scored(r)
    worst = int(s.bits.argmax())
    options = sorted({worst, *np.linspace(0, len(s.bits) - 1, min(4, len(s.bits))).astype(int).tolist()})
    left, right = sides()
    with left:
        prose(SLUG, "logs", perplexity=f"{s.perplexity:.1f}")
        answered = panels.predict_first(
            SLUG, "logs", [s.labels[o] for o in options], options.index(worst), about=(r.model, tuple(r.labels)),
            token=word(s.labels[worst], "loss"), bits=f"{s.bits[worst]:.2f}",
        )  # fmt: skip
        lines = chain_panels.log_formula(s)
        formula(lines if answered else [lines[0], *lines[2:]], t("formula_here"))
    with right:
        shown_if(answered, lambda: chain_panels.bits_bars(r, s))
        source(probability.log_softmax, "return shifted")


def underflow(r: Reading) -> None:
    """Why nobody multiplies: the product dies of its smallness."""
    s = scored(r)
    left, right = sides()
    with right:
        times = chain_panels.times_slider()
        found = scores.product_of_repeats(s, times)
        chain_panels.underflow_chart(found)
        source(probability.naive_product, "product = product * probability")
    with left:
        prose(SLUG, "underflow", n=len(found.products), sum=f"{found.log2_sums[-1]:.1f}".replace("-", "−"))
        if found.first_zero is None:
            prose(SLUG, "underflow_alive", product=f"{found.products[-1]:.2e}")
        else:
            subnormal = found.first_zero if found.first_subnormal is None else found.first_subnormal
            prose(SLUG, "underflow_dead", subnormal=subnormal + 1, zero=found.first_zero + 1)


def colours(r: Reading) -> None:
    """The sentence in the colours of its surprise."""
    s = scored(r)
    left, right = sides()
    with left:
        prose(SLUG, "colours")
        by, cuts = chain_panels.colour_controls()
    with right:
        counts = chain_panels.coloured_sentence(r, s, by, cuts)
        chain_panels.shade_bars(counts, by, cuts)
        i = place(r) - 1
        st.caption(t("token_line", token=s.labels[i], rank=int(s.ranks[i]), bits=f"{s.bits[i]:.2f}"))


def compare(r: Reading) -> None:
    """Two sentences: where does the difference arise?"""
    s = scored(r)
    left, right = sides()
    with left:
        prose(SLUG, "compare")
        other = chain_compare.other_box(r, str(view.get("text")))
        found = chain_compare.compare(r, s, other)
        if found is None:
            st.info(t("other_bad"))
            return
        formula(chain_compare.difference_formula(found))
        more = float(found.second.bits.sum() - s.bits.sum())
        prose(SLUG, "compare_same" if abs(more) < 0.005 else "compare_first" if more > 0 else "compare_second")
    with right:
        chain_compare.show(r, found)


def toy(r: Reading) -> None:
    """A language of five words: write down every string."""
    left, right = sides()
    with left:
        length = chain_parts.length_slider()
        levels = list(toy_language.all_strings(toy_language.trained_model(), length))
        level, mass = levels[-1], toy_language.ended_mass(levels)
        prose(SLUG, "toy", strings=f"{len(level.log_probs):,}", length=length)
        total = math.fsum(level.log_probs.exp().tolist())
        formula([rf"\sum_{{w_1 \dots w_{length}}} P(w_1 \dots w_{length}) = \mathbf{{{total:.12f}}}"])
        panels.predict_section(
            SLUG, "toy", [t("falls"), t("stays"), t("grows")], 1, about=None,
            total=f"{math.fsum([*mass.ended, mass.open]):.12f}",
        )  # fmt: skip
        prose(SLUG, "toy_end", length=length)
    with right:
        chain_parts.toy_bars(level)
        chain_parts.mass_bars(mass)
        source(toy_language.all_strings, "log_probs = (log_probs[:, None] + following)")


def logits(r: Reading) -> None:
    """Where a probability comes from: a dot product, then softmax."""
    scored(r)
    at = place(r)
    left, right = sides()
    with right:
        ids, chosen = chain_parts.candidate_map(r, at)
        found = scores.logit_operands(r.model, r.trace, at, ids[chosen])
        source(probability.softmax, "return exponentials")
    with left:
        label = scores.token_labels(r.model, [ids[chosen]])[0]
        prose(SLUG, "logits", token=word(label, "q"), d_model=r.shape.d_model)
        formula(chain_parts.logit_formula(found, tex_name(label, chosen)))
        chain_parts.logit_strip(found)
        prose(SLUG, "logits_wrong")


def guess(r: Reading) -> None:
    """A round for a class: guess the next token."""
    left, right = sides()
    with left:
        prose(SLUG, "guess")
    with right:
        chain_game.play(r.model)


STEPS = (conditional, product, logs, underflow, colours, compare, toy, logits, guess)


def tokens(r: Reading) -> None:
    """The sentence as chips; the one in question is outlined."""
    if LESSON.steps[current_step(LESSON)] in ("toy", "guess", "colours"):
        return  # they have their own words
    at = min(place(r), len(r.labels) - 1)  # a single token without a start has no place to ask about
    components.token_strip(r.labels, ids=r.trace.token_ids, selected_query=at, key="tokens", on_select=r.choose_query)


view.adopt_address()
model = model_choice.choose()
_, whole_page = panels.page_tools(LESSON, has_toy=False)
reading = open_reading(model, 0, 0)
steps = {step.__name__: lambda step=step: step(reading) for step in STEPS}
walk(LESSON, steps, lambda: tokens(reading), whole_page=whole_page)
view.mirror_address("text", "q", "step", "model", *view.CHAIN)
