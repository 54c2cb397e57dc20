"""What a learner uploads: read whole, or refused in one sentence that says what to do."""

import gzip
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from lm_core.data import (
    MAX_FILE_BYTES,
    Example,
    decode_text,
    parse_examples,
    read_glue,
    read_limited,
)
from lm_core.hub_data import read_hub_examples
from lm_core.labels import check_labels, ngrams, split_examples, without_shared_ngrams, words


def _many(**counts: int) -> list[Example]:
    return [Example(f"{label} text {i}", label) for label, n in counts.items() for i in range(n)]


# Files


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"text,label\na fine film,good\n\"dull, long\",bad\n", "a.csv"),
        (b"\xef\xbb\xbflabel;text\r\ngood;a fine film\r\nbad;dull, long\r\n", "a.csv"),
        (b"sentence\tlabel\na fine film\tgood\ndull, long\tbad\n", "a.tsv"),
        (b"a fine film\tgood\ndull, long\tbad\n", "a.tsv"),
        (b"split\tlabel\ttext\n\tgood\ta fine film\n\tbad\tdull, long\n", "A.TSV"),
        (b'{"review": "a fine film", "sentiment": "good"}\n\n{"sentiment": "bad", "review": "dull, long"}', "a.jsonl"),
        ("文本,标签\na fine film,good\n\"dull, long\",bad\n".encode(), "a.csv"),
    ],
)  # fmt: skip
def test_every_format_gives_the_same_examples(content: bytes, name: str) -> None:
    assert parse_examples(content, name) == [Example("a fine film", "good"), Example("dull, long", "bad")]


def test_labels_may_be_numbers_and_quotes_may_be_unpaired_in_tsv() -> None:
    rows = parse_examples(b'text\tlabel\nthe " of it\t1\n"a film\t0\n', "train.tsv")
    assert rows == [Example('the " of it', "1"), Example('"a film', "0")]
    assert parse_examples(b'{"text": "a", "label": 1}', "a.jsonl") == [Example("a", "1")]


def test_without_names_the_label_is_the_column_with_fewer_values() -> None:
    for rows in (b"x,fine\nx,dull\ny,odd\n", b"fine,x\ndull,x\nodd,y\n"):
        assert {e.label for e in parse_examples(rows, "a.csv")} == {"x", "y"}


