"""Where a learner's files lie. They are text to this process: read and handed to the sandbox, never imported.

On one's own computer they are `lm_core/exercises/*.py` of the checkout, the same that an editor and the command line
use, or lie in the folder that LM_LAB_EXERCISES names. On a shared server each learner has copies of their own under
`workspaces/` of the app's home.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from lab import settings
from lm_core.judge.exercise import Exercise
from lm_core.judge.files import FOLDER, stub_text

PLAIN_OWNER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MOST_BYTES = 64 * 1024


def folder(owner: str) -> Path:
    """Where the files of `owner` lie. A name that is no plain word is replaced by its hash, never used as a path."""
    if not settings.is_shared():
        return Path(os.environ.get("LM_LAB_EXERCISES") or FOLDER).expanduser()
    plain = owner if PLAIN_OWNER.fullmatch(owner) else "u-" + hashlib.sha256(owner.encode()).hexdigest()[:32]
    return settings.home() / "workspaces" / plain


def read(path: Path) -> str:
    """A learner's file as text with `\\n` at the end of each line.

    Raises OSError for a file that cannot be read, UnicodeDecodeError for one that is no text, and any other ValueError
    for one larger than MOST_BYTES.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path.name} has more than {MOST_BYTES:,} bytes")
    return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def text_of(owner: str, exercise: Exercise) -> str:
    """The learner's text of an exercise, or the text that is handed out while there is no file; writes nothing.

    Raises what `read` raises.
    """
    try:
        return read(folder(owner) / exercise.filename)
    except FileNotFoundError:
        return stub_text(exercise)


def is_untouched(exercise: Exercise, text: str) -> bool:
    """Whether a file still is as it was handed out: there is no answer yet. Spaces at line ends do not count."""

    def bare(source: str) -> list[str]:
        return [line.rstrip() for line in source.rstrip().splitlines()]

    return bare(text) == bare(stub_text(exercise))
