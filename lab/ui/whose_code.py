"""A lesson on the learner's own functions: which are used, where their numbers part from the reference, what broke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import streamlit as st
import torch

from lab import identity, models, own_answers, own_code, sandbox
from lab.course import Lesson
from lab.divergence import Array
from lab.language import current, text
from lab.own_answers import Answer
from lab.own_code import Result
from lab.ui import code_switch, own_report, panels, reading, sampling_controls, sampling_numbers, view
from lab.ui.own_report import t
from lab.ui.reading import Reading
from lab.ui.sampling_numbers import Prompt, Stages
from lm_core.judge.messages import say
from lm_core.probability import softmax
from lm_core.sampling import SamplingConfig

ATTENTION = ("q", "k", "scores", "scaled", "masked", "weights", "head_out", "attn_out")
BLOCK = ("attn_in", "attn_out", "resid_mid", "mlp_in", "mlp_hidden", "mlp_out", "resid_post")


# --- for a page -------------------------------------------------------------------------------------------------------


def open_reading(lesson: Lesson, model: str, default_layer: int, default_head: int) -> Reading:
    """`reading.open_reading`, its numbers computed by the learner's functions where the reader has switched to them."""
    r = reading.open_reading(model, default_layer, default_head)
    if not code_switch.is_on(lesson.slug):
        return r
    with st.container(key="own_code"):
        used = _choose(lesson, r.shape)
        if not used:
            return r
        with st.spinner(t("running"), show_time=False):
            result = own_code.of_text(model, r.trace, used, st.session_state.get(own_report.ATTEMPT_STATE, 0))
        yours = own_code.as_trace(r.trace, result)
        drawn = own_code.can_be_drawn(result)
        if result.failure is not None:
            own_report.say_failure(result.failure)
        if result.arrays is not None:
            own_report.of_trace(r, result, BLOCK if lesson.slug == "block" else ATTENTION)
        if not drawn:
            st.caption(t("reference_below"))
    if not drawn:
        return r
    code_switch.show_sources(used)
    return replace(r, trace=yours, is_own=True)


def open_prompt(lesson: Lesson, model: str) -> Prompt:
    """`sampling_controls.open_prompt`, and where the learner's stages part from the reference's."""
    prompt = sampling_controls.open_prompt(model)
    if not code_switch.is_on(lesson.slug):
        return prompt
    with st.container(key="own_code"):
        if not (used := _choose(lesson, prompt.shape)):
            return prompt
        config = sampling_controls.config()
        with st.spinner(t("running"), show_time=False):
            result = _stages_of(prompt, config, used)
        if result.failure is not None:
            own_report.say_failure(result.failure)
        if result.stages is not None:
            own_report.of_stages(prompt, result)
        if result.stages is None or not _drawable(result.stages):
            st.caption(t("reference_below"))
        else:
            code_switch.show_sources(used)
        _say_idle(config, used)
    return prompt


def stages(prompt: Prompt, config: SamplingConfig) -> Stages:
    """`sampling_numbers.stages`, by the learner's functions where the reader has switched to them and they can."""
    found = sampling_numbers.stages(prompt.model, prompt.token_ids, config)
    used = (
        _used(own_answers.answers(identity.owner(), "sampling", prompt.shape)) if code_switch.is_on("sampling") else []
    )
    rows = _stages_of(prompt, config, used).stages if used else None
    if rows is None or not _drawable(rows):
        return found
    return replace(found, logits=rows, probabilities=softmax(torch.from_numpy(rows.copy())).numpy())


def _stages_of(prompt: Prompt, config: SamplingConfig, used: Sequence[Answer]) -> Result:
    logits = sampling_numbers.next_logits(prompt.model, prompt.token_ids)
    seed = sampling_controls.whole_number("seed", 0, sampling_controls.MOST_SEED, 0)
    attempt = st.session_state.get(own_report.ATTEMPT_STATE, 0)
    return own_code.of_sampling(prompt.model, prompt.token_ids, logits, config, seed, used, attempt)


def _drawable(rows: Array) -> bool:
    """Whether bars can show these stages: no NaN, no +∞, and in each at least one token that can be drawn."""
    return bool((np.isfinite(rows) | np.isneginf(rows)).all() and np.isfinite(rows).any(axis=1).all())


# --- which functions --------------------------------------------------------------------------------------------------


def _choose(lesson: Lesson, shape: models.Shape) -> list[Answer]:
    """The learner's answers as buttons, those without an answer with the way to it; returns the ones to use."""
    found = own_answers.answers(identity.owner(), lesson.slug, shape)
    there = [answer for answer in found if answer.is_there]
    if there:
        sandbox.pool().get_ready("page")
        if sandbox.kind() == "process":
            st.caption(text("sandbox.not_isolated"))
    if not found:
        st.info(t("no_place"))
    if there:
        names = {answer.exercise.slug: _names(answer) for answer in there}
        st.session_state["own_pills"] = [answer.exercise.slug for answer in _used(found)]
        st.pills(
            t("used"), list(names), selection_mode="multi", key="own_pills", format_func=names.__getitem__,
            on_change=lambda: view.put("ops", ".".join(st.session_state["own_pills"]) or "none"),
        )  # fmt: skip
    for answer in found:
        if answer.problem is not None:
            st.warning(t("unreadable", file=answer.exercise.filename))
        elif not answer.is_there:
            _say_todo(answer)
    used = _used(found)
    slugs = {answer.exercise.slug for answer in used}
    if {"attend", "scaled_scores"} <= slugs:
        st.caption(t("attend_first"))
    if not used:
        st.caption(t("reference_below"))
    return used


def _used(found: Sequence[Answer]) -> list[Answer]:
    """All answers that are there, or those that the address names."""
    there = [answer for answer in found if answer.is_there]
    asked = view.get("ops")
    if not isinstance(asked, str):
        return there
    return [answer for answer in there if answer.exercise.slug in asked.split(".")]


def _names(answer: Answer) -> str:
    return ", ".join(f"`{name}`" for name in answer.functions)


def _say_todo(answer: Answer) -> None:
    slug = answer.exercise.slug
    title = say(f"{slug}.title", current())
    with st.container(horizontal=True, vertical_alignment="center", key=f"own_todo_{slug}"):
        st.markdown(t("todo", names=_names(answer)), width="content")
        panels.lesson_link("exercises", t("write_it", title=title), exercise=slug)


def _say_idle(config: SamplingConfig, used: Sequence[Answer]) -> None:
    """Functions that the settings never call: nothing was seen of them."""
    off = {
        "apply_temperature": config.temperature == 0,
        "keep_top_k": not config.top_k,
        "keep_top_p": config.top_p >= 1,
    }
    idle = [name for answer in used for name in answer.functions if off.get(name)]
    if idle:
        st.caption(t("idle", names=", ".join(f"`{name}`" for name in idle)))
