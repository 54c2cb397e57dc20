"""Processes, told apart for certain: a number is given to another process one day, number and start together never."""

from __future__ import annotations

import os
import signal
import sys
from functools import cache
from pathlib import Path

import psutil


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_of(pid: int) -> str | None:
    """A text that no other process of this number ever has; None where there is none, or one that is dead already.

    On Linux: the boot, and the clock ticks from it to the start. No change of the machine's clock moves them.

    >>> start_of(os.getpid()) == start_of(os.getpid()), start_of(2**22 + 1)
    (True, None)
    """
    if sys.platform == "linux":
        try:
            content = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        state, *rest = content.rpartition(")")[2].split()  # the name in brackets may hold anything
        return None if state in "ZX" else f"{_boot()}:{rest[18]}"
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except (psutil.Error, OSError):
        return None


def is_alive(pid: int, start: str) -> bool:
    """Whether this very process still runs."""
    return start_of(pid) == start


def signal_group(pid: int, start: str, *, kill: bool) -> None:
    """Ask the process group that this process leads to end, or kill it, whether or not its leader still lives."""
    if start_of(pid) not in (None, start):
        return  # the number is somebody else's by now
    if sys.platform == "win32":
        _signal_tree(pid, kill)
        return
    try:
        os.killpg(pid, signal.SIGKILL if kill else signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return


def _signal_tree(pid: int, kill: bool) -> None:
    """Where there are no groups: the process and what it has started."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return
    for member in family:
        try:
            if kill:
                member.kill()
            else:
                member.terminate()
        except psutil.Error:
            continue
