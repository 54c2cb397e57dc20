"""What starts, polls and stops a worker. Local processes now; a cluster answers to the same three words.

`tests/lab/launcher_conformance.py` is what every launcher must pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.runs.processes import is_alive, signal_group, start_of

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Poll:
    """alive: whether it runs. code: its exit code (negative: the signal that killed it), where that is known."""

    alive: bool
    code: int | None = None


class Launcher(Protocol):
    """A handle is a text that means the same to another launcher of this kind after a restart."""

    def submit(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> str:
        """Start a command of its own, writing to `log`; returns its handle at once. OSError where it cannot start."""
        ...

    def poll(self, handle: str) -> Poll:
        """Whether it runs, and how it ended. What is unknown counts as ended."""
        ...

    def stop(self, handle: str, *, force: bool) -> None:
        """Ask it to end; with force, kill it and everything it has started. Returns at once; no error if it is gone."""
        ...


class LocalLauncher:
    """Workers are processes of this computer, each leading a group of its own, so that they outlive who started them.

    handle: `pid:start`, see `lab.runs.processes`.
    """

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}  # of these we learn the exit code

    def submit(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> str:
        """As `Launcher.submit`."""
        # A group of its own: Ctrl-C in a terminal is not for it, and it can be killed with all that it has started.
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP
        with open(log, "ab") as output:
            child = subprocess.Popen(
                list(command), cwd=ROOT, env=os.environ | dict(environment), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, creationflags=flags, start_new_session=True,
            )  # fmt: skip
        handle = f"{child.pid}:{start_of(child.pid) or 'dead'}"
        self._children[handle] = child
        return handle

    def poll(self, handle: str) -> Poll:
        """As `Launcher.poll`."""
        if (child := self._children.get(handle)) is not None:
            code = child.poll()
            return Poll(code is None, code)
        return Poll(is_alive(*_parts(handle)))

    def stop(self, handle: str, *, force: bool) -> None:
        """As `Launcher.stop`."""
        signal_group(*_parts(handle), kill=force)


def own_handle() -> str:
    """The handle of this process, as the local launcher writes it."""
    return f"{os.getpid()}:{start_of(os.getpid())}"


def _parts(handle: str) -> tuple[int, str]:
    pid, _, start = handle.partition(":")
    return int(pid), start
