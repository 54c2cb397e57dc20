"""The data sets that we wrote ourselves keep what assets/data/README.md says of them, to the last figure."""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import pytest

from lm_core.data import SEPARATOR, read_documents
from tests.support import ROOT

FOLDER = ROOT / "assets" / "data"
SPLITS = ("train", "validation", "test")
LABELS = ("negative", "positive")
LANGUAGES = ("en", "zh")
STYLES = ("ship_log.en", "radio_play.en", "free_verse.zh")
SHARE = {"train": 0.6, "validation": 0.2, "test": 0.2}
OVERLAP = 0.3  # of the n-grams of the shorter of two sentences
WINDOW = 8  # tokens that a test part may not share with what is trained on


class Row(NamedTuple):
    split: str
    label: str
    text: str


@cache
def rows(language: str) -> tuple[Row, ...]:
    with open(FOLDER / f"sentiment.{language}.tsv", encoding="utf-8", newline="") as file:
        return tuple(Row(**row) for row in csv.DictReader(file, delimiter="\t", strict=True))


@cache
def style(name: str, split: str) -> tuple[str, ...]:
    return tuple(document.text for document in read_documents(FOLDER / f"style.{name}.{split}.txt"))


def tokens(text: str, language: str) -> list[str]:
    """Lower-case words of an English text; the characters of a Chinese one; without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower()) if language == "en" else re.findall(r"\w", text)


def ngrams(items: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(items[i : i + n]) for i in range(len(items) - n + 1)}


@cache
def shingles(text: str, language: str) -> frozenset[tuple[str, ...]]:
    return frozenset(ngrams(tokens(text, language), 3 if language == "en" else 4))


def overlap(one: str, other: str, language: str) -> float:
    """The share of the shorter sentence's word 3-grams (character 4-grams) that the other sentence has as well."""
    a, b = shingles(one, language), shingles(other, language)
    return len(a & b) / min(len(a), len(b))


def features(text: str, language: str) -> list[str]:
    """Words (characters) and pairs of neighbours: what the naive Bayes floor sees."""
    single = tokens(text, language)
    return single + [" ".join(pair) for pair in itertools.pairwise(single)]


def naive_bayes(train: Iterable[Row], test: Iterable[Row], language: str) -> float:
    """Accuracy of multinomial naive Bayes, add-one smoothing, equal priors; features never seen are left out."""
    counts = {label: Counter[str]() for label in LABELS}
    for row in train:
        counts[row.label].update(features(row.text, language))
    known = set().union(*counts.values())
    total = {label: sum(counts[label].values()) + len(known) for label in LABELS}
    right = 0
    asked = list(test)
    for row in asked:
        seen = [feature for feature in features(row.text, language) if feature in known]
        score = {label: sum(math.log((counts[label][f] + 1) / total[label]) for f in seen) for label in LABELS}
        right += max(LABELS, key=score.__getitem__) == row.label
    return right / len(asked)


def words(text: str, language: str) -> set[str]:
    """What a reader would call the words; a Chinese text has pairs of neighbouring characters instead."""
    items = tokens(text, language)
    return set(items) if language == "en" else {a + b for a, b in itertools.pairwise(items)}


def giveaways(train: Iterable[Row], language: str, measure: str, n: int = 10) -> dict[str, int]:
    """The n words most tied to one label, and to which (+1 positive, -1 negative).

    With p and q the numbers of positive and negative sentences that have the word, they are ranked by |p - q|
    ("difference") or by (p - q)^2 / (p + q) ("chi-square"), which prefers rare words that only one side has.
    """
    sides = {label: Counter[str]() for label in LABELS}
    for row in train:
        sides[row.label].update(words(row.text, language))
    lean = {word: sides["positive"][word] - sides["negative"][word] for side in sides.values() for word in side}
    weight = {
        word: abs(d) if measure == "difference" else d * d / sum(side[word] for side in sides.values())
        for word, d in lean.items()
    }
    best = sorted(weight, key=lambda word: (-weight[word], word))[:n]
    return {word: 1 if lean[word] > 0 else -1 for word in best}


