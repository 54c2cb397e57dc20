"""Seconds from `make run` (already installed) to the first usable page, in a real browser.

    python benchmarks/start_time.py [--chromium /usr/bin/chromium]

Runs `make run` on a free port, opens the address as soon as the server answers, and stops the clock when Home's button
can be pressed, and again when the first figure of the lesson stands there after pressing it.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """A port of this computer that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(port: int, start: float) -> None:
    """Return when the server answers. Raises TimeoutError after a minute."""
    while time.perf_counter() - start < 60:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError("the server did not answer within a minute")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    options = parser.parse_args()
    port = free_port()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(locale="en-US").new_page()
        environment = os.environ | {"STREAMLIT_SERVER_PORT": str(port), "STREAMLIT_SERVER_HEADLESS": "true"}
        start = time.perf_counter()
        server = subprocess.Popen(["make", "run"], cwd=ROOT, env=environment, start_new_session=True)
        try:
            wait_until_healthy(port, start)
            page.goto(f"http://127.0.0.1:{port}/")
            button = page.get_by_role("button", name="Walk through this sentence")
            button.wait_for(timeout=60_000)
            print(f"first usable page (Home): {time.perf_counter() - start:.1f} s after make run")
            pressed = time.perf_counter()
            button.click()
            page.locator(".arcs .chip").first.wait_for(timeout=60_000)
            print(f"first figure of the lesson, model loaded: {time.perf_counter() - pressed:.1f} s after the button")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            browser.close()


if __name__ == "__main__":
    main()
