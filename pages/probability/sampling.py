"""Sampling and generation: from the model's numbers to the next word, and on to a text."""

import streamlit as st

from lab import course
from lab.ui import beam_panels as beams_view
from lab.ui import branch_panels as tree
from lab.ui import cache_panels as cache_view
from lab.ui import model_choice, panels, view, whose_code
from lab.ui import sampling_controls as controls
from lab.ui import sampling_formulas as formulas
from lab.ui import sampling_numbers as numbers
from lab.ui import sampling_orders as orders
from lab.ui import sampling_panels as figures_
from lab.ui import sampling_questions as questions
from lab.ui.panels import formula, prose, shown_if, source
from lab.ui.sampling_controls import prompt_bar, t
from lab.ui.sampling_numbers import Prompt
from lab.ui.walk import sides, walk
from lm_core import beam_search, block, generation, probability, sampling

LESSON = course.lesson("sampling")
SLUG = LESSON.slug
DRAWS = 1000
FILTERS = {"top_k": sampling.keep_top_k, "top_p": sampling.keep_top_p, "min_p": sampling.keep_min_p}
MARKED = {"top_k": "return logits.masked_fill", "top_p": "before >= p", "min_p": "probabilities < min_p"}


def guess(p: Prompt) -> None:
    """After your text, every token of the vocabulary has a probability."""
    found = whose_code.stages(p, controls.config())
    token, base = controls.followed(found), found.of("model")
    left, right = sides()
    with left:
        prose(SLUG, "guess", vocab_size=f"{len(base):,}", cut_to=figures_.CUT_TO)
        answered = questions.guess(p, base)
        lines = formulas.softmax_lines(found, "model", token)
        formula(lines if answered else lines[:1], t("formula_of", token=figures_.names_of(p, token)))
    with right:
        shown_if(answered, lambda: figures_.guess_figure(p, found, token))
        source(probability.softmax, "return exponentials")


def repetition(p: Prompt) -> None:
    """What was said already becomes less likely."""
    left, right = sides()
    with left:
        prose(SLUG, "repetition")
        controls.slider("repetition", "own")
    found = whose_code.stages(p, controls.config())
    token = controls.followed(found, figures_.seen_tokens(p, found)[0])
    with left:
        formula(
            formulas.penalty_lines(found, token, token in p.token_ids),
            t("formula_of", token=figures_.names_of(p, token)),
        )
        questions.repetition(p, found)
    with right:
        figures_.penalty_figure(p, found, token)
        source(sampling.penalize_repetition, "torch.where(once < 0")


def temperature(p: Prompt) -> None:
    """Sharper or flatter."""
    left, right = sides()
    with left:
        prose(SLUG, "temperature")
        controls.slider("temperature", "own")
    found = whose_code.stages(p, controls.config())
    token = controls.followed(found)
    with left:
        formula(formulas.temperature_lines(found, token), t("formula_of", token=figures_.names_of(p, token)))
        questions.temperature(p, found)
        before, after = (numbers.entropy_bits(found.of(stage)) for stage in ("repetition", "temperature"))
        st.caption(t("entropies", before=f"{before:.2f}", after=f"{after:.2f}"))
    with right:
        figures_.stage_figure(
            p, found, ["repetition", "temperature"], token, title=t("temperature_title"), file="temperature",
            selected="temperature", scale=1.0,
        )  # fmt: skip
        figures_.temperature_chart(p, found)
        source(sampling.apply_temperature, "return logits / temperature")


def cut(p: Prompt) -> None:
    """Three ways to cut off the tail."""
    left, right = sides()
    with left:
        stage = orders.chosen_filter()
        prose(SLUG, f"cut_{stage}")
        controls.slider(stage, "own")
    found = whose_code.stages(p, controls.config())
    token = controls.followed(found)
    with left:
        figures_.cut_sentence(p, found, stage)
        formula(formulas.cut_lines(found, stage, token), t("formula_of", token=figures_.names_of(p, token)))
        questions.cut(p, found)
    with right:
        figures_.cut_figure(p, found, stage, token)
        source(FILTERS[stage], MARKED[stage])


