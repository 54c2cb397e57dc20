"""What every launcher must do, whatever it starts its commands on: a subclass gives `make`, and runs these tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.runs.launcher import Launcher, Poll

STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
POLITE = """
import pathlib, signal, sys, time
def end(number, frame):
    print("bye", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).write_text("ready")
time.sleep(600)
"""


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    """Until it is true; fails long after it should have been."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process of this number runs; a dead one that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class LauncherConformance:
    """`make` gives a launcher; two of them know each other's handles, as before and after a restart."""

    @pytest.fixture
    def make(self) -> Callable[[], Launcher]:
        raise NotImplementedError

    @pytest.fixture
    def launcher(self, make: Callable[[], Launcher]) -> Launcher:
        return make()

    def _python(self, launcher: Launcher, tmp_path: Path, code: str, *arguments: str, **environment: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        return launcher.submit(command, tmp_path / "log", environment)

    def _ready(self, launcher: Launcher, tmp_path: Path, code: str) -> tuple[str, list[str]]:
        """A command that has said it is ready: (handle, what it wrote)."""
        note = tmp_path / "note"
        handle = self._python(launcher, tmp_path, code, str(note))
        wait_for(lambda: note.exists() and note.read_text())
        return handle, note.read_text().split()

    @pytest.mark.parametrize("code", [0, 3])
    def test_a_command_runs_and_its_exit_code_is_known(self, launcher: Launcher, tmp_path: Path, code: int) -> None:
        handle = self._python(launcher, tmp_path, f"import os; print(os.environ['WORD']); os._exit({code})", WORD="猫")
        wait_for(lambda: not launcher.poll(handle).alive)
        assert launcher.poll(handle) == Poll(False, code) == launcher.poll(handle), "asking again changes nothing"

    def test_what_it_says_is_in_the_log(self, launcher: Launcher, tmp_path: Path) -> None:
        (tmp_path / "log").write_text("an earlier attempt\n")
        code = "import os, sys; print(os.environ['WORD']); print('error', file=sys.stderr)"
        handle = self._python(launcher, tmp_path, code, WORD="cat")
        wait_for(lambda: not launcher.poll(handle).alive)
        assert (tmp_path / "log").read_text().split() == ["an", "earlier", "attempt", "cat", "error"]

    def test_a_kill_is_seen(self, launcher: Launcher, tmp_path: Path) -> None:
        handle, (_, child) = self._ready(launcher, tmp_path, STUBBORN)
        assert launcher.poll(handle) == Poll(True)
        launcher.stop(handle, force=True)
        wait_for(lambda: not launcher.poll(handle).alive)
        assert launcher.poll(handle).code == -signal.SIGKILL
        wait_for(lambda: not is_running(int(child)))

    def test_a_word_is_heard_by_who_listens(self, launcher: Launcher, tmp_path: Path) -> None:
        handle, _ = self._ready(launcher, tmp_path, POLITE)
        launcher.stop(handle, force=False)
        wait_for(lambda: not launcher.poll(handle).alive)
        assert launcher.poll(handle).code == 5 and "bye" in (tmp_path / "log").read_text()

    def test_who_does_not_listen_is_killed_with_all_it_has_started(self, launcher: Launcher, tmp_path: Path) -> None:
        handle, pids = self._ready(launcher, tmp_path, STUBBORN)
        launcher.stop(handle, force=False)
        time.sleep(0.3)
        assert launcher.poll(handle).alive and all(is_running(int(pid)) for pid in pids)
        launcher.stop(handle, force=True)
        wait_for(lambda: not launcher.poll(handle).alive)
        wait_for(lambda: not any(is_running(int(pid)) for pid in pids))

    def test_what_a_dead_one_has_started_is_killed_too(self, launcher: Launcher, tmp_path: Path) -> None:
        handle, (leader, child) = self._ready(launcher, tmp_path, STUBBORN)
        os.kill(int(leader), signal.SIGKILL)
        wait_for(lambda: not launcher.poll(handle).alive)
        assert is_running(int(child))
        launcher.stop(handle, force=True)
        wait_for(lambda: not is_running(int(child)))

    def test_another_launcher_takes_over(self, make: Callable[[], Launcher], tmp_path: Path) -> None:
        handle, pids = self._ready(make(), tmp_path, STUBBORN)
        heir = make()
        assert heir.poll(handle).alive
        heir.stop(handle, force=True)
        wait_for(lambda: not heir.poll(handle).alive)
        wait_for(lambda: not any(is_running(int(pid)) for pid in pids))
        assert make().poll(handle).alive is False

    def test_stopping_what_is_gone_is_no_error(self, make: Callable[[], Launcher], tmp_path: Path) -> None:
        launcher = make()
        handle = self._python(launcher, tmp_path, "pass")
        wait_for(lambda: not launcher.poll(handle).alive)
        for force in (False, True):
            launcher.stop(handle, force=force)
            make().stop(handle, force=force)

    def test_each_command_has_a_handle_of_its_own(self, launcher: Launcher, tmp_path: Path) -> None:
        handles = [self._python(launcher, tmp_path, "import time; time.sleep(600)") for _ in range(4)]
        assert len(set(handles)) == 4 and all(launcher.poll(handle).alive for handle in handles)
        launcher.stop(handles[1], force=True)
        wait_for(lambda: not launcher.poll(handles[1]).alive)
        assert [launcher.poll(handle).alive for handle in handles] == [True, False, True, True]
        for handle in handles:
            launcher.stop(handle, force=True)

    def test_a_command_that_is_not_there(self, launcher: Launcher, tmp_path: Path) -> None:
        with pytest.raises(OSError):
            launcher.submit([str(tmp_path / "no such program")], tmp_path / "log", {})
