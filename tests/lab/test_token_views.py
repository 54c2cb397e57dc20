"""What the token widgets are sent, and the scatter figure."""

from __future__ import annotations

import numpy as np
import pytest

from lab import figures
from lab.ui import token_views
from lab.ui.token_views import Block, CandidatePair, Cell


def test_the_same_id_has_the_same_hue_and_neighbours_differ() -> None:
    shades = token_views.hues([5, 9, 5, 7, 9])
    assert shades[0] == shades[2] and shades[1] == shades[4] and len(set(shades)) == 3
    many = token_views.hues(list(range(60)))
    assert all(min(abs(a - b), 360 - abs(a - b)) > 60 for a, b in zip(many, many[1:], strict=False))


def test_token_text_payload() -> None:
    sent = token_views.token_text_payload(
        ["⟨start⟩", "a", "<b>", "a"], [0, 7, 8, 7], alt="x", pieces=[None, b"a", b"<b>", b"a"], selected=2, plain=[0]
    )
    assert [token["hue"] for token in sent["tokens"]] == [None, 0, 138, 0]
    assert [token["bytes"] for token in sent["tokens"]] == [None, "61", "3C 62 3E", "61"]
    assert sent["selected"] == 2 and sent["tokens"][2]["text"] == "<b>" and sent["clickable"] is False


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": ["a"], "token_ids": [1, 2], "alt": "x"},
        {"labels": ["a"], "token_ids": [1], "alt": "x", "pieces": []},
        {"labels": ["a"], "token_ids": [1], "alt": " "},
        {"labels": ["a"], "token_ids": [1], "alt": "x", "selected": 1},
    ],
)
def test_token_text_refuses_what_does_not_fit(wrong: dict) -> None:
    with pytest.raises(ValueError):
        token_views.token_text_payload(**wrong)


def test_span_grid_rows_fill_their_columns() -> None:
    rows = [[Cell("0", 1, "name"), Cell("ab", 2, "symbol"), Cell("", 1, "note")]]
    sent = token_views.span_grid_payload(
        [Block(2, rows, headed=True, noted=True)], alt="x", current=0, pairs=[CandidatePair("a + b", "rank 3", False)]
    )
    assert (
        sent["clickable"] and sent["blocks"][0]["rows"][0][1]["text"] == "ab" and sent["pairs"][0]["rank"] == "rank 3"
    )
    with pytest.raises(ValueError, match="fills 2 of 3 columns"):
        token_views.span_grid_payload([Block(3, rows, headed=True, noted=True)], alt="x")
    with pytest.raises(ValueError, match="current 1"):
        token_views.span_grid_payload([Block(2, rows, headed=True, noted=True)], alt="x", current=1)


POINTS = np.array([[0.0, 0.0], [1.0, 2.0], [-3.0, 0.5], [1.01, 2.0]])
LABELS = ["a", "<b>", "c", "d"]


def test_scatter_shows_every_point_and_keeps_its_axes() -> None:
    plain = figures.scatter(POINTS, LABELS, alt="map")
    found = figures.scatter(POINTS, LABELS, alt="map", found=[1, 3], chosen=2)
    assert plain.layout.xaxis.range == found.layout.xaxis.range and plain.layout.yaxis.range == found.layout.yaxis.range
    assert plain.layout.xaxis.range[0] < -3 and plain.layout.yaxis.range[1] > 2
    assert list(plain.data[0].x) == POINTS[:, 0].tolist() and list(plain.data[0].y) == POINTS[:, 1].tolist()
    assert len(plain.data) == 1 and len(found.data) == 3
    assert list(found.data[1].x) == [1.0, 1.01] and list(found.data[2].x) == [-3.0]
    assert found.layout.annotations[0].text == "c"


def test_scatter_labels_are_text_and_do_not_cover_each_other() -> None:
    found = figures.scatter(POINTS, LABELS, alt="map", found=[1, 3, 0])
    assert list(found.data[1].text) == ["&lt;b&gt;", "", "a"], "d stands on <b>"
    assert found.data[0].hovertext[1] == "&lt;b&gt;"
    assert figures.to_csv(found).replace("\r", "").splitlines() == [
        "label,x,y",
        "a,0.0,0.0",
        "<b>,1.0,2.0",
        "c,-3.0,0.5",
        "d,1.01,2.0",
    ]


def test_scatter_of_one_point_has_a_range() -> None:
    one = figures.scatter([[2.0, 2.0]], ["a"], alt="map")
    assert one.layout.xaxis.range == (1.0, 3.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": [[0.0, np.nan]], "labels": ["a"]},
        {"points": [[0.0, 1.0]], "labels": ["a", "b"]},
        {"points": np.zeros((0, 2)), "labels": []},
        {"points": [[0.0, 1.0]], "labels": ["a"], "found": [1]},
        {"points": [[0.0, 1.0]], "labels": ["a"], "chosen": -1},
    ],
)
def test_scatter_refuses_what_does_not_fit(wrong: dict) -> None:
    with pytest.raises(ValueError):
        figures.scatter(alt="map", **wrong)
