"""The supervisor's looks, one by one: a launcher of the test's own, no process but where a stubborn one is needed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lab import runs, settings, store
from lab.runs import reasons, supervisor
from lab.runs.launcher import LocalLauncher, Poll
from lab.runs.reporter import FENCED, INTERRUPTED
from lab.runs.supervisor import Supervisor
from lab.store_tables import Attempt
from tests import run_home
from tests.launcher_conformance import STUBBORN, is_running, wait_for
from tests.run_home import now, submit


class Stage:
    """A launcher whose processes are entries of a dictionary: what they do is up to the test."""

    def __init__(self) -> None:
        self.alive: dict[str, Poll] = {}
        self.words: list[tuple[str, bool]] = []

    def submit(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> str:
        handle = f"{len(self.alive)}"
        self.alive[handle] = Poll(True)
        return handle

    def poll(self, handle: str) -> Poll:
        return self.alive[handle]

    def stop(self, handle: str, *, force: bool) -> None:
        self.words.append((handle, force))
        if force and self.alive[handle].alive:
            self.alive[handle] = Poll(False, -9)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return run_home.make(tmp_path / "home", monkeypatch)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def boss(stage: Stage) -> Supervisor:
    return Supervisor(store.current(), stage, place="here")


def _attempt() -> Attempt:
    (found,) = store.current().open_attempts()
    return found


def test_as_many_at_once_as_the_teacher_says_and_in_order(boss: Supervisor, stage: Stage, home: Path) -> None:
    waiting = [submit(f"{i}") for i in range(4)]
    assert boss.tick() is True
    assert [now(run).status for run in waiting] == ["starting", "starting", "queued", "queued"]
    boss.tick()
    assert len(stage.alive) == 2, "a second look starts nothing"
    (home / "lab.toml").write_text("[runs]\nat_once = 3\nkeep_free_gb = 0\n")
    boss.tick()
    assert [now(run).status for run in waiting] == ["starting"] * 3 + ["queued"]
    store.current().end(waiting[0].id, store.current().open_attempts()[0].token, "finished")
    stage.alive["0"] = Poll(False, 0)
    boss.tick()
    assert now(waiting[3]).status == "starting"


@pytest.mark.parametrize("code, again", [(-9, True), (-11, True), (INTERRUPTED, True), (None, True), (1, False)])
def test_a_worker_that_is_gone(boss: Supervisor, stage: Stage, code: int | None, again: bool) -> None:
    """Killed from outside: tried again. Fallen by itself: it would fall again."""
    run = submit()
    boss.tick()
    first = _attempt()
    stage.alive["0"] = Poll(False, code)
    boss.tick()
    assert ("0", True) in stage.words, "what it has started is killed with it"
    if again:
        assert now(run).status == "starting" and _attempt().token > first.token, "in the very same look"
    else:
        assert now(run).status == "failed" and reasons.unpack(now(run).reason)[0] == "crashed"


def test_a_run_that_is_killed_again_and_again_fails(boss: Supervisor, stage: Stage) -> None:
    run = submit()
    for i in range(supervisor.RETRIES + 1):
        boss.tick()
        assert now(run).status == "starting"
        stage.alive[f"{i}"] = Poll(False, -9)
    boss.tick()
    assert now(run).status == "failed" and reasons.unpack(now(run).reason) == ("lost", {"times": 3})
    assert boss.tick() is False and len(stage.alive) == 3


def test_a_worker_that_has_ended_is_believed(boss: Supervisor, stage: Stage) -> None:
    run = submit()
    boss.tick()
    store.current().end(run.id, _attempt().token, "finished")
    stage.alive["0"] = Poll(False, FENCED)
    boss.tick()
    assert now(run).status == "finished" and len(stage.alive) == 1


@pytest.mark.parametrize("wanted, status", [("pause", "paused"), ("cancel", "cancelled")])
def test_a_wish_is_a_word_first_and_then_force(
    boss: Supervisor, stage: Stage, monkeypatch: pytest.MonkeyPatch, wanted: str, status: str
) -> None:
    run = submit()
    boss.tick()
    store.current().ask(run.id, "local", wanted)
    boss.tick()
    boss.tick()
    assert stage.words == [("0", False)] and now(run).status == "starting"
    monkeypatch.setattr(supervisor, "OBEY", 0.0)
    store.current().beat(run.id, _attempt().token, "saving")
    boss.tick()
    assert stage.words == [("0", False)], "one that writes its result gets longer"
    monkeypatch.setattr(supervisor, "SAVING", 0.0)
    boss.tick()
    assert stage.words == [("0", False), ("0", True)] and now(run).status == status
    assert boss.tick() is False


def test_a_pause_and_a_resume_before_it_obeyed(boss: Supervisor, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    run = submit()
    boss.tick()
    for wanted in ("pause", "resume"):
        assert store.current().ask(run.id, "local", wanted)
    monkeypatch.setattr(supervisor, "OBEY", 0.0)
    boss.tick()
    assert now(run).status == "starting" and ("0", True) not in stage.words, "the worker simply goes on"


def test_without_a_beat_a_worker_is_lost(stage: Stage) -> None:
    boss = Supervisor(store.current(), stage, place="here", lease=0.2)
    run = submit()
    boss.tick()
    first = _attempt()
    until = time.monotonic() + 60
    while _attempt().token == first.token:
        assert time.monotonic() < until
        boss.tick()
        time.sleep(0.02)
    assert stage.words == [("0", True)] and now(run).status == "starting"
    with pytest.raises(store.Fenced):
        store.current().beat(run.id, first.token)


def test_after_a_sleep_workers_get_time_to_beat(stage: Stage) -> None:
    """A laptop's lid was closed: supervisor and worker have slept, and only the clock went on."""
    boss = Supervisor(store.current(), stage, place="here", lease=0.5)
    run = submit()
    boss.tick()
    token = _attempt().token
    time.sleep(0.8)
    boss.tick()
    assert now(run).status == "starting" and stage.words == [] and _attempt().token == token
    store.current().beat(run.id, token)
    boss.tick()
    assert stage.words == []


