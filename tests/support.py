"""Helpers that are no fixtures: a Streamlit server for a block of code, and texts that try to break a page."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60

# What a learner may type or paste. Each must show as itself and nothing else.
NASTY = [
    "plain words",
    "**bold** _it_ ~~no~~ `code` ``x``",
    "![x](https://example.com/a.png)",
    "[click](https://example.com) <https://example.com>",
    "https://example.com www.example.com http://a.b a@example.com mailto:a@b.cd",
    "<img src=x onerror=alert(1)><script>alert(1)</script><b>b</b>",
    "&lt;b&gt; &amp; &#58;",
    ":red[red] :blue-background[x] :small[y] :material/home: :smile: :streamlit:",
    ':color[warning]{foreground="#d50000"}',
    "$x^2$ and $$y$$ and \\(z\\) \\alpha 5$",
    "# heading",
    "1. one",
    "- item",
    "> quote",
    "    indented code",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "line\nbreak\r\n\r\n# and a heading\ttab",
    "--- *** ___ === <- -> <-> -- >= <= ~= =>",
    "[^1] [ ] [x] [ref]: https://example.com",
    "```\nfence\n```",
    "] ) } > end",
    "back\\slash\\",
    "{placeholder} {0} {{x}}",
    "中文，。：“引号”",
    "emoji 👩‍👩‍👧 🇨🇳",
    "مرحبا world",
    "\u202eoverride\u202c \u2066x\u2069",
    "null\x00bell\x07escape\x1b[31m",
    "```",
    "WWW.EXAMPLE.COM HTTPS://EXAMPLE.COM ftp://example.com xmpp:a@b.cd",
]


@contextmanager
def serve(script: Path, home: Path) -> Iterator[str]:
    """`with serve(script, home) as url`: a Streamlit server of `script` on a free loopback port, ended with the block.

    It runs from the repository root, so that the app's own options hold, with `home` as `LM_LAB_HOME`.
    """
    port = _free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(script)]
    command += [f"--server.port={port}", "--server.headless=true"]
    environment = os.environ | {"LM_LAB_HOME": str(home), "PYTHONPATH": str(ROOT)}
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://127.0.0.1:{port}"
        if not _answers(f"{url}/_stcore/health", process):
            raise RuntimeError(f"the app did not start:\n{log.read_text(errors='replace')}")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until `url` answers; False if the process ends or the time is up first."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def boxes_or_fail() -> None:
    """For a test that needs boxes of bubblewrap: fail where there are none, unless LM_LAB_ALLOW_NO_BWRAP=1 says skip.

    A test that skips by itself would let a server without isolation pass; `tests/conftest.py` names the switch.
    """
    from lab.sandbox import isolation

    problem = isolation.why_not()
    if problem is None:
        return
    if os.environ.get("LM_LAB_ALLOW_NO_BWRAP") == "1":
        pytest.skip(f"isolation was not tested, LM_LAB_ALLOW_NO_BWRAP=1: {problem}")
    pytest.fail(
        f"bubblewrap makes no box here ({problem}); LM_LAB_ALLOW_NO_BWRAP=1 runs the tests without", pytrace=False
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, and give the others back: equality to the last bit is promised for a fixed number only."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
