"""The lesson on tokens in a real browser: hover, clicks, keys, the map, a link that shows the same, a phone."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect
from tokenizers import Tokenizer

from lab import models
from lab.course import lesson
from lab.lessons import section

OpenPage = Callable[..., Page]
STEPS = lesson("tokens").steps
TITLES = [section("tokens", step, "en").title for step in STEPS]
TEXT = "The bird saw <b>the</b> bird 猫"


@pytest.fixture(scope="module", autouse=True)
def front_door_first(app_url: str, chromium: Browser) -> None:
    """The server's very first visit has a test of its own."""
    page = chromium.new_page()
    page.goto(app_url)
    page.locator("h1").wait_for()
    page.close()


def link(app_url: str, **view: object) -> str:
    return f"{app_url}/tokens?" + "&".join(f"{name}={quote(str(value))}" for name, value in view.items())


def test_pointing_at_a_token_shows_its_id_and_lights_its_equals(app_url: str, open_page: OpenPage) -> None:
    ids = [0, *Tokenizer.from_file(str(models.MODELS / "storyteller" / "tokenizer.json")).encode(TEXT).ids]
    page = open_page(link(app_url, text=TEXT, step=1))
    pieces, numbers = (page.locator(f".st-key-tokens_ids .{row} .piece") for row in ("words", "ids"))
    expect(numbers).to_have_text([str(i) for i in ids])
    assert page.locator(".st-key-tokens_ids b").count() == 0, "the text's own tags are text"
    twice = next(i for i in ids if ids.count(i) == 2)
    first, second = (k for k, i in enumerate(ids) if i == twice)
    pieces.nth(first).hover()
    expect(page.locator(".st-key-tokens_ids .tip.shown")).to_contain_text(f"id {twice}")
    for row in (pieces, numbers):
        expect(row.nth(second)).to_have_class(re.compile(r"\bsame\b"))
    assert page.locator(".st-key-tokens_ids .piece.same").count() == 4
    tints = [pieces.nth(k).evaluate("e => getComputedStyle(e).backgroundColor") for k in (first, second, first + 1)]
    assert tints[0] == tints[1] != tints[2]
    numbers.nth(second).hover()
    expect(pieces.nth(first)).to_have_class(re.compile(r"\bsame\b"))
    pieces.nth(first).click()
    page.wait_for_url(re.compile(rf"[?&]q={first + 1}\b"))


def test_merges_by_slider_click_and_key_and_a_link_keeps_the_place(app_url: str, open_page: OpenPage) -> None:
    page = open_page(link(app_url, text="The birdkeeper", step=3, q=3))
    grid = page.locator(".st-key-tokens_merges")
    names, now = grid.locator(".cell.name"), grid.locator(".cell.symbol.now")
    expect(now).to_have_text(list("␣birdkeeper"))
    expect(grid.locator(".cell.symbol.later").first).to_be_hidden()
    names.nth(2).click()
    page.wait_for_url(re.compile(r"[?&]tokens_merge=2\b"))
    expect(now).to_have_count(len("␣birdkeeper") - 2)
    grid.locator(".blocks").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile(r"[?&]tokens_merge=3\b"))
    page.reload()
    expect(now).to_have_count(len("␣birdkeeper") - 3)
    expect(grid.locator(".pair .rank")).to_have_count(len("␣birdkeeper") - 4)


def test_a_neighbour_is_compared_and_the_map_is_searched(app_url: str, open_page: OpenPage) -> None:
    page = open_page(link(app_url, text="The king", step=7, q=3))
    near = page.locator(".st-key-tokens_near_strip button")
    expect(near).to_have_count(12)
    third = near.nth(2).text_content() or ""
    near.nth(2).click()
    page.wait_for_url(re.compile(r"[?&]tokens_near=3\b"))
    expect(page.locator(".st-key-strip_cosine .label").nth(1)).to_contain_text(third)
    page.locator(".st-key-walk_next button").click()
    expect(page.locator("h1")).to_have_text(TITLES[7])
    page.locator(".st-key-tokens_find_box input").fill("king")
    page.locator(".st-key-tokens_find_box input").press("Enter")
    page.wait_for_url(re.compile(r"[?&]tokens_find=king\b"))
    plot = page.locator(".st-key-chart_map")
    expect(plot.locator(".scatterlayer .trace")).to_have_count(3)
    expect(plot.locator(".scatterlayer .trace").nth(0).locator("path.point")).to_have_count(4096)
    expect(plot.locator(".annotation")).to_contain_text("␣king")


def test_on_a_phone_no_step_is_wider_than_the_screen(app_url: str, open_page: OpenPage) -> None:
    page = open_page(link(app_url, text="The birdkeeper 猫🐦", q=3, step=1), width=390, height=844)
    for number, title in enumerate(TITLES):
        page.locator(".st-key-tokens_steps button").nth(number).click()
        expect(page.locator("h1")).to_have_text(title)
        expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, title
        expect(page.get_by_test_id("stException")).to_have_count(0)
        assert page.locator(".katex-error").count() == 0
