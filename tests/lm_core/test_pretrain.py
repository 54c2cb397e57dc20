"""Learning from nothing: the loss falls, a resumed run is the same run to the last bit, a killed save loses nothing."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lm_core import device as devices
from lm_core.config import llama_config
from lm_core.data import TokenStream
from lm_core.model import Decoder
from lm_core.optim import (
    build_optimizers,
    warmup_stable_decay,
)
from lm_core.pretrain import PretrainConfig, Record, next_token_loss, pretrain, train_step, validation_loss
from lm_core.training_state import find_state, load_state, save_state
from tests.support import one_thread

CONFIG = PretrainConfig(
    n_steps=12, batch_size=3, n_tokens=8, warmup=2, lr=1e-2, validate_every=5, validation_batches=2, save_every=4
)


@pytest.fixture(autouse=True)
def _float32_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bit-equality is promised for float32 and a fixed thread count: no bf16, whatever this machine measures."""
    monkeypatch.setattr(devices, "bf16_speedup", lambda _: 0.0)
    with one_thread():
        yield


def _model(seed: int = 1) -> Decoder:
    config = llama_config(vocab_size=13, d_model=12, n_layers=2, n_heads=3, n_kv_heads=1, d_mlp=20, context_length=8)
    return Decoder(config).init_weights(torch.Generator().manual_seed(seed))


def _stream() -> TokenStream:
    """A short phrase over and over: easy to learn."""
    return TokenStream(np.tile(np.array([0, 5, 3, 9, 3, 12, 7], dtype=np.uint16), 40))


def _run(
    config: PretrainConfig, folder: Path | None = None, model: Decoder | None = None
) -> tuple[Decoder, list[Record]]:
    model = _model() if model is None else model
    return model, list(pretrain(model, _stream(), _stream(), config, folder))


def _what_matters(records: list[Record]) -> list[tuple[object, ...]]:
    """Everything but the clock."""
    return [(r.step, r.loss, r.grad_norm, r.lr_share, r.validation_loss) for r in records]


def _equal(one: Decoder, other: Decoder) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# The loop


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_loss_falls_on_a_phrase_that_repeats(optimizer: str) -> None:
    config = replace(CONFIG, n_steps=60, optimizer=optimizer, lr=2e-2, muon_lr=2e-2, batch_size=8)
    model, records = _run(config)
    assert records[0].loss == pytest.approx(math.log(13), rel=0.02)
    assert records[-1].loss < 0.2  # only the token after a 3 in the first places needs guessing
    assert records[-1].validation_loss is not None
    assert records[-1].validation_loss == pytest.approx(validation_loss(model, _stream(), config))
    assert [r.step for r in records] == list(range(1, 61))
    assert [r.step for r in records if r.validation_loss is not None] == [*range(5, 61, 5)]
    assert all(r.tokens_per_second > 0 and r.seconds > 0 for r in records)
    assert [r.lr_share for r in records] == [warmup_stable_decay(s, 60, 2, 0.02) for s in range(60)]


def test_the_first_loss_is_that_of_the_first_batch() -> None:
    inputs, targets = _stream().batch(0, CONFIG.seed, CONFIG.batch_size, CONFIG.n_tokens)
    loss = F.cross_entropy(_model()(inputs).transpose(1, 2), targets).item()
    assert _run(replace(CONFIG, n_steps=1))[1][0].loss == pytest.approx(loss, rel=1e-6)


def test_the_loss_is_the_mean_negative_log_probability_of_the_targets() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[4, 0, 0], [1, 4, 2]])
    p = logits.softmax(dim=-1)
    by_hand = [-math.log(p[b, t, targets[b, t]].item()) for b in range(2) for t in range(3)]
    assert next_token_loss(logits, targets).item() == pytest.approx(sum(by_hand) / 6, rel=1e-6)


def test_a_training_step_clips_the_gradient_and_reports_the_norm_before() -> None:
    inputs, targets = _stream().batch(0, 1, 3, 8)
    reference = _model()
    next_token_loss(reference(inputs), targets).backward()
    gradients = [p.grad for p in reference.parameters()]
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients if g is not None))
    model = _model()
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    _, reported = train_step(model, [sgd], inputs, targets, clip_norm=0.1)
    assert norm > 0.1
    assert reported.item() == pytest.approx(norm, rel=1e-5)
    steps = [(old - new) for old, new in zip(reference.parameters(), model.parameters(), strict=True)]
    assert math.sqrt(sum(s.square().sum().item() for s in steps)) == pytest.approx(0.1, rel=1e-4)
    assert all(p.grad is None for p in model.parameters())


