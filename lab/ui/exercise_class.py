"""The class at a glance, for the teacher: who is at which exercise, and which hint is needed most."""

from __future__ import annotations

import time

import streamlit as st

from lab import identity, progress, settings
from lab.language import current, text
from lab.ui import exercise_desk as desk
from lab.ui import exercise_map
from lm_core.judge.catalogue import BY_SLUG
from lm_core.judge.messages import hint_text


def may_look() -> bool:
    """Whether the reader may see the whole class: a server's learners see themselves only, its teachers all."""
    asked = getattr(identity, "is_teacher", None)
    return bool(asked()) if asked is not None else not settings.is_shared()


def _name(slug: str) -> str:
    return f"{BY_SLUG[slug].number}. {exercise_map.title(BY_SLUG[slug])}" if slug in BY_SLUG else slug


def _hint(hint_id: str | None) -> str:
    """A hint in words; one of an older version of the course by its id."""
    if hint_id is None:
        return ""
    try:
        return hint_text(hint_id, current())
    except (KeyError, ValueError):
        return hint_id


def _ago(when: float) -> str:
    minutes = max(0, int((time.time() - when) / 60))
    return text("exercises.minutes_ago", n=minutes) if minutes < 120 else text("exercises.hours_ago", n=minutes // 60)


def draw() -> None:
    """Three tables, each with its words for an empty class."""
    rows = desk.kept(progress.learners, list[progress.Learner]())
    if not rows:
        st.info(text("exercises.class_empty"))
        return
    head, take = st.columns([4, 1], vertical_alignment="center")
    head.subheader(text("exercises.class_who"), anchor=False)
    take.download_button(text("panel.csv"), progress.class_csv(rows), "class.csv", "text/csv", type="tertiary")
    column = {name: text(f"exercises.column_{name}") for name in (
        "learner", "exercise", "state", "attempts", "hints", "stuck", "solved", "helped", "when", "hint", "learners",
        "times", "tried", "rung", "solution")}  # fmt: skip
    st.dataframe(
        [
            {
                column["learner"]: row.owner, column["exercise"]: _name(row.exercise),
                column["state"]: text(f"exercises.state_{row.state}"), column["attempts"]: row.attempts,
                column["hints"]: row.hints, column["stuck"]: _hint(row.hint_id), column["solved"]: row.solved,
                column["helped"]: row.helped, column["when"]: _ago(row.updated),
            }
            for row in rows
        ],
        hide_index=True, key="class_who",
    )  # fmt: skip
    needed = desk.kept(progress.needed_hints, list[progress.NeededHint]())
    st.subheader(text("exercises.class_hints"), anchor=False)
    if needed:
        st.dataframe(
            [
                {column["exercise"]: _name(row.exercise), column["hint"]: _hint(row.hint_id),
                 column["learners"]: row.learners, column["times"]: row.times}
                for row in needed
            ],
            hide_index=True, key="class_hints",
        )  # fmt: skip
    else:
        st.caption(text("exercises.class_no_hints"))
    st.subheader(text("exercises.class_ladder"), anchor=False)
    st.dataframe(
        [
            {column["exercise"]: _name(row.exercise), column["tried"]: row.tried, column["solved"]: row.solved}
            | {f"{column['rung']} {n}": count for n, count in enumerate(row.rungs, 1)}
            | {column["solution"]: row.solution}
            for row in desk.kept(progress.opened, list[progress.Opened]())
        ],
        hide_index=True, key="class_ladder",
    )  # fmt: skip
