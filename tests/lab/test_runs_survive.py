"""What a training run survives, each for real: processes are killed, stopped and woken, and a save is cut in half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lab import runs, store
from lab.runs import supervisor
from lab.runs.reporter import FENCED
from tests import run_home
from tests.launcher_conformance import is_running, wait_for
from tests.run_home import now, steps, submit, work, worker_pid
from tests.support import ROOT

APP = "from lab.runs import supervisor; import time; print(supervisor.ensure(), flush=True); time.sleep(600)"
# A worker whose third save is killed after the new weights are written and before they are in place.
CUT = """
import os, runpy, sys
from lm_core import training_state
real, saves = training_state.save_file, []
def save_file(tensors, path):
    saves.append(path)
    real(tensors, path)
    if path.parent.name == "state.tmp" and sum(p.parent.name == "state.tmp" for p in saves) == 3:
        os.truncate(path, 100)
        os.kill(os.getpid(), 9)
training_state.save_file = save_file
sys.argv = ["worker", *sys.argv[1:]]
runpy.run_module("lab.runs.worker", run_name="__main__")
"""
LONG = {"n_steps": 20_000, "save_every": 10, "validate_every": 1000, "probe_every": 5000}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = run_home.make(tmp_path / "home", monkeypatch)
    monkeypatch.setenv(supervisor.SWITCH, "on")
    yield place
    monkeypatch.setattr(supervisor, "ensure", lambda: False)
    if pid := supervisor.alive():
        os.kill(pid, signal.SIGKILL)
    for attempt in store.current().open_attempts():  # what a test that failed has left
        supervisor.LocalLauncher().stop(attempt.handle, force=True) if attempt.handle else None


def _app() -> subprocess.Popen[str]:
    """A process that does what app.py does at every rerun, and lives on."""
    app = subprocess.Popen([sys.executable, "-c", APP], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert app.stdout is not None
    app.stdout.readline()
    wait_for(supervisor.alive)
    return app


def _at(run: store.Run, step: int) -> None:
    wait_for(lambda: now(run).step >= step or now(run).is_over, 120)
    assert not now(run).is_over, now(run).reason


def _command(run: store.Run) -> list[str]:
    """The next attempt at a run, for a process that no supervisor knows."""
    attempt = store.current().claim("elsewhere")
    assert attempt is not None and attempt.run_id == run.id
    return ["--run", run.id, "--attempt", str(attempt.token)]


def test_trainer_supervisor_and_app_are_killed_and_the_run_goes_on() -> None:
    """One run through all three, and then a pause, a resume and a cancel, by real processes from end to end."""
    app = _app()
    run = submit(**LONG)
    _at(run, 25)
    # The trainer is killed: another one goes on from the last save, and no step is missing or there twice.
    first = worker_pid(run)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: worker_pid(run) not in (0, first), 120)
    _at(run, 40)
    assert steps(run) == list(range(len(steps(run)))) and not is_running(first)
    # The app is killed: nothing changes for the run.
    second, boss = worker_pid(run), supervisor.alive()
    assert boss is not None
    app.kill()
    app.wait()
    _at(run, now(run).step + 20)
    assert supervisor.alive() == boss and worker_pid(run) == second
    # The supervisor is killed: the run goes on without one, and the next one finds its worker again.
    os.kill(boss, signal.SIGKILL)
    wait_for(lambda: supervisor.alive() is None)
    _at(run, now(run).step + 20)
    app = _app()
    assert supervisor.alive() != boss
    _at(run, now(run).step + 20)
    assert worker_pid(run) == second and len(store.current().open_attempts()) == 1, "no second worker"
    # The new one is obeyed, though the worker is not its child.
    assert runs.ask(run.id, "local", "pause")
    wait_for(lambda: now(run).status == "paused")
    wait_for(lambda: not is_running(second))
    at = now(run).step
    assert (runs.folder(run.id) / "result" / "model" / "config.json").is_file()
    assert runs.ask(run.id, "local", "resume")
    _at(run, at + 10)
    assert steps(run) == list(range(len(steps(run))))
    third = worker_pid(run)
    assert os.getpriority(os.PRIO_PROCESS, third) > 0, "pages come first"
    assert runs.ask(run.id, "local", "cancel")
    wait_for(lambda: now(run).status == "cancelled")
    wait_for(lambda: not is_running(third))
    # Another supervisor for this home ends at once; with its app gone, an idle one ends by itself.
    boss = supervisor.alive()
    assert supervisor.start().wait(60) == 0 and supervisor.alive() == boss
    app.kill()
    app.wait()
    wait_for(lambda: supervisor.alive() is None)


def test_a_save_that_is_cut_in_half_leaves_the_one_before() -> None:
    run = submit(n_steps=60, save_every=10, validate_every=1000)
    worker = subprocess.run([sys.executable, "-c", CUT, *_command(run)], cwd=ROOT, capture_output=True, timeout=120)
    assert worker.returncode == -signal.SIGKILL, worker.stderr.decode()
    place = runs.folder(run.id)
    assert (place / "state.tmp" / "state.safetensors").stat().st_size == 100, "it was cut"
    assert json.loads((place / "state" / "state.json").read_text())["step"] == 10
    load_file(place / "state" / "state.safetensors")
    (attempt,) = store.current().open_attempts()
    assert store.current().retry(run.id, attempt.token, "killed", 2)
    assert work(run) == 0
    assert now(run).status == "finished" and steps(run) == list(range(61))
    assert list(place.glob("*.tmp")) == [] == list(place.glob("*.old"))


def test_a_worker_that_slept_past_its_lease_is_refused() -> None:
    """Stopped, given up, replaced, woken: it writes nothing more, neither to the store nor to the folder."""
    run = submit(**LONG)
    command = [sys.executable, "-m", "lab.runs.worker", *_command(run)]
    stale = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        _at(run, 15)
        stale.send_signal(signal.SIGSTOP)
        there = store.current()
        (old,) = there.open_attempts()
        assert there.retry(run.id, old.token, "its lease ran out", 2)  # what a supervisor does that cannot reach it
        new = there.claim("here")
        assert new is not None and new.token > old.token
        before = there.records(run.id), there.probes(run.id)
        saved = (runs.folder(run.id) / "state" / "state.json").read_bytes()
        stale.send_signal(signal.SIGCONT)
        assert stale.wait(60) == FENCED, "it ends by itself"
        assert (there.records(run.id), there.probes(run.id)) == before
        assert (runs.folder(run.id) / "state" / "state.json").read_bytes() == saved
        assert now(run).status == "starting" and there.open_attempts() == [new]
    finally:
        stale.kill()
        stale.wait()
