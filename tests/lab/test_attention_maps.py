"""Every number that the self-attention lesson draws is the one that `transformers` computes for the same sentence.

The page runs as a learner runs it; what it sent to its components is read back and compared, step by step, in the
bundled model and in tiny random ones with GPT-2's and Llama's shape (grouped-query, so a wrong group shows).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from lab.course import lesson
from lab.ui import attention_maps as maps
from tests.attention_reference import (
    BUNDLED,
    Truth,
    cells,
    charts_of,
    last_number,
    make_tiny,
    numbers,
    open_lesson,
    places,
    sent,
    truth,
)

TEXT = "The old king looked at the little bird"
STEPS = lesson("self_attention").steps


@pytest.fixture(scope="module", params=["storyteller", "llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "storyteller":
        return BUNDLED
    return make_tiny(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def right(folder: Path) -> Truth:
    return truth(folder, TEXT)


@pytest.fixture(scope="module")
def lesson_page(folder: Path) -> AppTest:
    """One visitor of the lesson; tests move her about."""
    app = open_lesson(model=folder, text=TEXT)
    assert not app.exception and not app.warning
    return app


def go(app: AppTest, step: str, place: tuple[int, int, int, int], **more: Any) -> AppTest:
    for name, value in zip(("layer", "head", "q", "k"), place, strict=True):
        app.session_state[f"view.{name}"] = value
    for name, value in more.items():
        app.session_state[f"view.{name.replace('__', '.')}"] = value
    app.session_state["view.step"] = str(STEPS.index(step) + 1)
    app.run()
    assert not app.exception
    return app


def near(shown: Any, expected: Any, digits: int, slack: float = 2e-4) -> None:
    """`shown` was rounded to `digits` decimals; `slack` is float32's, relative."""
    np.testing.assert_allclose(
        np.asarray(shown, float), np.asarray(expected, float), rtol=slack, atol=0.51 * 10**-digits
    )


def adds_up(products: np.ndarray, result: float, digits: int) -> None:
    """The products shown, each rounded to 3 decimals, add up to the result shown, rounded to `digits`."""
    assert abs(products.sum() - result) <= 0.0005 * len(products) + 0.5 * 10**-digits + 1e-4 * abs(result)


def strip(app: AppTest, key: str) -> list[np.ndarray]:
    return [np.array(row["values"]) for row in sent(app, key)["rows"]]


def product_total(app: AppTest, key: str) -> float:
    """The sum that stands above the products of a strip."""
    return numbers(sent(app, key)["rows"][2]["label"])[-1]


def formula(app: AppTest) -> str:
    assert len(app.latex) == 1
    return app.latex[0].value


def lines(app: AppTest) -> list[str]:
    return re.split(r"\\\\\[[0-9.]+em\]", formula(app))


def test_tokens_are_the_models_own(lesson_page: AppTest, right: Truth) -> None:
    chips = sent(go(lesson_page, "question", (0, 0, 2, 1)), "tokens")
    assert chips["ids"] == right.token_ids
    assert (chips["query"], chips["key"]) == (2, 1)
    assert [label.strip("␣") for label in chips["tokens"][1:]] == TEXT.split()


def test_question_draws_the_weights_of_the_head(lesson_page: AppTest, right: Truth) -> None:
    for place in places(right):
        data = sent(go(lesson_page, "question", place), "arcs")
        near([[x or 0 for x in row] for row in data["weights"]], right.head("weights", *place[:2]), 4)
        assert data["selected"] == place[2]


def test_x_is_the_normalised_stream(lesson_page: AppTest, right: Truth) -> None:
    for column, place in enumerate(places(right)):
        layer, _, query, _ = place
        app = go(lesson_page, "x", place, column__x=column)
        expected = right.layers["attn_in"][layer]
        near(cells(sent(app, "map_x")), expected, 5)
        assert sent(app, "map_x")["selected"] == [query, column]
        before, after = strip(app, "strip_x")
        near(before, right.layers["resid_pre"][layer, query], 3)
        near(after, expected[query], 3)
        near(last_number(formula(app)), expected[query, column], 3)


