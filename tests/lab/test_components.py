"""The Python side of our components: what is sent to the browser, and what is believed of its answer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from lab.ui import components, payloads

ROWS, COLS = ["a", "<b>b</b>"], ["0", "1", "2"]
VALUES = np.array([[1.25, -np.inf, 0.05], [-23.7496, 0.0, 7.0]])


def matrix(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"values": VALUES, "rows": ROWS, "cols": COLS, "alt": "scores"} | changes
    return payloads.matrix_payload(given.pop("values"), given.pop("rows"), given.pop("cols"), **given)


def test_matrix_texts_are_rounded_once_by_python() -> None:
    """-23.7496 is -23.7 to one decimal; rounding a rounded -23.750 would say -23.8."""
    sent = matrix()
    assert sent["texts"] == [["+1.2", "−∞", "+0.1"], ["-23.7", "+0.0", "+7.0"]]
    assert sent["values"] == [[1.25, None, 0.05], [-23.7496, 0.0, 7.0]]
    assert sent["numberedCols"] is True and matrix(cols=["x", "1", "2"])["numberedCols"] is False


def test_matrix_of_nothing_negative_has_no_signs() -> None:
    assert matrix(values=np.array([[0.5, 0.25, 0.25], [1, 0, 0]]), decimals=2)["texts"][0] == ["0.50", "0.25", "0.25"]


def test_every_message_is_json_that_a_browser_reads() -> None:
    """JavaScript's JSON.parse knows neither NaN nor Infinity."""
    text = json.dumps([matrix(), payloads.arcs_payload(["a"], [[1.0]], alt="x")], allow_nan=False)
    assert "Infinity" not in text and "NaN" not in text


def test_large_matrix_carries_no_texts_and_stays_small() -> None:
    values = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32) * 30
    sent = payloads.matrix_payload(values, ["t"] * 128, ["t"] * 128, alt="big")
    assert sent["texts"] is None
    assert len(json.dumps(sent)) < 300_000
    back = np.array(sent["values"])
    assert np.abs(back - values).max() <= 0.5e-4 + 1e-9


def test_colours_follow_colour_values_and_a_fixed_range() -> None:
    relative = np.array([[0.0, -5.0, -10.0], [-20.0, -2.5, 3.0]])
    assert matrix(colour_values=relative, vmin=-10, vmax=0)["fills"] == [[100, 50, 0], [0, 75, 100]]
    moved = matrix(values=VALUES * 2, colour_values=relative, vmin=-10, vmax=0)
    assert moved["fills"] == [[100, 50, 0], [0, 75, 100]]


def test_diverging_colours_have_zero_in_the_middle() -> None:
    fills = payloads.colour_fills(np.array([[-1.0, 0.0, 4.0]]), "diverging")
    assert fills.tolist() == [[-25, 0, 100]]
    assert payloads.colour_fills(np.array([[-9.0, 1.0]]), "diverging", vmin=-2, vmax=1).tolist() == [[-100, 50]]


def test_equal_and_infinite_values_have_a_colour_too() -> None:
    assert payloads.colour_fills(np.zeros((2, 2)), "diverging").tolist() == [[0, 0], [0, 0]]
    assert payloads.colour_fills(np.full((1, 2), -np.inf)).tolist() == [[0, 0]]
    assert payloads.colour_fills(np.array([[-np.inf, 1.0, 3.0]])).tolist() == [[0, 0, 100]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": VALUES[0]}, "must be a matrix"),
        ({"values": np.zeros((0, 3)), "rows": []}, "must be a matrix"),
        ({"values": np.array([[1, np.nan, 2], [1, 2, 3]])}, r"values\[0, 1\] is nan"),
        ({"values": np.array([[1, 2, 2], [1, np.inf, 3]])}, r"values\[1, 1\] is inf"),
        ({"values": np.zeros((600, 3)), "rows": ["r"] * 600}, "larger than the 512"),
        ({"rows": ["a"]}, "rows has 1 entries, the values need 2"),
        ({"cols": "abc"}, "cols must be a sequence of strings"),
        ({"faint": np.zeros((3, 2), bool)}, r"faint is of shape \(3, 2\)"),
        ({"colour_values": np.zeros((3, 2))}, "colour_values is of shape"),
        ({"selected": (2, 0)}, "selected row 2 is not one of 0..1"),
        ({"selected": (0, -1)}, "selected column -1"),
        ({"scale": "rainbow"}, "rainbow"),
        ({"role": "red"}, "role 'red'"),
        ({"vmin": 3, "vmax": 1}, "not a range"),
        ({"decimals": 9}, "decimals 9"),
        ({"alt": " "}, "alt is empty"),
    ],
)
def test_matrix_names_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matrix(**changes)


