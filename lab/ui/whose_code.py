"""A lesson on the learner's own functions: which are used, where their numbers part from the reference, what broke."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import streamlit as st
import torch

from lab import course, divergence, figures, identity, models, own_code
from lab.course import Lesson
from lab.divergence import Array, Divergence
from lab.language import address, current, text
from lab.lessons import Markdown, escape_markdown
from lab.own_code import Answer, Failure, Result, Written
from lab.ui import code_switch, components, panels, reading, sampling_controls, sampling_numbers, view
from lab.ui.reading import Reading
from lab.ui.sampling_numbers import Prompt, Stages
from lm_core.judge.messages import say
from lm_core.probability import softmax
from lm_core.sampling import SamplingConfig

ATTENTION = ("q", "k", "scores", "scaled", "masked", "weights", "head_out", "attn_out")
BLOCK = ("attn_in", "attn_out", "resid_mid", "mlp_in", "mlp_hidden", "mlp_out", "resid_post")
ATTEMPT_STATE = "own.attempt"
AGAIN = ("time", "crash", "output", "busy", "start", "flood")  # may go otherwise the next time
SHOWN_MESSAGE = 400


def t(key: str, **values: object) -> str:
    """A text of this panel."""
    return text(f"own.{key}", language=None, **values)


# --- for a page -------------------------------------------------------------------------------------------------------


def open_reading(lesson: Lesson, model: str, default_layer: int, default_head: int) -> Reading:
    """`reading.open_reading`, its numbers computed by the learner's functions where the reader has switched to them."""
    r = reading.open_reading(model, default_layer, default_head)
    if not code_switch.is_on():
        return r
    with st.container(key="own_code"):
        used = _choose(lesson, r.shape)
        if not used:
            return r
        with st.spinner(t("running"), show_time=False):
            result = own_code.of_text(model, r.trace, used, st.session_state.get(ATTEMPT_STATE, 0))
        yours = own_code.as_trace(r.trace, result)
        drawn = own_code.can_be_drawn(result)
        if result.failure is not None:
            _say_failure(result.failure)
        if result.arrays is not None:
            _say_trace(r, result, BLOCK if lesson.slug == "block" else ATTENTION)
        if not drawn:
            st.caption(t("reference_below"))
    return replace(r, trace=yours, is_own=True) if drawn else r


def open_prompt(lesson: Lesson, model: str) -> Prompt:
    """`sampling_controls.open_prompt`, and where the learner's stages part from the reference's."""
    prompt = sampling_controls.open_prompt(model)
    if not code_switch.is_on():
        return prompt
    with st.container(key="own_code"):
        if not (used := _choose(lesson, prompt.shape)):
            return prompt
        config = sampling_controls.config()
        with st.spinner(t("running"), show_time=False):
            result = _stages_of(prompt, config, used)
        if result.failure is not None:
            _say_failure(result.failure)
        if result.stages is not None:
            _say_stages(prompt, result)
        if result.stages is None or not _drawable(result.stages):
            st.caption(t("reference_below"))
        _say_idle(config, used)
    return prompt


def stages(prompt: Prompt, config: SamplingConfig) -> Stages:
    """`sampling_numbers.stages`, by the learner's functions where the reader has switched to them and they can."""
    found = sampling_numbers.stages(prompt.model, prompt.token_ids, config)
    used = _used(own_code.answers(identity.owner(), "sampling", prompt.shape)) if code_switch.is_on() else []
    rows = _stages_of(prompt, config, used).stages if used else None
    if rows is None or not _drawable(rows):
        return found
    return replace(found, logits=rows, probabilities=softmax(torch.from_numpy(rows.copy())).numpy())


def _stages_of(prompt: Prompt, config: SamplingConfig, used: Sequence[Answer]) -> Result:
    logits = sampling_numbers.next_logits(prompt.model, prompt.token_ids)
    seed = sampling_controls.whole_number("seed", 0, sampling_controls.MOST_SEED, 0)
    attempt = st.session_state.get(ATTEMPT_STATE, 0)
    return own_code.of_sampling(prompt.model, prompt.token_ids, logits, config, seed, used, attempt)


def _drawable(rows: Array) -> bool:
    """Whether bars can show these stages: no NaN, no +∞, and in each at least one token that can be drawn."""
    return bool((np.isfinite(rows) | np.isneginf(rows)).all() and np.isfinite(rows).any(axis=1).all())


# --- which functions --------------------------------------------------------------------------------------------------


