"""Two versions of one file: what stands on disk, and what the learner wrote here meanwhile. Neither is lost."""

from __future__ import annotations

import difflib
import time

import streamlit as st

from lab.exercise_files import Saved
from lab.language import text
from lab.ui import exercise_desk as desk
from lm_core.judge.exercise import Exercise

HEIGHT = 420


def difference(disk: str, mine: str) -> str:
    """What `mine` changes of `disk`, line by line, with two lines around each change.

    >>> print(difference("a\\nb\\n", "a\\nc\\n"))
     a
    -b
    +c
    """
    lines = difflib.unified_diff(disk.splitlines(), mine.splitlines(), n=2, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def draw(owner: str, exercise: Exercise, disk: Saved, mine: str) -> None:
    """Both texts side by side, what differs, and the choice; the other text is kept as a backup either way."""
    st.warning(text("exercises.conflict"))
    when = time.strftime("%H:%M:%S", time.localtime(disk.changed))
    sides = (
        ("mine", mine, text("exercises.conflict_mine")),
        ("disk", disk.text, text("exercises.conflict_disk", time=when)),
    )
    for column, (name, words, title) in zip(st.columns(2, gap="large"), sides, strict=True):
        with column:
            st.markdown(f"**{title}**")
            st.button(
                text(f"exercises.conflict_take_{name}"), key=f"take_{name}", on_click=desk.settle,
                args=(owner, exercise, mine), kwargs={"keep_mine": name == "mine"},
            )  # fmt: skip
            st.code(words, language="python", line_numbers=True, height=HEIGHT)
    st.caption(text("exercises.conflict_difference"))
    st.code(difference(disk.text, mine), language="diff")