def test_token_strip_message_and_its_checks() -> None:
    sent = payloads.token_strip_payload(["⏎", "The"], ids=[0, 52], selected_query=1, colours=[None, 0.256])
    assert (sent["query"], sent["key"], sent["ids"], sent["tints"]) == (1, None, [0, 52], [None, 26])
    for changes, message in (
        ({"ids": [1]}, "ids has 1 entries, tokens has 2"),
        ({"selected_key": 2}, "selected_key 2"),
        ({"colours": [0.1, 1.5]}, r"colours\[1\] is 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            payloads.token_strip_payload(["⏎", "The"], **changes)  # type: ignore[arg-type]


def test_arcs_tell_a_masked_pair_from_a_small_weight() -> None:
    sent = payloads.arcs_payload(["a", "b"], [[1.0, 0.0], [0.00001, 0.99999]], alt="x", selected=1)
    assert sent["weights"] == [[1.0, None], [0.0, 1.0]]
    for weights, message in (
        ([[1.0]], "2 tokens need"),
        ([[1.2, 0], [0, 1]], "not within 0..1"),
        ([[-0.1, 1], [0, 1]], "0..1"),
    ):
        with pytest.raises(ValueError, match=message):
            payloads.arcs_payload(["a", "b"], weights, alt="x")


def test_operand_heights_are_per_cent_of_the_row_scale() -> None:
    q, k = np.array([0.5, -1.0, 2.0]), np.array([4.0, 0.0, -2.0])
    rows = [
        {"label": "q", "role": "q", "values": q, "scale": 4},
        {"label": "k", "role": "k", "values": k, "scale": 4},
        {"label": "product", "role": "weights", "symbol": "q·k", "values": q * k},
    ]
    sent = payloads.operand_strip_payload(rows)
    assert [row["heights"] for row in sent["rows"]] == [[12.5, -25.0, 50.0], [100.0, 0.0, -50.0], [50.0, 0.0, -100.0]]
    assert [row["symbol"] for row in sent["rows"]] == ["q", "k", "q·k"]
    assert sent["rows"][2]["values"] == [2.0, 0.0, -4.0]
    with pytest.raises(ValueError, match=r"rows\[1\] has 2 values, rows\[0\] has 3"):
        payloads.operand_strip_payload([rows[0], rows[1] | {"values": k[:2]}])
    with pytest.raises(ValueError, match="rows is empty"):
        payloads.operand_strip_payload([])
    assert payloads.operand_strip_payload([rows[0] | {"values": [0.0], "scale": None}])["rows"][0]["heights"] == [0.0]


def test_step_bar_message_and_its_checks() -> None:
    assert payloads.step_bar_payload(["x", "y", "z"], 1, done=[2, 0, 2], label="steps")["done"] == [0, 2]
    with pytest.raises(ValueError, match="current 3"):
        payloads.step_bar_payload(["x", "y", "z"], 3, label="steps")


@pytest.mark.parametrize("raw", [None, True, "1", 1.0, -1, 3, [1], {"a": 1}])
def test_a_strange_index_from_the_browser_is_no_choice(raw: object) -> None:
    assert payloads.answered_index(raw, 3) is None


@pytest.mark.parametrize("raw", [None, 5, [0], [0, 1, 2], [0, 3], [2, 0], ["0", 0], [-1, 0], [True, 0], "00"])
def test_a_strange_cell_from_the_browser_is_no_choice(raw: object) -> None:
    assert payloads.answered_cell(raw, 2, 3) is None


def test_a_right_answer_is_believed() -> None:
    assert payloads.answered_cell([1, 2], 2, 3) == (1, 2)
    assert payloads.answered_index(components.RELEASED, 3, components.RELEASED) == -1


def _page() -> None:
    import numpy as np
    import streamlit as st

    from lab.ui import components

    answers = [
        components.token_strip(["a", "b"], key="tokens"),
        components.matrix(np.eye(2), ["a", "b"], ["a", "b"], key="matrix", alt="identity", selected=(1, 1)),
        components.arcs(["a", "b"], np.eye(2), key="arcs", alt="identity"),
        components.step_bar(["x", "y"], 0, key="steps", label="steps"),
    ]
    components.operand_strip([{"label": "q", "role": "q", "values": [1.0, -1.0]}], key="operands")
    st.text(repr(answers))


def test_all_components_mount_in_a_page_and_report_no_choice_at_first() -> None:
    app = AppTest.from_function(_page, default_timeout=30).run()
    assert not app.exception
    assert app.text[0].value == "[None, None, None, None]"
    app.run()
    assert not app.exception