def _choose(lesson: Lesson, shape: models.Shape) -> list[Answer]:
    """The learner's answers as buttons, those without an answer with the way to it; returns the ones to use."""
    found = own_code.answers(identity.owner(), lesson.slug, shape)
    there = [answer for answer in found if answer.is_there]
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
        page = course.lesson("exercises")
        if page.is_open:
            st.page_link(page.file, label=t("write_it", title=title), query_params={"exercise": slug, **address()})
        else:
            query = "&".join(f"{name}={value}" for name, value in {"exercise": slug, **address()}.items())
            st.markdown(f"[{t('write_it', title=title)}](/exercises?{query})", width="content")


# --- what came of it --------------------------------------------------------------------------------------------------


def _say_failure(failure: Failure) -> None:
    """What went wrong, with the learner's own line; the exception's words as plain text."""
    kind = failure.kind if failure.kind in KINDS else "crash"
    values = {"function": f"`{failure.function}`", "file": f"`{failure.file}`", "seconds": own_code.SECONDS}
    part = f"`.{failure.part}`" if failure.part.isidentifier() else f"`{failure.part}`" if failure.part else ""
    values |= {"part": part, "returned": f"`{failure.returned}`", "wanted": f"`{failure.wanted}`"}
    st.warning(t(f"failed_{kind}" + ("_part" if kind == "shape" and part else ""), **values))
    lines = []
    if failure.line is not None:
        lines.append(f"{failure.file}:{failure.line}    {failure.code}")
    if kind == "exception":
        lines.append(f"{failure.type}: {failure.message[:SHOWN_MESSAGE]}")
    if lines:
        st.code("\n".join(lines), language=None, wrap_lines=True)
    if kind in AGAIN:
        st.button(t("again"), key="own_again", on_click=_again)


KINDS = (
    "exception", "unwritten", "missing", "shape", "time", "crash", "output", "busy", "start", "flood", "refused",
    "large",
)  # fmt: skip


def _again() -> None:
    st.session_state[ATTEMPT_STATE] = st.session_state.get(ATTEMPT_STATE, 0) + 1


def _say_trace(r: Reading, result: Result, chain: Sequence[str]) -> None:
    assert result.arrays is not None
    found = result.divergence
    if found is None:
        st.success(t("same"))
        _say_written(result.written)
        return
    st.error(_sentence(found, r.shape.d_head, _where(r, found)))
    if found.layer is not None:
        _chain(divergence.differing_stages(result.arrays, r.trace.arrays, found.layer), found, chain)
    left, right = panels_sides(result.written)
    with left:
        _map(r, result, found)
    if right is not None:
        with right:
            _say_written(result.written)


def panels_sides(
    written: Written | None,
) -> tuple[st.delta_generator.DeltaGenerator, st.delta_generator.DeltaGenerator | None]:
    """The map, and beside it the two texts where there are any."""
    if written is None:
        return st.container(), None
    left, right = st.columns([62, 47], gap="large")
    return left, right