def decided(test: Iterable[Row], lean: dict[str, int], language: str) -> float:
    """The share of sentences that those words alone get right; one that they leave open counts half."""
    marks = []
    for row in test:
        vote = sum(side for word, side in lean.items() if word in words(row.text, language))
        marks.append(0.5 if vote == 0 else float((vote > 0) == (row.label == "positive")))
    return sum(marks) / len(marks)


def part(language: str, split: str) -> list[Row]:
    return [row for row in rows(language) if row.split == split]


def readme() -> str:
    return (FOLDER / "README.md").read_text(encoding="utf-8")


# The sets of sentences


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_plain_reader_reads_it(language: str) -> None:
    """csv's own rules for tabs and quotes, and no rules at all, give the same rows."""
    path = FOLDER / f"sentiment.{language}.tsv"
    content = path.read_bytes().decode("utf-8")
    assert content.endswith("\n") and "\r" not in content and '"' not in content and "\ufeff" not in content
    assert content.split("\n")[0] == "split\tlabel\ttext"
    assert [tuple(line.split("\t")) for line in content.split("\n")[1:-1]] == list(rows(language))
    for row in rows(language):
        assert row.text == row.text.strip() == unicodedata.normalize("NFC", row.text)
        assert row.text[-1] in ".!?。！？", row.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_balanced_and_split_by_a_hash(language: str) -> None:
    """Nobody chose what is tested: each label's sentences are ranked by SHA-256, the first 60 % are for training."""
    assert len(rows(language)) >= 150
    for label in LABELS:
        mine = [row for row in rows(language) if row.label == label]
        mine.sort(key=lambda row: hashlib.sha256(row.text.encode()).hexdigest())
        n = len(mine)
        assert [row.split for row in mine] == [split for split in SPLITS for _ in range(round(n * SHARE[split]))], (
            "add a sentence, then split anew"
        )
        assert n == len(rows(language)) / 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_length_and_script(language: str) -> None:
    shortest, longest, allowed = (4, 35, r"[ -~é]+") if language == "en" else (8, 60, r"[^ -~]+")
    for row in rows(language):
        assert shortest <= len(tokens(row.text, language)) <= longest, row.text
        assert re.fullmatch(allowed, row.text), row.text
        if language == "zh":
            row.text.encode("gb2312")  # simplified characters only


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_near_duplicates(language: str) -> None:
    pairs = itertools.combinations(rows(language), 2)
    close = [(a.text, b.text) for a, b in pairs if overlap(a.text, b.text, language) > OVERLAP]
    assert close == []


def test_a_near_duplicate_would_be_seen() -> None:
    row = rows("en")[0].text
    assert overlap(row, row.rsplit(" ", 1)[0] + " today.", "en") > OVERLAP
    assert overlap("楼上的孩子每天半夜拍皮球。", "楼下的孩子每天半夜拍皮球。", "zh") > OVERLAP
    assert overlap("one two three four", "one two three five", "en") == 0.5


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("measure", ["difference", "chi-square"])
def test_no_ten_words_give_the_label_away(language: str, measure: str) -> None:
    lean = giveaways(part(language, "train"), language, measure)
    assert len(lean) == 10
    assert decided(part(language, "test"), lean, language) < 0.75
    assert decided(part(language, "validation"), lean, language) < 0.75


