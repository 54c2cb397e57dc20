"""Reading and saving the learner's file of an exercise, without losing anybody's work.

The files (see `lab.workspaces` for where they lie) are text to this process and are never imported, so a save disturbs
nobody, and what an editor outside wrote is seen at the next look.

Whoever saves says which version they began from (`base`, the hash of its text). When the file has another text by then,
nothing is written: `Conflict` carries the text on disk, and the caller shows both.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from lab import settings, workspaces
from lab.workspaces import MOST_BYTES, folder
from lm_core.judge.exercise import Exercise
from lm_core.judge.files import FOLDER, stub_text

MOST_BACKUPS = 20  # of one file; the oldest goes first

_SAVING = Lock()  # two tabs of one learner: compare and write belong together


class FileTrouble(ValueError):
    """A learner's file that cannot be read or written. `reason`: missing, large, text or disk; `numbers` say more."""

    def __init__(self, reason: str, message: str, **numbers: int | str) -> None:
        super().__init__(message)
        self.reason = reason
        self.numbers = numbers


class Conflict(Exception):
    """The file has changed since the text that is to be saved was begun. `disk` is what it holds now."""

    def __init__(self, disk: Saved) -> None:
        super().__init__("the file has changed on disk in the meantime")
        self.disk = disk


@dataclass(frozen=True)
class Saved:
    """The text of a file, its hash, and when it was last changed (seconds since 1970)."""

    text: str
    version: str
    changed: float


def version_of(text: str) -> str:
    """A text's hash; the same in every process, and that which a progress record keeps.

    >>> version_of("")
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def path_of(owner: str, exercise: Exercise) -> Path:
    """The learner's file of this exercise, handed out where there is none. Raises FileTrouble."""
    path = folder(owner) / exercise.filename
    if not path.exists() and not path.is_symlink():
        _make_folder(path.parent)
        _write(path, stub_text(exercise))
    return path


def command(owner: str, exercise: Exercise) -> str | None:
    """The command line that checks this file at every save; None on a shared server, whose files are not at hand."""
    if settings.is_shared():
        return None
    path = folder(owner) / exercise.filename
    where = "" if path.parent.resolve() == FOLDER.resolve() else f' --file "{path}"'
    return f"python -m lm_core check {exercise.slug}{where} --watch"


def shown_path(owner: str, exercise: Exercise) -> str:
    """The file's place as it is told: inside the checkout from its root, on a server without the server's folders."""
    path = folder(owner) / exercise.filename
    if settings.is_shared():
        return exercise.filename
    root = FOLDER.parents[1]
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def read(path: Path) -> Saved:
    """The file as text with `\\n` at the end of each line. Raises FileTrouble."""
    try:
        state = path.stat()
        text = workspaces.read(path)
    except FileNotFoundError:
        raise FileTrouble("missing", f"{path.name} is not there") from None
    except UnicodeDecodeError:
        raise FileTrouble("text", f"{path.name} is not UTF-8 text") from None
    except ValueError as error:
        raise FileTrouble("large", str(error), size=state.st_size, most=MOST_BYTES) from None
    except OSError as error:
        raise FileTrouble("disk", f"{path.name}: {error.strerror}") from None
    return Saved(text, version_of(text), state.st_mtime)


def save(path: Path, text: str, base: str) -> Saved:
    """Write `text` if the file still holds the version `base`. Raises Conflict, or FileTrouble."""
    text = clean(text)
    with _SAVING:
        now = read(path)
        if now.text == text:
            return now
        if now.version != base:
            raise Conflict(now)
        _write(path, text)
    return read(path)


def replace(path: Path, text: str) -> str | None:
    """Write `text` whatever stands there; what stood there is kept beside it. Returns the name of that backup."""
    text = clean(text)
    with _SAVING:
        kept = _keep(path, text)
        _make_folder(path.parent)
        _write(path, text)
    return kept


def keep(path: Path, text: str) -> str:
    """Write `text` beside the file as a backup, the file itself untouched. Returns the backup's name."""
    backup = _free_backup(path)
    _write(backup, clean(text))
    _thin_out(path)
    return backup.name


def clean(text: str) -> str:
    """The text as it will be written: `\\n` line ends. Raises FileTrouble when it is too large or no text."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # half an emoji: a lone surrogate
        raise FileTrouble("text", "the text holds a character that cannot be written") from None
    if size > MOST_BYTES:
        raise FileTrouble("large", f"{size:,} bytes are too many", size=size, most=MOST_BYTES)
    return text


def _keep(path: Path, new: str) -> str | None:
    """Move nothing, copy the bytes: a backup of a file that is no text is a backup too."""
    try:
        old = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileTrouble("disk", f"{path.name}: {error.strerror}") from None
    if old == new.encode():
        return None
    backup = _free_backup(path)
    _write_bytes(backup, old)
    _thin_out(path)
    return backup.name


def _free_backup(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (f"{path.name}.{stamp}{more}.bak" for more in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(backup for name in names if not (backup := path.with_name(name)).exists())


def _thin_out(path: Path) -> None:
    backups = sorted(path.parent.glob(f"{path.name}.*.bak"), key=lambda found: (found.stat().st_mtime_ns, found.name))
    for old in backups[:-MOST_BACKUPS]:
        old.unlink(missing_ok=True)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileTrouble("disk", f"{path.name}: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, content: bytes) -> None:
    """Beside the file first, then renamed over it: a reader sees the old file or the new one, never half of one."""
    target = path.resolve()  # a link stays a link
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FileTrouble("disk", f"{path.name}: {error.strerror}") from None
