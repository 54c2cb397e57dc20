"""The map of the exercises: a row a topic, a column a difficulty, and how far the learner is with each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lab import progress, workspaces
from lab.exercise_files import version_of
from lab.language import current, text
from lab.progress import Standing
from lab.source import CODE_HASH
from lab.ui import components, view
from lm_core.judge.catalogue import BY_SLUG, EXERCISES
from lm_core.judge.exercise import Exercise
from lm_core.judge.files import stub_text
from lm_core.judge.messages import say

_map = components._register("exercise_map")
# The catalogue's topics are as fine as its lessons; seven rows can be overlooked.
GROUPS: dict[str, tuple[str, ...]] = {
    "text": ("tokens", "positions"),
    "attention": ("attention", "masks", "multi_head", "generation"),
    "layers": ("layers", "block", "model"),
    "probability": ("loss", "probability", "sampling"),
    "training": ("objectives", "optimizer", "finetuning", "compression", "evaluation"),
}
BUGS = "bugs"
LEVELS = tuple(range(1, max(exercise.difficulty for exercise in EXERCISES) + 1))
SHOWN = ("untouched", "unchecked", "failing", "helped", "passing")


def group_of(exercise: Exercise) -> str:
    """The row of the map that an exercise stands in. Raises StopIteration for a topic that no row names."""
    return BUGS if exercise.is_bug_hunt else next(name for name, topics in GROUPS.items() if exercise.topic in topics)


def title(exercise: Exercise) -> str:
    """Its title in the reader's language."""
    return say(f"{exercise.slug}.title", current())


@lru_cache(maxsize=64)
def _stub(slug: str, _code: str) -> str:
    return stub_text(BY_SLUG[slug])


def stub(exercise: Exercise) -> str:
    """The file as it is handed out; written once a version of the code."""
    return _stub(exercise.slug, CODE_HASH)


def state_of(exercise: Exercise, source: str, standing: Standing | None) -> str:
    """How the file stands: a state of `lab.progress`, or "unchecked" where it is no longer the text last checked."""
    if source == stub(exercise):
        return "untouched"
    if standing is None or standing.digest != version_of(source):
        return "untouched" if workspaces.is_untouched(exercise, source) else "unchecked"
    return "failing" if standing.state == "untouched" else standing.state


def states(owner: str, standings: Mapping[str, Standing]) -> dict[str, str]:
    """The state of every exercise, read off the files as they are now: an edit outside the app counts at once."""
    found = {}
    for exercise in EXERCISES:
        try:
            source = workspaces.text_of(owner, exercise)
        except (OSError, ValueError):
            found[exercise.slug] = "unchecked"
        else:
            found[exercise.slug] = state_of(exercise, source, standings.get(exercise.slug))
    return found


def next_exercise(known: Mapping[str, str]) -> Exercise | None:
    """The first unsolved exercise whose prerequisites are solved: what is begun goes before what is not."""
    open_ones = [e for e in EXERCISES if known[e.slug] not in progress.SOLVED]
    ready = [e for e in open_ones if all(known[p] in progress.SOLVED for p in e.prerequisites)] or open_ones
    return next((e for e in ready if known[e.slug] != "untouched"), ready[0] if ready else None)


def payload(known: Mapping[str, str], wanted: str | None) -> dict[str, Any]:
    """The message of the map; `wanted` is the exercise to point out."""

    def item(exercise: Exercise) -> dict[str, Any]:
        return {
            "slug": exercise.slug, "number": exercise.number, "title": title(exercise), "state": known[exercise.slug],
            "name": ", ".join(f.__name__ for f in exercise.references), "next": exercise.slug == wanted,
        }  # fmt: skip

    words = {state: text(f"exercises.state_{state}") for state in SHOWN}
    return {
        "levels": [text("exercises.level", n=level) for level in LEVELS],
        "groups": [
            {
                "title": text(f"exercises.group_{group}"),
                "cells": [
                    [item(e) for e in EXERCISES if group_of(e) == group and e.difficulty == level] for level in LEVELS
                ],
            }
            for group in (*GROUPS, BUGS)
        ],
        "legend": [
            {"state": state, "text": f"{words[state]} {count}"}
            for state in SHOWN
            if (count := sum(found == state for found in known.values()))
        ],
        "words": words,
    }


def choose(slug: str) -> None:
    """Go to an exercise; call it from a callback."""
    view.put("exercise", slug)


def answered(raw: object) -> str | None:
    """The slug that was clicked, or None for anything else.

    >>> answered("attend"), answered("no_such_exercise"), answered(3)
    ('attend', None, None)
    """
    return raw if isinstance(raw, str) and raw in BY_SLUG else None


def draw(known: Mapping[str, str], wanted: str | None) -> None:
    """The map; a click opens an exercise."""
    components._mount(_map, "exercise", "exercise_map", payload(known, wanted), answered, choose)
