"""The view and its address: a link is taken over, nonsense in it is not, and what the page shows stands in the URL."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lab.ui import view

NAMES = ("text", "layer", "head", "q", "k", "step", "mode", "model")


def _page() -> None:
    import streamlit as st

    from lab.ui import view

    view.adopt_address()
    settled = view.settle(6, 8, 9, 3, 0) if st.session_state.get("settle", True) else None
    view.mirror_address("text", "layer", "head", "q", "k", "step", "mode", "model")
    st.session_state["settled"] = settled


def visit(session: dict[str, Any] | None = None, **query: str) -> AppTest:
    app = AppTest.from_function(_page, default_timeout=30)
    for name, value in (session or {}).items():
        app.session_state[name] = value
    app.query_params.update(query)
    app.run()
    assert not app.exception
    return app


def seen(app: AppTest) -> tuple[int, int, int, int]:
    settled = app.session_state["settled"]
    return settled.layer, settled.head, settled.query, settled.key


def address(app: AppTest) -> dict[str, str]:
    return {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}


def test_without_a_link_the_last_word_looks_at_the_one_before() -> None:
    app = visit()
    assert seen(app) == (3, 0, 8, 7)
    assert address(app) == {"layer": "4", "head": "1", "q": "9", "k": "8"}


def test_a_link_counts_from_one_and_is_kept() -> None:
    app = visit(layer="1", head="8", q="3", k="5", text="a b", step="4", mode="toy")
    assert seen(app) == (0, 7, 2, 4)
    assert address(app) == {
        "text": "a b", "layer": "1", "head": "8", "q": "3", "k": "5", "step": "4", "mode": "toy",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["layer", "head", "q", "k"])
@pytest.mark.parametrize(
    "nonsense",
    ["999", "0", "-1", "abc", "1e9", "٣", "２", "²", "", " 2", "2.0", "1" * 4000, "0x2", "None", "\x00", "+1"],
)
def test_nonsense_in_a_link_is_ignored(name: str, nonsense: str) -> None:
    usual = visit()
    app = visit(**{name: nonsense})
    assert seen(app) == seen(usual)
    assert address(app) == address(usual)


def test_a_link_overrides_the_session() -> None:
    app = visit({"view.layer": 1, "view.q": 4, "view.text": "old"}, layer="6", text="new")
    assert seen(app)[:3] == (5, 0, 4)
    assert app.session_state["view.text"] == "new"


def test_nonsense_in_a_link_forgets_and_does_not_keep_the_old() -> None:
    assert seen(visit({"view.layer": 1}, layer="x"))[0] == 3


def test_the_mirror_of_the_last_run_is_no_link() -> None:
    """A click changes the session while the old address still stands there: the click wins."""
    app = visit(layer="2")
    app.session_state["view.layer"] = 4
    app.run()
    assert seen(app)[0] == 4 and address(app)["layer"] == "5"
    app.query_params["layer"] = "3"  # the reader edits the address: a link again
    app.run()
    assert seen(app)[0] == 2


@pytest.mark.parametrize(
    "text", ["百 % & # ? = +", "مرحبا", "👩‍👩‍👧", "a\u202eb", "<b>x</b>", " lead and trail ", "'\"\\", "x" * 300]
)
def test_any_text_survives_the_round_trip(text: str) -> None:
    first = visit({"view.text": text})
    again = visit(**address(first))
    assert again.session_state["view.text"] == text
    assert address(again) == address(first)


def test_a_text_too_long_for_a_link_stays_in_the_session_only() -> None:
    long = "x" * (view.LONGEST_TEXT + 1)
    app = visit({"view.text": long})
    assert "text" not in address(app) and app.session_state["view.text"] == long
    app.run()
    assert app.session_state["view.text"] == long


def test_parameters_that_are_not_ours_are_left_alone() -> None:
    assert address(visit(lang="zh", utm="x"))["utm"] == "x"


def test_what_a_page_does_not_use_leaves_its_address() -> None:
    def other() -> None:
        from lab.ui import view

        view.adopt_address()
        view.mirror_address("text")

    app = AppTest.from_function(other, default_timeout=30)
    app.query_params.update({"text": "a", "layer": "2", "step": "3"})
    app.run()
    assert address(app) == {"text": "a"}
    assert app.session_state["view.layer"] == 1  # it travels in the session


@pytest.mark.parametrize(
    ("session", "shape", "expected"),
    [
        ({}, (6, 8, 1, 3, 0), (3, 0, 0, 0)),  # one token: it looks at itself
        ({}, (2, 2, 5, 3, 7), (1, 1, 4, 3)),  # the default layer and head do not exist
        ({"view.q": 7, "view.k": 7, "view.layer": 5}, (2, 1, 3, 0, 0), (0, 0, 2, 1)),  # a smaller model, a shorter text
        ({"view.q": 0}, (2, 2, 5, 0, 0), (0, 0, 0, 0)),
        ({"view.q": "2", "view.k": 1.0, "view.layer": None}, (2, 2, 5, 0, 0), (0, 0, 4, 3)),
    ],
)
def test_the_view_always_fits(
    session: dict[str, Any], shape: tuple[int, int, int, int, int], expected: tuple[int, int, int, int]
) -> None:
    def page(*shape: int) -> None:
        import streamlit as st

        from lab.ui import view

        st.session_state["settled"] = view.settle(*shape)

    app = AppTest.from_function(page, default_timeout=30, args=shape)
    for name, value in session.items():
        app.session_state[name] = value
    app.run()
    assert not app.exception
    assert seen(app) == expected
    assert tuple(app.session_state[f"view.{name}"] for name in ("layer", "head", "q", "k")) == expected


def _page_with_a_button() -> None:
    import streamlit as st

    from lab.ui import view

    view.adopt_address()
    st.button("next", on_click=view.put, args=("step", "3"))
    st.button("other")
    if st.session_state.get("blank"):
        st.stop()
    view.mirror_address("text", "step")


def test_a_click_wins_over_the_address_of_the_view_before() -> None:
    """The browser may send a click before it has heard of the last change: the address is stale, and is no link."""
    app = AppTest.from_function(_page_with_a_button, default_timeout=30)
    app.query_params["step"] = "8"
    app.run()
    app.query_params["step"] = "9"  # what still stands there
    app.button[0].click().run()
    assert app.session_state["view.step"] == "3" and address(app) == {"step": "3"}
    app.query_params["step"] = "5"
    app.run()
    assert app.session_state["view.step"] == "5"  # and now a link again


def test_a_link_is_taken_over_once_even_where_the_page_stops() -> None:
    """A blank text in a link ends the run early; the sentence typed then must stay."""
    app = AppTest.from_function(_page_with_a_button, default_timeout=30)
    app.session_state["blank"] = True
    app.query_params["step"] = "1"
    app.run()
    app.button[0].click().run()
    app.button[1].click().run()
    assert app.session_state["view.step"] == "3"
