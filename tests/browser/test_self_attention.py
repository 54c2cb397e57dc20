"""The self-attention lesson in a real browser: the walk, clicks and keys, links that show the same, text as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lab.course import lesson
from lab.language import LANGUAGES, strings
from lab.lessons import section
from tests.attention_reference import BUNDLED, truth
from tests.support import ROOT, serve

OpenPage = Callable[..., Page]
STEPS = lesson("self_attention").steps
TEXT = "The old king looked at the little bird"
TITLES = {language: [section("self_attention", s, language).title for s in STEPS] for language in LANGUAGES}

# What of the page itself sticks out of the screen; a long formula scrolls inside its own frame.
WIDER = """() => [...document.querySelectorAll('.lab, .stPlotlyChart, p, h1, button')]
    .filter(e => !e.closest('.katex-display') && !e.closest('[data-testid=stSidebar]'))
    .filter(e => { const b = e.getBoundingClientRect(); return b.width && (b.left < -1 || b.right > innerWidth + 1); })
    .map(e => e.className + ' ' + e.textContent.slice(0, 40))"""


@pytest.fixture(scope="module", autouse=True)
def front_door_first(app_url: str, chromium: Browser) -> None:
    """The server's very first visit has a test of its own, the last one here."""
    page = chromium.new_page()
    page.goto(app_url)
    page.locator("h1").wait_for()
    page.close()


def link(app_url: str, **view: object) -> str:
    return f"{app_url}/self-attention?" + "&".join(f"{name}={quote(str(value))}" for name, value in view.items())


def settled(page: Page) -> Page:
    """Once nothing runs any more."""
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_visible()
    expect(page.locator(".st-key-self_attention_steps button")).to_have_count(len(STEPS))
    return page


def cell(page: Page, key: str, row: int, column: int) -> Locator:
    lines = page.locator(f".st-key-{key} .tr")
    return lines.nth(row).locator(".td").nth(column)


