"""How far a learner is: attempts, passes, and which hints they have opened. One small JSON file beside the exercises.

Hints are a ladder: a question, the idea, the line. The first is open at once, each further one after another attempt
(a check of a text that differs from the last). The solution opens after passing, or after all hints and three attempts.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

N_HINTS = 3
ATTEMPTS_FOR_SOLUTION = 3


@dataclass(frozen=True)
class Progress:
    """One exercise. `hints` have been opened, the last of them when there had been `attempts_at_hint` attempts."""

    attempts: int = 0
    passed: bool = False
    hints: int = 0
    attempts_at_hint: int = 0
    digest: str = ""

    @property
    def next_hint_open(self) -> bool:
        """Whether the next rung may be taken.

        >>> Progress().next_hint_open, Progress(hints=1).next_hint_open, Progress(hints=1, attempts=1).next_hint_open
        (True, False, True)
        """
        return self.hints < N_HINTS and (self.hints == 0 or self.passed or self.attempts > self.attempts_at_hint)

    @property
    def solution_open(self) -> bool:
        """Whether the reference's body may be shown.

        >>> Progress(passed=True).solution_open, Progress(hints=3, attempts=2).solution_open
        (True, False)
        """
        return self.passed or (self.hints == N_HINTS and self.attempts >= ATTEMPTS_FOR_SOLUTION)

    def after_check(self, source: str, passed: bool) -> "Progress":
        """The same text checked again is no new attempt.

        >>> once = Progress().after_check("a", False)
        >>> once.attempts, once.after_check("a", False).attempts, once.after_check("b", True).passed
        (1, 1, True)
        """
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        return replace(
            self, attempts=self.attempts + (digest != self.digest), passed=self.passed or passed, digest=digest
        )

    def after_hint(self) -> "Progress":
        """One rung further. Raises ValueError when the next one is not open yet."""
        if not self.next_hint_open:
            raise ValueError("the next hint opens after another attempt")
        return replace(self, hints=self.hints + 1, attempts_at_hint=self.attempts)


def load(folder: Path) -> dict[str, Progress]:
    """Progress by slug; nothing where the file is missing or broken: what it holds can be earned again."""
    try:
        rows = json.loads((folder / ".progress.json").read_text(encoding="utf-8"))
        return {str(slug): Progress(**row) for slug, row in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def save(folder: Path, progress: Mapping[str, Progress]) -> None:
    """Write by renaming, so that a half-written file never stands there."""
    temporary = folder / ".progress.json.tmp"
    rows = {slug: asdict(row) for slug, row in sorted(progress.items())}
    temporary.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    temporary.replace(folder / ".progress.json")
