"""What came of a learner's functions, in words and on a map: the first stage that differs, or what broke."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import streamlit as st

from lab import divergence, figures, own_code
from lab.divergence import Divergence
from lab.language import text
from lab.lessons import Markdown, escape_markdown
from lab.own_code import Failure, Result, Written
from lab.ui import components, panels, sampling_controls, sampling_numbers
from lab.ui.reading import Reading
from lab.ui.sampling_numbers import Prompt

ATTEMPT_STATE = "own.attempt"
AGAIN = ("time", "crash", "output", "busy", "start", "flood")  # may go otherwise the next time
SHOWN_MESSAGE = 400
MOST_COLUMNS = 4096  # of a map
KINDS = (
    "exception", "unwritten", "missing", "shape", "time", "crash", "output", "busy", "start", "flood", "refused",
    "large",
)  # fmt: skip


def t(key: str, **values: object) -> str:
    """A text of this panel."""
    return text(f"own.{key}", language=None, **values)


def say_failure(failure: Failure) -> None:
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


def _again() -> None:
    st.session_state[ATTEMPT_STATE] = st.session_state.get(ATTEMPT_STATE, 0) + 1


def of_trace(r: Reading, result: Result, chain: Sequence[str]) -> None:
    """A trace against the reference's: the sentence, the chain of stages, the map, the two texts."""
    assert result.arrays is not None
    found = result.divergence
    if found is None:
        st.success(t("same"))
        _written_below(result.written)
        return
    st.error(_sentence(found, r.shape.d_head, _where(r, found)))
    if found.layer is not None:
        _chain(divergence.differing_stages(result.arrays, r.trace.arrays, found.layer), found, chain)
    with st.expander(t("details"), expanded=True, key="yours_details"):
        left, right = st.columns([62, 47], gap="large")
        with left:
            _map(r, result, found)
        with right:
            _written(result.written)


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
    panels.figure_head(title, lambda: figures.matrix_csv(yours, r.labels, columns), f"yours_{found.stage}")
    if yours.shape[1] > MOST_COLUMNS:
        return
    components.matrix(
        yours if drawable else (~np.isfinite(yours)).astype(float), r.labels, columns,
        selected=(found.cell[-2], found.cell[-1]), faint=~wrong, colour_values=wrong.astype(float), vmin=0.0, vmax=1.5,
        role="loss", col_role="k" if square else "neutral", decimals=2 if drawable else 0, key="yours_map",
        alt=t("map_alt", stage=t(f"stage.{found.stage}"), n=int(wrong.sum()), n_all=wrong.size),
        on_select=r.choose_pair if square else lambda cell: r.choose_query(cell[0]),
    )  # fmt: skip
    st.caption(t("map_note", n=int(wrong.sum()), n_all=wrong.size))


def of_stages(prompt: Prompt, result: Result) -> None:
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
    _written_below(result.written)


def _written_below(written: Written | None) -> None:
    """The two texts, folded away while they are the same."""
    if written is not None:
        with st.expander(t("continuation"), expanded=written.reference != written.yours, key="yours_texts"):
            _written(written)


def _written(written: Written | None) -> None:
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
        note = "written_parts" if n else "written_differs"
        if same or (written.cut and n == len(written.yours)):
            note = "written_same" if same else "written_cut"
        st.caption(t(note, n=n))


def _one_line(whole: str) -> str:
    """A text of the model, inert and on one line; what cannot be seen is made visible."""
    shown = "".join(c if c.isprintable() else "⏎" if c == "\n" else "·" for c in whole)
    return escape_markdown(shown)
