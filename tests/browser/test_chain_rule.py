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
    # "looked" is not among the eight likeliest after "the", whatever the weights: it stands below them, the ninth.
    page = open_page(f"{app_url}/chain-rule?step=8&lang=en&text=The+old+the+looked+at+the+little+bird&q=5")
    grid = page.get_by_role("grid", name="The most likely tokens")
    expect(grid.get_by_role("gridcell")).to_have_count(9)
    formula = page.locator(".katex-display").filter(has_text="looked").first
    expect(formula).to_be_visible()
    grid.get_by_role("gridcell").nth(1).click()
    page.wait_for_url("**chain_token=**")
    expect(page.locator(".katex-display").filter(has_text="looked")).to_have_count(0)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(grid).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
