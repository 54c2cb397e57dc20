"""Which kind of box this computer can make: found out by making one, since `which bwrap` says nothing.

Ubuntu 24.04 wants an AppArmor profile for it, Docker by default refuses user namespaces, and macOS and Windows have
none. A shared server without boxes does not run student code; on one's own computer it runs in a process with limits,
and the pages say so.
"""

from __future__ import annotations

import os
import subprocess
from functools import lru_cache
from typing import Literal

from lab import settings
from lab.sandbox import walls

Kind = Literal["bubblewrap", "process", "refused"]
PROBE_SECONDS = 20
# What a box must say of itself: not root, no capabilities, no way to new ones, a filter, processes of its own.
PROBE = """
import os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
assert os.getuid() != 0 and int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, "capabilities"
assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2", "no filter"
assert all(not name.isdigit() or int(name) < 10 for name in os.listdir("/proc")), "other processes"
print("boxed")
"""


def uid() -> int | None:
    """Whom root becomes to run student code (LM_LAB_SANDBOX_UID); None when this process is not root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    return settings.sandbox_uid()


def kind() -> Kind:
    """See `lab.sandbox.kind`."""
    if _boxes(uid()) is None:
        return "bubblewrap"
    if settings.is_shared() or not _bare(uid()):
        return "refused"
    return "process"


def why_not() -> str | None:
    """What went wrong when a box was tried, for the administrator; None when it worked."""
    return _boxes(uid())


@lru_cache(maxsize=4)
def _boxes(become: int | None) -> str | None:
    """Make one box and ask it what it is. None, or what went wrong."""
    try:
        command, filter_ = walls.boxed("probe", become, ["-c", PROBE])
        with filter_:
            done = subprocess.run(
                command, env=walls.NO_SECRETS, cwd="/", pass_fds=[filter_.fileno()], stdin=subprocess.DEVNULL,
                capture_output=True, timeout=PROBE_SECONDS, start_new_session=True,
            )  # fmt: skip
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    if done.returncode == 0 and done.stdout == b"boxed\n":
        return None
    return done.stderr.decode(errors="replace").strip()[-500:] or f"ended with {done.returncode}"


@lru_cache(maxsize=4)
def _bare(become: int | None) -> bool:
    """Whether a plain process can be had: as root only if another uid can read the interpreter."""
    if become is None:
        return True
    try:
        python = walls.bare("probe", walls.INSIDE.parent)[:4]
        who = {"user": become, "group": become, "extra_groups": []}
        done = subprocess.run([*python, "-c", ""], **who, cwd="/", capture_output=True, timeout=PROBE_SECONDS)  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