def test_the_part_column_is_kept() -> None:
    rows = parse_examples(b"split\tlabel\ttext\nTrain\ta\tone\nvalidation\tb\ttwo\n", "a.tsv")
    assert [row.part for row in rows] == ["train", "validation"]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.csv", "a.csv is empty: there is nothing to learn from"),
        (b" \n\t\n", "a.txt", "a.txt is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a.csv", "a.csv is no text: it holds zero bytes"),
        ("naïve".encode("latin-1"), "a.csv", r"a.csv is not UTF-8 text \(byte 2 is 0xef\): save it again"),
        ("好的".encode("gb18030"), "a.txt", "a.txt is not UTF-8 text"),
        ("text".encode("utf-16"), "a.txt", "a.txt is UTF-16, not UTF-8"),
        (b"x" * (MAX_FILE_BYTES + 1), "a.csv", r"a.csv has 10\.0 MB; the limit is 10 MB: take a part"),
        (b"a line\n", "a.txt", r"texts with labels are read from .csv, .tsv and .jsonl"),
        (b"text,label\n", "a.csv", "a first row and nothing below it"),
        (b"text,label\na,b\na,b,c\n", "a.csv", "line 3 has 3 columns, .* 2: put a text that holds a , in quotes"),
        (b"text\tlabel\na\tb\tc\n", "a.tsv", "line 2 has 3 columns, .* 2: a text in a .tsv must hold no tab"),
        (b"text,label\n,good\n", "a.csv", "line 2: the text is empty"),
        (b"text,label\na, \n", "a.csv", "line 2: the label is empty"),
        (b"one,two,three\na,b,c\n", "a.csv", "which column is which.* found: one, two, three"),
        (b"only one column\nanother\n", "a.csv", "which column is which"),
        (b'text,label\n"open,good\n', "a.csv", "a.csv, line"),
        (b'{"text": "a"}', "a.jsonl", "line 1: need an object with a text and a label"),
        (b"[1, 2]", "a.jsonl", "line 1: need an object"),
        (b'{"text": ', "a.jsonl", "line 1 is no JSON"),
        (b"[" * 100_000, "a.jsonl", "line 1 is no JSON"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_in_one_sentence(content: bytes, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_examples(content, name)
    assert "\n" not in str(error.value)


def test_fifty_megabytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    bomb = tmp_path / "a.csv.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        for _ in range(50):
            file.write(b"x" * 2**20)
    with pytest.raises(ValueError, match="more than the limit of 10 MB"):
        read_limited(bomb)
    (tmp_path / "b.gz").write_bytes(b"no gzip at all")
    with pytest.raises(ValueError, match="no whole gzip file"):
        read_limited(tmp_path / "b.gz")
    (tmp_path / "c.gz").write_bytes(bomb.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"no whole gzip file|more than the limit"):
        read_limited(tmp_path / "c.gz")


def test_text_loses_its_mark_and_odd_line_ends() -> None:
    assert decode_text(b"\xef\xbb\xbfa\r\nb\rc", "a") == "a\nb\nc"


def test_glue_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no train.tsv"):
        read_glue(tmp_path)
    (tmp_path / "train.tsv.gz").write_bytes(gzip.compress(b"sentence\tlabel\na fine film \t1\n"))
    assert read_glue(tmp_path) == ([Example("a fine film", "1")], None)
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\ndull\t0\n")
    assert read_glue(tmp_path)[1] == [Example("dull", "0")]


def test_the_real_sst2_is_read(shared_data: Path) -> None:
    train, dev = read_glue(shared_data / "sst2")
    assert len(train) == 67_334 and dev is None
    assert sum(example.label == "1" for example in train) == 37_563
    assert check_labels(train) == ("0", "1")


# Labels


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ([], [], "there are no examples"),
        (_many(good=5), [], "all 5 examples are called 'good': a classifier needs at least two classes"),
        (_many(positive=60, negative=60, postive=2), [], r"'postive' \(2 times\) looks like 'positive' \(60 times\)"),
        (_many(good=60, bad=60, Good=1), [], r"'Good' \(once\) looks like 'good' \(60 times\)"),
        ([*_many(good=6, bad=6), Example("x", "ｇｏｏｄ")], [], "looks like 'good'"),
        (_many(positive=60, negative=60), [Example("x", "negativ")], r"'negativ' \(once\) looks like 'negative'"),
        (_many(good=4, bad=1), [], "only one training example is called 'bad'"),
        (_many(good=4, bad=4), [Example("x", "fair")], "validation has examples called 'fair', training has none"),
        ([Example("x", f"label {i}") for i in range(12)], [], "12 different labels among 12 examples"),
        ([Example("x", f"{i % 150}") for i in range(900)], [], "150 different labels among 900"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learned(train: list[Example], validation: list[Example], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_labels(train, validation)


def test_labels_that_can() -> None:
    assert check_labels(_many(positive=40, negative=40, neutral=1) + _many(neutral=1)) == (
        "negative",
        "neutral",
        "positive",
    )
    assert check_labels([Example("x", str(i % 2)) for i in range(90)] + [Example("x", "2")] * 2) == ("0", "1", "2")
    assert check_labels(_many(积极=30, 消极=30)) == tuple(sorted(["积极", "消极"]))  # alike in one of two characters


def test_a_split_is_the_same_in_every_order_and_leaks_nothing() -> None:
    examples = [Example(f"text {i}", "ab"[i % 3 == 0]) for i in range(100)] + [
        Example("Text  7 ", "a"),
        Example("text 9", "b"),
    ]
    train, kept = split_examples(examples, 0.2)
    again = split_examples(examples[::-1], 0.2)
    assert sorted(e.text for e in again[1]) == sorted(e.text for e in kept)
    assert len(train) + len(kept) == len(examples)
    keys = [{" ".join(e.text.lower().split()) for e in part} for part in (train, kept)]
    assert not keys[0] & keys[1]
    share = {label: sum(e.label == label for e in kept) / sum(e.label == label for e in examples) for label in "ab"}
    assert all(0.15 < s < 0.25 for s in share.values())
    assert split_examples(_many(a=2, b=1), 0.1)[1][0].label == "a"  # a class with one text keeps it for training
    with pytest.raises(ValueError, match="between 0 and 1, not 1"):
        split_examples(examples, 1)


def test_shared_runs_of_words() -> None:
    assert words("“Don't!” 好，OK?") == ["don't", "好", "ok"]
    assert len(ngrams("a b c d", 3)) == 2
    seen = ["One two three four five six seven EIGHT."]
    texts = ["zero one two three four five six seven eight nine", "one two three four five six seven nine"]
    assert without_shared_ngrams(texts, seen, 8) == texts[1:]
    assert without_shared_ngrams(["床前明月光疑是地上霜"], ["他说：床前明月光，疑是地上霜。"], 8) == []


# The hub


class _Split(list[dict[str, Any]]):
    column_names = ("sentence", "label")
    features = {"label": types.SimpleNamespace(names=["bad", "good"])}  # noqa: RUF012

    def select(self, numbers: range) -> "dict[str, list[Any]]":
        return {name: [self[i][name] for i in numbers] for name in self.column_names}


def _fake_datasets(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[Any]:
    asked: list[Any] = []
    module = types.ModuleType("datasets")

    def load_dataset(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        if isinstance(answer, Exception):
            raise answer
        return answer

    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_a_set_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _Split([{"sentence": "fine ", "label": 1}, {"sentence": "dull", "label": 0}])
    asked = _fake_datasets(monkeypatch, {"train": rows, "validation": rows, "test": rows})
    found = read_hub_examples("owner/set", allowed=None, revision="abc", subset="sst2")
    assert found[:2] == [Example("fine", "good", "train"), Example("dull", "bad", "train")]
    assert [e.part for e in found] == ["train", "train", "validation", "validation"]
    assert asked == [(("owner/set", "sst2"), {"revision": "abc"})]


def test_sets_that_may_not_or_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _fake_datasets(monkeypatch, ConnectionError("no route\nto host"))
    with pytest.raises(ValueError, match=r"'owner/set' is not among those that may be fetched here: a/b"):
        read_hub_examples("owner/set", allowed=["a/b"])
    assert not asked
    with pytest.raises(ConnectionError, match=r"the data set a/b cannot be fetched: no route$"):
        read_hub_examples("a/b", allowed=["a/b"])
    _fake_datasets(monkeypatch, {"other": _Split()})
    with pytest.raises(ValueError, match="has no part called train"):
        read_hub_examples("a/b", allowed=None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="need the package datasets"):
        read_hub_examples("a/b", allowed=None)


def test_json_lines_survive_a_round_trip() -> None:
    rows = [Example('a "quoted" 文本\\n', "good"), Example("b", "bad")]
    content = "\n".join(json.dumps({"text": r.text, "label": r.label}, ensure_ascii=False) for r in rows)
    assert parse_examples(content.encode(), "a.jsonl") == rows
