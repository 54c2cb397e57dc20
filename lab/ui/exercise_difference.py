"""The picture of a wrong result: what was expected, what came back, and their difference, on one fixed colour range."""

from __future__ import annotations

import numpy as np
import streamlit as st

from lab import exercise_picture as picture
from lab import figures
from lab.figures.heat_map import shown_number
from lab.language import text
from lab.lessons import code_span
from lab.ui.charts import chart
from lm_core.judge.compare import index_text, shape_text
from lm_core.judge.verdict import Verdict


def draw(verdict: Verdict) -> None:
    """The picture and its words; nothing where the results are no tensors, or single numbers."""
    if verdict.tensors is None or max(t.numel() for t in verdict.tensors) < 2:
        return
    expected, yours = (t.detach().double().numpy() for t in verdict.tensors)
    st.subheader(text("exercises.picture"), anchor=False)
    if expected.shape != yours.shape:
        st.markdown(text("exercises.shapes", expected=code_span(shape_text(verdict.tensors[0], verdict.axes)),
                         yours=code_span(shape_text(verdict.tensors[1], ""))))  # fmt: skip
        maps = {"expected": expected, "yours": yours}
        if min(expected.size, yours.size) == 0:
            return
        _maps({name: picture.plane(a, (0,) * max(0, a.ndim - 2)) for name, a in maps.items()}, expected, None)
        return
    found = picture.gap(expected, yours)
    if not found.count:  # such as a dtype that is not right while the numbers are
        st.markdown(text("exercises.same_numbers"))
        return
    st.markdown(_words(verdict, expected, yours, found))
    index = _index(verdict, expected.shape, found.worst)
    maps = {"expected": expected, "yours": yours, "difference": picture.signed_difference(expected, yours)}
    here = found.worst[: len(index)] == index
    marked = (found.worst[-2] if expected.ndim > 1 else 0, found.worst[-1]) if here else None
    _maps({name: picture.plane(a, index) for name, a in maps.items()}, expected, marked)


def _words(verdict: Verdict, expected: picture.Array, yours: picture.Array, found: picture.Gap) -> str:
    """What diverges: how many cells, the largest difference, and a simple rule between the two where there is one."""
    place = code_span(f"[{index_text(found.worst, verdict.axes)}]")
    sentences = [
        text("exercises.differ", n=found.count, all=expected.size, place=place,
             expected=shown_number(float(expected[found.worst]), 4), yours=shown_number(float(yours[found.worst]), 4))
    ]  # fmt: skip
    if found.relation is not None:
        sentences.append(text(f"exercises.relation_{found.relation}", value=f"{found.value:.4g}"))
    return " ".join(sentences)


def _index(verdict: Verdict, shape: tuple[int, ...], worst: tuple[int, ...]) -> tuple[int, ...]:
    """Which plane of a result with more than two axes is shown: at first the one with the largest difference."""
    if len(shape) <= 2:
        return ()
    names = verdict.axes.split() if len(verdict.axes.split()) == len(shape) else [f"{k}" for k in range(len(shape))]
    chosen = []
    with st.container(horizontal=True, key="exercise_planes"):
        for axis, size in enumerate(shape[:-2]):
            options = list(range(size))
            key = f"plane_{verdict.slug}_{verdict.values.get('what', '')}_{axis}_{size}_{worst[axis]}"
            value = st.segmented_control(
                text("exercises.axis", name=names[axis]), options, default=worst[axis], key=key, required=True
            )
            chosen.append(int(value if value is not None else worst[axis]))
    return tuple(chosen)


def _maps(maps: dict[str, picture.Array], expected: picture.Array, marked: tuple[int, int] | None) -> None:
    """Side by side, one under the other on a phone; the range comes from what is expected, so it stays put."""
    high = picture.colour_range(expected)
    whole = all(np.array_equal(a[np.isfinite(a)], np.round(a[np.isfinite(a)])) for a in maps.values())
    for column, (name, values) in zip(st.columns(3), maps.items(), strict=False):
        with column:
            chart(
                figures.heat_map, values, high=high, marked=marked,
                role="loss" if name == "difference" else "weights", decimals=0 if whole else 2,
                title=text(f"exercises.map_{name}"), file=f"exercise_{name}",
                alt=text("exercises.map_alt", name=text(f"exercises.map_{name}"), rows=values.shape[0],
                         columns=values.shape[1]),
            )  # fmt: skip
    st.caption(text("exercises.map_note", high=f"{high:.3g}"))
