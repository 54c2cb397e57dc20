"""The doctor: silent on good runs, and right about spoilt ones, made up and real."""

import math
import string
import tomllib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lm_core.batches import CausalData
from lm_core.cli_finetune import SAID, TRY
from lm_core.config import llama_config
from lm_core.data import TokenStream
from lm_core.doctor import FINDINGS, Expected, Finding, History, examine
from lm_core.finetune import finetune
from lm_core.finetune_config import FinetuneConfig
from lm_core.learner import make_learner
from lm_core.model import Decoder
from tests.support import ROOT

FRESH = Expected(math.log(50), math.log(50), True)
BASE = Expected(3.0, math.log(50), False)
N = 200


def _history(
    loss: Callable[[int], float], steps: int, *, norm: float = 0.5, update: float = 1e-3, share: float = 1.0,
    validations: list[tuple[int, float]] | None = None,
) -> History:  # fmt: skip
    """A curve with a little noise, the same every time."""
    noise = np.random.default_rng(0).normal(0, 0.03, steps)
    losses = [loss(i) * (1 + float(noise[i])) for i in range(steps)]
    updates = [(i, update) for i in (1, 2, 3, *range(10, steps + 1, 10))]
    return History(losses, [norm] * steps, [share] * steps, updates, validations or [])


def _over_the_run(history: History, expected: Expected, clip: float = 1.0) -> dict[str, Finding]:
    """The first time each finding shows while the history grows."""
    found: dict[str, Finding] = {}
    for step in range(1, len(history.losses) + 1):
        so_far = History(
            history.losses[:step], history.grad_norms[:step], history.lr_shares[:step],
            [u for u in history.updates if u[0] <= step], [v for v in history.validations if v[0] <= step],
        )  # fmt: skip
        for finding in examine(so_far, expected, N, clip):
            found.setdefault(finding.id, finding)
    return found


def _good(i: int) -> float:
    return 1.5 + 2.4 * math.exp(-i / 60)


OVERFIT = [(0, 4.0), (50, 2.6), (100, 2.7), (150, 2.9), (200, 3.1)]
GOOD_VALIDATIONS = [(50 * k, 1.6 + 2.4 * math.exp(-50 * k / 60)) for k in range(5)]


def test_a_good_run_needs_no_doctor() -> None:
    assert _over_the_run(_history(_good, N, validations=GOOD_VALIDATIONS), FRESH) == {}
    assert _over_the_run(_history(lambda i: 3.1 - 0.004 * i, N), BASE) == {}


@pytest.mark.parametrize(
    ("name", "history", "expected", "clip"),
    [
        ("start_off", _history(lambda i: _good(i) + 2, N), FRESH, 1.0),
        ("start_no_better_than_chance", _history(lambda i: 3.9 - 0.008 * i, N), replace(BASE, loss=3.9), 1.0),
        ("divergence", _history(lambda i: 3.0 + 0.02 * i, N), BASE, 1.0),
        ("lr_too_high", _history(_good, N, update=0.4), FRESH, 1.0),
        ("lr_too_low", _history(lambda i: 3.0, N, update=1e-7), BASE, 1.0),
        ("plateau", _history(lambda i: max(2.0, 3.0 - 0.05 * i), N), BASE, 1.0),
        ("clipping_always", _history(_good, N, norm=7.0), FRESH, 1.0),
        ("overfitting", _history(_good, N, validations=OVERFIT), FRESH, 1.0),
    ],
)  # fmt: skip
def test_each_illness_is_found_with_its_numbers(name: str, history: History, expected: Expected, clip: float) -> None:
    found = _over_the_run(history, expected, clip)
    allowed = {name, "plateau"} if name == "lr_too_low" else {name}  # what stands still stands still
    assert name in found and found.keys() <= allowed
    finding = found[name]
    assert finding.suggestion == FINDINGS[name] and all(math.isfinite(v) for v in finding.evidence.values())
    assert SAID[name].format(**finding.evidence) and TRY[finding.suggestion]