def query(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def shown_formula(page: Page) -> str:
    return page.locator("[class*=st-key-formula] annotation").first.text_content() or ""


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_next_walks_through_nine_steps_and_back(app_url: str, open_page: OpenPage, language: str) -> None:
    page = open_page(link(app_url, lang=language))
    for number, title in enumerate(TITLES[language], start=1):
        expect(page.locator("h1")).to_have_text(title)
        expect(page.locator(".st-key-self_attention_steps [aria-current=step]")).to_contain_text(str(number))
        expect(page.get_by_test_id("stException")).to_have_count(0)
        page.wait_for_url(re.compile(rf"[?&]step={number}\b"))
        assert page.locator(".katex-error").count() == 0
        if number < len(STEPS):
            page.locator(".st-key-walk_next button").click()
    expect(page.locator(".st-key-walk_next")).to_have_count(0)
    page.locator(".st-key-walk_back button").click()
    expect(page.locator("h1")).to_have_text(TITLES[language][-2])
    page.locator(".st-key-self_attention_steps button").nth(2).click()
    expect(page.locator("h1")).to_have_text(TITLES[language][2])


def test_a_click_on_a_cell_changes_formula_and_link_and_a_reload_keeps_it(app_url: str, open_page: OpenPage) -> None:
    page = settled(open_page(link(app_url, text=TEXT, step=4, layer=2, head=3)))
    cell(page, "map_scores", 5, 1).click()
    page.wait_for_url(lambda url: "q=6" in url and "k=2" in url)
    score = truth(BUNDLED, TEXT).head("scores", 1, 2)[5, 1]
    bold = rf"\\mathbf\{{{re.escape(f'{score:.2f}')}\}}"
    formula = page.locator("[class*=st-key-formula] annotation").first
    expect(formula).to_have_text(re.compile(bold))
    expect(page.locator(".st-key-map_scores .td.sel")).to_have_text(f"{score:+.1f}")
    before = query(page)
    page.reload()
    settled(page)
    expect(formula).to_have_text(re.compile(bold))
    assert query(page) == before
    assert {"step": "4", "layer": "2", "head": "3", "q": "6", "k": "2", "text": TEXT}.items() <= before.items()


def test_the_keyboard_chooses_a_cell(app_url: str, open_page: OpenPage) -> None:
    page = settled(open_page(link(app_url, text=TEXT, step=6, q=5, k=3)))
    page.locator(".st-key-map_masked .body").focus()
    for key in ("ArrowUp", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_url(lambda url: "q=4" in url and "k=5" in url)
    expect(page.locator(".st-key-map_masked .td.sel")).to_have_text("−∞")
    expect(page.locator("[class*=st-key-formula] annotation").first).to_have_text(re.compile(r"\\infty"))


def test_pointing_at_arcs_runs_nothing_and_a_click_holds(app_url: str, open_page: OpenPage) -> None:
    page = settled(open_page(link(app_url, text=TEXT, step=1, layer=1, head=1)))
    frames: list[object] = []
    with page.expect_websocket() as socket:  # a reload, to have hold of its socket
        page.reload()
    settled(page)
    socket.value.on("framesent", lambda frame: frames.append(frame))
    page.wait_for_timeout(300)
    frames.clear()
    chips = page.locator(".st-key-arcs button")
    numbers = page.locator(".st-key-arcs .number")
    for j in (2, 4, 6):
        chips.nth(j).hover()
        page.wait_for_timeout(60)
    assert frames == []
    chips.nth(3).click()
    page.wait_for_url(re.compile(r"[?&]q=4\b"))
    assert frames
    expect(page.locator(".st-key-arcs .locked")).to_contain_text("king")
    weights = truth(BUNDLED, TEXT).head("weights", 0, 0)[3]
    chips.nth(7).hover()
    expect(numbers.nth(2)).to_have_text(f"{weights[2]:.2f}")
    expect(numbers.nth(4)).to_have_text("")


def test_a_link_shows_another_visitor_the_same(app_url: str, open_page: OpenPage) -> None:
    first = settled(open_page(link(app_url, text="Two dogs & a *cat* 100% #1", step=4, layer=5, head=6)))
    cell(first, "map_scores", 3, 2).click()
    first.wait_for_url(lambda url: "q=4" in url and "k=3" in url)
    expect(first.locator("[class*=st-key-formula] annotation").first).to_be_attached()
    second = settled(open_page(first.url))
    expect(second.locator("h1")).to_have_text(TITLES["en"][3])
    for page in (first, second):
        settled(page)
        expect(page.locator(".st-key-map_scores .td.sel")).to_have_count(1)
    assert shown_formula(second) == shown_formula(first)
    selected = [
        p.locator(".st-key-map_scores .td").evaluate_all("c => c.map(x => x.className)") for p in (first, second)
    ]
    assert selected[0] == selected[1]
    assert query(second) == query(first)


def test_a_sentence_of_markup_is_text_and_fetches_nothing(app_url: str, open_page: OpenPage) -> None:
    """Nothing leaves the computer (open_page holds to it); here: no request at all for what the text names."""
    text = '<img src="/planted.png" onerror="window.planted=1"> ![i](/planted.png) **b** $x$'
    page = open_page(link(app_url, text=text, step=1))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for number in (1, 4, 7, 8):
        settled(page).locator(".st-key-self_attention_steps button").nth(number - 1).click()
        expect(page.locator("h1")).to_have_text(TITLES["en"][number - 1])
        expect(page.get_by_test_id("stException")).to_have_count(0)
        assert page.locator("[src*=planted], [href*=planted]").count() == 0
    assert page.evaluate("window.planted") is None
    assert [url for url in asked if urlsplit(url).path.endswith("planted.png")] == []
    expect(page.locator(".st-key-sentence_box input")).to_have_value(text)
    chips = page.locator(".st-key-tokens button").all_text_contents()
    assert "".join(chips[1:]).replace("␣", " ") == text


def test_on_a_phone_no_step_is_wider_than_the_screen(app_url: str, open_page: OpenPage) -> None:
    page = settled(open_page(link(app_url, text=TEXT), width=390, height=844))
    for number in range(1, len(STEPS) + 1):
        page.locator(".st-key-self_attention_steps button").nth(number - 1).click()
        expect(page.locator("h1")).to_have_text(TITLES["en"][number - 1])
        settled(page)
        page.wait_for_timeout(150)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, number
        assert page.evaluate(WIDER) == [], number


def test_toy_numbers_answer_to_the_switch(app_url: str, open_page: OpenPage) -> None:
    page = settled(open_page(link(app_url, text=TEXT, step=3)))
    page.get_by_text(strings("en")["controls.mode_toy"], exact=True).click()
    expect(page.get_by_role("heading", name=section("self_attention", "toy", "en").title)).to_be_visible()
    page.wait_for_url(re.compile(r"[?&]mode=toy\b"))
    expect(cell(page, "toy_scores", 3, 3)).to_have_text("846.0")
    expect(cell(page, "toy_out", 0, 3)).to_have_text("16.00")
    page.get_by_text(strings("en")["self_attention.toy_causal"]).click()
    expect(cell(page, "toy_out", 0, 3)).to_have_text("4.00")
    page.get_by_text(strings("en")["controls.mode_model"], exact=True).click()
    expect(page.get_by_role("heading", name=TITLES["en"][2])).to_be_visible()
    page.wait_for_url(re.compile(r"[?&]step=3\b"))


def test_the_first_visit_of_a_fresh_server_may_be_a_deep_link(tmp_path: Path, chromium: Browser) -> None:
    """Streamlit's old router answers first and complains once (lab/ui/first_visit.py); then the page is there."""
    with serve(ROOT / "app.py", tmp_path) as url:
        page = chromium.new_page()
        page.set_default_timeout(30_000)
        loads: list[str] = []
        page.on("domcontentloaded", lambda loaded: loads.append(loaded.url))
        page.goto(link(url, text="Two dogs ran", step=4))
        expect(page.locator("h1")).to_have_text(TITLES["en"][3], timeout=30_000)
        settled(page)
        expect(page.get_by_text("Page not found")).to_have_count(0)
        expect(page.locator(".st-key-sentence_box input")).to_have_value("Two dogs ran")
        assert query(page)["step"] == "4" and urlsplit(page.url).path == "/self-attention"
        page.wait_for_timeout(500)
        assert len(loads) == 2  # again once, not for ever
        page.close()  # before its server goes
