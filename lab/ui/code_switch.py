"""Whose functions compute the figures: the reference or the learner. In the address it is `code=mine`."""

from __future__ import annotations

import streamlit as st

from lab.language import text
from lab.own_code import OF_LESSON
from lab.ui import view

KEY = "code_menu"


def is_on(lesson: str) -> bool:
    """Whether a lesson's figures shall run on the reader's own functions."""
    return lesson in OF_LESSON and view.get("code") == "mine"


def switch(lesson: str) -> None:
    """`reference | mine`, for a lesson whose figures a learner's functions can compute."""
    if lesson not in OF_LESSON:
        return
    st.session_state[KEY] = "mine" if is_on(lesson) else "reference"
    view.put("code", "mine" if is_on(lesson) else None)
    st.segmented_control(
        text("own.switch"), ("reference", "mine"), key=KEY, required=True, label_visibility="collapsed",
        format_func=lambda name: text(f"own.{name}"),
        on_change=lambda: view.put("code", "mine" if st.session_state[KEY] == "mine" else None),
    )  # fmt: skip
