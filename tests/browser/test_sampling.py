"""What only a browser shows of the lesson on sampling: the bars and the tree answer a click, on a phone too."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect


def test_a_token_is_followed_taken_and_left_again(open_page: Callable[..., Page], app_url: str) -> None:
    open_page(app_url)  # the first visit of all goes to the front page
    page = open_page(f"{app_url}/sampling?step=5&lang=en&text=Once+upon+a+time")
    grid = page.get_by_role("grid")
    grid.locator("button[data-i='2'][data-j='3']").click()
    page.wait_for_url("**sampling_token=**")
    expect(grid.locator("button.sel")).to_have_attribute("data-i", "2")
    expect(grid.locator("button.sel")).to_have_attribute("data-j", "3")
    page.goto(f"{app_url}/sampling?step=7&lang=en&text=The+old+king+looked+at+the+little+bird")
    tree = page.get_by_role("group", name="A tree of tokens")
    tree.locator("button.offer").first.click()
    page.wait_for_url("**sampling_path=**")
    expect(tree.locator("button.now")).to_have_count(1)
    tree.locator("button").first.click()  # back to the text: what was tried stays
    expect(tree.locator("button.tried")).to_have_count(1)
    tree.locator("button.offer").nth(1).click()  # another branch
    expect(tree.locator("button.tried")).to_have_count(1)
    assert tree.locator("xpath=..").locator("path").count() > 2
    page.set_viewport_size({"width": 390, "height": 844})
    expect(tree).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
