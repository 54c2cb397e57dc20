"""Student code runs here, never in the process of the server: in a box of its own, for one job, with limits.

    isolation   which kind of box this computer can make, found out by making one
    walls       the command line of a box: what it sees, and the system calls it is refused
    inside      the process in the box; stands alone
    worker      that process seen from outside: start, job, answer, end
    workers     the pool of workers that wait with torch imported; each serves one job and is thrown away
    service     a check by the judge, and a page's arrays from a learner's code

    sandbox.kind()                                  "bubblewrap", "process" (not isolated) or "refused"
    sandbox.check(exercise, source)                 the judge's verdict; graded here, outside the box
    sandbox.run_page(job, files)                    what `lab.sandbox.page_worker` makes of a learner's functions

This file imports nothing of lm_core, so that the page worker can stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab.sandbox.failure import SandboxError

if TYPE_CHECKING:
    from numpy import ndarray

    from lab.sandbox.isolation import Kind
    from lab.sandbox.workers import Pool
    from lm_core.judge.exercise import Exercise
    from lm_core.judge.verdict import Verdict

__all__ = ["SandboxError", "check", "kind", "pool", "run_page"]


def kind() -> Kind:
    """What stands between student code and this computer; tried once by running it, then remembered.

    "bubblewrap": a box. "process": a process of its own with limits, which the pages must say is not isolated.
    "refused": student code does not run here.
    """
    from lab.sandbox import isolation

    return isolation.kind()


def pool() -> Pool:
    """The workers of this process; the first call starts the thread that owns them."""
    from lab.sandbox import workers

    return workers.current()


def check(exercise: Exercise, source: str) -> Verdict:
    """Judge a learner's text in a box. Raises SandboxError where no box can be had."""
    from lab.sandbox import service

    return service.check(exercise, source)


def run_page(job: Mapping[str, Any], files: Mapping[str, bytes], seconds: float = 20.0) -> dict[str, ndarray]:
    """Run the page worker on a job (JSON on its stdin) with `files` in its folder; the arrays that it wrote to stdout.

    Raises SandboxError: the box failed, was too slow, wrote too much or nothing readable.
    """
    from lab.sandbox import service

    return service.run_page(job, files, seconds)
