"""The small parts of the lesson on the chain rule: what is typed and asked for, and the figure of the underflow."""

from __future__ import annotations

import csv
import io
import math
import re

import numpy as np
import plotly.graph_objects as go
import pytest

from lab.figures import to_csv
from lab.figures.underflow import underflow
from lab.ui.chain_compare import reordered
from lab.ui.chain_game import MOST_SHARE, parse_guess
from lab.ui.chain_panels import CUTS, _cuts, power_of_ten, rank_class, scientific, shades

TOKENS = {"bird": 7, "dog": 9, "birds": 7, "鸟": 11, "<b>": 12, "50": 13}


@pytest.mark.parametrize(
    ("words", "shares"),
    [
        ("", {}), (" , ;", {}), ("bird", {7: 0.5}), ("bird 60", {7: 0.6}), ("bird 12.5 %", {7: 0.125}),
        ("bird 60, dog 20%", {7: 0.6, 9: 0.2}), ("鸟 30，dog 20；", {11: 0.3, 9: 0.2}), ("bird 0", {7: 0.0}),
        ("bird 20, birds 30", {7: 0.5}), ("<b> 40", {12: 0.4}), ("50 40", {13: 0.4}),
        ("bird 100", {7: MOST_SHARE}), ("bird 999", {7: MOST_SHARE}), ("bird, dog, 鸟", {7: 0.33, 9: 0.33, 11: 0.33}),
    ],
)  # fmt: skip
def test_a_guess_is_read(words: str, shares: dict[int, float]) -> None:
    found = parse_guess(words, TOKENS)
    assert found.error is None
    assert found.shares == pytest.approx(shares, abs=1e-12)
    assert sum(found.shares.values()) < 1, "something is left for all other tokens"


@pytest.mark.parametrize("words", ["cat", "bird x", "bird 60 dog", "bird -5", "bird 1e2", "bird 60, cat 20", "60 bird"])
def test_a_guess_that_cannot_be_read(words: str) -> None:
    found = parse_guess(words, TOKENS)
    assert found.error == "guess_unread" and not found.shares


@pytest.mark.parametrize(
    ("sentence", "other"),
    [
        ("the little bird sings.", "the little sings bird."), ("a b", "b a"), ("a b?!", "b a?!"),
        ("cat", "cat"), ("", ""), ("床前明月光，疑", "床前明光月，疑"), ("猫", "猫"), ("，猫狗", "，猫狗"),
        ("我爱你 。", " 我爱你。"), ("🙂", "🙂"), ("one ...", " one..."),
    ],
)  # fmt: skip
def test_the_last_two_change_places(sentence: str, other: str) -> None:
    assert reordered(sentence) == other


@pytest.mark.parametrize("asked", [None, "", "a", "a,b,c", "1,2", "1,2,3,4", "-1,2,3", "0,5,10", "1,2,99999", "1e1,2,3",
                                   "nan,1,2", "...,1,2", "1.2.3,4,5", "123456789,2,3"])  # fmt: skip
def test_nonsense_means_the_usual_borders(asked: object) -> None:
    assert _cuts(asked, "rank") == CUTS["rank"]


def test_borders_are_put_in_order() -> None:
    assert _cuts("100,5,50", "rank") == (5, 50, 100)
    assert _cuts("0.5,30,2.5", "bits") == (0.5, 2.5, 30)
    assert _cuts("0.4,2,3", "bits") == _cuts("1,2,30.5", "bits") == CUTS["bits"]


def test_a_border_belongs_to_the_shade_below_it() -> None:
    assert shades(np.array([1, 10, 10.5, 100, 101, 1000, 1001]), (10, 100, 1000)) == [0, 0, 1, 1, 2, 2, 3]
    assert shades(np.array([]), (1, 2, 3)) == []
    assert shades(np.array([1, 2]), (1, 1, 1)) == [0, 3]


def test_rank_classes() -> None:
    assert [rank_class(rank) for rank in (1, 2, 10, 11, 100, 101)] == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("value", [1.0, 0.5, 1e-4, 9.96e-5, 9.99e-8, 3.2e-14, 1e-5, 1e-300, 5e-324])
def test_a_small_number_can_be_read_back(value: float) -> None:
    shown = power_of_ten(value)
    match = re.fullmatch(r"(\d\.\d) \\cdot 10\^\{(-\d+)\}", shown)
    assert match is not None or value >= 1e-4
    back = float(f"{match[1]}e{match[2]}") if match else float(shown)
    assert math.isclose(back, value, rel_tol=0.06)
    assert power_of_ten(0.0) == "0.0000"


@pytest.mark.parametrize("nats", [0.0, -0.001, -3.0, -700.0, 700.0, math.log(9.99e-8)])
def test_scientific_is_pythons_own_where_float64_reaches(nats: float) -> None:
    assert scientific(nats) == f"{math.exp(nats):.1e}"


def test_scientific_goes_on_where_float64_ends() -> None:
    assert scientific(-1000.0) == "5.1e-435" and scientific(1000.0) == "2.0e+434"  # e^1000 = 1.97e434


FLOORS = {"full": -126.0, "<b>last</b>": -149.0}


def _figure(products: list[float], sums: list[float]) -> go.Figure:
    return underflow(products, sums, floors=FLOORS, names=("<i>product</i>", "sum"), alt="a product dies")


def test_the_figure_holds_both_series_and_drops_what_is_zero() -> None:
    figure = _figure([0.5, 0.25, 0.0, 0.0], [-1.0, -2.0, -200.0, -300.0])
    sums, products = figure.data
    assert list(sums.x) == [1, 2, 3, 4] and list(sums.y) == [-1, -2, -200, -300]
    assert list(products.x) == [1, 2] and list(products.y) == [-1, -2]
    assert products.name == "&lt;i&gt;product&lt;/i&gt;"
    assert figure.layout.yaxis.range[0] <= -300, "the lowest sum is inside"
    notes = [note.text for note in figure.layout.annotations]
    assert notes == ["full", "&lt;b&gt;last&lt;/b&gt;"]
    assert [shape.y0 for shape in figure.layout.shapes] == [-126.0, -149.0]
    rows = list(csv.reader(io.StringIO(to_csv(figure), newline="")))
    assert rows[0] == ["series", "tokens", "log2"]
    assert [(name, float(x), float(y)) for name, x, y in rows[1:]] == [
        ("sum", 1, -1), ("sum", 2, -2), ("sum", 3, -200), ("sum", 4, -300), ("<i>product</i>", 1, -1),
        ("<i>product</i>", 2, -2),
    ]  # fmt: skip


def test_all_products_may_be_zero() -> None:
    assert len(_figure([0.0], [-1000.0]).data[1].x) == 0


@pytest.mark.parametrize(
    ("products", "sums", "message"),
    [([0.5], [-1.0, -2.0], "1 products for 2 sums"), ([-0.5], [-1.0], "not negative"), ([math.nan], [-1.0], "products"),
     ([0.5], [-math.inf], "log2_sums")],
)  # fmt: skip
def test_bad_numbers_are_refused(products: list[float], sums: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _figure(products, sums)
