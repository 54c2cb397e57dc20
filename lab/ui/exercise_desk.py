"""What happens at an exercise: saving, checking, remembering. The page and its panels draw; this module acts.

Between runs the session holds plain values only: a save of a learner makes Streamlit import our modules anew, and an
object of an old class would not be recognised by the new one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from lab import exercise_files, progress, sandbox, workspaces
from lab.exercise_files import Conflict, FileTrouble, Saved
from lab.language import text
from lab.progress import Standing
from lab.ui import exercise_map
from lm_core.judge.exercise import Exercise
from lm_core.judge.verdict import Verdict

_CHECKED = "exercise.checked"  # {"slug", "version", "verdict": its fields}
_CONFLICT = "exercise.conflict"  # {"slug", "mine"}
_SAID = "exercise.said"  # (kind, sentence): once, in the run after something was done
_NONCE = "exercise.nonce"  # slug -> what the editor must take over
Result = TypeVar("Result")


def kept(action: Callable[[], Result], otherwise: Result) -> Result:
    """What the store says, or `otherwise` while it cannot be reached: writing code goes on without it."""
    try:
        return action()
    except SQLAlchemyError:
        st.session_state["exercise.store_away"] = True
        return otherwise


def tell_about_store() -> None:
    """Say that progress is not kept just now, where that is so."""
    if st.session_state.pop("exercise.store_away", False):
        st.warning(text("exercises.store_away"))


def say(kind: str, sentence: str) -> None:
    """A sentence for the next run: "info" or "warning"."""
    st.session_state[_SAID] = (kind, sentence)


def said() -> None:
    """Show it."""
    kind, sentence = st.session_state.pop(_SAID, (None, ""))
    if kind is not None:
        (st.warning if kind == "warning" else st.info)(sentence)


def trouble(error: FileTrouble) -> str:
    """What is wrong with a file, in the reader's language."""
    numbers: dict[str, Any] = {"size": "", "most": workspaces.MOST_BYTES, **error.numbers}
    return text(f"exercises.trouble_{error.reason}", **numbers)


def nonce(slug: str) -> str:
    """Changes when the editor is to take over the file, whatever stands in it."""
    return str(st.session_state.get(_NONCE, {}).get(slug, ""))


def _adopt(slug: str) -> None:
    st.session_state.setdefault(_NONCE, {})[slug] = secrets.token_hex(4)


# --- the file ---------------------------------------------------------------------------------------------------------


def save(owner: str, exercise: Exercise, answer: tuple[str, str]) -> None:
    """Save what the editor sent. What cannot be saved stays in the editor."""
    written, base = answer
    try:
        exercise_files.save(exercise_files.path_of(owner, exercise), written, base)
        _forget_verdict_of_same_text(exercise, written)
    except Conflict:
        st.session_state[_CONFLICT] = {"slug": exercise.slug, "mine": written}
    except FileTrouble as error:
        say("warning", trouble(error))


def _forget_verdict_of_same_text(exercise: Exercise, written: str) -> None:
    """Saving once more what is saved already means: check it again."""
    checked = st.session_state.get(_CHECKED)
    if checked and checked["slug"] == exercise.slug and checked["version"] == exercise_files.version_of(written):
        del st.session_state[_CHECKED]


def conflict(exercise: Exercise) -> str | None:
    """The learner's text that was not saved because the file had changed, or None."""
    found = st.session_state.get(_CONFLICT)
    return str(found["mine"]) if found and found["slug"] == exercise.slug else None


def settle(owner: str, exercise: Exercise, mine: str, *, keep_mine: bool) -> None:
    """End a conflict: one text stands in the file, the other is kept beside it."""
    path = exercise_files.path_of(owner, exercise)
    try:
        backup = exercise_files.replace(path, mine) if keep_mine else exercise_files.keep(path, mine)
    except FileTrouble as error:
        say("warning", trouble(error))
        return
    st.session_state.pop(_CONFLICT, None)
    _adopt(exercise.slug)
    if backup:
        say("info", text("exercises.kept_as", name=backup))


def put_back(owner: str, exercise: Exercise) -> None:
    """The file as it was handed out; what stood there is kept beside it."""
    try:
        backup = exercise_files.replace(exercise_files.path_of(owner, exercise), exercise_map.stub(exercise))
    except FileTrouble as error:
        say("warning", trouble(error))
        return
    st.session_state.pop(_CONFLICT, None)
    st.session_state["exercise.ask_reset"] = None
    _adopt(exercise.slug)
    kept(lambda: progress.begin_again(owner, exercise.slug), None)
    say("info", text("exercises.was_reset" if backup is None else "exercises.reset_kept", name=backup or ""))


# --- the check --------------------------------------------------------------------------------------------------------


def known_verdict(exercise: Exercise, saved: Saved) -> Verdict | None:
    """What the last check of exactly this text found in this session, or None."""
    if saved.text == exercise_map.stub(exercise):
        return Verdict(exercise.slug, False, "start", "general.bug" if exercise.is_bug_hunt else "general.todo")
    checked = st.session_state.get(_CHECKED)
    if not checked or (checked["slug"], checked["version"]) != (exercise.slug, saved.version):
        return None
    return Verdict(**checked["verdict"])


def check(owner: str, exercise: Exercise, saved: Saved) -> None:
    """Check a text, in the box for student code, and remember what was found, here and in the store.

    Raises SandboxError where the box gave no answer.
    """
    verdict = sandbox.check(exercise, saved.text)
    untouched = workspaces.is_untouched(exercise, saved.text)
    st.session_state[_CHECKED] = {
        "slug": exercise.slug, "version": saved.version,
        "verdict": {field.name: getattr(verdict, field.name) for field in fields(Verdict)},
    }  # fmt: skip
    kept(lambda: progress.record(owner, verdict, saved.text, untouched=untouched), None)


# --- the ladder -------------------------------------------------------------------------------------------------------


def standing(owner: str, exercise: Exercise) -> Standing:
    """How far the learner is here; a fresh start while the store cannot be reached."""
    return kept(lambda: progress.one(owner, exercise.slug), Standing(exercise.slug))


def climb(owner: str, exercise: Exercise, step: Callable[[str, str], Any]) -> None:
    """Open the next hint or the solution; a click on a button of an older run may come too early."""
    try:
        kept(lambda: step(owner, exercise.slug), None)
    except ValueError:
        return
