"""The exercises: the map of all, and one of them with its editor, its verdict and its hints."""

import streamlit as st

from lab import course, exercise_files, identity, progress
from lab.exercise_files import FileTrouble, Saved
from lab.language import text
from lab.sandbox import SandboxError
from lab.ui import (
    exercise_class,
    exercise_conflict,
    exercise_difference,
    exercise_editor,
    exercise_map,
    sandbox_notice,
    view,
)
from lab.ui import exercise_desk as desk
from lab.ui import exercise_verdict as panel
from lm_core.judge.catalogue import BY_SLUG, EXERCISES
from lm_core.judge.exercise import Exercise

LESSON = course.lesson("exercises")
WATCH_SECONDS = 2


def overview(owner: str) -> None:
    """The map, where to go on, and the progress to take away."""
    standings = desk.kept(lambda: progress.of(owner), dict[str, progress.Standing]())
    known = exercise_map.states(owner, standings)
    solved = sum(state in progress.SOLVED for state in known.values())
    wanted = exercise_map.next_exercise(known)
    st.title(LESSON.title(), anchor=False)
    with st.container(key="prose_exercises"):
        st.markdown(text("exercises.intro", n=len(EXERCISES)))
    with st.container(horizontal=True, vertical_alignment="center", key="exercise_onward"):
        if wanted is not None:
            key = "exercises.go_on" if solved or known[wanted.slug] != "untouched" else "exercises.begin"
            label = text(key, n=wanted.number, title=exercise_map.title(wanted))
            st.button(label, key="onward", type="primary", on_click=exercise_map.choose, args=(wanted.slug,))
        else:
            st.markdown(text("exercises.all_solved"))
        st.caption(text("exercises.solved", n=solved, all=len(EXERCISES)), width="content")
        if standings:
            rows = [standings[e.slug] for e in EXERCISES if e.slug in standings]
            st.download_button(text("panel.csv"), progress.csv(rows), "progress.csv", "text/csv", type="tertiary")
    exercise_map.draw(known, wanted.slug if wanted else None)


@st.fragment(run_every=WATCH_SECONDS)
def watch(owner: str, slug: str, version: str) -> None:
    """Look at the file now and then: what another editor saved there is shown, and checked, without a click."""
    try:
        now = exercise_files.read(exercise_files.path_of(owner, BY_SLUG[slug])).version
    except FileTrouble as error:
        now = error.reason
    if now != version:
        st.rerun(scope="app")


def task(exercise: Exercise, owner: str) -> None:
    """What is to be written, how hard it is, and what should come before."""
    names = ", ".join(f"`{function.__name__}`" for function in exercise.references)
    st.markdown(text("exercises.task_bug" if exercise.is_bug_hunt else "exercises.task_write", names=names))
    facts = [text("exercises.level", n=exercise.difficulty), text("home.minutes", minutes=exercise.minutes)]
    if exercise.prerequisites:
        earlier = [f"{BY_SLUG[p].number} {exercise_map.title(BY_SLUG[p])}" for p in exercise.prerequisites]
        facts.append(text("exercises.after", names=", ".join(earlier)))
    st.caption(" · ".join(facts))
    command = exercise_files.command(owner, exercise)
    if command is not None:
        with st.expander(text("exercises.own_editor")):
            st.markdown(text("exercises.own_editor_how"))
            st.code(command, language=None, wrap_lines=True)


def reset_button(owner: str, exercise: Exercise) -> None:
    """Put the file back, after asking."""
    if st.session_state.get("exercise.ask_reset") != exercise.slug:
        st.button(text("exercises.reset"), key="reset", type="tertiary", on_click=ask_reset, args=(exercise.slug,))
        return
    st.markdown(text("exercises.reset_sure"))
    with st.container(horizontal=True):
        st.button(text("exercises.reset_yes"), key="reset_yes", on_click=desk.put_back, args=(owner, exercise))
        st.button(text("exercises.reset_no"), key="reset_no", on_click=ask_reset, args=(None,))


