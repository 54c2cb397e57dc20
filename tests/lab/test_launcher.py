"""The launcher of local processes, and how it tells processes apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from lab.runs import processes
from lab.runs.launcher import Launcher, LocalLauncher, own_handle
from tests.launcher_conformance import LauncherConformance, is_running, wait_for


class TestLocalLauncher(LauncherConformance):
    @pytest.fixture
    def make(self) -> Callable[[], Launcher]:
        return LocalLauncher


def test_a_number_that_was_given_to_another_process_is_never_signalled() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        start = processes.start_of(child.pid)
        assert start is not None and processes.is_alive(child.pid, start)
        launcher, stale = LocalLauncher(), f"{child.pid}:{start}0"
        assert launcher.poll(stale).alive is False
        for force in (False, True):
            launcher.stop(stale, force=force)
        assert child.poll() is None and is_running(child.pid), "it is somebody else's process"
        launcher.stop(f"{child.pid}:{start}", force=True)
        assert child.wait(60) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()


def test_a_dead_process_that_nobody_has_asked_about_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    wait_for(lambda: processes.start_of(child.pid) is None)
    assert os.path.exists(f"/proc/{child.pid}") or sys.platform != "linux", "its entry is still there"
    child.wait()


def test_a_worker_names_itself_as_its_launcher_does() -> None:
    assert LocalLauncher().poll(own_handle()).alive