def test_gradients_clipped_while_a_run_begins_are_no_illness() -> None:
    begins = _history(_good, N)
    begins.grad_norms[: N // 3] = [5.0] * (N // 3)
    assert _over_the_run(begins, FRESH) == {}


def test_evidence_is_what_was_seen() -> None:
    found = _over_the_run(_history(_good, N, norm=7.0), FRESH)["clipping_always"]
    assert found.evidence == {"share": 1.0, "norm": 7.0, "clip_norm": 1.0}
    overfit = [(0, 4.0), (50, 2.6), (100, 2.7), (150, 2.9)]
    found = _over_the_run(_history(_good, 150, validations=overfit), FRESH)["overfitting"]
    assert (found.step, found.evidence["best"], found.evidence["best_step"], found.evidence["now"]) == (
        150,
        2.6,
        50,
        2.9,
    )
    assert found.evidence["training"] < 2.0


def test_no_number_comes_first() -> None:
    history = History([2.0, math.nan], [0.5, math.nan], [1.0, 1.0])
    assert [f.id for f in examine(history, FRESH, N, 1.0)] == ["not_a_number"]
    infinite = History([2.0, 2.0], [0.5, math.inf], [1.0, 1.0])
    assert [f.id for f in examine(infinite, FRESH, N, 1.0)] == ["not_a_number"]


def test_one_bad_batch_is_no_illness() -> None:
    history = _history(_good, N)
    history.losses[60] = 30.0
    assert _over_the_run(history, FRESH) == {}


def test_a_learning_rate_that_has_come_down_excuses_standing_still() -> None:
    history = _history(lambda i: 2.0, 150, share=0.1)
    assert "plateau" not in _over_the_run(history, replace(BASE, loss=2.0))
    assert "plateau" in _over_the_run(_history(lambda i: 2.0, 150), replace(BASE, loss=2.0))


def _run(**changes: Any) -> set[str]:
    """Findings of a real run on a phrase that repeats, with a little noise in it."""
    torch.manual_seed(0)
    shape = llama_config(vocab_size=50, d_model=24, n_layers=2, n_heads=3, d_mlp=32, context_length=16)
    config = FinetuneConfig(
        task="causal", n_steps=120, batch_size=8, n_tokens=12, warmup=5, lr=3e-3, validate_every=30, from_scratch=True,
        precision="float32", clip_norm=5.0,
    )  # fmt: skip
    config = replace(config, **changes)
    random = np.random.default_rng(1)
    ids = np.where(random.random(3000) < 0.2, random.integers(1, 50, 3000), np.tile(np.arange(1, 11), 300))
    data = CausalData(TokenStream(ids[:2400]), TokenStream(ids[2400:]), 12)
    learner = make_learner(Decoder(shape), config)
    return {finding.id for record in finetune(learner, data, config) for finding in record.findings}


def test_real_runs_good_and_spoilt() -> None:
    assert _run() == set()
    assert "lr_too_low" in _run(lr=1e-8)
    assert "lr_too_high" in _run(lr=3.0, warmup=0)
    assert "divergence" in _run(lr=1.0, warmup=0, optimizer="momentum", schedule="constant", clip_norm=1e6)
    assert "clipping_always" in _run(clip_norm=0.01)


def test_a_real_run_that_learns_by_heart() -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(1)
    shape = llama_config(vocab_size=50, d_model=48, n_layers=2, n_heads=3, d_mlp=64, context_length=16)
    data = CausalData(TokenStream(random.integers(1, 50, 200)), TokenStream(random.integers(1, 50, 200)), 12)
    config = FinetuneConfig(
        task="causal", n_steps=100, batch_size=8, n_tokens=12, lr=1e-2, validate_every=10, from_scratch=True,
        precision="float32", clip_norm=5.0,
    )  # fmt: skip
    records = finetune(make_learner(Decoder(shape), config), data, config)
    found = {finding.id: finding for record in records for finding in record.findings}
    assert set(found) == {"overfitting"}
    assert found["overfitting"].evidence["training"] < found["overfitting"].evidence["best"]


def test_every_finding_and_suggestion_has_its_words_in_both_languages() -> None:
    """Placeholders are the evidence, no more: a page can fill them in."""
    evidence = {
        "start_off": {"start", "expected"}, "start_no_better_than_chance": {"start", "chance"},
        "not_a_number": {"loss", "grad_norm"}, "divergence": {"start", "now"}, "lr_too_high": {"update", "limit"},
        "lr_too_low": {"fall", "update", "limit"}, "plateau": {"fall", "steps", "loss"},
        "clipping_always": {"share", "norm", "clip_norm"}, "overfitting": {"best", "best_step", "now", "training"},
    }  # fmt: skip
    assert evidence.keys() == FINDINGS.keys() == SAID.keys() and set(FINDINGS.values()) == TRY.keys()
    for language in ("en", "zh"):
        words = tomllib.loads((ROOT / "assets" / "strings" / f"{language}.toml").read_text(encoding="utf-8"))["doctor"]
        assert words["finding"].keys() == FINDINGS.keys() and words["suggestion"].keys() == TRY.keys()
        for name, sentence in words["finding"].items():
            places = {place for _, place, _, _ in string.Formatter().parse(sentence) if place}
            assert places and places <= evidence[name], (language, name)
