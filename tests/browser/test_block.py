"""What only a browser shows of the lesson on the block: hovering the lens, choosing in it, and a phone's width."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect


def test_the_lens_tells_on_hovering_and_answers_a_click(open_page: Callable[..., Page], app_url: str) -> None:
    open_page(app_url)  # the first visit of all goes to the front page
    page = open_page(f"{app_url}/block?step=6&lang=en&text=Once+upon+a+time&q=3&layer=2")
    grid = page.get_by_role("grid", name="The likeliest next tokens after")
    expect(grid).to_be_visible()
    cell = grid.locator("button").nth(0)
    cell.hover()
    expect(page.locator(".tip.shown").first).to_contain_text("rank")
    assert "%" in page.locator(".tip.shown").first.inner_text()
    grid.locator("button[data-i='5'][data-j='1']").click()
    expect(grid.locator("button.sel")).to_have_attribute("data-i", "5")
    page.wait_for_url("**layer=5**")
    grid.locator("button.sel").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(grid.locator("button.sel")).to_have_attribute("data-i", "4")
    page.set_viewport_size({"width": 390, "height": 844})
    expect(grid).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
