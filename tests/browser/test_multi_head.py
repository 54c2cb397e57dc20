"""The small maps of the multi-head lesson in a real browser: hover, click, keyboard, phone."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

GUTTER, HEADER = 24, 18
HEADS = 8


def spot(body: Locator, layer: int, head: int) -> tuple[float, float]:
    """The middle of a small map, counted from 1, relative to the body."""
    box = body.bounding_box()
    assert box is not None
    pitch = (box["width"] - GUTTER) / HEADS
    return GUTTER + (head - 0.6) * pitch, HEADER + (layer - 0.6) * pitch


def test_hover_click_and_keys(app_url: str, open_page: Callable[..., Page]) -> None:
    open_page(app_url)  # the first visit of all goes to the front page
    page = open_page(f"{app_url}/multi-head?lang=en&step=1&layer=4&head=1")
    body = page.locator(".body[role=application]").first
    body.wait_for()
    preview = page.locator(".preview").first
    expect(preview).to_be_hidden()
    x, y = spot(body, 2, 5)
    body.hover(position={"x": x, "y": y})
    expect(preview).to_be_visible()
    expect(preview.locator(".title")).to_have_text("layer 2, head 5")
    painted = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(value => value > 0)"
    assert preview.locator("canvas").evaluate(painted), "the map is drawn larger"
    body.click(position={"x": x, "y": y})
    expect(page).to_have_url(re.compile(r"layer=2\b.*head=5\b"))
    body.focus()
    for key in ("ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile(r"layer=3\b.*head=6\b"))
    page.keyboard.press("Escape")
    expect(preview).to_be_hidden()


def test_fits_a_phone(app_url: str, open_page: Callable[..., Page]) -> None:
    open_page(app_url)
    page = open_page(f"{app_url}/multi-head?lang=zh&step=3&model=bundled:storyteller", width=390, height=844)
    body = page.locator(".body[role=application]").first
    body.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = body.bounding_box()
    assert box is not None and box["width"] <= 390 - 16
    x, y = spot(body, 6, 8)
    body.click(position={"x": x, "y": y})
    expect(page).to_have_url(re.compile(r"multi_head_other=6\.8\b"))
    page.reload()
    expect(page.locator("h1")).to_have_text("同一句话，两个头读法不同")
    expect(page).to_have_url(re.compile(r"multi_head_other=6\.8\b"))