def test_a_run_that_diverges_says_so_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        _run(replace(CONFIG, n_steps=200, optimizer="adamw", lr=1e18, warmup=0, save_every=1), tmp_path / "state")
    if find_state(tmp_path / "state") is not None:
        facts = load_state(tmp_path / "state", model := _model(), _build(model))
        assert facts["step"] >= 1


def _build(model: Decoder, kind: str = "adamw") -> list[torch.optim.Optimizer]:
    return build_optimizers(model, kind=kind, lr=1e-2, muon_lr=1e-2, weight_decay=0.1, betas=(0.9, 0.95))


def test_weights_that_are_not_numbers_stop_the_run_before_anything_is_saved(tmp_path: Path) -> None:
    model = _model()
    with torch.no_grad():
        model.blocks[0].mlp.w_in.weight[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match=r"the loss is nan .* at step 0"):
        _run(replace(CONFIG, save_every=1), tmp_path / "state", model)
    assert find_state(tmp_path / "state") is None


def test_an_infinite_gradient_under_a_finite_loss_stops_the_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clipping by an infinite norm makes every weight NaN, one step before the loss shows it."""
    real = torch.nn.utils.clip_grad_norm_

    def poisoned(parameters: Iterator[torch.nn.Parameter], max_norm: float) -> torch.Tensor:
        parameters = list(parameters)  # type: ignore[assignment]
        next(iter(parameters)).grad.fill_(math.inf)  # type: ignore[union-attr]
        return real(parameters, max_norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", poisoned)
    with pytest.raises(FloatingPointError, match="gradient norm inf at step 0"):
        _run(replace(CONFIG, save_every=1), tmp_path / "state")
    assert find_state(tmp_path / "state") is None


# Resume


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop_after", [4, 6])  # at a save, and two steps past it
def test_a_resumed_run_is_the_same_run_to_the_last_bit(tmp_path: Path, optimizer: str, stop_after: int) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    whole, records = _run(config)
    run = pretrain(_model(), _stream(), _stream(), config, tmp_path / "state")
    for _ in range(stop_after):
        next(run)
    run.close()
    resumed, rest = _run(config, tmp_path / "state", _model(seed=99))  # other weights: all must come from the state
    assert rest[0].step == 5
    assert _what_matters(rest) == _what_matters(records)[4:]
    assert _equal(resumed, whole)
    assert not _equal(resumed, _model())


def test_a_finished_run_has_nothing_left_to_do_and_can_be_lengthened(tmp_path: Path) -> None:
    model, _ = _run(CONFIG, tmp_path / "state")
    again, nothing = _run(CONFIG, tmp_path / "state", _model(seed=99))
    assert nothing == []
    assert _equal(model, again)
    assert [r.step for r in _run(replace(CONFIG, n_steps=14), tmp_path / "state")[1]] == [13, 14]


def test_time_goes_on_counting(tmp_path: Path) -> None:
    _, first = _run(replace(CONFIG, n_steps=4), tmp_path / "state")
    _, second = _run(CONFIG, tmp_path / "state")
    assert second[0].seconds > first[-1].seconds


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_state_comes_back_whole(tmp_path: Path, kind: str) -> None:
    model = _model()
    optimizers = _build(model, kind)
    for step in range(3):
        train_step(model, optimizers, *_stream().batch(step, 1, 3, 8), clip_norm=1.0)
    save_state(tmp_path / "state", model, optimizers, {"step": 3, "name": "名字"})
    other = _model(seed=9)
    others = _build(other, kind)
    assert load_state(tmp_path / "state", other, others) == {"step": 3, "name": "名字"}
    assert _equal(model, other)
    for ours, theirs in zip(optimizers, others, strict=True):
        a, b = ours.state_dict()["state"], theirs.state_dict()["state"]
        assert a.keys() == b.keys() and len(a) > 0
        for index, slots in a.items():
            assert slots.keys() == b[index].keys()
            for slot, value in slots.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(b[index][slot])), slot
    files = {p.name for p in (tmp_path / "state").iterdir()}
    assert files == {"state.json", "state.safetensors"}  # and no pickle


@pytest.mark.parametrize("killed_at", ["safetensors", "json", "first rename", "second rename"])
def test_a_save_that_is_killed_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str) -> None:
    """Wherever a save is cut short, the run goes on from the last whole state and ends with the same bits."""
    whole, records = _run(CONFIG)
    folder = tmp_path / "state"
    run = pretrain(_model(), _stream(), _stream(), CONFIG, folder)
    for _ in range(4):
        next(run)  # the state of step 4 is saved; the kill comes while that of step 8 is
    with monkeypatch.context() as patch:
        _kill(patch, killed_at)
        with pytest.raises(KeyboardInterrupt, match="killed"):
            list(run)
    assert folder.exists() == (killed_at != "second rename")
    found = find_state(folder)
    assert found is not None
    assert json.loads((found / "state.json").read_text(encoding="utf-8"))["step"] == 4
    resumed, rest = _run(CONFIG, folder, _model(seed=99))
    assert _what_matters(rest) == _what_matters(records)[4:]
    assert _equal(resumed, whole)
    assert {p.name for p in tmp_path.iterdir()} == {"state"}  # and nothing is left lying about


def _kill(patch: pytest.MonkeyPatch, where: str) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("killed")

    if where == "safetensors":
        patch.setattr("lm_core.training_state.save_file", die)
    elif where == "json":
        patch.setattr(Path, "write_text", die)
    else:
        done: list[Path] = []
        real = Path.rename

        def rename(self: Path, target: Path) -> Path:
            if len(done) == (0 if where == "first rename" else 1):
                raise KeyboardInterrupt("killed")
            done.append(target)
            return real(self, target)

        patch.setattr(Path, "rename", rename)


def test_the_only_whole_state_survives_a_second_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model()
    folder = tmp_path / "state"
    save_state(folder, model, _build(model), {"step": 1})
    for _ in range(2):
        with monkeypatch.context() as patch:
            _kill(patch, "second rename" if folder.exists() else "first rename")
            with pytest.raises(KeyboardInterrupt):
                save_state(folder, model, _build(model), {"step": 2})
        assert load_state(folder, _model(), _build(model))["step"] == 1


def test_files_are_on_disk_before_they_are_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), real_fsync(fd))[1])
    monkeypatch.setattr(Path, "rename", lambda self, to: (order.append("rename"), real_rename(self, to))[1])
    model = _model()
    save_state(tmp_path / "state", model, _build(model), {})
    assert order == ["fsync", "fsync", "rename"]


def test_a_state_that_does_not_fit_or_is_not_there(tmp_path: Path) -> None:
    model = _model()
    save_state(tmp_path / "state", model, _build(model), {})
    other = Decoder(replace(model.config, vocab_size=14))
    with pytest.raises(ValueError, match=r"embed_tokens.weight should be \(14, 12\), the saved state has \(13, 12\)"):
        load_state(tmp_path / "state", other, _build(other))
    deeper = Decoder(replace(model.config, n_layers=3))
    with pytest.raises(ValueError, match="the saved state has nothing"):
        load_state(tmp_path / "state", deeper, _build(deeper))
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "nowhere", model, _build(model))


def test_unknown_optimizer() -> None:
    with pytest.raises(ValueError, match="unknown optimizer 'lion': use one of sgd, momentum, adam, adamw, muon"):
        _run(replace(CONFIG, optimizer="lion"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_steps": 0}, "n_steps must be at least 1, not 0"),
        ({"batch_size": -2}, "batch_size must be at least 1, not -2"),
        ({"n_tokens": 0}, "n_tokens must be at least 1, not 0"),
        ({"validation_batches": 0}, "validation_batches must be at least 1, not 0"),
        ({"save_every": 0}, "save_every must be at least 1, not 0"),
        ({"validate_every": 0}, "validate_every must be at least 1, not 0"),
        ({"lr": 0.0}, r"lr must be a positive number, not 0\.0"),
        ({"lr": math.nan}, "lr must be a positive number, not nan"),
        ({"muon_lr": math.inf}, "muon_lr must be a positive number, not inf"),
        ({"clip_norm": -1.0}, r"clip_norm must be a positive number, not -1\.0"),
        ({"schedule": "step"}, "unknown schedule 'step': use one of cosine, wsd, constant, linear"),
    ],
)
def test_impossible_settings_are_refused_with_their_numbers(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **settings)
