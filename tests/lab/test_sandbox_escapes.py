"""Nobody gets out: every attempt of the written list, made by a student's file in a real check, must fail."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import sandbox
from lab.sandbox import isolation, service, walls
from lab.sandbox.worker import Worker
from lm_core.judge.catalogue import find
from lm_core.judge.files import solution_text
from tests.lab import sandbox_attempts
from tests.support import ROOT, boxes_or_fail

ATTEMPTS = Path(sandbox_attempts.__file__)
SOFTMAX = find("softmax")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Things outside that an attempt could reach; readable for every uid, so that only the box can stand in between."""
    folder = tmp_path_factory.mktemp("outside")
    for path in [folder, *folder.parents][:3]:
        path.chmod(path.stat().st_mode | 0o755)
    (folder / "secret.txt").write_text("the answers")
    (folder / "writable").mkdir()
    (folder / "writable").chmod(0o777)
    tcp, unix, abstract = (socket.socket(kind) for kind in (socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX))
    tcp.bind(("127.0.0.1", 0))
    unix.bind(str(folder / "s"))
    (folder / "s").chmod(0o777)
    name = f"lm-lab-test-{os.getpid()}"
    abstract.bind("\0" + name)
    for server in (tcp, unix, abstract):
        server.listen()
    found = {"secret": folder / "secret.txt", "writable": folder / "writable", "unix": folder / "s", "abstract": name}
    found |= {"port": tcp.getsockname()[1], "root": ROOT, "worker": walls.INSIDE, "server": os.getpid()}
    yield {key: str(value) for key, value in found.items()}
    for server in (tcp, unix, abstract):
        server.close()


@pytest.fixture(scope="module")
def found(facts: dict[str, str]) -> Iterator[dict[str, str]]:
    """What all attempts of the list came to, in one check by the judge, with a secret in the server's environment."""
    boxes_or_fail()
    marker = "marker-of-the-server-7391"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_LAB_SECRET_OF_A_TEST", marker)
        known = facts | {"marker": marker, "inside": "yes", "worker": "/app/inside.py"}
        text = ATTEMPTS.read_text(encoding="utf-8") + f"\nimport json\nFACTS.update({known!r})\n"
        text += "print('\\nRESULTS' + json.dumps(run()))\n" + solution_text(SOFTMAX).split('"""', 2)[2]
        verdict = service.check(SOFTMAX, text)
    assert "RESULTS" in verdict.printed, (verdict, verdict.printed[-500:])
    yield json.loads(verdict.printed.rpartition("RESULTS")[2].splitlines()[0])
    assert os.getppid() and Path(facts["secret"]).read_text() == "the answers"


@pytest.mark.parametrize("name", sandbox_attempts.ATTEMPTS)
def test_an_attempt_fails_in_the_box(name: str, found: dict[str, str]) -> None:
    assert found[name] == "", f"{name} got out: {found[name]}"


def test_the_attempts_are_real(facts: dict[str, str], tmp_path: Path) -> None:
    """In a plain process they reach the secret, the sockets, the server: so the list above can fail."""
    known = facts | {"marker": "marker-outside", "inside": "no", "worker": str(tmp_path / "nothing")}
    program = f"import json, runpy\na = runpy.run_path({str(ATTEMPTS)!r})\na['FACTS'].update({known!r})\nout = {{}}\n"
    program += (
        "for n in a['REAL_OUTSIDE']:\n"
        "    try: out[n] = a['ATTEMPTS'][n]() is not None\n"
        "    except OSError as e: out[n] = str(e)\n"
        "print(json.dumps(out))\n"
    )
    environment = os.environ | {"X": "marker-outside"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    results = json.loads(done.stdout)
    assert results == dict.fromkeys(sandbox_attempts.REAL_OUTSIDE, True)


def test_the_box_runs_under_no_account_of_this_computer_when_root_starts_it() -> None:
    boxes_or_fail()
    command, filter_ = walls.boxed(
        "page", isolation.uid(), ["-c", "import os; print(os.getuid(), os.getgid(), os.getgroups())"]
    )
    with filter_:
        done = subprocess.run(command, env=walls.NO_SECRETS, pass_fds=[filter_.fileno()], capture_output=True)
    uid, gid, groups = done.stdout.decode().split(maxsplit=2)
    expected = isolation.uid() or os.getuid()
    assert int(uid) == expected != 0 and int(gid) != 0
    if os.getuid() == 0:
        assert set(json.loads(groups)) <= {expected}


def test_nothing_of_the_box_is_alive_after_the_answer() -> None:
    """Also when the student's file has tried to leave something: all processes below the worker are gone."""
    boxes_or_fail()
    worker = Worker("check")
    try:
        assert worker._answer.wait_for(6, 60)
        below = _descendants(worker.process.pid)
        assert len(below) >= 2, "bwrap's first process and python"
    finally:
        worker.close()
    assert _all_gone(below)


def _descendants(pid: int) -> list[int]:
    children = [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    return children + [below for child in children for below in _descendants(child)]


def _alive(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _all_gone(pids: list[int]) -> bool:
    """The kernel ends a box a moment after its parent."""
    deadline = time.monotonic() + 30
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(_alive, pids))


def test_a_server_killed_hard_leaves_no_box(tmp_path: Path) -> None:
    """`kill -9` of the server: the kernel ends its boxes with it."""
    boxes_or_fail()
    program = (
        "import os, signal, sys\n"
        "from lab.sandbox.worker import Worker\n"
        "w = Worker('check'); w._answer.wait_for(6, 60)\n"
        "print(w.process.pid, flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        below = [pid, *_descendants(pid)]
        server.kill()
    assert _all_gone(below)


def test_kind_is_what_was_tried() -> None:
    boxes_or_fail()
    assert sandbox.kind() == "bubblewrap" and isolation.why_not() is None
