"""The prose: its syntax, its placeholders, both languages side by side, and text from learners kept inert."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from lab.lessons import LESSONS, Markdown, Section, code_span, escape_markdown, parse, section, sections
from tests.support import NASTY

SLUGS = sorted(path.name.removesuffix(".en.md") for path in LESSONS.glob("*.en.md"))
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize("slug", SLUGS)
class TestBothLanguages:
    def test_same_sections_in_the_same_order(self, slug: str) -> None:
        assert list(sections(slug, "en")) == list(sections(slug, "zh"))

    def test_same_placeholders_formulas_and_code(self, slug: str) -> None:
        for id, english in sections(slug, "en").items():
            chinese = section(slug, id, "zh")
            assert english.placeholders == chinese.placeholders, id
            assert _without_words(english) == _without_words(chinese), id

    def test_each_is_written_in_its_language(self, slug: str) -> None:
        for id, english in sections(slug, "en").items():
            chinese = section(slug, id, "zh")
            assert CHINESE.search(chinese.title), id
            assert not CHINESE.search(english.title), id
            assert chinese.body == "" or len(CHINESE.findall(chinese.body)) > len(chinese.body) / 8, id
            assert bool(english.body) == bool(chinese.body), id


def test_every_file_has_its_twin() -> None:
    assert SLUGS
    names = {path.name for path in LESSONS.glob("*.md")}
    assert names == {f"{slug}.{language}.md" for slug in SLUGS for language in ("en", "zh")}


def test_parse_reads_ids_titles_and_bodies() -> None:
    found = parse("## {#one} First title\n\nA body.\n\n### A small heading\n\n## {#two_b} 标题\n正文\n", "x.md")
    assert list(found.values()) == [
        Section("one", "First title", "A body.\n\n### A small heading"),
        Section("two_b", "标题", "正文"),
    ]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("", "begins with a heading"),
        ("stray words\n## {#a} T\n", "begins with a heading"),
        ("## No id\n", "has no {#id}"),
        ("## {#a} T\n## {#a} T\n", "stands twice"),
        ("## {#A} Capital\n", "has no {#id}"),
    ],
)
def test_parse_names_the_fault(source: str, fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)) as raised:
        parse(source, "bad.en.md")
    assert "bad.en.md" in str(raised.value)


def test_fill_leaves_formulas_and_code_alone() -> None:
    body = "{a} $\\frac{q}{k}$ `{a}` $$\nx_{a}\n$$\n```\n{a}\n```\n{b_2}"
    part = Section("s", "t", body)
    assert part.placeholders == {"a", "b_2"}
    assert part.fill(a=1, b_2="two") == "1 $\\frac{q}{k}$ `{a}` $$\nx_{a}\n$$\n```\n{a}\n```\ntwo"


def test_fill_escapes_unless_told_otherwise() -> None:
    part = Section("s", "t", "{x}")
    assert part.fill(x="*x*") == r"\*x\*"
    assert part.fill(x=Markdown("*x*")) == "*x*"


def test_fill_does_not_fill_what_a_value_brings() -> None:
    assert Section("s", "t", "{x} {y}").fill(x=Markdown("{y}"), y="1") == "{y} 1"


def test_missing_names_are_told() -> None:
    with pytest.raises(KeyError, match=r"'s' needs a value for \{x\}"):
        Section("s", "t", "{x}").fill(y=1)
    with pytest.raises(KeyError, match=r"no section 'nowhere' in assets/lessons/home\.en\.md"):
        section("home", "nowhere", "en")


def test_a_changed_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr("lab.lessons.LESSONS", tmp_path)
    file = tmp_path / "x.en.md"
    for number in (1, 2):
        file.write_text(f"## {{#a}} Title {number}\n")
        os.utime(file, (number, number))
        assert section("x", "a", "en").title == f"Title {number}"


@pytest.mark.parametrize("nasty", NASTY)
def test_escaped_text_stays_on_one_line_with_every_sign_escaped(nasty: str) -> None:
    escaped = escape_markdown(nasty)
    assert "\n" not in escaped and "\r" not in escaped and "\t" not in escaped
    assert re.sub(r"\\[!-/:-@\[-`{-~]", "", escaped).isascii() is False or not re.search(
        r"[!-/:-@\[-`{-~]", re.sub(r"\\[!-/:-@\[-`{-~]", "", escaped)
    )
    assert not re.search(r"[\u202a-\u202e]", escaped)


def test_escape_keeps_outer_spaces_and_isolates_right_to_left() -> None:
    assert escape_markdown("  a  b ") == "\u00a0\u00a0a \u00a0b\u00a0"
    assert escape_markdown("   ") == "\u00a0\u00a0\u00a0"
    assert escape_markdown("") == ""
    assert escape_markdown("שלום") == "\u2068שלום\u2069"


def test_code_span_outlasts_backticks() -> None:
    assert code_span("a") == "` a `"
    assert code_span("a``b") == "``` a``b ```"
    assert "\n" not in code_span("a\nb")


def _without_words(part: Section) -> Counter[str]:
    """Formulas and code, less the words inside \\text{...} and comments, which are translated."""
    bare = (re.sub(r"\\text\{[^}]*\}", "", piece) for piece in part.verbatim)
    return Counter(re.sub(r"#.*", "", piece) if piece.startswith("```") else piece for piece in bare)
