"""Whose functions compute the figures: the reference or the learner. In the address it is `code=mine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from lab.language import text
from lab.own_answers import OF_LESSON, Answer, sources
from lab.ui import view

KEY = "code_menu"
SOURCES_STATE = "own.sources"  # name of a reference's function -> (file, line, text) of what computed instead


def is_on(lesson: str) -> bool:
    """Whether a lesson's figures shall run on the reader's own functions."""
    return lesson in OF_LESSON and view.get("code") == "mine"


def switch(lesson: str | None) -> None:
    """`reference | mine`, for a lesson whose figures a learner's functions can compute; None: toy numbers."""
    st.session_state[SOURCES_STATE] = {}  # until a lesson's numbers have come from the learner's functions
    if lesson not in OF_LESSON:
        return
    st.session_state[KEY] = "mine" if is_on(lesson) else "reference"
    view.put("code", "mine" if is_on(lesson) else None)
    st.segmented_control(
        text("own.switch"), ("reference", "mine"), key=KEY, required=True, label_visibility="collapsed",
        format_func=lambda name: text(f"own.{name}"),
        on_change=lambda: view.put("code", "mine" if st.session_state[KEY] == "mine" else None),
    )  # fmt: skip


def show_sources(used: Sequence[Answer]) -> None:
    """From here on in this run the source panels show the learner's functions."""
    st.session_state[SOURCES_STATE] = {
        name: (source.file, source.line, source.text) for name, source in sources(used).items()
    }


def own_source(function: Callable[..., Any]) -> tuple[str, int, str] | None:
    """(file, line, text) of the learner's function that computed what `function` would have; None where none did."""
    found: tuple[str, int, str] | None = st.session_state.get(SOURCES_STATE, {}).get(function.__name__)
    return found
