"""What a run has said, as numbers: real records of a small model, resumed runs, ranges that do not jump."""

from __future__ import annotations

import json

import pytest
import torch

from lab import finetune_records as numbers
from lm_core.batches import causal_data
from lm_core.finetune import finetune
from lm_core.finetune_config import FinetuneConfig
from lm_core.learner import make_learner
from lm_core.model import Decoder
from tests import tiny_models


@pytest.fixture(scope="module")
def records() -> list[numbers.Record]:
    torch.manual_seed(1)
    config = FinetuneConfig(
        task="causal", n_steps=12, n_tokens=8, batch_size=2, validate_every=4, clip_norm=0.01, lr=0.01
    )
    text = ["the little bird looked at the old king. " * 20]
    data = causal_data(text, [text[0][:200]], tiny_models.tokenizer(), 8)
    run = finetune(make_learner(Decoder(tiny_models.llama()), config), data, config)
    return [json.loads(json.dumps(record.to_json())) for record in run]


def test_the_series_are_what_the_engine_said(records: list[numbers.Record]) -> None:
    assert [step for step, _ in numbers.training(records)] == list(range(1, 13))
    assert [step for step, _ in numbers.validation(records)] == [0, 4, 8, 12]
    losses = dict(numbers.validation(records))
    assert numbers.best_step(records) == min(losses, key=losses.__getitem__)
    assert numbers.clipped_share(records, 0.01) == 1.0
    assert numbers.clipped_share(records, 1e9) == 0.0
    assert numbers.accuracies(records) == []


def test_the_pace_is_the_harmonic_mean_of_the_last_steps(records: list[numbers.Record]) -> None:
    pace = numbers.pace(records)
    assert pace is not None and (pace.step, pace.n_steps) == (12, 12)
    speeds = [r["tokens_per_second"] for r in records[-10:]]
    assert pace.tokens_per_second == pytest.approx(16 * 10 / sum(16 / speed for speed in speeds))
    assert numbers.pace([]) is None


def test_after_a_resume_the_later_measurement_holds_and_nothing_beyond_it() -> None:
    before = [{"step": s, "loss": 1.0} for s in range(1, 8)]
    again = [{"step": s, "loss": 2.0} for s in range(5, 7)]
    found = numbers.merged(numbers.merged([], before), again)
    assert [(r["step"], r["loss"]) for r in found] == [(s, 1.0 if s < 5 else 2.0) for s in range(1, 7)]


@pytest.mark.parametrize("log", [False, True])
def test_the_axis_stays_while_a_run_learns_and_widens_when_it_must(log: bool) -> None:
    falling = [(step, 5.0 * 0.985**step) for step in range(60)]
    ranges = {numbers.loss_range(falling[:n], log=log) for n in range(1, 61)}
    assert len(ranges) == 1
    low, high = ranges.pop()
    assert low < falling[-1][1] and high > 5.0 and (low > 0 or not log)
    for value in (12.0, 0.001):
        low, high = numbers.loss_range([*falling, (60, value)], log=log)
        assert low <= value <= high


def _probe(step: int, tokens: list[str], p: list[float]) -> numbers.Probe:
    return {"step": step, "next": {"tokens": tokens, "probabilities": p}}


def test_next_tokens_show_the_base_models_favourites_and_the_risen() -> None:
    probes = [
        _probe(0, ["house", "door", "store"], [0.5, 0.3, 0.1]),
        _probe(9, ["house", "door", "store", "ship"], [0.1, 0.2, 0.1, 0.6]),
    ]
    rows = numbers.next_tokens(probes, most=4)
    assert [(row.token, row.before, row.now) for row in rows] == [
        ("house", 0.5, 0.1), ("door", 0.3, 0.2), ("ship", 0.0, 0.6), ("store", 0.1, 0.1),
    ]  # fmt: skip
    assert numbers.next_tokens([{"step": 0}]) == []


def test_a_sentence_that_changes_sides_is_seen() -> None:
    def probe(step: int, p: list[list[float]]) -> numbers.Probe:
        said = {"texts": ["a", "b"], "labels": ["bad", "good"], "true": ["good", "bad"], "probabilities": p}
        return {"step": step, "predictions": said}

    rows = numbers.judged([probe(0, [[0.6, 0.4], [0.9, 0.1]]), probe(5, [[0.2, 0.8], [0.4, 0.6]])])
    assert [(r.before, r.now, r.said, r.was_right, r.is_right) for r in rows] == [
        (0.4, 0.8, "good", False, True), (0.9, 0.4, "good", True, False),
    ]  # fmt: skip
    assert numbers.judged([]) == []
