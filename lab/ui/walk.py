"""The walk through a lesson: a bar of steps, one step on the screen, Previous and Next; or the whole page to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lab import lessons
from lab.course import Lesson
from lab.language import current, text
from lab.lessons import escape_markdown
from lab.ui import code_switch, components, trouble, view

Step = Callable[[], None]


def _go(index: int) -> None:
    view.put("step", str(index + 1))


def current_step(lesson: Lesson) -> int:
    """Which step (from 0) is on the screen; nonsense in the address means the first."""
    step = str(view.get("step", "1"))
    index = int(step) - 1 if step.isascii() and step.isdecimal() and len(step) < 4 else 0
    return index if 0 <= index < len(lesson.steps) else 0


def sides() -> tuple[DeltaGenerator, DeltaGenerator]:
    """Prose on the left in short lines, the figure on the right; one under the other on a phone."""
    left, right = st.columns([47, 62], gap="large")
    return left, right


def walk(lesson: Lesson, steps: Mapping[str, Step], head: Callable[[], None], *, whole_page: bool) -> None:
    """Draw the step bar, `head` (what stays above every step), then the current step, or all of them.

    Raises KeyError when the catalogue names a step that `steps` does not draw.
    """
    index = current_step(lesson)
    view.put("step", str(index + 1))
    names = [text(f"{lesson.slug}.step.{step}") for step in lesson.steps]
    components.step_bar(
        names, index, done=range(index), key=f"{lesson.slug}_steps", label=text("walk.steps"), on_select=_go
    )
    if whole_page:
        head()
        for step in lesson.steps:
            st.header(lessons.section(lesson.slug, step, current()).title, anchor=False)
            _draw(lesson, steps[step])
            st.space("medium")
        return
    st.title(lessons.section(lesson.slug, lesson.steps[index], current()).title, anchor=False)
    head()
    _draw(lesson, steps[lesson.steps[index]])
    st.space("small")
    _buttons(names, index)


def _draw(lesson: Lesson, step: Step) -> None:
    """One step. A learner's numbers may be such that no figure can show them: the rest of the page stands."""
    if not code_switch.is_on(lesson.slug):
        step()
        return
    try:
        step()
    except (ValueError, ArithmeticError, IndexError) as error:
        st.info(text("own.undrawable"))
        st.code(trouble.detail(error), language=None, wrap_lines=True)


def _buttons(names: list[str], index: int) -> None:
    """← the step before, the step after →."""
    with st.container(horizontal=True, horizontal_alignment="distribute", key="walk_buttons"):
        if index:
            label = f"← {escape_markdown(names[index - 1])}"
            st.button(label, key="walk_back", on_click=_go, args=(index - 1,))
        else:
            st.space("small")
        if index + 1 < len(names):
            label = f"{escape_markdown(names[index + 1])} →"
            st.button(label, key="walk_next", type="primary", on_click=_go, args=(index + 1,))
