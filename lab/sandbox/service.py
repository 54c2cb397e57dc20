"""What the app asks of the sandbox: a check by the judge, and a page's arrays from a learner's code."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.sandbox import isolation, workers
from lab.sandbox.failure import SandboxError

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

    from lm_core.judge.exercise import Exercise
    from lm_core.judge.process import Outcome
    from lm_core.judge.verdict import Verdict

CHECK_SECONDS = 10.0
JOB_BYTES = 48 * 2**20  # the folder of a box holds 64 MiB, answers too
# What grading may meet in values that a student's process made up.
NONSENSE = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError)


class Box:
    """The launcher that `check_text` asks for. A worker is taken when there is something to run, not before."""

    def __init__(self, pool: workers.Pool) -> None:
        self.pool = pool
        self.failure: SandboxError | None = None

    def run(self, students: list[object], tensors: list[Tensor]) -> Outcome:
        """Serve one job; what the box did wrong is told as the judge's own process tells it."""
        from lm_core.judge import worker as judge
        from lm_core.judge.process import Outcome

        text, numbers = judge.encode({"students": students, "limit": CHECK_SECONDS}, tensors)
        with self.pool.worker("check") as worker:
            try:
                answer = worker.run(None, {"job.json": text, "job.safetensors": numbers}, CHECK_SECONDS)
                size = int.from_bytes(answer[:8], "big")
                result, back = judge.decode(answer[8 : 8 + size], answer[8 + size :])
                return Outcome(list(result["students"]), back, worker.printed(), tuple(map(str, result["reached"])))
            except SandboxError as error:
                if error.reason == "start":
                    raise
                return Outcome([], [], worker.printed(), failure=error.reason, line=error.line)
            except (ValueError, KeyError, TypeError):
                return Outcome([], [], worker.printed(), failure="output")

    def close(self) -> None:
        """There is nothing to end: a worker is taken and used up inside `run`."""


def check(exercise: Exercise, source: str) -> Verdict:
    """See `lab.sandbox.check`."""
    from lm_core.judge.check import check_text
    from lm_core.judge.verdict import Verdict

    if isolation.kind() == "refused":
        raise SandboxError("refused")
    try:
        return check_text(exercise, source, Box(workers.current()))
    except SandboxError:
        raise
    except NONSENSE:
        logging.getLogger(__name__).exception("the answer of a student's process could not be graded")
        return Verdict(exercise.slug, False, "crash", "general.crash")


def run_page(job: Mapping[str, Any], files: Mapping[str, bytes], seconds: float) -> dict[str, ndarray]:
    """See `lab.sandbox.run_page`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    for name in files:
        if not name or name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or "\0" in name:
            raise ValueError(f"{name!r} is no name of a file in the box")
    if sum(map(len, files.values())) + len(json.dumps(job)) > JOB_BYTES:
        raise SandboxError("large")
    if isolation.kind() == "refused":
        raise SandboxError("refused")
    with workers.current().worker("page") as worker:
        answer = worker.run(dict(job), files, seconds)
        try:
            return load(answer)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise SandboxError("output", f"{error}\n{worker.printed()}") from None
