"""The catalogue and the house agree: every page is a lesson, every lesson has its words, every address is its own."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest

from lab import course
from lab.language import LANGUAGES, strings
from lab.lessons import LESSONS, sections

PAGES = {path.relative_to(course.ROOT).as_posix() for path in (course.ROOT / "pages").rglob("*.py")}


def test_every_page_is_in_the_catalogue_and_the_other_way_round() -> None:
    assert {lesson.page for lesson in course.lessons() if lesson.page} == PAGES


def test_slugs_and_addresses_are_unique() -> None:
    slugs = [lesson.slug for lesson in course.lessons()]
    assert len(set(slugs)) == len(slugs)
    addresses = [lesson.url_path for lesson in course.lessons()]
    assert len(set(addresses)) == len(addresses)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", address) for address in addresses)
    parts = [part.slug for part in course.PARTS]
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_part_and_lesson_has_its_words(language: str) -> None:
    known = strings(language)
    used = {f"part.{part.slug}" for part in course.PARTS}
    used |= {f"lesson.{lesson.slug}.{what}" for lesson in course.lessons() for what in ("title", "question")}
    catalogue = {key for key in known if key.startswith("part.") or re.fullmatch(r"lesson\.\w+\.(title|question)", key)}
    assert used == catalogue, "words without a lesson, or a lesson without words"
    for lesson in course.lessons():
        assert lesson.question(language).endswith(("?", "？"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("slug", [lesson.slug for lesson in course.lessons() if lesson.page and lesson.steps])
def test_every_step_of_an_open_lesson_has_its_prose(slug: str, language: str) -> None:
    lesson = course.lesson(slug)
    assert lesson.minutes is not None and lesson.minutes > 0
    assert (LESSONS / f"{slug}.{language}.md").is_file()
    known = list(sections(slug, language))
    assert [id for id in known if id in lesson.steps] == list(lesson.steps)


def test_a_planned_lesson_is_closed_and_promises_nothing() -> None:
    planned = [lesson for lesson in course.lessons() if lesson.page is None]
    assert all(not lesson.is_open and not lesson.steps and lesson.minutes is None for lesson in planned)
    with pytest.raises(KeyError, match="no lesson 'alchemy'"):
        course.lesson("alchemy")


def test_the_front_door_runs_in_both_languages() -> None:
    for language in LANGUAGES:
        app = AppTest.from_file(str(course.ROOT / "app.py"), default_timeout=30)
        app.query_params["lang"] = language
        app.run()
        assert not app.exception
        assert app.title[0].value
