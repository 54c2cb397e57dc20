"""A page that keeps what it asked for and what it complained about, so that each test can hold the app to silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

# On a deep link Streamlit looks for its server below the page's own address first, and the browser reports those 404s.
PROBE = re.compile(r"/[a-z-]+/_stcore/(health|host-config)")
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a browser test."""
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """`open_page(url, locale=..., width=...)`: a fresh visitor's page, once its first heading is there.

    After the test, every page must have kept to loopback and its console must be free of errors.
    """
    contexts: list[Any] = []
    strayed: list[str] = []
    errors: list[str] = []

    def note_request(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in LOOPBACK:
            strayed.append(url)

    def note_message(message: ConsoleMessage) -> None:
        if message.type == "error" and not PROBE.fullmatch(urlsplit(message.location.get("url", "")).path):
            errors.append(message.text)

    def open_one(url: str, *, locale: str = "en-US", width: int = 1440, height: int = 900) -> Page:
        context = chromium.new_context(locale=locale, viewport={"width": width, "height": height})
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: note_request(request.url))
        page.on("websocket", lambda socket: note_request(socket.url))
        page.on("console", note_message)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.locator("h1").first.wait_for()
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert strayed == [], "a request left this computer"
    assert errors == [], "the browser's console reports errors"
