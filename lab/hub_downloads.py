"""Fetching models of the hub: one download a model, however many learners wait for it, in a thread of its own.

The thread outlives the page that began it, so a click elsewhere wastes no bytes. What it tells is plain data. Which
models may be fetched at all is not decided here but in `lab.models`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from lm_core import hub
from lm_core.checkpoint_error import CheckpointError, with_a_reason


@dataclass
class Download:
    """One download: how far it is and, once `ended` is set, its folder or its error."""

    progress: hub.Progress | None = None
    folder: Path | None = None
    error: CheckpointError | None = None
    ended: threading.Event = field(default_factory=threading.Event)


_DOWNLOADS: dict[str, Download] = {}
_LOCK = threading.Lock()


def start(name: str, max_bytes: int) -> Download:
    """The download of `hub:owner/name@revision`, begun if it is not running, done or failed already."""
    with _LOCK:
        if (download := _DOWNLOADS.get(name)) is not None and not _is_gone(download):
            return download
        download = _DOWNLOADS[name] = Download()
    threading.Thread(target=_fetch, args=(name, max_bytes, download), name=f"download {name}", daemon=True).start()
    return download


def _is_gone(download: Download) -> bool:
    """Whether somebody has emptied the cache since."""
    return download.folder is not None and not (download.folder / "config.json").exists()


def _fetch(name: str, max_bytes: int, download: Download) -> None:
    def note(progress: hub.Progress) -> None:
        download.progress = progress

    try:
        with with_a_reason():  # a full disk among others
            download.folder = hub.download(name.removeprefix("hub:"), max_bytes, note)
    except CheckpointError as error:
        download.error = error
    except Exception as error:  # whoever waits must be told whatever happens
        download.error = CheckpointError(f"the download failed: {type(error).__name__}: {error}", "broken")
    finally:
        download.ended.set()


def forget_failure(name: str) -> None:
    """Let the next `start` try again where the last one failed."""
    with _LOCK:
        if (download := _DOWNLOADS.get(name)) is not None and download.error is not None:
            del _DOWNLOADS[name]


def folder(name: str, max_bytes: int) -> Path:
    """The folder of a model of the hub, waiting for its download if need be. Raises CheckpointError."""
    download = start(name, max_bytes)
    download.ended.wait()
    if download.folder is None:
        error = download.error
        assert error is not None  # `_fetch` leaves one or the other
        raise type(error)(str(error), error.reason)  # a fresh one: tracebacks must not grow from learner to learner
    return download.folder