def ask_reset(slug: str | None) -> None:
    """At which exercise the question stands."""
    st.session_state["exercise.ask_reset"] = slug


def workbench(owner: str, exercise: Exercise, saved: Saved) -> None:
    """Task, verdict and hints on the left, the editor on the right, the picture below."""
    verdict = desk.known_verdict(exercise, saved)
    standing = desk.standing(owner, exercise)
    left, right = st.columns([47, 62], gap="large")
    with left:
        task(exercise, owner)
        place = st.empty()
        if verdict is not None:
            with place.container():
                panel.verdict_panel(verdict, saved.text)
        panel.ladder(owner, exercise, standing, solved=verdict is not None and verdict.passed)
    with right:
        outcome = "" if verdict is None or verdict.stage == "start" else "passed" if verdict.passed else "failed"
        data = exercise_editor.payload(
            saved.text, saved.version, path=exercise_files.shown_path(owner, exercise), nonce=desk.nonce(exercise.slug),
            draft=f"{owner}/{exercise.slug}", outcome=outcome, line=verdict.line if verdict else None,
            status=text("exercises.checking") if verdict is None else panel.headline(verdict),
        )  # fmt: skip
        exercise_editor.editor(data, key=f"editor_{exercise.slug}", on_save=lambda a: desk.save(owner, exercise, a))
        reset_button(owner, exercise)
    if verdict is None:
        try:
            with place.container(), st.spinner(text("exercises.checking")):
                desk.check(owner, exercise, saved)
        except SandboxError as error:
            with place.container():
                sandbox_notice.failure(error)
                st.button(text("exercises.check_again"), key="check_again")
        else:
            st.rerun()
    else:
        exercise_difference.draw(verdict)
    watch(owner, exercise.slug, saved.version)


def one(owner: str, exercise: Exercise) -> None:
    """One exercise: the file as it is now, or both versions where two were written at a time."""
    st.title(f"{exercise.number}. {exercise_map.title(exercise)}", anchor=False)
    try:
        saved = exercise_files.read(exercise_files.path_of(owner, exercise))
    except FileTrouble as error:
        st.warning(desk.trouble(error))
        st.code(exercise_files.shown_path(owner, exercise), language=None, wrap_lines=True)
        reset_button(owner, exercise)
        watch(owner, exercise.slug, error.reason)
        return
    sandbox_notice.banner()
    mine = desk.conflict(exercise)
    if mine is not None and mine != saved.text:
        exercise_conflict.draw(owner, exercise, saved, mine)
        watch(owner, exercise.slug, saved.version)
    else:
        workbench(owner, exercise, saved)


def neighbours(exercise: Exercise) -> None:
    """← the exercise before, the one after →."""
    at = EXERCISES.index(exercise)
    with st.container(horizontal=True, horizontal_alignment="distribute", key="walk_buttons"):
        for key, other, sign in (("before", at - 1, "← {}"), ("after", at + 1, "{} →")):
            if 0 <= other < len(EXERCISES):
                label = sign.format(f"{EXERCISES[other].number}. {exercise_map.title(EXERCISES[other])}")
                st.button(label, key=key, on_click=exercise_map.choose, args=(EXERCISES[other].slug,))
            else:
                st.space("small")


view.adopt_address()
owner = identity.owner()
slug = view.get("exercise")
with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key="tools"):
    if slug in BY_SLUG:
        st.button(text("exercises.back"), key="back", type="tertiary", on_click=exercise_map.choose, args=(None,))
    else:
        st.caption(course.part_of(LESSON).title(), width="content")
    show_class = exercise_class.may_look() and st.toggle(text("exercises.class"), key="exercise_class")
desk.said()
if show_class:
    st.title(text("exercises.class_title"), anchor=False)
    exercise_class.draw()
elif slug in BY_SLUG:
    one(owner, BY_SLUG[slug])
    neighbours(BY_SLUG[slug])
else:
    if slug is not None:
        st.info(text("exercises.unknown"))
        view.put("exercise", None)
    overview(owner)
desk.tell_about_store()
view.mirror_address("exercise")
