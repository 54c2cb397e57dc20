"""The formulas, operand by operand: each number written in them is the one that stands behind the cell.

(That they end in the number of the chosen cell is tested on the page, in test_attention_maps.py.)
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from lab import models, traces
from lab.ui import attention_formulas as formulas
from lab.ui.panels import tex_name, tex_sum
from lab.ui.reading import Reading
from lab.ui.view import View
from tests.attention_reference import BUNDLED, Truth, last_number, make_tiny, numbers, plain, truth

TEXT = "The old king looked at the little bird"
QUERY, KEY = 5, 2


@pytest.fixture(scope="module", params=["storyteller", "llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "storyteller":
        return BUNDLED
    return make_tiny(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def right(folder: Path) -> Truth:
    return truth(folder, TEXT)


def reading(folder: Path, query: int = QUERY, key: int = KEY, layer: int = 1, head: int = 1) -> Reading:
    name = "bundled:storyteller" if folder == BUNDLED else f"folder:{folder}"
    return Reading(name, models.shape(name), traces.trace(name, TEXT), View(layer, head, query, key))


def near(shown: list[float], expected: list[float], digits: list[int] | int) -> None:
    places = digits if isinstance(digits, list) else [digits] * len(expected)
    assert len(shown) == len(expected), (shown, expected)
    for one, other, decimals in zip(shown, expected, places, strict=True):
        assert one == pytest.approx(other, rel=2e-4, abs=0.51 * 10**-decimals)


@pytest.mark.parametrize("column", [0, 7, 19])
def test_normalised_writes_the_size_and_the_learned_numbers(folder: Path, right: Truth, column: int) -> None:
    row = right.layers["resid_pre"][1, QUERY].astype(np.float64)
    config = right.model.config
    symbolic, line = formulas.normalised(reading(folder), column)
    operands = numbers(line)
    if right.is_llama:
        size = math.sqrt((row**2).mean() + config.rms_norm_eps)
        g = float(right.model.model.layers[1].input_layernorm.weight[column].detach())
        near(operands, [row[column], size, g, row[column] / size * g], [3, 3, 2, 3])
        assert "{mean}" in symbolic and "{var}" not in symbolic
    else:
        norm = right.model.transformer.h[1].ln_1
        g, b = float(norm.weight[column].detach()), float(norm.bias[column].detach())
        size = math.sqrt(row.var() + config.layer_norm_epsilon)
        result = (row[column] - row.mean()) / size * g + b
        near(operands, [row[column], row.mean(), size, g, b, result], [3, 3, 3, 2, 2, 3])
        assert "{var}" in symbolic
    assert rf"g_{{{column + 1}}}" in symbolic


def test_projected_writes_first_and_last_products_and_the_offset(folder: Path) -> None:
    here = reading(folder)
    learned = traces.head_weights(here.model, here.view.layer, here.view.head)
    x, w, b = here.layer("attn_in")[here.view.query], learned.k[:, 2], float(learned.k_bias[2])
    lines = formulas.projected(here, "k", 2, x, w, b)
    offset = [b] if b else []
    near(numbers(lines[1]), [x[0], w[0], x[1], w[1], x[-1], w[-1], *offset], [2, 2, 2, 2, 2, 2, *[3] * len(offset)])
    assert last_number(lines[2]) == pytest.approx(float(x @ w) + b, rel=2e-4, abs=6e-4)
    assert last_number(lines[2]) == pytest.approx(float(here.head("k_proj")[here.view.query, 2]), abs=5e-4)
    assert ("W_{K,3} + b_{3}" in lines[0]) == bool(b)
    with_offset = formulas.projected(here, "k", 2, x, w, -0.75)
    assert "W_{K,3} + b_{3}" in with_offset[0] and numbers(with_offset[1])[-1] == -0.75


@pytest.mark.parametrize(("column", "other", "sign"), [(0, 2, -1), (1, 3, -1), (2, 0, 1), (3, 1, 1)])
def test_turned_is_a_turn_of_one_pair(folder: Path, column: int, other: int, sign: int) -> None:
    """[a, b] by θ is [a cos θ − b sin θ, b cos θ + a sin θ]: the sign written is the sign computed."""
    before, angle = np.array([1.5, -2.25, 0.75, 3.0]), 0.9
    theta, symbolic, line, result = formulas.turned(reading(folder), "q", column, before, angle)
    near(numbers(theta), [angle / QUERY, angle], 4)
    assert theta.startswith(rf"\theta = {QUERY} \cdot")
    near(numbers(line), [before[column], math.cos(angle), before[other], math.sin(angle)], 2)
    written = re.search(r"\\cos\\theta (.) ", symbolic)
    assert written and written[1] == ("-" if sign < 0 else "+")
    assert f" {written[1]} " in line.replace("(-", "(")
    assert rf"'_{{{other + 1}}} \sin" in symbolic
    assert last_number(result) == pytest.approx(
        before[column] * math.cos(angle) + sign * before[other] * math.sin(angle), abs=5e-4
    )


def test_turned_at_the_first_position_changes_nothing(folder: Path) -> None:
    lines = formulas.turned(reading(folder, query=0), "k", 1, np.array([1.0, 2.0, 3.0, 4.0]), 0.0)
    assert last_number(lines[-1]) == 2.0 and "nan" not in "".join(lines)


def test_score_writes_first_and_last_products(folder: Path, right: Truth) -> None:
    q, k = right.head("q", 1, 1)[QUERY], right.head("k", 1, 1)[KEY]
    symbolic, line, result = formulas.score(reading(folder))
    near(numbers(line), [q[0], k[0], q[1], k[1], q[-1], k[-1]], 2)
    assert last_number(result) == pytest.approx(float(q @ k), rel=2e-4, abs=5.1e-3)
    assert symbolic.startswith(rf"\mathrm{{score}}_{{{name_of(QUERY)},{name_of(KEY)}}}")


def name_of(position: int) -> str:
    return rf"\text{{{TEXT.split()[position - 1]}}}"


def test_scaled_divides_by_the_root_of_d_head(folder: Path, right: Truth) -> None:
    raw = float(right.head("scores", 1, 1)[QUERY, KEY])
    width = right.heads["q"].shape[-1]
    _, line = formulas.scaled(reading(folder))
    near(numbers(line), [raw, raw / math.sqrt(width)], 2)
    assert re.findall(r"\\sqrt\{(\d+)\}", line) == [str(width)]


@pytest.mark.parametrize(("query", "key", "rule"), [(5, 2, r"3 \le 6"), (4, 4, r"5 \le 5"), (2, 5, "6 > 3")])
def test_masked_says_why(folder: Path, query: int, key: int, rule: str) -> None:
    (line,) = formulas.masked(reading(folder, query, key))
    assert plain(line).endswith(rule)
    assert (last_number(line) == -math.inf) == (key > query)


@pytest.mark.parametrize("tau", [1.0, 0.5, 3.0])
def test_weight_writes_exponent_and_sum(folder: Path, right: Truth, tau: float) -> None:
    row = right.head("masked", 1, 1)[QUERY].astype(np.float64)
    s = row / tau
    value = float(np.exp(s[KEY] - s.max()) / np.exp(s - s.max()).sum())
    symbolic, line = formulas.weight(reading(folder), row, value, tau)
    near(numbers(line), [s[KEY], s.max(), np.exp(s - s.max()).sum(), value], [2, 2, 4, 4])
    assert (r"/ \tau" in symbolic) == (tau != 1)


def test_weight_of_a_masked_pair_is_zero(folder: Path, right: Truth) -> None:
    row = right.head("masked", 1, 1)[QUERY].astype(np.float64)
    _, line = formulas.weight(reading(folder, key=7), row, 0.0, 1.0)
    assert r"e^{-\infty}" in line and last_number(line) == 0.0


def test_mixed_and_written_take_their_own_column(folder: Path, right: Truth) -> None:
    w, v = right.head("weights", 1, 1)[QUERY], right.head("v", 1, 1)
    symbolic, line, _ = formulas.mixed(reading(folder), 3)
    near(numbers(line), [w[0], v[0, 3], w[1], v[1, 3], w[QUERY], v[QUERY, 3]], 2)
    assert "v_{j,4}" in symbolic
    before, added = right.layers["resid_pre"][1, QUERY, 11], right.layers["attn_out"][1, QUERY, 11]
    near(numbers(formulas.written(reading(folder), 11)[1]), [before, added, before + added], 3)


@pytest.mark.parametrize(
    "label", ["$x^2$", "\\input{x}", "a}b", "猫", "␣", "10%", "<b>", "&", "x_1", "naïve", "a" * 13]
)
def test_a_word_that_is_no_plain_letters_is_named_by_its_place(label: str) -> None:
    assert tex_name(label, 4) == "5"


def test_a_long_sum_is_shortened_but_a_short_one_is_not() -> None:
    terms = [(1.0, 2.0), (-3.0, 4.0), (5.0, -6.0)]
    assert tex_sum(terms, 0) == r"1 \cdot 2 + (-3) \cdot 4 + 5 \cdot (-6)"
    assert tex_sum([*terms, (7.0, 8.0)], 0) == r"1 \cdot 2 + (-3) \cdot 4 + \dots + 7 \cdot 8"
    assert tex_sum([(1.0, 2.0)], 1) == r"1.0 \cdot 2.0"
