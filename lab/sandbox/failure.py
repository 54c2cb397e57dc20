"""Why a box gave no answer, as an id that `[sandbox]` in assets/strings puts into words."""

from __future__ import annotations

REASONS = ("refused", "busy", "start", "time", "crash", "flood", "output", "large")


class SandboxError(RuntimeError):
    """No answer. `reason` is one of REASONS; `printed` what the box had said, `line` where in student.py it hung."""

    def __init__(self, reason: str, printed: str = "", line: int | None = None) -> None:
        super().__init__(f"{reason}: {printed[-500:]}" if printed else reason)
        self.reason, self.printed, self.line = reason, printed, line
