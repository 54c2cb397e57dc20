"""A real fine-tune in a real browser: start it, see the curve grow, reload, stop, and find it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support import ROOT, serve

POINTS = "document.querySelectorAll('.st-key-chart_ft_loss .scatterlayer .trace path.point').length > 0"


@pytest.fixture
def training_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with a supervisor of its own, which leaves when the app is gone; the other tests start none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_LAB_SUPERVISOR", "on")
        with serve(ROOT / "app.py", tmp_path_factory.mktemp("training-home")) as url:
            yield url


def test_a_run_outlives_a_reload_and_obeys_its_buttons(training_app: str, open_page: Callable[..., Page]) -> None:
    open_page(training_app)  # the first visit of all goes to the front page
    page = open_page(f"{training_app}/finetune?lang=en")
    steps = page.get_by_label("Steps", exact=True)
    steps.fill("40")
    steps.press("Tab")
    expect(page.get_by_text("40 steps of 8 rows")).to_be_visible()
    page.get_by_role("button", name="Start training").dblclick()
    page.wait_for_function("location.search.includes('run=')", timeout=60_000)
    page.wait_for_function(POINTS, timeout=120_000)
    address = page.url
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.reload()
    page.wait_for_function(POINTS)
    assert page.url == address
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("paused, all is saved")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped; the best weights so far are kept").first).to_be_visible(timeout=60_000)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    other = open_page(f"{training_app}/finetune?lang=en")  # another tab, without the address
    expect(other.get_by_role("button", name="Ship's log", exact=True).last).to_be_visible()
    assert other.get_by_text("stopped · step").count() == 1, "two clicks made one run"
