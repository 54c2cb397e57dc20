"""The course proves itself: every stub fails, every reference passes, every named mistake gets its own hint."""

from __future__ import annotations

import pytest

from lm_core.judge.catalogue import EXERCISES
from lm_core.judge.exercise import Exercise
from lm_core.judge.files import FOLDER, mutant_text, solution_text, stub_text
from tests.lm_core.judge_proof import judge_all

SLUGS = [exercise.slug for exercise in EXERCISES]


@pytest.mark.parametrize("exercise", EXERCISES, ids=SLUGS)
def test_files_are_handed_out_unsolved(exercise: Exercise) -> None:
    """The committed file is the one written from the reference: its signature, its docstring, and a gap (or a bug)."""
    assert (FOLDER / exercise.filename).read_text(encoding="utf-8") == stub_text(exercise)


def test_stubs_fail() -> None:
    verdicts = judge_all([(exercise, stub_text(exercise)) for exercise in EXERCISES])
    for exercise, verdict in zip(EXERCISES, verdicts, strict=True):
        assert not verdict.passed, exercise.slug
        assert exercise.is_bug_hunt or (verdict.stage, verdict.hint_id) == ("start", "general.todo"), verdict


@pytest.mark.parametrize("seed", [12345, 99])
def test_references_pass(seed: int) -> None:
    verdicts = judge_all([(exercise, solution_text(exercise)) for exercise in EXERCISES], seed)
    assert [verdict for verdict in verdicts if not verdict.passed or verdict.slow] == []


def test_mutants_get_their_own_hint() -> None:
    pairs = [(exercise, mutant) for exercise in EXERCISES for mutant in exercise.mutants]
    verdicts = judge_all([(exercise, mutant_text(exercise, mutant)) for exercise, mutant in pairs])
    wrong = [
        (f"{exercise.slug}.{mutant.name}", verdict)
        for (exercise, mutant), verdict in zip(pairs, verdicts, strict=True)
        if verdict.passed or verdict.hint_id != f"{exercise.slug}.{mutant.name}"
    ]
    assert wrong == []


@pytest.mark.parametrize("exercise", EXERCISES, ids=SLUGS)
def test_at_least_four_mistakes_have_a_name(exercise: Exercise) -> None:
    assert len({mutant.name for mutant in exercise.mutants}) == len(exercise.mutants) >= 4
