"""Home: the sentence to try, and the map that shows what is open and what is planned."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lab import course, models
from lab.language import LANGUAGES, strings
from lab.lessons import section
from lab.ui import reading


@pytest.fixture(params=list(LANGUAGES))
def home(request: pytest.FixtureRequest) -> tuple[AppTest, str]:
    app = AppTest.from_file(str(course.ROOT / "app.py"), default_timeout=30)
    app.query_params["lang"] = request.param
    return app.run(), request.param


def _words(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.title, *app.header, *app.markdown, *app.caption])


def _links(app: AppTest) -> list[str]:
    def walk(block: Any) -> list[str]:
        if getattr(block, "type", "") == "page_link":
            return [block.proto.page]
        return [link for child in getattr(block, "children", {}).values() for link in walk(child)]

    return walk(app.main)


def test_says_what_to_do_with_a_sentence_in_the_readers_language(home: tuple[AppTest, str]) -> None:
    app, language = home
    assert not app.exception
    assert app.title[0].value == section("home", "welcome", language).title
    assert app.text_input[0].label == strings(language)["home.sentence"]
    example = {"en": "The old king looked at the little bird", "zh": "床前明月光，疑是地上"}[language]
    assert app.text_input[0].value == example == reading.EXAMPLES.get(models.usual(language), reading.EXAMPLE)
    assert [button.label for button in app.main.get("button")] == [strings(language)["home.go"]]


def test_the_map_shows_every_lesson_and_links_only_the_open_ones(home: tuple[AppTest, str]) -> None:
    app, language = home
    words = _words(app)
    for part in course.PARTS[1:]:
        assert part.title(language) in words
    listed = [lesson for lesson in course.lessons() if lesson is not course.HOME]
    for lesson in listed:
        assert lesson.question(language) in words
        assert (f":gray[{lesson.title(language)}]" in words) != lesson.is_open
    assert words.count(strings(language)["home.planned"]) == sum(not lesson.is_open for lesson in listed)
    assert _links(app) == [lesson.url_path for lesson in listed if lesson.is_open]


@pytest.mark.parametrize(
    ("sentence", "answer"),
    [("   ", "home.sentence_missing"), ("", "home.sentence_missing"), ("word " * 2000, "home.sentence_long")],
)
def test_a_sentence_that_cannot_travel_is_answered(home: tuple[AppTest, str], sentence: str, answer: str) -> None:
    app, language = home
    app.text_input[0].set_value(sentence)
    app.main.get("button")[0].click().run()
    assert not app.exception
    expected = strings(language)[answer].format(length=len(sentence), longest=300)
    assert [message.value for message in app.info] == [expected]
    assert app.title[0].value == section("home", "welcome", language).title
