"""Two languages: the same keys, the same placeholders, and the right one for each visitor."""

from __future__ import annotations

import re
import string

import pytest
from streamlit.testing.v1 import AppTest

from lab import language
from lab.language import placeholders, preferred, strings, text

EN, ZH = strings("en"), strings("zh")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# Entries that have no words to translate. Keep this list short and say why.
SAME_IN_BOTH = {
    "home.example",  # the model reads English
    "panel.csv",  # the name of the format
}


def test_same_keys() -> None:
    assert EN.keys() == ZH.keys()
    assert len(EN) > 20


@pytest.mark.parametrize("key", sorted(EN.keys() & ZH.keys()))
def test_same_placeholders_and_each_in_its_language(key: str) -> None:
    assert EN[key].strip() and ZH[key].strip()
    assert placeholders(EN[key]) == placeholders(ZH[key])
    assert all(name.isidentifier() for name in placeholders(EN[key])), "placeholders are named, never numbered"
    assert not CHINESE.search(EN[key])
    has_words = any(letter in string.ascii_letters for letter in re.sub(r"\{.*?\}", "", EN[key]))
    if has_words and key not in SAME_IN_BOTH:
        assert CHINESE.search(ZH[key]) or EN[key] != ZH[key]


@pytest.mark.parametrize(
    ("locale", "expected"),
    [("zh", "zh"), ("zh-Hant-TW", "zh"), ("ZH_cn", "zh"), ("en-GB", "en"), ("de", "en"), ("", "en"), (None, "en")],
)
def test_preferred(locale: str | None, expected: str) -> None:
    assert preferred(locale) == expected


def test_text_fills_and_names_what_is_missing() -> None:
    assert text("home.minutes", language="en", minutes=25) == "25 min"
    with pytest.raises(KeyError, match=r"no text 'home\.nothing' in assets/strings/zh\.toml"):
        text("home.nothing", language="zh")
    with pytest.raises(KeyError, match=r"'home\.minutes' \(en\) needs a value for 'minutes'"):
        text("home.minutes", language="en")


def _page() -> None:
    import streamlit as st

    from lab import language

    st.write(language.choose())
    st.write(language.text("home.planned"))


def _shown(app: AppTest) -> list[str]:
    assert not app.exception
    return [element.value for element in app.markdown]


def _address(app: AppTest) -> str:
    value = app.query_params["lang"]
    return value if isinstance(value, str) else value[-1]


def test_first_visit_is_english_where_nothing_is_known() -> None:
    app = AppTest.from_function(_page, default_timeout=30).run()
    assert _shown(app) == ["en", EN["home.planned"]]
    assert "lang" not in app.query_params


@pytest.mark.parametrize(("asked", "expected"), [("zh", "zh"), ("en", "en"), ("xx", "en"), ("", "en")])
def test_the_address_decides(asked: str, expected: str) -> None:
    app = AppTest.from_function(_page, default_timeout=30)
    app.query_params["lang"] = asked
    app.run()
    assert _shown(app)[0] == expected
    assert _address(app) == expected


def test_the_control_changes_language_and_address_and_is_remembered() -> None:
    app = AppTest.from_function(_page, default_timeout=30).run()
    app.segmented_control(key=language.WIDGET_KEY).set_value("zh").run()
    assert _shown(app) == ["zh", ZH["home.planned"]]
    assert _address(app) == "zh"
    del app.query_params["lang"]  # what a page switch does
    app.run()
    assert _shown(app)[0] == "zh"
    assert _address(app) == "zh"
