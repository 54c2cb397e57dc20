"""What only a browser shows of the lesson on the chain rule: a probability answers a click, on a phone too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from lab import models

pytestmark = pytest.mark.skipif(
    models.DEFAULT not in models.bundled(), reason="the storyteller is not in this checkout"
)


def test_a_click_on_a_probability_changes_the_formula(open_page: Callable[..., Page], app_url: str) -> None:
    open_page(app_url)  # the first visit of all goes to the front page
    page = open_page(f"{app_url}/chain_rule?step=8&lang=en&text=The+old+king+looked+at+the+little+bird&q=5")
    grid = page.get_by_role("grid")
    chosen = grid.locator("button.sel")
    expect(chosen).to_have_count(1)
    formula = page.locator(".katex-html").filter(has_text="z").first
    before, at = formula.inner_text(), chosen.get_attribute("data-i")
    other = "1" if at == "0" else "0"
    grid.locator(f"button[data-i='{other}'][data-j='0']").click()
    page.wait_for_url("**chain_token=**")
    expect(chosen).to_have_attribute("data-i", other)
    expect(formula).not_to_have_text(before)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(grid).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
