"""The first stage that differs, found by hand-made differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab import divergence
from lab.divergence import OF_LAYER, of_sampling, of_stage, of_traces

RANDOM = np.random.default_rng(0)


def trace() -> dict[str, np.ndarray]:
    """Two layers, two heads, three tokens, four numbers a head."""
    found = {name: RANDOM.normal(size=(2, 2, 3, 4)).astype(np.float32) for name in OF_LAYER}
    for name in ("scores", "scaled", "masked", "weights"):
        found[name] = RANDOM.normal(size=(2, 2, 3, 3)).astype(np.float32)
    found["masked"][..., np.triu(np.ones((3, 3), bool), 1)] = -np.inf
    return found | {"logits": RANDOM.normal(size=(3, 5)).astype(np.float32)}


def test_nothing_differs_but_for_rounding() -> None:
    right = trace()
    yours = {name: values * np.float32(1 + 1e-6) for name, values in right.items()}
    assert of_traces(yours, right) is None


@pytest.mark.parametrize("stage", OF_LAYER)
def test_the_first_stage_of_the_first_layer_is_named(stage: str) -> None:
    right = trace()
    yours = {name: values.copy() for name, values in right.items()}
    later = OF_LAYER[OF_LAYER.index(stage) :]
    for name in later:  # what comes after differs too
        yours[name][1, 1, 2, 0] += 3
    yours["logits"] += 1
    found = of_traces(yours, right)
    assert found is not None
    assert (found.layer, found.stage, found.cell, found.n) == (1, stage, (1, 2, 0), 1)
    assert found.yours - found.reference == pytest.approx(3, abs=1e-5)


def test_logits_alone() -> None:
    right = trace()
    found = of_traces(right | {"logits": right["logits"] + np.float32(1)}, right)
    assert found is not None and (found.layer, found.stage) == (None, "logits")


def test_the_kind_of_a_difference() -> None:
    right = np.array([[1.0, -np.inf], [2.0, 3.0]])
    cases = {
        "nan": [[np.nan, -np.inf], [2.0, 3.0]], "opened": [[1.0, -1e4], [2.0, 9.0]],
        "closed": [[-np.inf, -np.inf], [2.0, 3.0]], "number": [[1.0, -np.inf], [2.0, 3.5]],
    }  # fmt: skip
    where = {"nan": (0, 0), "opened": (0, 1), "closed": (0, 0), "number": (1, 1)}
    for kind, yours in cases.items():
        found = of_stage("masked", 0, np.array(yours), right)
        assert found is not None and (found.kind, found.cell) == (kind, where[kind])


def test_a_factor_is_found_only_where_it_is_all() -> None:
    right = RANDOM.normal(size=(3, 4))
    found = of_stage("scaled", 0, right * math.sqrt(32), right)
    assert found is not None and found.factor == pytest.approx(math.sqrt(32), rel=1e-5)
    other = right * 2
    other[0, 0] += 0.1
    found = of_stage("scaled", 0, other, right)
    assert found is not None and found.factor is None


def test_a_stage_of_sampling() -> None:
    right = np.tile(np.array([0.0, 1.0, -np.inf]), (6, 1))
    yours = right.copy()
    yours[3:, 0] = -np.inf  # top-k and what follows
    found = of_sampling(yours, right)
    assert found is not None and (found.stage, found.cell, found.kind) == ("top_k", (0,), "closed")
    assert of_sampling(right, right) is None and divergence.OF_SAMPLING[0] == "model"
