"""What only a browser shows of the lesson on masks: a cell turns over at a click, a leak is seen, a phone is enough."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from lab import models

pytestmark = pytest.mark.skipif(
    models.DEFAULT not in models.bundled(), reason="the storyteller is not in this checkout"
)
TEXT = "text=The+old+king+looked+at+the+little+bird"
N = 9  # tokens, the document start among them


def test_a_cell_turns_over_and_the_future_leaks(open_page: Callable[..., Page], app_url: str) -> None:
    open_page(app_url)  # the first visit of all goes to the front page
    page = open_page(f"{app_url}/masking?step=7&lang=en&{TEXT}&q=9&k=6")
    board = page.get_by_role("grid", name="The mask:")
    expect(board.get_by_role("gridcell")).to_have_count(N * N)
    box = board.bounding_box()
    assert box is not None and box["y"] + box["height"] < 900, "the board lies below the fold"
    cell = board.get_by_role("gridcell").nth(2 * N + 5)  # the third token may look at the sixth: its future
    expect(cell).to_have_text("0")
    leak = page.get_by_role("grid", name="Change of each position")
    expect(leak).to_have_count(0)  # a question comes first
    cell.click()
    expect(cell).to_have_text("1")
    page.wait_for_url("**masking_cells=3.6**")
    page.get_by_role("button", name="Show it without guessing").click()
    expect(leak).to_be_visible()
    moved = [float(text) for text in leak.get_by_role("gridcell").all_inner_texts()]
    first, second = moved[N : 2 * N], moved[2 * N : 3 * N]
    assert [value > 0 for value in first[:5]] == [False, False, True, False, False], "only the row that was opened"
    assert all(value > 0 for value in second[2:5]) and not any(second[:2]), "then all who may look at it"


def test_a_phone_shows_the_board_and_its_numbers(open_page: Callable[..., Page], app_url: str) -> None:
    open_page(app_url, width=390, height=844)
    page = open_page(f"{app_url}/masking?step=1&lang=en&{TEXT}", width=390, height=844)
    cell = page.get_by_role("grid", name="The mask:").get_by_role("gridcell").first
    expect(cell).to_have_text("1")
    size = cell.locator("span").evaluate("node => parseFloat(getComputedStyle(node).fontSize)")
    assert size >= 9, "the 1 is there and cannot be read"
    page = open_page(f"{app_url}/masking?step=3&lang=en&{TEXT}", width=390, height=844)
    batch = page.get_by_role("grid", name="A batch of")
    expect(batch).to_be_visible()
    assert batch.evaluate("node => node.parentElement.scrollWidth - node.parentElement.clientWidth") <= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
