"""Our components in a real browser: clicks reach Python, hovering does not, the keyboard works, text stays text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from lab import theme
from tests.support import NASTY, serve

SCRIPT = """
import numpy as np
import streamlit as st
from lab.ui import components, page_style
from tests.support import NASTY

page_style.apply()
state = st.session_state
state["runs"] = state.get("runs", 0) + 1
st.title("components")

def choose(name):
    return lambda answer: state.update({name: answer, "calls": state.get("calls", 0) + 1})

T = 9
tokens = [f"w{i}" for i in range(T)]
scores = np.arange(T * T).reshape(T, T) * 1.5 - 40
weights = np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None]
q, k = np.linspace(-1, 2, 32), np.linspace(4, -3, 32)
returned = components.matrix(scores, tokens, tokens, key="scores", alt="scores of nine tokens",
    selected=state.get("cell", (8, 7)), faint=np.triu(np.ones((T, T), bool), 1), on_select=choose("cell"))
components.matrix(scores * 2, tokens, tokens, key="deaf", alt="a page that takes no click", selected=(0, 0))
components.matrix(np.random.default_rng(0).normal(size=(128, 128)), ["r"] * 128, ["c"] * 128, key="large",
    alt="a large matrix", selected=(3, 4), on_select=choose("large"))
components.token_strip(tokens, ids=range(100, 109), selected_query=8, key="tokens", on_select=choose("token"))
components.token_strip(NASTY, key="nasty", caption="<b>caption</b>")
held = state.get("held", -1)
components.arcs(tokens, weights, key="arcs", alt="arcs", selected=None if held < 0 else held, on_select=choose("held"))
components.operand_strip([
    {"label": "q of w8", "role": "q", "values": q, "scale": 4},
    {"label": "k of w7", "role": "k", "values": k, "scale": 4},
    {"label": "products", "role": "weights", "symbol": "q·k", "values": q * k}], key="operands")
components.step_bar(["one", "two", "three"], state.get("step", 1), done=[0], key="steps", label="the steps",
    on_select=choose("step"))
