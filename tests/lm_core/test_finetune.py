"""Fine-tuning: transformers' losses, honest under accumulation, the same bits after a stop, safe from NaN."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

from lm_core import device as devices
from lm_core.adapters import learned
from lm_core.batches import Batch, CausalData, LabelledData
from lm_core.checkpoint import load_pretrained
from lm_core.data import TokenStream
from lm_core.finetune import finetune, load_best, validate
from lm_core.finetune_config import FinetuneConfig
from lm_core.finetune_record import FinetuneRecord, Sample
from lm_core.learner import Learner, make_learner, pool
from lm_core.training_state import find_state
from lm_core.training_step import accumulate, next_token_loss
from tests import tiny_models
from tests.support import one_thread

CAUSAL = FinetuneConfig(
    task="causal", n_steps=12, batch_size=3, n_tokens=8, warmup=2, lr=5e-3, validate_every=5, save_every=4,
    precision="float32",
)  # fmt: skip
CLASSES = replace(CAUSAL, task="classification")
LEARNS: list[dict[str, Any]] = [
    {"learns": "whole"},
    {"learns": "whole", "optimizer": "muon", "accumulate": 2},
    {"learns": "last_layers", "n_last_layers": 1, "optimizer": "momentum", "lr": 1e-2},
    {"learns": "lora", "lora_rank": 2, "lora_targets": ("w_q", "w_in")},
    {"learns": "soft_prompt", "n_virtual": 3, "lr": 0.05},
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Bit-equality is promised for a fixed thread count."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("llama"), tiny_models.llama(d_model=24))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("bert"), tiny_models.bert())


def _text_data() -> CausalData:
    phrase = np.array([0, 65, 83, 99, 83, 112, 77], dtype=np.int32)
    return CausalData(TokenStream(np.tile(phrase, 30)), TokenStream(np.tile(phrase, 5)), 8)


def _label_data(n: int = 24) -> LabelledData:
    """Texts of 2 to 7 tokens; the class is whether token 5 or token 6 is in it."""
    random = np.random.default_rng(0)

    def rows(n: int) -> tuple[tuple[list[int], int], ...]:
        return tuple(
            ([*random.integers(20, 60, 1 + i % 6).tolist(), 5 + i % 2, int(random.integers(20, 60))], i % 2)
            for i in range(n)
        )

    return LabelledData(rows(n), rows(10), ("bad", "good"))


def _learner(folder: Path, config: FinetuneConfig) -> Learner:
    model = load_pretrained(folder, trainable=True).model
    return make_learner(model, config, 2 if config.task == "classification" else 0)


def _data(config: FinetuneConfig) -> CausalData | LabelledData:
    return _text_data() if config.task == "causal" else _label_data()


def _what_matters(records: list[FinetuneRecord]) -> list[object]:
    """Everything but the clock, the memory and what was saved when."""
    clock = {"seconds": 0.0, "seconds_left": None, "tokens_per_second": 0.0, "peak_memory": None, "saved": False}
    return [replace(record, **clock) for record in records]  # type: ignore[arg-type]


def _state(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.named_parameters()}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# The losses


def test_losses_and_gradients_equal_those_of_transformers(folder: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    record = list(islice(finetune(_learner(folder, CAUSAL), _text_data(), CAUSAL), 2))[1]
    batch = _text_data().batch(0, CAUSAL.seed, CAUSAL.batch_size)
    labels = torch.cat([batch.token_ids, batch.targets[:, -1:]], dim=1)
    loss = theirs(labels, labels=labels).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1e9)
    assert record.loss == pytest.approx(loss.item(), rel=1e-5)
    assert record.grad_norm == pytest.approx(norm.item(), rel=1e-4)
    assert record.n_targets == batch.targets.numel()


def test_a_classifier_equals_that_of_transformers_at_every_length(folder: Path) -> None:
    config = replace(CLASSES, batch_size=8)
    learner = _learner(folder, config)
    with torch.no_grad():
        learner.head.weight.normal_(generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=2)
    theirs.config.pad_token_id = 0
    theirs.score.weight.data.copy_(learner.head.weight)  # type: ignore[union-attr]
    batch = _label_data().batch(0, 1, 8)
    assert len(set(batch.lengths.tolist())) > 1
    mask = torch.arange(batch.token_ids.shape[1]) < batch.lengths[:, None]
    expected = theirs(batch.token_ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(learner(batch.token_ids, batch.lengths), expected, rtol=1e-4, atol=1e-5)


def test_an_encoder_classifies_as_transformers_does(bert: Path) -> None:
    config = replace(CLASSES, pooling="first")
    learner = _learner(bert, config)
    with torch.no_grad():
        learner.head.weight.normal_(generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(bert, dtype=torch.float32, num_labels=2)
    theirs.classifier.load_state_dict(learner.head.state_dict())  # type: ignore[union-attr]
    theirs.bert.pooler.dense.load_state_dict(learner.pooler.state_dict())  # type: ignore[union-attr]
    theirs.eval()
    batch = _label_data().batch(0, 1, 8)
    mask = torch.arange(batch.token_ids.shape[1]) < batch.lengths[:, None]
    expected = theirs(batch.token_ids, attention_mask=mask.long()).logits
    torch.testing.assert_close(learner(batch.token_ids, batch.lengths), expected, rtol=1e-4, atol=1e-5)
    records = list(finetune(learner, _label_data(), replace(config, n_steps=3)))
    assert records[-1].loss is not None and records[-1].step == 3


def test_what_fills_a_row_up_changes_nothing(folder: Path, bert: Path) -> None:
    for place, poolings in ((folder, ("last", "mean")), (bert, ("first", "mean"))):
        for pooling in poolings:
            learner = _learner(place, replace(CLASSES, pooling=pooling))  # type: ignore[arg-type]
            torch.nn.init.normal_(learner.head.weight)  # type: ignore[union-attr]
            row, lengths = torch.tensor([[7, 8, 9]]), torch.tensor([3])
            longer = torch.tensor([[7, 8, 9, 50, 60]])
            torch.testing.assert_close(learner(longer, lengths), learner(row, lengths), rtol=1e-5, atol=1e-6)


def test_pooling_with_a_soft_prompt_reads_the_text_only(folder: Path) -> None:
    config = replace(CLASSES, learns="soft_prompt", n_virtual=3)
    batch = _label_data().batch(0, 1, 6)
    for pooling in ("last", "mean"):
        learner = _learner(folder, replace(config, pooling=pooling))  # type: ignore[arg-type]
        torch.nn.init.normal_(learner.head.weight)  # type: ignore[union-attr]
        ids = torch.cat([torch.tensor(learner.virtual_ids).expand(6, -1), batch.token_ids], dim=1)
        hidden = learner.body.hidden(ids)[:, 3:]
        expected = learner.head(pool(hidden, batch.lengths, pooling))  # type: ignore[misc]
        torch.testing.assert_close(learner(batch.token_ids, batch.lengths), expected)


def test_the_shown_loss_is_honest_under_accumulation() -> None:
    """Three batches of 1, 7 and 2 targets give the loss and the gradient of one batch of 10, not the mean of means."""
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(10, 4, generator=random), torch.randint(0, 3, (10,), generator=random)
    weight = torch.randn(3, 4, generator=random, requires_grad=True)
    whole = F.cross_entropy(x @ weight.T, y)
    whole.backward()
    wanted, weight.grad = weight.grad, None
    parts = [slice(0, 1), slice(1, 8), slice(8, 10)]
    losses = [lambda part=part: F.cross_entropy(x[part] @ weight.T, y[part]) for part in parts]
    means = [loss().item() for loss in losses]
    shown = accumulate(losses, [1, 7, 2])
    assert shown.item() == pytest.approx(whole.item(), rel=1e-6)
    assert abs(sum(means) / 3 - whole.item()) > 0.01
    torch.testing.assert_close(weight.grad, wanted)
    with pytest.raises(ValueError, match="no batch"):
        accumulate([], [])


@pytest.mark.parametrize("config", [CAUSAL, CLASSES], ids=["causal", "classes"])
def test_accumulating_is_a_larger_batch(folder: Path, config: FinetuneConfig) -> None:
    """Two batches of three take the very step that their six rows together would, and show the same loss."""
    small = replace(config, accumulate=2, n_steps=1)
    learner = _learner(folder, small)
    record = list(finetune(learner, _data(small), small))[1]
    batches = [_data(small).batch(i, small.seed, 3) for i in range(2)]
    reference = _learner(folder, small)
    losses = [(reference.loss(reference(b.token_ids, b.lengths), b.targets), b.n_targets) for b in batches]
    total = sum(n for _, n in losses)
    mean = sum(loss * n for loss, n in losses) / total  # type: ignore[misc]
    mean.backward()
    assert record.loss == pytest.approx(mean.item(), rel=1e-6)
    assert record.n_targets == total
    norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), 1e9)
    assert record.grad_norm == pytest.approx(norm.item(), rel=1e-5)


def test_validation_counts_every_token_once(folder: Path) -> None:
    learner, data = _learner(folder, CAUSAL), _text_data()
    data = replace(data, validation=TokenStream(data.validation.token_ids[:30]))  # 29 targets: 3 windows of 8, one of 5
    ids = torch.tensor(data.validation.token_ids, dtype=torch.int64)
    nats, n = 0.0, 0
    for start in range(0, 29, 8):
        window = ids[start : start + 9][None]
        nats += next_token_loss(learner.body(window[:, :-1]), window[:, 1:]).item() * (window.shape[1] - 1)
        n += window.shape[1] - 1
    found = validate(learner, data, CAUSAL)
    assert found.n_targets == n == 29
    assert found.loss == pytest.approx(nats / n, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(nats / n), rel=1e-5)


# The loop


@pytest.mark.parametrize("settings", LEARNS, ids=lambda s: s["learns"])
@pytest.mark.parametrize("task", ["causal", "classification"])
def test_the_loss_falls_and_what_is_frozen_stays(folder: Path, task: Any, settings: dict[str, Any]) -> None:
    config = replace(CAUSAL, task=task, n_steps=40, batch_size=8, **({"lr": 2e-2} | settings))
    learner = _learner(folder, config)
    names, before = set(learned(learner)), _state(learner)
    records = list(finetune(learner, _data(config), config))
    first, last = records[1].loss, records[-1].loss
    assert first is not None and last is not None and last < 0.95 * first
    assert [r.step for r in records] == list(range(41))
    assert [r.step for r in records if r.validation] == [0, *range(5, 41, 5)]
    after = _state(learner)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved == names


def test_head_only_moves_the_head_only(folder: Path) -> None:
    config = replace(CLASSES, learns="head", n_steps=40, batch_size=8, lr=0.1)
    learner = _learner(folder, config)
    before = _state(learner)
    records = list(finetune(learner, _label_data(), config))
    assert records[1].loss == pytest.approx(math.log(2), abs=1e-6)  # a fresh head knows nothing
    assert records[-1].loss is not None and records[-1].loss < 0.6
    assert [n for n, p in _state(learner).items() if not torch.equal(p, before[n])] == ["head.weight"]


def test_from_scratch_forgets_the_model_and_starts_at_ln_v(folder: Path) -> None:
    config = replace(CAUSAL, from_scratch=True, n_steps=1)
    one, other = _learner(folder, config), _learner(folder, config)
    assert _same(_state(one), _state(other))
    assert not torch.equal(one.body.embed_tokens.weight, _learner(folder, CAUSAL).body.embed_tokens.weight)
    records = list(finetune(one, _text_data(), config))
    assert records[1].loss == pytest.approx(math.log(290), rel=0.02)


def test_records_say_what_happened(folder: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    def sampler() -> list[Sample]:
        calls.append(1)
        return [Sample("a", "ab")]

    config = replace(CLASSES, sample_every=5)
    records = list(finetune(_learner(folder, config), _label_data(), config, folder=tmp_path, sampler=sampler))
    assert [r.step for r in records if r.samples] == [0, 5, 10, 12] and len(calls) == 4
    assert [r.step for r in records if r.saved] == [0, 4, 8, 12]
    assert [r.step for r in records if r.update is not None] == [1, 2, 3, 10]
    assert all(r.tokens_per_second > 0 and r.seconds_left is not None for r in records[1:])
    assert records[-1].seconds_left == 0.0
    assert records[-1].lr == pytest.approx(config.lr * 0.13, rel=0.2)  # at the foot of the cosine
    report = records[-1].validation.report if records[-1].validation else None
    assert report is not None and report.n_examples == 10
    lines = [json.loads(json.dumps(r.to_json(), allow_nan=False)) for r in records]
    assert lines[5]["validation"]["report"]["confusion"] == [
        list(row) for row in records[5].validation.report.confusion
    ]  # type: ignore[union-attr]
    assert "loss" not in lines[0] and lines[1]["loss"] == records[1].loss


def test_the_best_checkpoint_is_kept(folder: Path, tmp_path: Path) -> None:
    """A learning rate that ruins the model: the best validation is an early one, and comes back whole."""
    config = replace(CAUSAL, n_steps=20, lr=0.5, warmup=0, schedule="constant", clip_norm=100.0, validate_every=2)
    learner = _learner(folder, config)
    records = list(finetune(learner, _text_data(), config, folder=tmp_path))
    losses = {r.step: r.validation.loss for r in records if r.validation}
    best = min(losses, key=losses.__getitem__)
    assert losses[20] > losses[best] + 0.1
    assert [r.step for r in records if r.best][-1] == best
    assert load_best(learner, tmp_path) == best
    assert validate(learner, _text_data(), config).loss == pytest.approx(losses[best], rel=1e-6)


def test_classes_are_judged_by_accuracy_first(folder: Path) -> None:
    records = list(finetune(_learner(folder, CLASSES), _label_data(), replace(CLASSES, n_steps=30, validate_every=1)))
    seen = [r for r in records if r.validation is not None and r.validation.report is not None]
    best = -1.0
    for record in seen:
        accuracy = record.validation.report.accuracy  # type: ignore[union-attr]
        assert record.best or accuracy <= best
        best = max(best, accuracy)


# Stopping and going on


@pytest.mark.parametrize("settings", LEARNS, ids=lambda s: s["learns"])
@pytest.mark.parametrize("stop_after", [4, 6])  # at a save, and two steps past it
def test_a_resumed_run_is_the_same_run_to_the_last_bit(
    folder: Path, tmp_path: Path, settings: dict[str, Any], stop_after: int
) -> None:
    config = replace(CAUSAL if "n_virtual" in settings else CLASSES, **settings)
    whole = _learner(folder, config)
    records = list(finetune(whole, _data(config), config, folder=tmp_path / "whole"))
    run = finetune(_learner(folder, config), _data(config), config, folder=tmp_path / "run")
    first = list(islice(run, stop_after + 1))
    run.close()  # saves this very step
    resumed = _learner(folder, config)
    rest = list(finetune(resumed, _data(config), config, folder=tmp_path / "run", resume=True))
    assert rest[0].step == stop_after + 1
    assert _what_matters(first + rest) == _what_matters(records)
    assert _same(_state(resumed), _state(whole))
    assert rest[0].seconds > first[-1].seconds
    for name in ("state", "best"):
        ours, theirs = (json.loads((tmp_path / f / name / "state.json").read_text()) for f in ("run", "whole"))
        for facts in (ours, theirs):
            facts["progress"].pop("seconds")
            for measured in ("seconds", "seconds_left", "tokens_per_second", "peak_memory"):
                (facts.get("record") or {}).pop(measured, None)
        assert ours == theirs


def test_a_killed_run_goes_on_from_its_last_save(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = list(finetune(_learner(folder, CAUSAL), _text_data(), CAUSAL))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    run = finetune(_learner(folder, CAUSAL), _text_data(), CAUSAL, folder=tmp_path)
    list(islice(run, 7))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lm_core.finetune.apply_step", die)  # in the middle of step 7
        next(run)
    rest = list(finetune(_learner(folder, CAUSAL), _text_data(), CAUSAL, folder=tmp_path, resume=True))
    assert _what_matters(rest) == _what_matters(records[5:])  # from the save of step 4


def test_the_same_seed_gives_the_same_curve_and_another_does_not(folder: Path) -> None:
    curves = []
    for seed in (1, 1, 2):
        config = replace(CLASSES, learns="lora", seed=seed)
        curves.append([r.loss for r in finetune(_learner(folder, config), _label_data(), config)])
    assert curves[0] == curves[1] != curves[2]


def test_nothing_is_overwritten_and_no_stranger_resumed(folder: Path, tmp_path: Path) -> None:
    def run(config: FinetuneConfig, data: CausalData, resume: bool) -> list[FinetuneRecord]:
        return list(finetune(_learner(folder, config), data, config, folder=tmp_path, resume=resume))

    run(CAUSAL, _text_data(), resume=False)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="already holds a run"):
        run(CAUSAL, _text_data(), resume=False)
    with pytest.raises(ValueError, match=r"the saved run has lr = 0.005, this one 0.5"):
        run(replace(CAUSAL, lr=0.5), _text_data(), resume=True)
    with pytest.raises(ValueError, match="learned from other data"):
        run(CAUSAL, replace(_text_data(), validation=_text_data().train), resume=True)
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert run(CAUSAL, _text_data(), resume=True) == []
    assert [r.step for r in run(replace(CAUSAL, n_steps=14), _text_data(), resume=True)] == [13, 14]


def test_resume_without_a_run_begins_one(folder: Path, tmp_path: Path) -> None:
    records = finetune(_learner(folder, CAUSAL), _text_data(), CAUSAL, folder=tmp_path / "new", resume=True)
    assert next(records).step == 0
    assert find_state(tmp_path / "new" / "state") is not None


# What goes wrong


def test_a_loss_that_is_no_number_ends_the_run_before_it_spoils_the_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = _learner(folder, CAUSAL)
    run = finetune(learner, _text_data(), CAUSAL, folder=tmp_path)
    list(islice(run, 6))
    before = _state(learner)
    monkeypatch.setattr(Learner, "loss", lambda self, logits, targets: logits.sum() * math.nan)
    records = list(run)
    assert [r.step for r in records] == [6] and records[0].stopped == "not_a_number"
    assert [f.id for f in records[0].findings] == ["not_a_number"] and records[0].findings[0].suggestion == "lower_lr"
    assert records[0].to_json()["loss"] is None  # JSON knows no NaN
    assert _same(_state(learner), before)
    monkeypatch.undo()
    assert load_best(learner, tmp_path) == 5
    assert all(torch.isfinite(p).all() for p in learner.parameters())


def test_a_learning_rate_of_ten_is_noticed(folder: Path) -> None:
    """Nothing forbids it; the doctor says what it does."""
    for optimizer in ("adamw", "sgd"):
        config = replace(CAUSAL, lr=10.0, n_steps=40, optimizer=optimizer, clip_norm=1.0, warmup=0)
        records = list(finetune(_learner(folder, config), _text_data(), config))
        found = {finding.id: finding for record in records for finding in record.findings}
        assert found["lr_too_high"].suggestion == "lower_lr"
        assert found["lr_too_high"].evidence["update"] > 0.1
        assert len(found) == sum(len(record.findings) for record in records)  # each is said once


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        (replace(CAUSAL, batch_size=64), "text", "64 windows .*, but there are 25: set batch_size to 25"),
        (replace(CAUSAL, batch_size=13, accumulate=2), "text", r"26 windows \(13 × accumulate 2\), but .* 25: .* 12"),
        (replace(CLASSES, batch_size=25), "labels", "a step learns from 25 texts .*, but there are 24"),
        (replace(CAUSAL, batch_size=3), "labels", "the data is labelled, the task causal"),
        (replace(CLASSES, batch_size=3), "text", "the data is plain text, the task classification"),
        (replace(CAUSAL, learns="soft_prompt", n_virtual=33), "text", "8 tokens, .* room for 7: set n_tokens to 7"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(
    folder: Path, tmp_path: Path, config: FinetuneConfig, data: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        next(
            finetune(
                _learner(folder, config),
                _text_data() if data == "text" else _label_data(),
                config,
                folder=tmp_path / "run",
            )
        )
    assert not (tmp_path / "run").exists()


def test_models_that_cannot_do_the_task(folder: Path, bert: Path) -> None:
    with pytest.raises(ValueError, match="an encoder sees what follows"):
        _learner(bert, CAUSAL)
    with pytest.raises(ValueError, match="the first position of a causal model has seen nothing"):
        _learner(folder, replace(CLASSES, pooling="first"))
    with pytest.raises(ValueError, match="at least two classes, not 1"):
        make_learner(load_pretrained(folder, trainable=True).model, CLASSES, 1)
    with pytest.raises(ValueError, match="this one is an encoder"):
        _learner(bert, replace(CLASSES, learns="soft_prompt", pooling="first"))


def test_mixed_precision_is_asked_for_as_configured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool | None] = []
    real = devices.autocast
    monkeypatch.setattr(
        devices, "autocast", lambda device, enabled=None: (asked.append(enabled), real(device, enabled))[1]
    )
    for precision in ("auto", "float32", "bfloat16"):
        asked.clear()
        config = replace(CAUSAL, n_steps=1, precision=precision)  # type: ignore[arg-type]
        list(finetune(_learner(folder, config), _text_data(), config))
        assert set(asked) == {{"auto": None, "float32": False, "bfloat16": True}[precision]}


def test_a_batch_moves_whole() -> None:
    batch = Batch(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([3, 1]), torch.tensor([1, 0]), 4, 2)
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in (moved.token_ids, moved.lengths, moved.targets)} == {"meta"}
    assert (moved.n_tokens, moved.n_targets) == (4, 2)
