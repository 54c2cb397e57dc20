"""The walk: which step is on the screen, and that a lesson draws every step that the catalogue names."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from lab.course import lesson

STEPS = lesson("self_attention").steps


def _page(whole: bool, missing: bool) -> None:
    import streamlit as st

    from lab import course
    from lab.ui.walk import walk

    the_lesson = course.lesson("self_attention")
    drawn = {name: lambda name=name: st.text(name) for name in the_lesson.steps if not (missing and name == "mix")}
    walk(the_lesson, drawn, lambda: st.text("head"), whole_page=whole)


def visit(step: str | None = None, whole: bool = False, missing: bool = False) -> AppTest:
    app = AppTest.from_function(_page, default_timeout=30, args=(whole, missing))
    if step is not None:
        app.session_state["view.step"] = step
    return app.run()


def texts(app: AppTest) -> list[str]:
    return [text.value for text in app.text]


@pytest.mark.parametrize(("step", "number"), [(None, 1), ("1", 1), ("9", 9), ("05", 5)])
def test_one_step_below_its_head(step: str | None, number: int) -> None:
    app = visit(step)
    assert not app.exception
    assert texts(app) == ["head", STEPS[number - 1]]
    assert app.session_state["view.step"] == str(number)


@pytest.mark.parametrize("step", ["0", "10", "999", "9999", "-1", "x", "", "1.0", "٤", "²", "1\n"])
def test_no_such_step_is_the_first(step: str) -> None:
    assert texts(visit(step)) == ["head", STEPS[0]]


def test_next_and_back_go_one_step_and_stop_at_the_ends() -> None:
    app = visit()
    assert [b.key for b in app.button] == ["walk_next"]
    app.button(key="walk_next").click().run()
    assert texts(app)[1] == STEPS[1] and {b.key for b in app.button} == {"walk_back", "walk_next"}
    app.button(key="walk_back").click().run()
    assert texts(app)[1] == STEPS[0]
    assert [b.key for b in visit("9").button] == ["walk_back"]


def test_the_whole_page_has_every_step_once_and_no_buttons() -> None:
    app = visit("4", whole=True)
    assert texts(app) == ["head", *STEPS] and not app.button
    assert len(app.header) == len(STEPS)


def test_a_step_that_nothing_draws_is_an_error() -> None:
    assert len(visit("8", missing=True).exception) == 1
    assert not visit("7", missing=True).exception