names = ("runs", "calls", "cell", "large", "token", "held", "step")
st.text("; ".join(f"{n}={state.get(n)}" for n in names) + f"; returned={returned};")
"""


@pytest.fixture(scope="module")
def demo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("components")
    script = home / "demo.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    with serve(script, home) as url:
        yield url


@pytest.fixture
def page(demo_url: str, open_page: Callable[..., Page]) -> Page:
    return _ready(open_page(demo_url))


def _ready(page: Page) -> Page:
    expect(page.get_by_text("runs=")).to_be_visible()
    expect(page.locator(".st-key-steps button")).to_have_count(3)
    expect(page.locator(".st-key-scores .td")).to_have_count(81)
    return page


def _says(page: Page, *parts: str) -> None:
    for part in parts:
        expect(page.get_by_text("runs=")).to_contain_text(f"{part};")


def _cell(page: Page, key: str, i: int, j: int) -> Locator:
    return page.locator(f".st-key-{key} .td").nth(9 * i + j)


def test_a_click_reaches_python_once_and_changes_the_drawing_in_place(page: Page) -> None:
    first = _cell(page, "scores", 0, 0).element_handle()
    _cell(page, "scores", 6, 4).click()
    _says(page, "cell=(6, 4)", "returned=(6, 4)", "calls=1", "runs=2")
    expect(page.locator(".st-key-scores .td.sel")).to_have_text("+47.0")
    assert first.evaluate("node => node.isConnected")  # the same elements, not new ones
    assert page.locator(".st-key-scores .body").evaluate("node => node.getRootNode().activeElement === node")
    page.locator(".st-key-tokens button").nth(2).click()
    _says(page, "token=2", "returned=None", "calls=2", "runs=3")  # a choice is told once


def test_hovering_shows_the_number_and_runs_nothing(page: Page) -> None:
    for j in range(9):
        _cell(page, "scores", 3, j).hover()
    tip = page.locator(".st-key-scores .tip")
    expect(tip).to_have_class(re.compile("shown"))
    expect(tip).to_contain_text("w3 → w8")
    expect(tip).to_contain_text("12.5000")
    page.locator(".st-key-tokens button").nth(3).hover()
    expect(page.locator(".st-key-tokens .tip")).to_have_text("id 103")
    page.wait_for_timeout(300)
    _says(page, "runs=1")


def test_the_keyboard_walks_and_chooses(page: Page) -> None:
    page.locator(".st-key-scores .body").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".st-key-scores .live")).to_have_text("w7, w6: 63.5000")
    page.keyboard.press("Enter")
    _says(page, "cell=(7, 6)", "runs=2")
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    _says(page, "cell=(7, 0)", "runs=3")
    page.locator(".st-key-steps button").nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    _says(page, "step=2", "runs=4")
    expect(page.locator(".st-key-steps [aria-current=step]")).to_have_text("3three")


def test_a_click_that_python_does_not_take_is_taken_back(page: Page) -> None:
    mark = page.locator(".st-key-deaf .mark.sel")
    home = mark.bounding_box()
    _cell(page, "deaf", 4, 4).click()
    assert mark.bounding_box() != home
    _says(page, "runs=2")
    page.wait_for_timeout(1800)
    assert mark.bounding_box() == home


def test_a_large_matrix_is_drawn_and_answers(page: Page) -> None:
    body = page.locator(".st-key-large .body")
    canvas = page.locator(".st-key-large canvas")
    expect(canvas).to_be_visible()
    colours = canvas.evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    assert colours > 20
    box = body.bounding_box()
    assert box is not None
    body.click(position={"x": box["width"] * 10.5 / 128, "y": box["height"] * 20.5 / 128})
    _says(page, "large=(20, 10)")


def test_arcs_are_held_and_let_go(page: Page) -> None:
    chips, held = page.locator(".st-key-arcs button"), page.locator(".st-key-arcs .locked")
    chips.nth(3).hover()
    expect(page.locator(".st-key-arcs .number").nth(3)).to_have_text("0.25")
    expect(page.locator(".st-key-arcs .number").nth(4)).to_have_text("")  # not allowed: no number
    expect(page.locator(".st-key-arcs path")).to_have_count(4)
    chips.nth(3).click()
    _says(page, "held=3", "runs=2")
    chips.nth(7).hover()
    expect(held).to_have_text("w3")
    expect(page.locator(".st-key-arcs path")).to_have_count(4)
    chips.nth(3).focus()
    page.keyboard.press("Escape")
    _says(page, "held=-1", "runs=3")
    expect(held).to_have_count(0)


def test_operands_show_one_component_in_every_row(page: Page) -> None:
    page.locator(".st-key-operands .rows").focus()
    page.keyboard.press("End")
    shown = page.locator(".st-key-operands .now")
    expect(shown).to_have_text(["q[31] = 2.000", "k[31] = -3.000", "q·k[31] = -6.000"])
    _says(page, "runs=1")


def test_nasty_tokens_stay_text(page: Page) -> None:
    chips = page.locator(".st-key-nasty button")
    expect(chips).to_have_count(len(NASTY))
    assert chips.evaluate_all("nodes => nodes.map(n => n.textContent)") == NASTY
    assert chips.evaluate_all("nodes => nodes.some(n => n.childElementCount)") is False
    expect(page.locator(".st-key-nasty .caption")).to_have_text("<b>caption</b>")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_cells_take_the_colours_of_the_theme(demo_url: str, open_page: Callable[..., Page], scheme: str) -> None:
    page = open_page(demo_url)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.reload()
    _ready(page)
    palette = theme.palette(scheme == "dark")
    root = page.locator(".st-key-scores .lab")
    expect(root).to_have_attribute("data-theme", scheme)
    expect(root).to_have_css("color", _rgb(palette.ink))
    expect(_cell(page, "scores", 0, 0)).to_have_css("background-color", _rgb(palette.map_floor))  # the least score
    expect(_cell(page, "scores", 8, 8)).to_have_css("background-color", _rgb(palette.roles["weights"].map_end))


def test_on_a_phone_only_the_chosen_number_stands_and_nothing_overflows(
    demo_url: str, open_page: Callable[..., Page]
) -> None:
    page = _ready(open_page(demo_url, width=390))
    sizes = page.locator(".st-key-scores .td span").evaluate_all(
        "nodes => nodes.filter(n => parseFloat(getComputedStyle(n).fontSize) > 0).map(n => n.textContent)"
    )
    assert sizes == ["+78.5"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for key in ("scores", "large", "tokens", "nasty", "arcs", "operands", "steps"):
        root = page.locator(f".st-key-{key} .lab")
        assert root.evaluate("node => node.scrollWidth <= node.clientWidth + 1"), key
        box = root.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390, key
    bar = page.locator(".st-key-steps button").first
    expect(bar).to_have_attribute("aria-label", "1 one")
    assert (bar.bounding_box() or {})["height"] >= 24


def _rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))
