"""The lesson on positions in a real browser: dials, maps, the slider, and that nothing is wider than a phone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from lab import models
from lab.language import strings
from lab.lessons import section

pytestmark = pytest.mark.skipif(
    models.DEFAULT not in models.bundled(), reason="the storyteller is not in this checkout"
)


@pytest.fixture(scope="module", autouse=True)
def front_door_first(app_url: str, chromium: Browser) -> None:
    """The very first visit of a server is another test's business."""
    page = chromium.new_page()
    page.goto(app_url)
    page.locator("h1").first.wait_for()
    page.close()


def _asked(url: str, name: str) -> str | None:
    return parse_qs(urlsplit(url).query).get(name, [None])[0]


def test_a_dial_answers_to_pointer_keyboard_and_click(app_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{app_url}/positions?step=5&text=The old king looked&q=2")
    dials = page.locator(".dials button")
    expect(dials).to_have_count(6 * 5)  # six pairs; the start and four words
    page.locator(".dials button[data-row='1'][data-col='4']").hover()
    expect(page.locator(".dials ~ .tip.shown, .tip.shown").first).to_contain_text("position 4")
    page.locator(".dials button[data-row='2'][data-col='3']").click()
    page.wait_for_url(lambda url: _asked(url, "positions_pair") == "3" and _asked(url, "q") == "4")
    chosen = page.locator(".dials button[aria-pressed=true]")
    expect(chosen).to_have_count(1)
    expect(chosen).to_have_attribute("aria-label", re.compile("pair 3, position 3"))
    # The hand points where the label says: 3 steps at 10000^(-2·2/32) radians.
    angle = 3 * 10000 ** (-4 / 32)
    assert f"{angle:.4f} rad" in str(chosen.get_attribute("aria-label"))
    x = float(chosen.locator(".hand").get_attribute("x2") or "nan")
    assert x == pytest.approx(16 * math.cos(angle), abs=0.02)


def test_the_next_order_stands_in_the_link_and_comes_back_with_it(app_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{app_url}/positions?step=1&lang=zh", locale="zh-CN")
    expect(page.locator("h1")).to_have_text(section("positions", "shuffle", "zh").title)
    page.get_by_role("button", name=strings("zh")["positions.again"]).click()
    page.wait_for_url(lambda url: _asked(url, "positions_shuffle") == "2")
    strip = page.locator(".tokens").nth(1).locator("button")
    expect(strip).to_have_count(11)  # the start and the ten characters of shiren's example
    words = strip.all_inner_texts()
    assert words != page.locator(".tokens").nth(0).locator("button").all_inner_texts()
    page.reload()
    expect(page.locator(".tokens").nth(1).locator("button")).to_have_text(words)


def test_nothing_is_wider_than_a_phone(app_url: str, open_page: Callable[..., Page]) -> None:
    page = open_page(f"{app_url}/positions?step=5", width=390)
    expect(page.locator(".dials button")).to_have_count(6 * 9)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
