"""Many students in one process: what the proofs of the course run, so that a proof costs milliseconds, not a start."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lm_core.judge.calls import build_calls
from lm_core.judge.exercise import Exercise
from lm_core.judge.grading import grade
from lm_core.judge.process import Worker
from lm_core.judge.verdict import Verdict


def judge_all(students: Sequence[tuple[Exercise, str]], fresh_seed: int = 12345) -> list[Verdict]:
    """The verdict on each (exercise, text), graded here on what one isolated process returned."""
    tensors: list[Tensor] = []
    calls = [build_calls(exercise, text, fresh_seed) for exercise, text in students]
    jobs = [
        {"source": text, "calls": [call.job(tensors) for call in some]}
        for (_, text), some in zip(students, calls, strict=True)
    ]
    outcome = Worker().run(jobs, tensors, limit=120)
    assert outcome.failure is None, (outcome.failure, outcome.printed, outcome.line)
    return [
        grade(exercise, some, results, outcome.tensors)
        for (exercise, _), some, results in zip(students, calls, outcome.students, strict=True)
    ]
