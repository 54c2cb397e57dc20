"""The message of the small maps: every byte is a weight, the message stays small, and nonsense is refused."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lab.figures import alt_of, to_csv
from lab.figures.paired import paired_bars
from lab.ui import small_multiples
from lab.ui.small_multiples import pooled, pooling, small_multiples_payload


def causal(*shape: int) -> NDArray[np.float64]:
    """Random causal attention maps."""
    raw = np.tril(np.random.default_rng(3).random(shape))
    return raw / raw.sum(axis=-1, keepdims=True)


def payload(weights: object, **options: Any) -> dict[str, Any]:
    return small_multiples_payload(weights, **({"alt": "maps", "name": "layer {layer}, head {head}"} | options))


def decoded(data: dict[str, Any]) -> NDArray[np.float64]:
    """The maps as the browser reads them: row after row of each lower triangle."""
    raw, side = base64.b64decode(data["maps"]), data["side"]
    maps = np.zeros((data["layers"], data["heads"], side, side))
    at = 0
    for i in range(data["layers"]):
        for j in range(data["heads"]):
            for q in range(side):
                for k in range(q + 1):
                    maps[i, j, q, k] = raw[at] / 255
                    at += 1
    assert at == len(raw)
    return maps


def test_every_weight_arrives() -> None:
    weights = causal(2, 3, 5, 5)
    data = payload(weights, selected=(1, 2), other=(0, 0))
    np.testing.assert_allclose(decoded(data), weights, atol=0.5 / 255 + 1e-9)
    assert (data["selected"], data["other"]) == ([1, 2], [0, 0])
    assert json.loads(json.dumps(data)) == data


def test_many_positions_are_drawn_together_by_their_largest() -> None:
    weights = causal(1, 2, 7, 7)
    small = pooled(weights, 3)
    assert small.shape == (1, 2, 3, 3)
    for a in range(3):
        for b in range(3):
            expected = weights[0, 1, 3 * a : 3 * a + 3, 3 * b : 3 * b + 3].max()
            assert small[0, 1, a, b] == expected
    np.testing.assert_array_equal(pooled(weights, 1), weights)


@pytest.mark.parametrize(
    ("layers", "heads", "tokens"), [(6, 8, 16), (12, 12, 64), (30, 9, 128), (16, 32, 128), (1, 1, 1)]
)
def test_the_message_stays_small_and_quick(layers: int, heads: int, tokens: int) -> None:
    weights = causal(layers, heads, tokens, tokens)
    start = time.process_time()
    data = payload(weights)
    assert time.process_time() - start < 0.5
    assert len(data["maps"]) <= 4 * small_multiples.MOST_BYTES / 3 + 4
    factor = pooling(layers * heads, tokens)
    assert data["side"] == -(-tokens // factor)
    if factor > 1:  # no coarser than needed
        finer = -(-tokens // (factor - 1))
        assert layers * heads * finer * (finer + 1) // 2 > small_multiples.MOST_BYTES


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (np.zeros((2, 3, 3)), {}, r"\[L H T T\]"),
        (np.zeros((2, 2, 3, 4)), {}, r"\[L H T T\]"),
        (np.full((1, 1, 2, 2), np.nan), {}, "not within 0..1"),
        (np.full((1, 1, 2, 2), 1.5), {}, "not within 0..1"),
        (np.full((1, 1, 2, 2), -0.1), {}, "not within 0..1"),
        (np.zeros((1, 1, 2, 2)), {"selected": (1, 0)}, "is no head"),
        (np.zeros((1, 1, 2, 2)), {"other": (0, -1)}, "is no head"),
        (np.zeros((1, 1, 2, 2)), {"alt": " "}, "alt is empty"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(weights: object, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        payload(weights, **options)


def test_paired_bars_show_both_and_stay_text() -> None:
    figure = paired_bars(
        ["<b>", "b", "b"], [0.5, 0.2, 0.1], [0.1, 0.2, 0.6], names=("before", "after"), alt="two a token"
    )
    assert [list(bar.x) for bar in figure.data] == [[0.5, 0.2, 0.1], [0.1, 0.2, 0.6]]
    assert list(figure.data[0].y) == [0, 1, 2], "the same label may stand there twice"
    assert figure.layout.yaxis.ticktext == ("&lt;b&gt;", "b", "b")
    assert alt_of(figure) == "two a token"
    assert to_csv(figure).splitlines()[:3] == ["label,when,value", "<b>,before,0.5", "b,before,0.2"]
    with pytest.raises(ValueError, match="3 labels for 3 and 2 values"):
        paired_bars(["a", "b", "c"], [1, 2, 3], [1, 2], names=("x", "y"), alt="a")
