"""What tests share: the data folder beside the checkout, the GPU switch, a real Chromium and a running app."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import postgres as postgres_server
from tests.support import ROOT, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# No test of a page starts a supervisor for whoever runs the tests; those that are about runs start their own.
os.environ.setdefault("LM_LAB_SUPERVISOR", "off")

SHARED_DATA = ROOT.parent / "shared" / "data"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# A browser that only talks to the app: no updates, no sync, no first-run pages.
BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference data beside the checkout; the test is skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no folder shared/data beside the checkout")
    return SHARED_DATA


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `gpu` where there is no CUDA device. Tests without the mark never wait for this question."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_cuda():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end, in red, when the switch lets the isolation of student code go untested."""
    if os.environ.get("LM_LAB_ALLOW_NO_BWRAP") == "1":
        from lab.sandbox import isolation

        problem = isolation.why_not()
        if problem is not None:
            terminalreporter.write_sep(
                "=", "LM_LAB_ALLOW_NO_BWRAP=1: student code was NOT tested in isolation", red=True
            )
            terminalreporter.write_line(problem)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium of the system, driven by Playwright; the test is skipped where there is none."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser on the PATH, looked for {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=BROWSER_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Postgres]:
    """A PostgreSQL of the tests' own; the test is skipped where its programs are not installed."""
    if postgres_server.binary("initdb") is None or postgres_server.binary("pg_ctl") is None:
        pytest.skip("no PostgreSQL on the PATH or under /usr/lib/postgresql")
    with postgres_server.running() as server:
        yield server


@pytest.fixture(scope="session")
def app_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app, started as a user starts it, on a free port and with an empty home of its own."""
    home = tmp_path_factory.mktemp("lm-lab-home")
    with serve(ROOT / "app.py", home) as url:
        yield url
