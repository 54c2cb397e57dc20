"""What a model reads and what it never sees: splits by book, scripts, poems that two anthologies share."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lm_core.corpus import Source, Text, in_script, read_texts, split_of, without_shared_lines
from lm_core.data import is_held_out, passages, read_documents

POEMS = [{"author": f"A{i}", "title": "無題", "paragraphs": [f"雲門第{i}首，", "東風無力百花殘。"]} for i in range(40)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "poems.json").write_text(json.dumps(POEMS), encoding="utf-8")
    return tmp_path


def test_a_poem_is_its_lines_and_is_named_by_author_and_title(data: Path) -> None:
    first = next(read_documents(data / "poems.json"))
    assert (first.text, first.book) == ("雲門第0首，\n東風無力百花殘。", "A0 無題")


def test_the_shares_of_the_splits_are_what_was_asked() -> None:
    names = [f"book {i}" for i in range(4000)]
    counts = {
        split: sum(split_of(name, 0.2, 0.1) == split for name in names) for split in ("train", "selection", "test")
    }
    assert sum(counts.values()) == 4000
    assert abs(counts["selection"] - 800) < 4 * 25.3 and abs(counts["test"] - 400) < 4 * 19  # four standard deviations
    assert all(is_held_out(name, 0.2) == (split_of(name, 0.2, 0.1) == "selection") for name in names)


def test_twins_are_in_the_split_of_their_poem_and_come_after_all_others(data: Path) -> None:
    source = Source("poems.json", also="simplified")
    texts = list(read_texts([source, replace(source, also="")], data, held_out=0.2, tested=0.2))
    as_they_are, twins = texts[:80], texts[80:]
    assert len(twins) == 40
    assert [t.split for t in twins] == [t.split for t in as_they_are[:40]]
    assert all("雲門" in t.text for t in as_they_are) and all("云门" in t.text for t in twins)
    assert {"train", "selection", "test"} == {t.split for t in texts}


def test_scripts_are_converted_both_ways() -> None:
    assert in_script("獨愴然而涕下", "simplified") == "独怆然而涕下"
    assert in_script("近清明。翠禽枝上消魂。无言", "traditional") == "近清明。翠禽枝上消魂。無言"
    with pytest.raises(ValueError, match="unknown script 'latin'"):
        Source("poems.json", also="latin")  # type: ignore[arg-type]


def test_a_line_shared_with_training_removes_the_held_out_poem() -> None:
    texts = [
        Text("東風無力百花殘。\n甲", "train"),
        Text("乙\n東風無力百花殘。", "test"),
        Text("甲\n丙丁戊己庚", "selection"),  # a shared line too short to tell
    ]
    assert without_shared_lines(texts) == [texts[0], texts[2]]


def test_passages_keep_every_line_in_order() -> None:
    text = "\n".join(f"line {i}" for i in range(10)) + "\n\nlast"
    cut = list(passages(text, 14))
    assert "\n".join(cut) == text
    assert all(len(part.replace("\n", "")) >= 14 for part in cut[:-1])
    assert list(passages(text, 0)) == [text]
