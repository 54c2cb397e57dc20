"""One check from beginning to end: read the file, make the calls, let the worker run them, grade what comes back."""

import ast
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lm_core.judge.files import stub_text
from lm_core.judge.process import Outcome, Worker
from lm_core.judge.verdict import Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from lm_core.judge.exercise import Exercise

LONGEST_FILE = 200_000


class Launcher(Protocol):
    """What runs a student's file: a `Worker` here, a sandbox elsewhere."""

    def run(self, students: list[object], tensors: "list[Tensor]") -> Outcome:
        """Serve one job."""
        ...

    def close(self) -> None:
        """End it, whether it has run or not."""
        ...


def names_reference(source: str) -> bool:
    """Whether a text imports lm_core, or names it where it could (a path, `importlib`).

    >>> names_reference("from lm_core.attention import attend"), names_reference("import torch")
    (True, False)
    """
    tree = ast.parse(source)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            names = [node.value]
        if any("lm_core" in name for name in names):
            return True
    return False


def check_text(exercise: "Exercise", source: str, worker: Launcher | None = None) -> Verdict:
    """Judge a student's text. `worker`: a warm process to use up; without one it is started here."""
    begun = time.monotonic()
    early = _early(exercise, source)
    if early is not None:
        if worker is not None:
            worker.close()
        return replace(early, seconds=round(time.monotonic() - begun, 3))
    worker = worker or Worker()
    from lm_core.judge.calls import build_calls
    from lm_core.judge.grading import grade

    calls = build_calls(exercise, source, secrets.randbelow(2**31))
    tensors: list[Tensor] = []
    job = {"source": source, "calls": [call.job(tensors) for call in calls]}
    outcome = worker.run([job], tensors)
    verdict = _verdict(exercise, outcome) or grade(exercise, calls, outcome.students[0], outcome.tensors)
    return replace(
        verdict,
        seconds=round(time.monotonic() - begun, 3),
        printed=outcome.printed,
        self_checked=verdict.passed and (bool(outcome.reached) or names_reference(source)),
    )


def check_file(exercise: "Exercise", path: Path, worker: Launcher | None = None) -> Verdict:
    """Judge a file. Raises OSError when it cannot be read and ValueError when it is no text or far too long."""
    if path.stat().st_size > LONGEST_FILE:
        raise ValueError(f"{path.name} has more than {LONGEST_FILE} bytes")
    return check_text(exercise, path.read_text(encoding="utf-8"), worker)


def _early(exercise: "Exercise", source: str) -> Verdict | None:
    """What can be said without running anything: untouched, or no Python."""
    if source == stub_text(exercise):
        return Verdict(exercise.slug, False, "start", "general.bug" if exercise.is_bug_hunt else "general.todo")
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # The last two are what Python's own reader says of an expression nested thousands deep.
        said = getattr(error, "msg", None) or str(error) or "too deeply nested"
        line = getattr(error, "lineno", None)
        return Verdict(exercise.slug, False, "syntax", "general.syntax", values={"text": said}, line=line)
    return None


def _verdict(exercise: "Exercise", outcome: Outcome) -> Verdict | None:
    """A process that did not end well."""
    if outcome.failure == "time":
        return Verdict(exercise.slug, False, "time", "general.time", line=outcome.line)
    if outcome.failure is not None or len(outcome.students) != 1:
        hint = outcome.failure if outcome.failure in ("flood", "large") else "crash"
        return Verdict(exercise.slug, False, "crash", f"general.{hint}")
    return None
