"""Figures hold the numbers they were given, and text stays text."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from lab import theme
from lab.figures import alt_of, bars, histogram, line, matrix_csv, to_csv

HOSTILE = ["<b>x</b>", "&lt;", "=1+1", "␣the", "␣the", 'say "hi", you']


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_bars_show_the_values_in_order_with_repeated_and_hostile_labels() -> None:
    values = np.array([0.4, 0.3, 0.1, 0.1, 0.06, 0.04], dtype=np.float32)
    figure = bars(HOSTILE, values, alt="next token", highlight=2, value_range=(0, 1))
    trace = figure.data[0]
    assert np.array_equal(np.float32(trace.x), values)
    assert list(figure.layout.yaxis.ticktext)[:2] == ["&lt;b&gt;x&lt;/b&gt;", "&amp;lt;"]
    assert trace.hovertext[0].startswith("&lt;b&gt;x&lt;/b&gt;")
    assert list(trace.y) == [0, 1, 2, 3, 4, 5] and list(figure.layout.yaxis.range) == [5.5, -0.5]
    assert list(trace.marker.opacity) == [0.4, 0.4, 1.0, 0.4, 0.4, 0.4]
    assert list(figure.layout.xaxis.range) == [0, 1]
    assert list(trace.text) == ["0.400", "0.300", "0.100", "0.100", "0.060", "0.040"]


def test_bars_csv_round_trips_and_defuses_formulas() -> None:
    values = [0.5, -0.25, 1e-9, 0.1, 2.0, 3.0]
    rows = table(to_csv(bars(HOSTILE, values, alt="x")))
    assert rows[0] == ["label", "value"]
    assert [row[0] for row in rows[1:]] == ["<b>x</b>", "&lt;", "'=1+1", "␣the", "␣the", 'say "hi", you']
    assert [float(row[1]) for row in rows[1:]] == values  # a negative number is a number, not a formula


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_every_start_of_a_formula_is_defused_in_text_only(start: str) -> None:
    rows = table(matrix_csv([[-1.5]], [start + "cmd"], ["a" + start]))
    assert rows == [["", "a" + start], ["'" + start + "cmd", "-1.5"]]


def test_matrix_csv_keeps_full_precision_and_infinity() -> None:
    values = np.array([[1 / 3, -np.inf], [2.0, -7.25]])
    rows = table(matrix_csv(values, ["r", "s"], ["a", "b"]))
    assert np.array_equal(np.array([[float(x) for x in row[1:]] for row in rows[1:]]), values)
    with pytest.raises(ValueError, match=r"\(2, 2\) do not fit 1 rows"):
        matrix_csv(values, ["r"], ["a", "b"])


def test_line_holds_each_series_and_its_fixed_axes() -> None:
    figure = line([1, 2, 4], {"train": [3.0, 2.0, 1.5], "<i>val</i>": [3.1, 2.5, 2.4]}, alt="loss", y_range=(0, 4))
    assert [list(t.y) for t in figure.data] == [[3.0, 2.0, 1.5], [3.1, 2.5, 2.4]]
    assert all(list(t.x) == [1, 2, 4] for t in figure.data)
    assert figure.data[1].name == "&lt;i&gt;val&lt;/i&gt;"
    assert list(figure.layout.yaxis.range) == [0, 4]
    assert table(to_csv(figure))[4] == ["<i>val</i>", "1.0", "3.1"]
    assert len({t.line.dash for t in figure.data}) == 2  # told apart without colour too


def test_histogram_shares_bins_and_loses_no_value() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=500) * 6
    data = {"raw": raw, "scaled": raw / 6}
    figure = histogram(data, alt="scores", bins=24, value_range=(-40, 40), count_max=300)
    assert list(figure.data[0].x) == list(figure.data[1].x)
    for trace, values in zip(figure.data, data.values(), strict=True):
        assert sum(trace.y) == 500
        assert list(trace.y) == np.histogram(values, 24, (-40, 40))[0].tolist()
    assert list(figure.layout.xaxis.range) == [-40, 40] and list(figure.layout.yaxis.range) == [0, 300]
    with pytest.raises(ValueError, match="beyond value_range"):
        histogram(data, alt="scores", value_range=(-1, 1))


def test_a_histogram_of_equal_values_still_counts_them() -> None:
    assert sum(histogram({"a": [2.0, 2.0, 2.0]}, alt="x", bins=5).data[0].y) == 3


@pytest.mark.parametrize("dark", [False, True])
def test_theme_and_alternative_text(dark: bool) -> None:
    figure = bars(["a"], [1.0], alt="one bar", role="loss", dark=dark)
    colours = theme.palette(dark)
    assert figure.data[0].marker.color == colours.roles["loss"].fill
    assert figure.layout.font.color == colours.ink
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert alt_of(figure) == "one bar"
    with pytest.raises(ValueError, match="alt is empty"):
        bars(["a"], [1.0], alt=" ")


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="2 labels for 3 values"):
        bars(["a", "b"], [1, 2, 3], alt="x")
    with pytest.raises(ValueError, match=r"values\[1\] is nan"):
        bars(["a", "b"], [1, np.nan], alt="x")
    with pytest.raises(ValueError, match=r"highlight \[5\]"):
        bars(["a"], [1], alt="x", highlight=5)
    with pytest.raises(ValueError, match="b has 1 values, xs has 2"):
        line([0, 1], {"a": [1, 2], "b": [1]}, alt="x")
    with pytest.raises(ValueError, match="not a range"):
        line([0, 1], {"a": [1, 2]}, alt="x", y_range=(2, 2))
    with pytest.raises(ValueError, match="at least one value"):
        histogram({"a": []}, alt="x")


def test_bars_below_zero_leave_room_for_their_numbers() -> None:
    """Or the number of a short bar would lie over the label beside it; without one the range stays as it was asked."""
    wide = bars(["a", "b"], [-0.1, 0.9], alt="x", value_range=(-0.13, 1.0))
    assert wide.layout.xaxis.range[1] == 1.0 and wide.layout.xaxis.range[0] < -0.1 - 0.15 * 1.13
    kept = bars(["a", "b"], [0.1, 0.9], alt="x", value_range=(-0.13, 1.0))
    assert tuple(kept.layout.xaxis.range) == (-0.13, 1.0)