def order(p: Prompt) -> None:
    """All of it, in this order."""
    prose(SLUG, "order")
    controls.sliders("order")
    found = whose_code.stages(p, controls.config())
    token = controls.followed(found)
    figures_.stage_figure(
        p, found, found.names, token, title=t("order_title"), file="stages", selected=orders.chosen_stage(),
        on_stage=lambda stage: view.put("sampling_stage", stage), scale=1.0,
        wanted=[c.token] if (c := numbers.crossing(found)) else [],
    )  # fmt: skip
    st.caption(t("order_kept", counts=" → ".join(f"{found.n_kept(name):,}" for name in found.names)))
    left, right = sides()
    with left:
        formula(
            formulas.pipeline_lines(found, token, token in p.token_ids),
            t("formula_of", token=figures_.names_of(p, token)),
        )
        orders.compare(p, found)
    with right:
        source(sampling.filter_stages, "stages[name] = _step")


def draw(p: Prompt) -> None:
    """A number decides."""
    found = whose_code.stages(p, controls.config())
    left, right = sides()
    with left:
        prose(SLUG, "draw")
        seed = controls.seed_box("draw")
        u = numbers.uniforms(seed, 1)[0]
        token, low, high = figures_.intervals(p, found, u)
        formula(
            [
                r"\sum_{j<i} p_j \;\le\; u \;<\; \sum_{j \le i} p_j",
                rf"{low:.4f} \;\le\; \mathbf{{{u:.4f}}} \;<\; {high:.4f}",
            ],
            t("formula_of", token=figures_.names_of(p, token)),
        )
        counts = numbers.draw_many(found, seed, DRAWS)
        answered = questions.draw(p, found, seed, counts)
    with right:
        figures_.interval_figure(p, found, u, token)
        shown_if(answered, lambda: figures_.counts_figure(p, found, counts))
        orders.seeds_table(p, seed)
        source(sampling.sample, "torch.searchsorted")


def branch(p: Prompt) -> None:
    """Write step by step, and turn back."""
    prose(SLUG, "branch")
    path = tree.path_of(p)
    left, right = sides()
    with left:
        tree.controls(p, path)
    with right:
        tree.text_so_far(p, path)
        tree.path_formula(p, path)
    if tree.is_over(p, path):
        st.caption(t("over"))
    tree.tree_figure(p, path)
    st.caption(controls.said_config(controls.config()))
    source(generation.next_token, "ops.sample(logits")


def beams(p: Prompt) -> None:
    """Several texts side by side."""
    prose(SLUG, "beams")
    if p.room < 1:
        st.caption(t("no_room"))
        return
    n_beams, n_new, penalty = beams_view.settings(p)
    found = numbers.searched(p, n_beams, n_new, penalty)
    beams_view.beam_figure(p, found)
    greedy_ids, greedy_total = beams_view.greedy(p, n_new)
    left, right = sides()
    with left:
        asked = n_beams, n_new, penalty
        answered = questions.beams(p, asked, found.finished[0], greedy_ids, greedy_total)
        beams_view.score_formula(found, penalty)
        shown_if(answered, lambda: beams_view.finished_table(p, found, greedy_ids, greedy_total))
    with right:
        source(beam_search.extend, "best = ways.flatten()")


def cache(p: Prompt) -> None:
    """Nothing is computed twice."""
    left, right = sides()
    with left:
        prose(SLUG, "cache", n=len(p.token_ids))
        cache_view.shapes_table(p)
        cache_view.memory(p)
    with right:
        questions.cache(p)
        cache_view.measure_button(p)
        cache_view.measured_figure(p)
        source(block.LayerCache.append, "self.k[:, :, self.length : end] = k")


STEPS = (guess, repetition, temperature, cut, order, draw, branch, beams, cache)

view.adopt_address()
model = model_choice.choose()
_, whole_page = panels.page_tools(LESSON, has_toy=False)
prompt = whose_code.open_prompt(LESSON, model)
steps = {step.__name__: lambda step=step: step(prompt) for step in STEPS}
walk(LESSON, steps, lambda: prompt_bar(prompt), whole_page=whole_page)
view.mirror_address("text", "step", "model", "code", "ops", *view.SAMPLING)
