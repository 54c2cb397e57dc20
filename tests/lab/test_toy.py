"""The toy numbers: the tutorial's example comes out right, an edit counts at once, and a bad cell changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lab.language import LANGUAGES, strings
from lab.ui import toy
from tests.attention_reference import cells, open_lesson, sent

QK = [[30, 70, 110, 150], [70, 174, 278, 382], [110, 278, 446, 614], [150, 382, 614, 846]]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """What the reader has typed into the tables; AppTest cannot type into a data editor."""
    typed: dict[str, np.ndarray] = {}
    original = st.data_editor

    def editor(data: pd.DataFrame, *, key: str, **options: Any) -> pd.DataFrame:
        shown = original(data, key=key, **options)
        name = key.split(".")[1]
        return shown if name not in typed else pd.DataFrame(typed[name], columns=shown.columns, index=shown.index)

    monkeypatch.setattr(st, "data_editor", editor)
    return typed


def edited(row: int, column: int, value: float) -> np.ndarray:
    table = toy.EXAMPLE.copy()
    table[row, column] = value
    return table


def softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_the_example_comes_out_right(language: str) -> None:
    app = open_lesson(language, mode="toy")
    assert not app.exception
    assert cells(sent(app, "toy_scores")).tolist() == QK
    np.testing.assert_allclose(cells(sent(app, "toy_scaled")), np.array(QK) / 2)
    weights = toy.traces.attend_arrays(toy.EXAMPLE, toy.EXAMPLE, toy.EXAMPLE)["weights"]
    assert 1e-9 < (1 - weights[:, 3]).max() < 2.1e-9 and weights[:, :3].max() < 2.1e-9
    np.testing.assert_allclose(cells(sent(app, "toy_weights")), np.tile([0, 0, 0, 1], (4, 1)), atol=1e-6)
    np.testing.assert_allclose(cells(sent(app, "toy_out")), np.tile([13, 14, 15, 16], (4, 1)), atol=1e-4)


def test_an_edit_counts_and_touches_only_what_depends_on_it(tables: dict[str, np.ndarray]) -> None:
    tables["q"] = edited(0, 0, -3.5)
    tables["k"] = edited(3, 3, -20.0)
    tables["v"] = edited(2, 1, 0.25)
    app = open_lesson(mode="toy")
    scores = tables["q"] @ tables["k"].T
    np.testing.assert_allclose(cells(sent(app, "toy_scores")), scores, atol=1e-4)
    weights = softmax(scores / 2)
    np.testing.assert_allclose(cells(sent(app, "toy_weights")), weights, atol=1e-6)
    np.testing.assert_allclose(cells(sent(app, "toy_out")), weights @ tables["v"], atol=1e-4)


def test_causal_hides_what_comes_after(tables: dict[str, np.ndarray]) -> None:
    tables["v"] = edited(0, 2, 99.0)
    app = open_lesson(mode="toy")
    app.toggle(key="toy.causal").set_value(True).run()
    lower = np.tril(np.ones((4, 4), bool))
    masked = np.where(lower, np.array(QK) / 2, -np.inf)
    assert np.array_equal(cells(sent(app, "toy_scaled")), masked)
    weights = cells(sent(app, "toy_weights"))
    assert (weights[~lower] == 0).all()
    np.testing.assert_allclose(cells(sent(app, "toy_out"))[0], [1, 2, 99, 4], atol=1e-6)
    app.toggle(key="toy.causal").set_value(False).run()
    assert np.isfinite(cells(sent(app, "toy_scaled"))).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1000.5, -1e9])
@pytest.mark.parametrize("language", list(LANGUAGES))
def test_a_bad_cell_is_said_and_the_last_good_table_stays(
    tables: dict[str, np.ndarray], bad: float, language: str
) -> None:
    tables["k"] = edited(1, 1, 7.5)
    app = open_lesson(language, mode="toy")
    good = cells(sent(app, "toy_scores"))
    tables["k"] = edited(1, 1, bad)
    app.run()
    assert not app.exception
    assert [w.value for w in app.warning] == [strings(language)["self_attention.toy_bad"]]
    assert np.array_equal(cells(sent(app, "toy_scores")), good)
    tables["k"] = edited(1, 1, 1000.0)
    app.run()
    assert not app.warning and cells(sent(app, "toy_scores"))[0, 1] != good[0, 1]


def test_the_example_can_be_put_back(tables: dict[str, np.ndarray]) -> None:
    tables["q"] = edited(0, 0, 5.0)
    app = open_lesson(mode="toy")
    assert cells(sent(app, "toy_scores")).tolist() != QK
    tables.clear()  # a new editor, of a new key, holds no edits
    before = editors(app)
    button = next(b for b in app.button if b.label == strings("en")["self_attention.toy_reset"])
    button.click().run()
    assert cells(sent(app, "toy_scores")).tolist() == QK
    assert len(before) == 3 and not before & editors(app)


def editors(app: AppTest) -> set[str]:
    return {frame.proto.id for frame in app.dataframe}


def test_every_number_of_a_picked_cell_is_written_out() -> None:
    """Score, scaled, weight and output of one cell, in numbers of one's own."""
    rng = np.random.default_rng(3)
    q, k, v = rng.normal(size=(3, 4, 4))
    steps = toy.traces.attend_arrays(q, k, v)
    lines = toy.toy_formulas(q, k, v, steps, (2, 1))
    weights = softmax(q @ k.T / 2)
    for line, expected, digits in zip(
        lines, [q[2] @ k[1], q[2] @ k[1] / 2, weights[2, 1], weights[2] @ v[:, 1]], [1, 1, 4, 4], strict=True
    ):
        assert rf"\mathbf{{{expected:.{digits}f}}}" in line
    for a, b in zip(weights[2], v[:, 1], strict=True):
        assert f"{a:.2f} \\cdot {f'({b:.2f})' if b < 0 else f'{b:.2f}'}" in lines[3]