def test_a_worker_that_does_not_keep_to_its_time(
    boss: Supervisor, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit(max_seconds=1)
    boss.tick()
    monkeypatch.setattr(supervisor, "OVERTIME", -2.0)
    boss.tick()
    assert stage.words == [("0", True)] and reasons.unpack(now(run).reason)[0] == "time_over"


def test_the_attempts_of_another_place_are_not_ours(boss: Supervisor, stage: Stage) -> None:
    run = submit()
    other = Supervisor(store.current(), Stage(), place="there")
    other.tick()
    boss.tick()
    assert stage.words == [] and now(run).status == "starting"


def test_a_run_that_cannot_be_started(boss: Supervisor, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise OSError("no such program")

    monkeypatch.setattr(stage, "submit", refuse)
    run = submit()
    boss.tick()
    assert now(run).status == "failed" and reasons.unpack(now(run).reason) == ("crashed", {"why": "OSError"})


def test_a_stubborn_trainer_is_killed_with_its_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Real processes that ignore SIGTERM, under the supervisor's own patience of two seconds."""
    note = tmp_path / "note"
    monkeypatch.setattr(supervisor, "command_of", lambda attempt: [sys.executable, "-c", STUBBORN, str(note)])
    boss = Supervisor(store.current(), LocalLauncher(), place="here")
    run = submit()
    boss.tick()
    wait_for(lambda: note.exists() and note.read_text())
    pids = [int(pid) for pid in note.read_text().split()]
    store.current().ask(run.id, "local", "cancel")
    wait_for(lambda: boss.tick() is False)
    assert now(run).status == "cancelled" and not any(map(is_running, pids))


def test_a_core_is_left_for_the_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, at_once, threads in ((1, 1, "1"), (2, 1, "1"), (8, 1, "7"), (8, 2, "3"), (8, 16, "1")):
        monkeypatch.setattr("os.cpu_count", lambda n=cores: n)
        assert supervisor.threads_of(at_once)["OMP_NUM_THREADS"] == threads


def test_nothing_is_started_where_somebody_else_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(supervisor.SWITCH, "off")
    assert supervisor.ensure() is False and not (home / "supervisor.log").exists()
    monkeypatch.setenv(supervisor.SWITCH, "on")
    monkeypatch.setenv("LM_LAB_HOME", str(home / "lab.toml"))  # a file: no home can be there
    assert supervisor.ensure() is False


def test_the_loop_outlives_a_store_that_is_away(boss: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    tick = boss.tick

    def fall_first() -> bool:
        looks.append(1)
        if len(looks) == 1:
            raise ConnectionError("away")
        return tick()

    run, ended = submit(), threading.Event()
    monkeypatch.setattr(boss, "tick", fall_first)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    supervisor.serve(boss, lambda: ended.is_set() or now(run).status == "starting" or len(looks) > 100)
    assert now(run).status == "starting" and len(looks) == 2


def test_a_home_that_is_gone_ends_the_supervisor(boss: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_LAB_HOME", str(settings.home() / "gone"))
    supervisor.serve(boss, lambda: False)
    assert not settings.home().exists() and runs.folder("a").parent.parent == settings.home()
