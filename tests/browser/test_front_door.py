"""The front door in a real browser: it opens, speaks two languages, keeps to this computer, and shows text as text."""

from __future__ import annotations

import re
import socket
import textwrap
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from lab.language import strings
from lab.lessons import section
from tests.support import NASTY, serve

EN = section("home", "welcome", "en").title
ZH = section("home", "welcome", "zh").title


def test_opens_within_ten_seconds(app_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(app_url)
    expect(page).to_have_title(re.compile(strings("en")["lesson.home.title"]))
    expect(page.locator("h1")).to_have_text(EN)
    assert page.evaluate("performance.now()") < 10_000


def test_language_follows_the_browser(app_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(app_url, locale="zh-CN")
    expect(page.locator("h1")).to_have_text(ZH)
    assert "lang=" not in page.url


def test_language_switch_survives_pages_and_reload(app_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(app_url)
    page.get_by_text("中文", exact=True).click()
    expect(page.locator("h1")).to_have_text(ZH)
    expect(page).to_have_url(re.compile(r"[?&]lang=zh\b"))
    expect(page.locator("html")).to_have_attribute("lang", "zh")

    links = page.get_by_test_id("stSidebarNavLink")
    if links.count() > 1:  # go to another page and back by the navigation, which empties the address
        links.nth(1).click()
        expect(page).to_have_url(re.compile(r"/[a-z-]+\?(.*&)?lang=zh\b"))
        links.nth(0).click()
        expect(page.locator("h1")).to_have_text(ZH)

    page.reload()
    expect(page.locator("h1")).to_have_text(ZH)

    page.get_by_text("English", exact=True).click()
    expect(page.locator("h1")).to_have_text(EN)
    expect(page).to_have_url(re.compile(r"[?&]lang=en\b"))
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_the_sentence_travels_to_the_lesson(app_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{app_url}/?lang=zh")
    for sentence in ("Two dogs & a *cat*", "Another one: 100% #1"):  # twice: the first visit must leave nothing behind
        page.get_by_label(strings("zh")["home.sentence"]).fill(sentence)
        page.get_by_role("button", name=strings("zh")["home.go"]).click()
        page.wait_for_url(re.compile("/self-attention"))
        page.wait_for_url(lambda url, sentence=sentence: _query(url).get("text") == [sentence])
        assert _query(page.url)["lang"] == ["zh"]
        expect(page.get_by_text(strings("zh")["home.go"])).to_have_count(0)
        page.get_by_test_id("stSidebarNavLink").first.click()
        expect(page.locator("h1")).to_have_text(ZH)


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_wider_than_the_screen(app_url: str, open_page: Callable[..., Page], width: int) -> None:
    page = open_page(app_url, width=width)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("host", "answer"), [("evil.example", b" 403 "), ("127.0.0.1", b" 101 ")])
def test_another_host_name_is_refused(app_url: str, host: str, answer: bytes) -> None:
    """A page elsewhere that points a name of its own at 127.0.0.1 (DNS rebinding) gets no session."""
    port = int(app_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as door:
        door.sendall(
            f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert answer in door.recv(200).splitlines()[0]


def test_escaped_text_is_inert(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    """What a learner types shows letter for letter in st.markdown: no markup, no element of its own, no request."""
    script = tmp_path / "show.py"
    script.write_text(
        textwrap.dedent(
            """
            import streamlit as st
            from lab.lessons import code_span, escape_markdown
            from tests.support import NASTY

            st.title("texts")
            for number, nasty in enumerate(NASTY):
                with st.container(key=f"plain_{number}"):
                    st.markdown("before " + escape_markdown(nasty) + " after, with a formula $x$")
                with st.container(key=f"coloured_{number}"):
                    st.markdown(":blue[" + escape_markdown(nasty) + "] after")
                with st.container(key=f"code_{number}"):
                    st.markdown("before " + code_span(nasty) + " after")
            """
        )
    )
    with serve(script, tmp_path) as url:
        page = open_page(url)
        expect(page.locator(f".st-key-code_{len(NASTY) - 1} code")).to_be_visible()
        for number, nasty in enumerate(NASTY):
            shown = page.locator(f".st-key-plain_{number} p")
            own_text = shown.evaluate("p => [...p.childNodes].filter(n => n.nodeType == 3).map(n => n.data).join('')")
            assert _letters(own_text) == _letters(f"before {nasty} after, with a formula "), nasty
            # the one element is our own formula
            assert shown.evaluate("p => p.children.length") == 1, nasty
            coloured = page.locator(f".st-key-coloured_{number} p")
            assert _letters(coloured.inner_text()) == _letters(f"{nasty} after"), nasty
            assert coloured.evaluate("p => p.querySelectorAll('*').length") == 1, nasty
            code = page.locator(f".st-key-code_{number} p")
            assert _letters(code.inner_text()) == _letters(f"before {nasty} after"), nasty
            assert code.evaluate("p => p.querySelectorAll('*').length") == 1, nasty
        page.context.close()  # before its server goes


def _query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


def _letters(text: str) -> str:
    """A text without what may differ on purpose: spaces, controls shown as symbols, invisible joiners and isolates."""
    shown = (c for c in text if c.isprintable() and not c.isspace())
    return "".join(c for c in shown if not 0x2400 <= ord(c) <= 0x2421 and c != "\ufffd")
