"""Starting the student's process, waiting for it, and ending it: limits, no answers inside, nothing left behind."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

WORKER = Path(__file__).with_name("worker.py")
LIMIT_SECONDS = 10
OUTPUT_CHARACTERS = 4000


@dataclass(frozen=True)
class Outcome:
    """What came back: a result for each student, or `failure` and the line it hung on.

    failure: "time", "crash", "output"; from a sandbox also "flood" (printed too much) and "large" (returned too much).
    """

    students: list[Any]
    tensors: "list[Tensor]"
    printed: str
    reached: tuple[str, ...] = ()
    failure: str | None = None
    line: int | None = None


class Worker:
    """One process, for one job. Made early, it imports torch while its parent does something else.

    It runs in an empty folder with an empty environment, isolated from the parent's import path (`python -I`); on a
    laptop this keeps honest people honest and broken code from doing harm, it is no prison. Another launcher (a
    sandbox) can stand in its place: `check` needs `run` and `close` only.
    """

    def __init__(self, thorough: bool = False) -> None:
        """thorough: get everything ready that a check may need, since there is time."""
        self.folder = Path(tempfile.mkdtemp(prefix="lm-lab-check-"))
        kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMP") if name in os.environ}  # Windows
        with (self.folder / "printed.txt").open("wb") as printed, (self.folder / "errors.txt").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(WORKER), *(["--device"] if thorough else [])],
                cwd=self.folder,
                env=kept | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", "HOME": str(self.folder)},
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=errors,
                start_new_session=True,
            )

    def run(self, students: list[Any], tensors: "list[Tensor]", limit: int = LIMIT_SECONDS) -> Outcome:
        """Hand over the job, wait at most `limit` seconds after torch is there, and clean up."""
        from lm_core.judge import worker

        try:
            worker.write(self.folder / "job", {"students": students, "limit": limit}, tensors)
            failure = self._wait(limit)
            if failure:
                return Outcome([], [], self._printed(), failure=failure, line=self._line())
            try:
                result, back = worker.read(self.folder / "result")
                return Outcome(list(result["students"]), back, self._printed(), tuple(result["reached"]))
            except (ValueError, KeyError, TypeError, OSError):
                return Outcome([], [], self._printed(), failure="output")
        finally:
            self.close()

    def _wait(self, limit: int) -> str | None:
        try:
            self.process.communicate(b"go\n", timeout=limit + 20)  # the worker's own clock starts when torch is there
        except subprocess.TimeoutExpired:
            return "time"
        if "Timeout (" in self._errors() or self.process.returncode in (-signal.SIGTERM, _signal("SIGXCPU")):
            return "time"
        return "crash" if self.process.returncode else None

    def _printed(self) -> str:
        with (self.folder / "printed.txt").open(encoding="utf-8", errors="replace") as file:
            return file.read(OUTPUT_CHARACTERS)

    def _errors(self) -> str:
        with (self.folder / "errors.txt").open(encoding="utf-8", errors="replace") as file:
            return file.read(OUTPUT_CHARACTERS)

    def _line(self) -> int | None:
        found = re.search(r'student\.py", line (\d+)', self._errors())
        return int(found[1]) if found else None

    def close(self) -> None:
        """End the process and all it started, and remove its folder."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _signal(name: str) -> int | None:
    """A return code after a signal that not every system has."""
    number = getattr(signal, name, None)
    return None if number is None else -int(number)