def number(value: float) -> str:
    """A number for a sentence.

    >>> number(-math.inf), number(30.67542), number(math.nan)
    ('−∞', '30.68', 'NaN')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}"


def _sentence(found: Divergence, d_head: int, where: str) -> str:
    """Which stage is the first that differs, and by how much."""
    stage = Markdown(f"**{t(f'stage.{found.stage}')}**")
    first = t("first", stage=stage, layer=found.layer + 1) if found.layer is not None else t("first_plain", stage=stage)
    if found.factor is not None:
        factor, what = number(found.factor), "factor"
        if math.isclose(found.factor, math.sqrt(d_head), rel_tol=1e-3) and found.stage == "scaled":
            what = "factor_root"
        said = t(what, factor=factor, d_head=d_head)
    else:
        said = t(f"amount_{found.kind}", n=f"{found.n:,}", n_all=f"{found.n_all:,}")
    values = t("cell", yours=number(found.yours), reference=number(found.reference), where=where)
    return f"{first} {said} {values}"


def _where(r: Reading, found: Divergence) -> str:
    """The place of the cell with the largest difference, in words."""
    labels = [f"{escape_markdown(label)}" for label in r.labels]
    if found.stage == "logits":
        return t("where_row", token=labels[found.cell[0]], n=found.cell[1] + 1)
    if len(found.cell) == 2:
        return t("where_row", token=labels[found.cell[0]], n=found.cell[1] + 1)
    head, i, j = found.cell
    if found.stage in ("scores", "scaled", "masked", "weights"):
        return t("where_pair", head=head + 1, query=labels[i], other=labels[j])
    return t("where_head", head=head + 1, token=labels[i], n=j + 1)


def _chain(differing: dict[str, bool], found: Divergence, shown: Sequence[str]) -> None:
    """The stages of the layer in order: those that agree, the first that does not, and what became of the others."""
    stages = [stage for stage in divergence.OF_LAYER if stage in shown or stage == found.stage]
    _badges(stages, differing, found.stage)


def _badges(stages: Sequence[str], differing: dict[str, bool], first: str) -> None:
    marks = []
    for stage in stages:
        name = t(f"stage.{stage}")
        if stage == first:
            marks.append(f":red-badge[✗ {name}]")
        else:
            marks.append(f":orange-badge[≠ {name}]" if differing[stage] else f":green-badge[= {name}]")
    with st.container(key="own_chain"):
        st.markdown(" → ".join(marks))
        st.caption(t("chain_note"))


def _map(r: Reading, result: Result, found: Divergence) -> None:
    """The learner's numbers of the first stage that differs; the cells that differ stand out."""
    assert result.arrays is not None
    index: tuple[int, ...] = () if found.layer is None else (found.layer,)
    if len(found.cell) == 3:
        index = (*index, found.cell[0])
    yours, right = result.arrays[found.stage][index], r.trace.arrays[found.stage][index]
    wrong = divergence.differs(yours, right)
    square = yours.shape == (r.n_tokens, r.n_tokens) and found.stage in ("scores", "scaled", "masked", "weights")
    columns = r.labels if square else [str(c + 1) for c in range(yours.shape[1])]
    drawable = bool((np.isfinite(yours) | np.isneginf(yours)).all())
    title = t("map" if drawable else "map_nan", stage=t(f"stage.{found.stage}"))
    panels.figure_head(title, lambda: figures.matrix_csv(yours, r.labels, columns), f"own_{found.stage}")
    if yours.shape[1] > MOST_COLUMNS:
        return
    components.matrix(
        yours if drawable else (~np.isfinite(yours)).astype(float), r.labels, columns,
        selected=(found.cell[-2], found.cell[-1]), faint=~wrong, colour_values=wrong.astype(float), vmin=0.0, vmax=1.5,
        role="loss", col_role="k" if square else "neutral", decimals=2 if drawable else 0, key="own_map",
        alt=t("map_alt", stage=t(f"stage.{found.stage}"), n=int(wrong.sum()), n_all=wrong.size),
        on_select=r.choose_pair if square else lambda cell: r.choose_query(cell[0]),
    )  # fmt: skip
    st.caption(t("map_note", n=int(wrong.sum()), n_all=wrong.size))


MOST_COLUMNS = 4096


def _say_stages(prompt: Prompt, result: Result) -> None:
    """The learner's stages of sampling against the reference's."""
    assert result.stages is not None
    found = result.divergence
    if found is None:
        st.success(t("same_sampling"))
    else:
        token = sampling_numbers.label_after(prompt.model, prompt.token_ids, found.cell[0])
        st.error(_sentence(found, 0, t("where_token", token=escape_markdown(token))))
        config = sampling_controls.config()
        right = sampling_numbers.stages(prompt.model, prompt.token_ids, config).logits
        differing = {
            stage: bool(divergence.differs(result.stages[row], right[row]).any())
            for row, stage in enumerate(divergence.OF_SAMPLING)
        }
        _badges(divergence.OF_SAMPLING, differing, found.stage)
    _say_written(result.written)


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


def _say_written(written: Written | None) -> None:
    """What the model adds to the sentence by the reference and by the learner, one under the other."""
    if written is None:
        return
    n = written.common
    same = written.reference == written.yours
    with st.container(key="own_written"):
        st.markdown(t("written"))
        for name, whole in (("reference", written.reference), ("mine", written.yours)):
            st.caption(t(name))
            kept, rest = _one_line(whole[:n]), _one_line(whole[n:])
            st.markdown(f"{kept}:red-background[{rest}]" if rest and name == "mine" else kept + rest)
        note = "written_same" if same else "written_cut" if written.cut and n == len(written.yours) else "written_parts"
        st.caption(t(note, n=n))


def _one_line(whole: str) -> str:
    """A text of the model, inert and on one line; what cannot be seen is made visible."""
    shown = "".join(c if c.isprintable() else "⏎" if c == "\n" else "·" for c in whole)
    return escape_markdown(shown)
