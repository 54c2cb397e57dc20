"""Broken and hostile code ends its own check with a plain sentence; the app and the other checks go on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lab import sandbox, settings
from lab.language import LANGUAGES, strings
from lab.sandbox import isolation, service, walls, worker, workers
from lab.sandbox.failure import REASONS, SandboxError
from lm_core.judge import messages
from lm_core.judge.catalogue import find
from lm_core.judge.files import mutant_text, solution_text, stub_text
from lm_core.judge.verdict import Verdict
from tests.support import boxes_or_fail

SOFTMAX = find("softmax")
RIGHT = solution_text(SOFTMAX)
TODO = '    raise NotImplementedError("TODO")\n'


def written(body: str) -> str:
    return stub_text(SOFTMAX).replace(TODO, body)


@pytest.fixture(scope="module")
def pool() -> Iterator[workers.Pool]:
    """A pool of its own, wide enough that a test's checks run side by side."""
    made = workers.Pool({"check": 2, "page": 1}, most=4)
    made.start()
    yield made
    made.close()
    assert not made.is_alive()


@pytest.fixture
def check(pool: workers.Pool, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Verdict]:
    """`sandbox.check` on that pool, with a limit for a busy computer: nothing here is decided by its speed."""
    boxes_or_fail()
    monkeypatch.setattr(workers, "current", lambda: pool)
    monkeypatch.setattr(service, "CHECK_SECONDS", 60.0)
    return lambda text: sandbox.check(SOFTMAX, text)


# What a student may write; the stage and the hint of the verdict, and a word of what Python said about it.
LOOPS = {
    "loop": "    while True:\n        pass\n",
    "loop in C": "    sum(range(10**15))\n",
    "loop that stops the clock": (
        "    import faulthandler\n    faulthandler.cancel_dump_traceback_later()\n    while True:\n        pass\n"
    ),
}
HARM = {
    "10 GB": ("    return torch.ones(10 * 2**30, dtype=torch.uint8)\n", "run", None, "memory"),
    "fork bomb": ("    import os\n    while True:\n        os.fork()\n", "run", None, "not permitted"),
    "thread bomb": (
        "    import threading, time\n    while True:\n"
        "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
        "run", None, "thread",
    ),
    "sys.exit": ("    import sys\n    sys.exit(0)\n", "run", None, ""),
    "segmentation fault": ("    import ctypes\n    ctypes.string_at(0)\n", "crash", "general.crash", ""),
    "a gigabyte of output": (
        "    line = 'x' * 2**20\n    for _ in range(2**10):\n        print(line)\n    return logits\n",
        "crash", "general.flood", "",
    ),
    "kill the parent": ("    import os\n    os.kill(os.getppid(), 9)\n", "run", None, "not permitted"),
    "fill the disk": (
        "    for i in range(100):\n        open(f'f{i}', 'ab').write(bytes(2**22))\n", "run", None, "No space left",
    ),
    "a gigabyte returned": ("    return logits.new_zeros(2**28)\n", "run", None, "memory"),
    "forged answer": (
        "    import os\n    for fd in range(3, 20):\n        try:\n"
        "            os.write(fd, (2).to_bytes(8, 'big') + b'[]')\n        except OSError:\n            pass\n"
        "    os._exit(0)\n",
        "crash", "general.crash", "",
    ),
    "an answer without end": (
        "    import os\n    while True:\n        for fd in range(3, 20):\n            try:\n"
        "                os.write(fd, bytes(2**20))\n            except OSError:\n                pass\n",
        "crash", "general.large", "",
    ),
}  # fmt: skip


def _said(verdict: Verdict, source: str) -> None:
    for language in LANGUAGES:
        said = messages.message(verdict, language, source)
        assert 10 < len(said) < 800 and "Traceback" not in said, said


def test_harm_ends_that_check_and_no_other(check: Callable[[str], Verdict]) -> None:
    """All of them side by side, and among them checks of a right answer, which must not notice."""
    texts = {name: written(body) for name, (body, *_) in HARM.items()} | {"right 1": RIGHT, "right 2": RIGHT}
    order = sorted(texts, key=lambda name: name[::-1])
    with ThreadPoolExecutor(4) as threads:
        found = dict(zip(order, threads.map(lambda name: check(texts[name]), order), strict=True))
    for name, (_, stage, hint, word) in HARM.items():
        verdict = found[name]
        assert (verdict.stage, verdict.hint_id) == (stage, hint), (name, verdict)
        assert word in verdict.values.get("text", ""), (name, verdict)
        _said(verdict, texts[name])
    assert found["right 1"].passed and found["right 2"].passed, found
    assert len(found["a gigabyte of output"].printed) <= 4000


