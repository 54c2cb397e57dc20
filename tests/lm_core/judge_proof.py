"""Many students in one process: what the proofs of the course run, so that a proof costs milliseconds, not a start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from lm_core.judge.calls import Call, build_calls, device_calls
from lm_core.judge.exercise import Exercise
from lm_core.judge.grading import grade
from lm_core.judge.process import Worker
from lm_core.judge.verdict import Verdict


def judge_all(
    students: Sequence[tuple[Exercise, str]], fresh_seed: int = 12345, values_only: bool = False
) -> list[Verdict]:
    """The verdict on each (exercise, text), graded here on what ONE isolated process returned.

    values_only leaves gradients, precision and device out: enough to see that something is wrong, and sooner.
    """
    tensors: list[Tensor] = []
    calls: list[list[Call]] = []
    known: dict[str, list[Call]] = {}
    for exercise, text in students:
        if exercise.slug not in known:  # the answers are the same for all; only the device is asked case by case
            built = build_calls(replace(exercise, device=False), text, fresh_seed)
            known[exercise.slug] = [call for call in built if call.variant == "value" or not values_only]
        calls.append(known[exercise.slug] + ([] if values_only else device_calls(exercise, text)))
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