def learned(right: Truth, layer: int, head: int, part: str, column: int) -> tuple[np.ndarray, float]:
    """Column of W and the offset behind one number of q, k or v, from the file as transformers holds it."""
    if not right.is_llama:
        block, n_embd = right.model.transformer.h[layer].attn.c_attn, right.model.config.n_embd
        at = "qkv".index(part) * n_embd + head * (n_embd // right.model.config.n_head) + column
        return block.weight[:, at].detach().numpy(), float(block.bias[at].detach())
    config = right.model.config
    own = head if part == "q" else head // (config.num_attention_heads // config.num_key_value_heads)
    matrix = getattr(right.model.model.layers[layer].self_attn, f"{part}_proj").weight
    return matrix[own * config.head_dim + column].detach().numpy(), 0.0


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_q_k_v_and_the_products_behind_a_number(lesson_page: AppTest, right: Truth, part: str) -> None:
    lesson_page.session_state["qkv_part"] = part
    lesson_page.session_state["qkv_turned"] = False
    width = right.heads["q"].shape[-1]
    for column, place in enumerate(places(right)):
        layer, head, query, _ = place
        app = go(lesson_page, "qkv", place, **{f"column__{part}": column % width})
        expected = right.head(part if part == "v" else f"{part}_proj", layer, head)
        near(cells(sent(app, f"map_{part}")), expected, 5)
        w, bias = learned(right, layer, head, part, column % width)
        shown_x, shown_w, products = strip(app, f"strip_{part}")
        x = right.layers["attn_in"][layer, query]
        near(shown_x, x, 3)
        near(shown_w, w, 3)
        near(products, x * w, 3)
        result = last_number(formula(app))
        near(result, expected[query, column % width], 3)
        adds_up(products, result - bias, 3)
        near(product_total(app, f"strip_{part}"), x @ w, 3)
        assert (f"+ b_{{{column % width + 1}}}" in formula(app)) == (bias != 0)


@pytest.mark.parametrize("part", ["q", "k"])
def test_turned_by_position(lesson_page: AppTest, right: Truth, part: str) -> None:
    lesson_page.session_state["qkv_part"] = part
    app = go(lesson_page, "qkv", (0, 0, 3, 1))
    assert bool([t for t in app.toggle if t.key == "qkv_turned"]) == right.is_llama
    if not right.is_llama:
        return
    width = right.heads["q"].shape[-1]
    lesson_page.session_state["qkv_turned"] = True
    for place, column in zip(places(right), (0, width - 1, width // 2, 1), strict=True):
        layer, head, query, _ = place
        app = go(lesson_page, "qkv", place, **{f"column__{part}": column})
        expected = right.head(part, layer, head)
        near(cells(sent(app, f"map_{part}")), expected, 5)
        near(last_number(formula(app)), expected[query, column], 3)
        angle = query * right.model.config.rope_parameters["rope_theta"] ** (-2 * (column % (width // 2)) / width)
        near(numbers(lines(app)[0])[-1], angle, 4)
    lesson_page.session_state["qkv_turned"] = False


def test_score_is_the_sum_of_its_products(lesson_page: AppTest, right: Truth) -> None:
    for place in places(right):
        layer, head, query, key = place
        app = go(lesson_page, "scores", place)
        data, expected = sent(app, "map_scores"), right.head("scores", layer, head)
        near(cells(data), expected, 4)
        assert data["selected"] == [query, key]
        assert data["faint"] == np.triu(np.ones(expected.shape, int), 1).tolist()
        q, k, products = strip(app, "strip_scores")
        near(q, right.head("q", layer, head)[query], 3)
        near(k, right.head("k", layer, head)[key], 3)
        near(products, right.head("q", layer, head)[query] * right.head("k", layer, head)[key], 3)
        near(last_number(formula(app)), expected[query, key], 2)
        adds_up(products, last_number(formula(app)), 2)
        near(product_total(app, "strip_scores"), expected[query, key], 2)


def test_scaled_and_its_two_rows_of_weights(lesson_page: AppTest, right: Truth) -> None:
    for place in places(right):
        layer, head, query, key = place
        app = go(lesson_page, "scale", place)
        expected = right.head("scaled", layer, head)
        near(cells(sent(app, "map_scaled")), expected, 4)
        near(last_number(formula(app)), expected[query, key], 2)
        raw = right.head("scores", layer, head)
        near(numbers(lines(app)[1])[0], raw[query, key], 2)
        with_scale, without, histogram = charts_of(app)
        n = min(8, query + 1)
        for figure, scores in ((with_scale, expected), (without, raw)):
            row = torch.tensor(scores[query, : query + 1]).double().softmax(0).numpy()
            largest = sorted(np.argsort(-torch.tensor(expected[query, : query + 1]).softmax(0).numpy())[:n].tolist())
            near(figure["data"][0]["x"], row[largest], 6, slack=5e-3)
        allowed = np.tril(np.ones(raw.shape, bool))
        assert [sum(trace["y"]) for trace in histogram["data"]] == [allowed.sum()] * 2


def test_mask_puts_minus_infinity_after_the_query(lesson_page: AppTest, right: Truth) -> None:
    for place in places(right):
        layer, head, query, key = place
        app = go(lesson_page, "mask", place)
        near(cells(sent(app, "map_masked")), right.head("masked", layer, head), 4)
        result = last_number(formula(app))
        assert (result == -np.inf) == (key > query)
        if key <= query:
            near(result, right.head("scaled", layer, head)[query, key], 2)


@pytest.mark.parametrize("tau", [1.0, 0.3, 4.0])
def test_weights_at_any_temperature(lesson_page: AppTest, right: Truth, tau: float) -> None:
    lesson_page.session_state["temperature"] = tau
    for place in places(right):
        layer, head, query, key = place
        app = go(lesson_page, "softmax", place)
        masked = torch.tensor(right.head("masked", layer, head)).double()
        expected = (masked / tau).softmax(-1).numpy()
        near(cells(sent(app, "map_weights")), expected, 5, slack=5e-3)
        near(last_number(formula(app)), expected[query, key], 4, slack=5e-3)
        row = masked[query].numpy() / tau
        near(numbers(formula(app))[-2], np.exp(row - row.max()).sum(), 4, slack=1e-3)
        below, powers, shares = strip(app, "strip_softmax")
        near(below, (row - row.max())[: query + 1], 3, slack=1e-3)
        near(powers, np.exp(row - row.max())[: query + 1], 3, slack=5e-3)
        near(shares, expected[query, : query + 1], 3, slack=5e-3)
        low, high = (float(x) for x in numbers(next(c.value for c in app.caption if "sums to 1" in c.value)))
        assert low == pytest.approx(1, abs=2e-6) and high == pytest.approx(1, abs=2e-6)
    lesson_page.session_state["temperature"] = 1.0


def test_mix_adds_weight_times_value(lesson_page: AppTest, right: Truth) -> None:
    width = right.heads["q"].shape[-1]
    for column, place in zip((0, 1, width - 1, 2), places(right), strict=True):
        layer, head, query, _ = place
        app = go(lesson_page, "mix", place, column__mix=column)
        weights, v = right.head("weights", layer, head)[query], right.head("v", layer, head)
        drawn = cells(sent(app, "map_mix"))
        near(drawn[:-1], weights[: query + 1, None] * v[: query + 1], 5)
        near(drawn[-1], right.head("head_out", layer, head)[query], 5)
        assert sent(app, "map_mix")["selected"] == [query + 1, column]
        w, values, products = strip(app, "strip_mix")
        near(w, weights[: query + 1], 3)
        near(values, v[: query + 1, column], 3)
        near(products, weights[: query + 1] * v[: query + 1, column], 3)
        near(last_number(formula(app)), right.head("head_out", layer, head)[query, column], 3)
        adds_up(products, last_number(formula(app)), 3)
        near(product_total(app, "strip_mix"), last_number(formula(app)), 2)


def test_output_is_added_to_the_stream(lesson_page: AppTest, right: Truth) -> None:
    for column, place in enumerate(places(right)):
        layer, _, query, _ = place
        app = go(lesson_page, "output", place, column__output=column)
        rows = [right.layers[name][layer, query] for name in ("resid_pre", "attn_out", "resid_mid")]
        near(cells(sent(app, "map_output")), rows, 4)  # the stream is some tens long: float32 tells no more
        near(last_number(formula(app)), rows[2][column], 3)
        near(numbers(lines(app)[1]), [row[column] for row in rows], 3)
        found, w, products = strip(app, "strip_output")
        concat, column_of_w, bias = output_column(right, layer, query, column)
        near(found, concat, 3)
        near(w, column_of_w, 3)
        near(products, concat * column_of_w, 3)
        adds_up(products, float(rows[1][column]) - bias, 3)
        said = numbers(sent(app, "strip_output")["rows"][2]["label"])
        assert any(abs(number - rows[1][column]) < 1.1e-3 for number in said), said
        (bars,) = charts_of(app)
        near(bars["data"][0]["x"], written_lengths(right, layer, query), 4, slack=1e-3)


def output_column(right: Truth, layer: int, query: int, column: int) -> tuple[np.ndarray, np.ndarray, float]:
    """All heads of a layer end to end at `query`, and the weights and offset that make number `column` of them."""
    concat = right.heads["head_out"][layer, :, query].flatten()
    if right.is_llama:
        return concat, right.model.model.layers[layer].self_attn.o_proj.weight.detach()[column].numpy(), 0.0
    projection = right.model.transformer.h[layer].attn.c_proj
    return concat, projection.weight.detach()[:, column].numpy(), float(projection.bias.detach()[column])


def written_lengths(right: Truth, layer: int, query: int) -> list[float]:
    """The length of head_out · W_O of each head, by putting one head at a time through the output projection."""
    heads = torch.tensor(right.heads["head_out"][layer, :, query])
    if right.is_llama:
        matrix = right.model.model.layers[layer].self_attn.o_proj.weight.detach().T
    else:
        matrix = right.model.transformer.h[layer].attn.c_proj.weight.detach()
    lengths = []
    for h in range(len(heads)):
        alone = torch.zeros_like(heads)
        alone[h] = heads[h]
        lengths.append(float((alone.flatten() @ matrix).norm()))
    return lengths


def test_colour_shows_what_softmax_sees(lesson_page: AppTest, right: Truth) -> None:
    """Scores and scaled scores are painted on one range, so dividing by √d makes the map darker, cell by cell."""
    place = next(places(right))
    before = np.array(sent(go(lesson_page, "scores", place), "map_scores")["fills"])
    after = np.array(sent(go(lesson_page, "scale", place), "map_scaled")["fills"])
    lower = np.tril(np.ones(before.shape, bool))
    raw = right.head("scores", *place[:2])
    below = np.where(lower, raw, -np.inf).max(axis=1, keepdims=True) - raw
    depth = np.quantile(below[lower], 0.9)
    root = right.heads["q"].shape[-1] ** 0.5
    np.testing.assert_allclose(before[lower], 100 * np.clip(1 - below / depth, 0, 1)[lower], atol=0.6)
    np.testing.assert_allclose(after[lower], 100 * np.clip(1 - below / root / depth, 0, 1)[lower], atol=0.6)
    assert (after[lower] >= before[lower]).all() and (after[lower] > before[lower]).any()


def test_depth_of_equal_scores_is_no_zero() -> None:
    assert maps.colour_depth(np.zeros((3, 3)), np.tril(np.ones((3, 3), bool))) > 0