def test_an_endless_loop_is_ended_and_its_line_told(
    check: Callable[[str], Verdict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CHECK_SECONDS", 2.0)
    texts = {name: written(body) for name, body in LOOPS.items()}
    with ThreadPoolExecutor(3) as threads:
        found = dict(zip(texts, threads.map(check, texts.values()), strict=True))
    for name, verdict in found.items():
        assert (verdict.stage, verdict.hint_id) == ("time", "general.time"), (name, verdict)
        _said(verdict, texts[name])
    line = found["loop"].line
    assert line and texts["loop"].splitlines()[line - 1].strip() in ("while True:", "pass")


def test_a_mistake_keeps_its_own_hint(check: Callable[[str], Verdict]) -> None:
    """Graded outside, on values: the same verdict as without a box, and a pass that the student says is none."""
    (mutant,) = [m for m in SOFTMAX.mutants if m.name == "no_max"]
    assert check(mutant_text(SOFTMAX, mutant)).hint_id == "softmax.no_max"
    assert check(written("    print('passed')\n    return logits * 0\n")).stage == "values"


def test_one_learner_leaves_nothing_for_the_next(check: Callable[[str], Verdict], pool: workers.Pool) -> None:
    spoil = (
        RIGHT + "\nimport os\ntorch.exp = lambda x: x\nopen('/tmp/left', 'w').write('x')\nprint(os.listdir('/tmp'))\n"
    )
    assert "left" in check(spoil).printed
    after = check(RIGHT + "\nimport os\nprint(os.listdir('/tmp'), torch.exp(torch.zeros(1)).item())\n")
    assert after.passed and after.printed == "['work'] 1.0\n"


def test_an_untouched_file_needs_no_worker(check: Callable[[str], Verdict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.Pool, "_take", lambda *_: pytest.fail("a worker was taken"))
    assert check(stub_text(SOFTMAX)).stage == "start"
    assert check(RIGHT + "\ndef (\n").stage == "syntax"


# --- pages ---

PAGE = """
import json, os, sys
import numpy, torch
from safetensors.numpy import save
import lm_core.masks

def main():
    out = os.dup(1)
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    print("a student's print")
    exec(job["code"])
    mask = lm_core.masks.causal_mask(job["n"]).numpy().astype(numpy.float32)
    arrays = {"mask": mask, "bytes": numpy.frombuffer(open("model/a.bin", "rb").read(), numpy.uint8)}
    with os.fdopen(out, "wb") as file:
        file.write(save({name: numpy.ascontiguousarray(a) for name, a in arrays.items()}))
"""


def test_a_page_gets_arrays_and_a_reason_when_it_does_not(
    pool: workers.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes_or_fail()
    program = tmp_path / "page_worker.py"
    program.write_text(PAGE)
    monkeypatch.setattr(walls, "PAGE_WORKER", program)
    monkeypatch.setattr(workers, "current", lambda: pool)

    def page(code: str, seconds: float = 60) -> dict[str, np.ndarray]:
        return sandbox.run_page({"n": 4, "code": code}, {"model/a.bin": b"abc"}, seconds)

    def reason(code: str) -> str:
        with pytest.raises(SandboxError) as caught:
            page(code, 2 if "sleep" in code else 60)
        return caught.value.reason

    back = page("")
    assert back["mask"].tolist() == np.tril(np.ones((4, 4))).tolist() and back["bytes"].tobytes() == b"abc"
    codes = {
        "import time\ntime.sleep(60)": "time",
        "1 / 0": "crash",
        "os.write(out, b'nonsense'); os._exit(0)": "output",
        "print('x' * 2**22)": "flood",
    }
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(reason, codes)) == list(codes.values())
    for name in ("../x", "/x", "a/../../x", ""):
        with pytest.raises(ValueError, match="no name of a file"):
            sandbox.run_page({}, {name: b""})
    with pytest.raises(SandboxError, match="large"):
        sandbox.run_page({}, {"x": bytes(service.JOB_BYTES)})


# --- without a box ---


def test_without_a_box_a_process_with_limits(
    pool: workers.Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not isolated, and said to be; the server and other checks live on all the same. (As root: under this account,
    since the interpreter may lie where no other uid can read it; the filter of system calls holds for root too.)
    """
    monkeypatch.setattr(worker.isolation, "kind", lambda: "process")
    monkeypatch.setattr(worker.isolation, "uid", lambda: None)
    monkeypatch.setattr(worker.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(service, "CHECK_SECONDS", 60.0)
    bare = workers.Pool({"check": 1}, most=3)
    bare.start()
    monkeypatch.setattr(workers, "current", lambda: bare)
    names = ["10 GB", "fork bomb", "kill the parent", "a gigabyte of output"]
    try:
        with ThreadPoolExecutor(3) as threads:
            texts = [RIGHT, *(written(HARM[name][0]) for name in names)]
            right, *verdicts = threads.map(lambda text: sandbox.check(SOFTMAX, text), texts)
        monkeypatch.setattr(service, "CHECK_SECONDS", 2.0)
        assert sandbox.check(SOFTMAX, written(LOOPS["loop"])).stage == "time"
    finally:
        bare.close()
    assert right.passed
    assert [(v.stage, v.hint_id) for v in verdicts] == [HARM[name][1:3] for name in names]
    assert not list(tmp_path.iterdir()), "a worker left its folder behind"


def test_kind_follows_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_boxes", lambda _: "no user namespaces")
    monkeypatch.setattr(isolation, "_bare", lambda _: True)
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    assert sandbox.kind() == "process" and isolation.why_not() == "no user namespaces"
    monkeypatch.setenv("LM_LAB_MODE", "shared")
    assert sandbox.kind() == "refused"
    for ask in (
        lambda: sandbox.check(SOFTMAX, RIGHT),
        lambda: sandbox.run_page({}, {}),
        lambda: worker.Worker("check"),
    ):
        with pytest.raises(SandboxError, match="refused"):
            ask()
    monkeypatch.delenv("LM_LAB_MODE")
    monkeypatch.setattr(isolation, "_bare", lambda _: False)
    assert sandbox.kind() == "refused"


def test_a_computer_without_bubblewrap_is_found_out_by_trying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`bwrap` is on the PATH and does nothing: that is no box. Nor is one that runs and does not shut in."""
    real = walls.NO_SECRETS["PATH"]
    for body in ("exit 0", "echo boxed; exit 1", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'):
        (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bwrap").chmod(0o755)
        monkeypatch.setattr(walls, "NO_SECRETS", {"PATH": f"{tmp_path}:{real}"})
        assert isolation._boxes.__wrapped__(None), body
    monkeypatch.setattr(walls, "NO_SECRETS", {"PATH": str(tmp_path / "empty")})
    assert isolation._boxes.__wrapped__(None)


def test_root_needs_somebody_to_become(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert isolation.uid() == settings.sandbox_uid() == 65533
    monkeypatch.setenv("LM_LAB_SANDBOX_UID", "1234")
    assert isolation.uid() == 1234
    for wrong in ("0", "-1", "root", "1.5", "٣"):
        monkeypatch.setenv("LM_LAB_SANDBOX_UID", wrong)
        with pytest.raises(settings.SettingsError, match="LM_LAB_SANDBOX_UID"):
            isolation.uid()
        assert sandbox.kind() == "refused"


# --- the pool, with workers that do nothing ---


class Idle:
    """Stands for a worker."""

    def __init__(self, profile: str) -> None:
        self.profile, self.alive, self.ready, self.closed = profile, True, True, False

    def close(self) -> None:
        self.closed, self.alive = True, False


def _wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.fixture
def made() -> list[Idle]:
    return []


@pytest.fixture
def idle(made: list[Idle]) -> Iterator[workers.Pool]:
    def launch(profile: str) -> Idle:
        made.append(Idle(profile))
        return made[-1]

    pool = workers.Pool({"check": 2}, most=2, launch=launch, idle_seconds=3600)  # type: ignore[arg-type]
    pool.start()
    yield pool
    pool.close()


def test_each_worker_serves_once_and_is_replaced(idle: workers.Pool, made: list[Idle]) -> None:
    served = []
    for _ in range(5):
        with idle.worker("check") as one:
            served.append(one)
    assert len(set(map(id, served))) == 5 and all(one.closed for one in served)
    assert _wait_until(lambda: sum(one.alive for one in made) == 2)


def test_no_more_work_at_once_than_there_is_room(idle: workers.Pool, made: list[Idle]) -> None:
    with idle.worker("check"), idle.worker("check"):
        with pytest.raises(SandboxError, match="busy"), idle.worker("check", wait_seconds=0.05):
            pass
        assert sum(one.alive for one in made) <= 4
    with idle.worker("check", wait_seconds=20):
        pass


def test_a_worker_that_died_while_waiting_is_not_handed_out(idle: workers.Pool, made: list[Idle]) -> None:
    idle.get_ready("check")
    assert _wait_until(lambda: len(made) == 2)
    for one in made:
        one.alive = False
    with idle.worker("check") as one:
        assert one.alive


def test_a_start_that_fails_is_told_and_tried_again() -> None:
    broken = threading.Event()
    broken.set()

    def launch(profile: str) -> Idle:
        if broken.is_set():
            raise OSError("no more processes")
        return Idle(profile)

    pool = workers.Pool({"check": 1}, most=1, launch=launch)  # type: ignore[arg-type]
    pool.start()
    with pytest.raises(SandboxError, match="start"), pool.worker("check"):
        pass
    broken.clear()
    with pool.worker("check") as one:
        assert one.alive
    pool.close()


def test_spare_workers_are_let_go_when_nobody_comes() -> None:
    made: list[Idle] = []

    def launch(profile: str) -> Idle:
        made.append(Idle(profile))
        return made[-1]

    pool = workers.Pool({"check": 2}, most=2, launch=launch, idle_seconds=0.1)  # type: ignore[arg-type]
    pool.start()
    with pool.worker("check"):
        pass
    assert _wait_until(lambda: bool(made) and all(one.closed for one in made))
    with pool.worker("check") as one:
        assert one.alive
    pool.close()
    assert all(one.closed for one in made)


def test_there_is_one_pool_and_every_reason_has_words() -> None:
    first = sandbox.pool()
    assert sandbox.pool() is first and first.is_alive()
    first.close()
    for language in LANGUAGES:
        assert {f"sandbox.{reason}" for reason in REASONS} | {"sandbox.not_isolated"} <= strings(language).keys()
