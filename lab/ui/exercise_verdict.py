"""What the judge says of a file, and the ladder of hints below it."""

from __future__ import annotations

import re

import streamlit as st

from lab import progress
from lab.language import current, text
from lab.lessons import code_span, escape_markdown
from lab.progress import Standing
from lab.ui import exercise_desk as desk
from lm_core.judge import messages
from lm_core.judge.exercise import Exercise
from lm_core.judge.files import solution_text
from lm_core.judge.progress import N_HINTS
from lm_core.judge.verdict import Verdict

LONGEST_PRINTED = 2000


def inert(line: str) -> str:
    """A line of the judge as Markdown: `code` in backticks stays code, all else is shown as it is.

    A line may quote an error message or a line of a learner's file, so nothing in it is trusted.

    >>> print(inert("(`x.mT`) *now*"))
    \\(` x.mT `\\) \\*now\\*
    """
    parts = re.split(r"`([^`\n]+)`", line)
    return "".join(code_span(part) if k % 2 else escape_markdown(part) for k, part in enumerate(parts))


def blocks(message: str, quoting: str = "") -> list[tuple[str, str]]:
    """The judge's message as ("text", line) and ("code", lines): what is indented is code, or numbers to compare.

    quoting: how a line begins that goes on with a line of the learner's file.

    >>> blocks("Wrong.\\n  expected  1\\n  got       2")
    [('text', 'Wrong.'), ('code', 'expected  1\\ngot       2')]
    """
    found: list[tuple[str, str]] = []
    lines = message.split("\n")
    if quoting:
        lines = [part for line in lines for part in _quoted(line, quoting)]
    for line in lines:
        kind, words = ("code", line[2:]) if line.startswith("  ") else ("text", line)
        if kind == "code" and found and found[-1][0] == "code":
            found[-1] = ("code", found[-1][1] + "\n" + words)
        elif words.strip():
            found.append((kind, words))
    return found


def _quoted(line: str, quoting: str) -> list[str]:
    rest = line.removeprefix(quoting)
    return [line] if rest == line else [quoting, rest] if rest.strip() else [quoting]


def headline(verdict: Verdict) -> str:
    """The outcome in a few words."""
    return text("exercises.passed" if verdict.passed else f"exercises.stage_{verdict.stage}")


def verdict_panel(verdict: Verdict, source: str) -> None:
    """The outcome, what it rests on, and what the file printed."""
    with st.container(key="exercise_verdict"):
        st.markdown(f":{'green' if verdict.passed else 'red' if verdict.stage != 'start' else 'gray'}"
                    f"[**{headline(verdict)}**]")  # fmt: skip
        quoting = "" if verdict.line is None else messages.say("part.line", current(), line=verdict.line)
        for kind, words in blocks(messages.message(verdict, current(), source), quoting):
            if kind == "code":
                st.code(words, language=None, wrap_lines=True)
            else:
                st.markdown(inert(words))
        if verdict.printed.strip():
            st.caption(text("exercises.printed"))
            st.code(verdict.printed.strip()[:LONGEST_PRINTED], language=None, wrap_lines=True, height=160)
        if verdict.seconds:
            st.caption(text("exercises.seconds", seconds=f"{verdict.seconds:.1f}"))


def ladder(owner: str, exercise: Exercise, standing: Standing, *, solved: bool) -> None:
    """The hints opened so far, the button to the next, and the solution where it may be seen."""
    rungs = standing.ladder
    with st.container(key="exercise_ladder"):
        st.caption(text("exercises.hints", opened=standing.hints, n=N_HINTS))
        for rung in range(1, standing.hints + 1):
            st.markdown(f"{rung}. {inert(messages.hint(exercise.slug, rung, code(exercise.line), current()))}")
        if standing.hints < N_HINTS:
            st.button(
                text(f"exercises.hint_{standing.hints + 1}"), key=f"hint_{exercise.slug}",
                disabled=not rungs.next_hint_open, on_click=desk.climb, args=(owner, exercise, progress.open_hint),
                help=None if rungs.next_hint_open else messages.say("ladder.locked", current()),
            )  # fmt: skip
        if not solved and standing.passed_at is None:
            st.caption(text("exercises.hints_count" if standing.hints else "exercises.hints_cost"))
        _solution(owner, exercise, standing)


def code(line: str) -> str:
    """A line of code in backticks, as the texts write it."""
    return f"`{line}`" if "`" not in line else line


def _solution(owner: str, exercise: Exercise, standing: Standing) -> None:
    rungs = standing.ladder
    if not rungs.solution_open:
        if standing.hints:
            st.caption(messages.say("ladder.solution_locked", current()))
        return
    wanted = st.toggle(text("exercises.solution"), key=f"solution_{exercise.slug}")
    if wanted:
        if not standing.solution_seen:
            desk.climb(owner, exercise, progress.see_solution)
        st.code(solution_text(exercise), language="python", line_numbers=False)
