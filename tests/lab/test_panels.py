"""The panels around a figure: text stays text, the CSV holds what is drawn, a guess is answered."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lab.language import strings
from lab.ui import panels
from tests.attention_reference import BUNDLED, open_lesson, sent, truth
from tests.support import NASTY


def _guess(options: list[str], right: int, about: object) -> None:
    from lab.ui.panels import predict

    predict("q", "Which?", options, right, "Because.", about=about)


def asked(options: list[str], right: int, about: object = None) -> AppTest:
    app = AppTest.from_function(_guess, default_timeout=30, args=(options, right, about)).run()
    assert not app.exception
    return app


def verdict(app: AppTest) -> str | None:
    said = [m.value for m in app.markdown if m.value.endswith("Because.")]
    assert len(said) <= 1
    return said[0].removesuffix(" Because.") if said else None


def test_a_guess_is_answered_right_or_wrong_and_can_be_taken_back() -> None:
    app = asked(["a", "b", "c"], right=1)
    assert verdict(app) is None
    for guess, key in ((0, "panel.wrong"), (1, "panel.right"), (2, "panel.wrong")):
        app.button_group[0].set_value(guess).run()
        assert verdict(app) == strings("en")[key]


def test_options_that_read_the_same_are_still_different_answers() -> None:
    """ "the" may stand twice in a sentence; Streamlit goes by what an option reads."""
    for right in (0, 1):
        for guess in (0, 1):
            app = asked(["␣the", "␣the", "x"], right=right)
            app.button_group[0].set_value(guess).run()
            assert verdict(app) == strings("en")["panel.right" if guess == right else "panel.wrong"]


def test_another_subject_forgets_the_guess() -> None:
    app = asked(["a", "b"], right=0, about=("x", 1))
    app.button_group[0].set_value(0).run()
    assert verdict(app)
    app.args = (["a", "b"], 0, ("x", 2))
    app.run()
    assert verdict(app) is None


@pytest.mark.parametrize("nasty", NASTY)
def test_a_word_is_bold_and_inert(nasty: str) -> None:
    shown = panels.word(nasty, "q")
    assert shown.startswith(":blue[**") and shown.endswith("**]")
    inside = shown.removeprefix(":blue[**").removesuffix("**]")
    assert not re.search(r"(?<!\\)[<`*\[\]$_~]", inside)  # every mark of Markdown or HTML is escaped
    assert not any(part in inside for part in ("](", "**b", ":red[", "$x^2$"))


def test_each_role_has_its_colour_of_the_theme() -> None:
    assert {role: panels.COLOURS[role] for role in ("q", "k", "v")} == {"q": "blue", "k": "orange", "v": "green"}


def test_the_csv_holds_every_number_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a matrix the file has all digits, and minus infinity by name; labels are defused, numbers are not."""
    files: dict[str, str] = {}
    original = st.download_button

    def button(label: str, data: Any, **options: Any) -> Any:
        files[options["file_name"]] = data
        return original(label, data, **options)

    monkeypatch.setattr(st, "download_button", button)
    text = "=1+1 and -2"
    app = open_lesson(text=text, step=6, layer=2, head=4)
    assert not app.exception
    (data,) = files.values()
    (name,) = files
    assert "layer2" in name and "head4" in name and name.endswith(".csv")
    rows = list(csv.reader(io.StringIO(data, newline="")))
    values = np.array([[float(x) for x in row[1:]] for row in rows[1:]])
    expected = truth(BUNDLED, text).head("masked", 1, 3)
    np.testing.assert_allclose(values, expected, rtol=2e-4, atol=2e-4)
    assert not any(row[0].startswith(("=", "+", "-", "@")) for row in rows[1:])
    labels = sent(app, "tokens")["tokens"]
    assert [row[0].removeprefix("'") for row in rows[1:]] == labels


def test_the_prose_shows_a_typed_word_as_itself() -> None:
    app = open_lesson(text="hello **bold**<b>x</b> $y$", step=1)
    body = next(m.value for m in app.markdown if "look back at every word" in m.value)
    label = sent(app, "tokens")["tokens"][-1]
    assert panels.word(label, "q") in body
