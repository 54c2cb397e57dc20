"""A choice that does not fit the model or text at hand is shown clamped, and is there again where it fits."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

LONG, SHORT = (6, 8, 9), (2, 2, 2)


def _page() -> None:
    import streamlit as st

    from lab.ui import view

    n_layers, n_heads, n_tokens = st.session_state["shape"]
    seen = view.settle(n_layers, n_heads, n_tokens, 3, 0)
    st.session_state["seen"] = (seen.layer, seen.head, seen.query, seen.key)
    st.button("q", on_click=lambda: view.put("q", 1))


def _visit(**chosen: int) -> AppTest:
    app = AppTest.from_function(_page, default_timeout=30)
    for name, value in chosen.items():
        app.session_state[f"view.{name}"] = value
    return app


def _seen(app: AppTest, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
    app.session_state["shape"] = shape
    app.run()
    assert not app.exception
    return app.session_state["seen"]


def test_a_choice_survives_a_short_context() -> None:
    app = _visit(layer=5, head=6, q=7, k=4)
    assert _seen(app, LONG) == (5, 6, 7, 4)
    for _ in range(2):
        assert _seen(app, SHORT) == (1, 0, 1, 0)
    assert _seen(app, LONG) == (5, 6, 7, 4)


def test_the_default_follows_the_last_word() -> None:
    app = _visit()
    assert _seen(app, SHORT) == (1, 0, 1, 0)
    assert _seen(app, LONG) == (3, 0, 8, 7)


def test_a_click_on_what_is_shown_is_a_choice() -> None:
    app = _visit(q=7, k=4)
    _seen(app, LONG)
    _seen(app, SHORT)
    app.button[0].click().run()
    assert _seen(app, LONG)[2:] == (1, 0), "the word clicked, and the other as it stood there"
