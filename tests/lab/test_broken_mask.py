"""The race of the broken mask on a page: a process of its own, one a session, bounded, followed by its file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lab.runs import mask_race
from lab.ui import broken_mask

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path))
    broken_mask._racers().clear()
    return tmp_path


def page():  # type: ignore[no-untyped-def]
    from lab.ui import broken_mask

    broken_mask.show()


def finished(place: Path) -> None:
    """A race that has ended, as its file says; of what it learned nothing is asserted here."""
    mask_race.main([str(place), "--seconds=60", "--steps=10"])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_finished_race_shows_its_numbers_and_texts(home: Path, language: str) -> None:
    place = home / "race.jsonl"
    finished(place)
    last = json.loads(place.read_text(encoding="utf-8").splitlines()[-1])
    assert last["last"] and last["step"] == 10
    app = AppTest.from_function(page, default_timeout=30)
    app.session_state["lang"] = language
    app.session_state[broken_mask.STATE] = {"file": str(place), "pid": -1, "started": 0.0, "watched": False}
    app.run()
    assert not app.exception
    shown = " ".join(entry.value for entry in app.markdown)
    for arm in ("causal", "open"):
        assert f"**{last['validation'][arm]:.2f}**" in shown
    assert f"{last['by_position']['open'][-1]:.2f}" in shown
    assert [button.key for button in app.button if button.key == "broken_mask_start"]


def test_nothing_is_started_by_looking(home: Path) -> None:
    app = AppTest.from_function(page, default_timeout=30).run()
    assert not app.exception and not (home / "mask_race").exists() and not broken_mask.running()


def test_a_click_starts_one_process_and_stop_ends_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    spawn = subprocess.Popen

    def fake(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        started.append(command)
        return spawn(SLEEPER)

    monkeypatch.setattr(broken_mask.subprocess, "Popen", fake)
    app = AppTest.from_function(page, default_timeout=30).run()
    app.button(key="broken_mask_start").click().run()
    assert not app.exception and len(started) == 1 and started[0][1:3] == ["-m", "lab.runs.mask_race"]
    assert not [button for button in app.button if button.key == "broken_mask_start"]
    racer = broken_mask.running()[0]
    app.button(key="broken_mask_stop").click().run()
    racer.wait(timeout=10)
    app.run()
    assert not broken_mask.running() and app.warning


def test_no_more_than_a_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [subprocess.Popen(SLEEPER) for _ in range(broken_mask.AT_ONCE)]
    try:
        broken_mask._racers().extend(others)
        app = AppTest.from_function(page, default_timeout=30).run()
        app.button(key="broken_mask_start").click().run()
        assert app.info and len(broken_mask.running()) == broken_mask.AT_ONCE
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_a_race_past_its_time_is_killed(home: Path) -> None:
    racer = subprocess.Popen(SLEEPER)
    broken_mask._racers().append(racer)
    started = time.time() - broken_mask.SECONDS - broken_mask.GRACE_SECONDS - 1
    app = AppTest.from_function(page, default_timeout=30)
    app.session_state[broken_mask.STATE] = {
        "file": str(home / "none.jsonl"), "pid": racer.pid, "started": started, "watched": True,
    }  # fmt: skip
    app.run()
    assert racer.wait(timeout=10) != 0 and app.warning


def test_half_a_line_is_not_read(home: Path) -> None:
    place = home / "race.jsonl"
    place.write_text('{"step": 1}\n{"step": 2', encoding="utf-8")
    assert broken_mask.read(place) == [{"step": 1}]
    assert broken_mask.read(home / "none") == []