def test_the_measures_themselves() -> None:
    """Worked by hand: two sentences a side, one word that tells."""
    train = [
        Row("train", "positive", "good good tea"),
        Row("train", "positive", "good soup"),
        Row("train", "negative", "bad tea"),
        Row("train", "negative", "bad bad soup"),
    ]
    test = [Row("test", "positive", "good"), Row("test", "negative", "bad soup"), Row("test", "negative", "good tea")]
    assert naive_bayes(train, test, "en") == pytest.approx(2 / 3)
    lean = giveaways(train, "en", "difference", 2)
    assert lean == giveaways(train, "en", "chi-square", 2) == {"bad": -1, "good": 1}
    assert decided([*test, Row("test", "positive", "cake")], lean, "en") == pytest.approx((1 + 1 + 0 + 0.5) / 4)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_readme_states_the_sentences(language: str) -> None:
    lengths = [len(tokens(row.text, language)) for row in rows(language)]
    sizes = " | ".join(str(len(part(language, split))) for split in SPLITS)
    size = (FOLDER / f"sentiment.{language}.tsv").stat().st_size
    mean = sum(lengths) / len(lengths)
    assert f"| `sentiment.{language}.tsv` | {sizes} | {min(lengths)}–{max(lengths)}, mean {mean:.1f} | {size:,} |" in (
        readme()
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_readme_states_the_floors(language: str) -> None:
    train = part(language, "train")
    asked = [part(language, split) for split in ("validation", "test")]
    bayes = [naive_bayes(train, split, language) for split in asked]
    ten = [
        max(decided(split, giveaways(train, language, measure), language) for measure in ("difference", "chi-square"))
        for split in asked
    ]
    nearest = max(overlap(a.text, b.text, language) for a, b in itertools.combinations(rows(language), 2))
    figures = " | ".join(f"{100 * share:.1f} %" for share in (0.5, *bayes, *ten, nearest))
    assert f"| {language} | {figures} |" in readme()


# The three styles


def style_tokens(text: str, name: str) -> list[str]:
    """What the 8-grams are made of: English text parted at white space, Chinese characters without white space."""
    return text.split() if name.endswith(".en") else list("".join(text.split()))


@pytest.mark.parametrize("name", STYLES)
def test_no_split_repeats_another(name: str) -> None:
    """No eight tokens in a row stand in two splits: neither as written, nor in lower case and without punctuation."""
    for read in (lambda text: style_tokens(text, name), lambda text: tokens(text, name[-2:])):
        seen = {split: set().union(*(ngrams(read(text), WINDOW) for text in style(name, split))) for split in SPLITS}
        assert all(seen.values())
        for one, other in itertools.combinations(SPLITS, 2):
            assert seen[one] & seen[other] == set(), f"{name}: {one} and {other}"


@pytest.mark.parametrize("name", STYLES)
def test_a_style_is_in_order(name: str) -> None:
    paths = [FOLDER / f"style.{name}.{split}.txt" for split in SPLITS]
    assert 8_000 <= sum(path.stat().st_size for path in paths) <= 20_000
    texts = [text for split in SPLITS for text in style(name, split)]
    assert len(set(texts)) == len(texts)
    for path, split in zip(paths, SPLITS, strict=True):
        content = path.read_bytes().decode("utf-8")
        assert content == f"\n{SEPARATOR}\n".join(style(name, split)) + "\n", (
            "one separator a line, nothing at the ends"
        )
        assert "\r" not in content and "\t" not in content
        assert re.search(r" $|^ |  ", content, re.M) is None
        content.encode("gb2312" if name.endswith(".zh") else "ascii")


def test_a_ship_log_is_dated_and_timed() -> None:
    """Days count up over all three files, and the hours in a day."""
    days = []
    for text in itertools.chain.from_iterable(style("ship_log.en", split) for split in SPLITS):
        head, *entries = text.split("\n")
        days.append(int(re.fullmatch(r"Day (\d+)\. [A-Z][\w ,]+\.", head)[1]))
        times = [re.match(r"([01]\d|2[0-3])([0-5]\d)\. [A-Z\d]", entry) for entry in entries]
        assert all(times) and len(times) >= 4, text
        assert [time[0] for time in times] == sorted({time[0] for time in times}), text
    assert days == sorted(set(days))


def test_a_ship_log_adds_up() -> None:
    """The run that a day states is the way from yesterday's noon position to today's, to six sea miles."""
    place = re.compile(r"(?:Position|reckoning) (\d+) (\d\d) N, (\d+) (\d\d) ([WE])")
    yesterday, checked = None, 0
    for text in itertools.chain.from_iterable(style("ship_log.en", split) for split in SPLITS):
        day = int(text.split(".")[0].removeprefix("Day "))
        found, run = place.search(text), re.search(r"(?:Run|Drift) (\d+) miles", text)
        here = None
        if found:
            north, east = int(found[1]) + int(found[2]) / 60, int(found[3]) + int(found[4]) / 60
            here = (day, north, east if found[5] == "E" else -east)
        if here and run and yesterday and yesterday[0] == day - 1:
            (_, north, east), (_, then_north, then_east) = here, yesterday
            across = (east - then_east) * math.cos(math.radians((north + then_north) / 2))
            assert abs(60 * math.hypot(north - then_north, across) - int(run[1])) <= 6, text
            checked += 1
        yesterday = here
    assert checked >= 20


def test_a_radio_play_has_speakers() -> None:
    """A title and a scene, then nothing but voices, sounds and music; no play is in two splits."""
    titles = {split: set() for split in SPLITS}
    for split in SPLITS:
        for text in style("radio_play.en", split):
            head, *lines = text.split("\n")
            titles[split].add(re.fullmatch(r"([A-Z ]+)\. SCENE [A-Z]+\. [A-Z ,.]+\.", head)[1])
            assert [line for line in lines if not re.match(r"[A-Z][A-Z ]+: \S", line)] == []
            assert sum(line.startswith(("SOUND:", "MUSIC:")) for line in lines) >= 1, text
    assert sum(map(len, titles.values())) == len(set().union(*titles.values())) >= 8


def test_free_verse_is_free() -> None:
    """Short lines of uneven length: nothing in the five or seven characters of a regulated poem."""
    for text in itertools.chain.from_iterable(style("free_verse.zh", split) for split in SPLITS):
        lengths = [len(tokens(line, "zh")) for line in text.split("\n")]
        assert len(lengths) >= 3 and max(lengths) <= 20 and min(lengths) >= 1
        assert len(set(lengths)) > 1, text


MARKS = {
    "ship_log.en": r"\b\d{4}\.|\bDay \d+\.",
    "radio_play.en": r"\b[A-Z]{2,}:|SCENE",
    "free_verse.zh": r"[的了着把你它她们这那个没说]",
}


def marked(name: str, texts: Iterable[str]) -> float:
    """The share of windows of ten tokens that show the style's mark."""
    joiner = " " if name.endswith(".en") else ""
    hits = [
        re.search(MARKS[name], joiner.join(items[i : i + 10])) is not None
        for items in (style_tokens(text, name) for text in texts)
        for i in range(max(1, len(items) - 9))
    ]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("name", STYLES)
def test_ten_words_show_the_style(name: str) -> None:
    shares = [marked(name, style(name, split)) for split in SPLITS]
    assert min(shares) > 0.7
    if name.endswith(".en"):
        stories = [(FOLDER / f"{story}.en.txt").read_text() for story in ("long_story", "neuron_corpus")]
        assert marked(name, stories) == 0


@pytest.mark.parametrize("name", STYLES)
def test_the_readme_states_the_styles(name: str) -> None:
    cells = []
    for split in SPLITS:
        count = sum(len(style_tokens(text, name)) for text in style(name, split))
        cells.append(f"{len(style(name, split))} · {count:,}")
    size = sum((FOLDER / f"style.{name}.{split}.txt").stat().st_size for split in SPLITS)
    shown = marked(name, style(name, "test"))
    assert f"| `style.{name}` | {' | '.join(cells)} | {size:,} | {100 * shown:.0f} % |" in readme()


# The probes


def test_probes_are_new() -> None:
    """Five for each set; no probe sentence is, or nearly is, one of the set, and no prompt gives a window away."""
    probes = tomllib.loads((FOLDER / "probes.toml").read_text(encoding="utf-8"))
    settings = probes.pop("generation")
    assert set(settings) == {"max_new_tokens", "temperature", "top_p"}
    assert set(probes) == {f"sentiment.{language}" for language in LANGUAGES} | {f"style.{name}" for name in STYLES}
    for key, items in probes.items():
        kind, name = key.split(".", 1)
        assert len({item["text"] for item in items}) == len(items) == 5
        if kind == "sentiment":
            assert {item["label"] for item in items} == set(LABELS)
            near = [
                (i["text"], r.text) for i in items for r in rows(name) if overlap(i["text"], r.text, name) > OVERLAP
            ]
            assert near == []
        else:
            assert [item["seed"] for item in items] == [1, 2, 3, 4, 5]
            assert max(len(style_tokens(item["text"], name)) for item in items) < WINDOW
