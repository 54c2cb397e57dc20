"""How large each step is and in which direction: schedules, and which parameter has which optimizer."""

from dataclasses import replace

import pytest
import torch

from lm_core.config import llama_config
from lm_core.model import Decoder
from lm_core.optim import (
    build_optimizers,
    is_matrix_inside,
    set_learning_rate,
    warmup_cosine,
    warmup_stable_decay,
)


def _model() -> Decoder:
    return Decoder(llama_config(vocab_size=13, d_model=12, n_layers=2, n_heads=3, d_mlp=20, context_length=8))


def _build(model: Decoder, kind: str) -> list[torch.optim.Optimizer]:
    return build_optimizers(model, kind=kind, lr=1e-2, muon_lr=1e-2, weight_decay=0.1, betas=(0.9, 0.95))


def test_schedules_rise_hold_and_fall_to_the_floor() -> None:
    cosine = [warmup_cosine(s, 100, 10, 0.1) for s in range(101)]
    stable = [warmup_stable_decay(s, 100, 10, 0.1) for s in range(101)]
    for plan in (cosine, stable):
        assert plan[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
        assert plan[10] == pytest.approx(1.0)
        assert plan[100] == pytest.approx(0.1)
        assert all(a >= b for a, b in zip(plan[10:], plan[11:], strict=False))
    assert cosine[55] == pytest.approx(0.55)  # half-way
    assert stable[10:61] == [1.0] * 51
    assert stable[80] == pytest.approx(0.55)  # the middle of the line down
    assert warmup_cosine(0, 1, 0, 0.0) == warmup_stable_decay(0, 1, 0, 0.0) == 1.0
    assert warmup_cosine(200, 100, 10, 0.1) == pytest.approx(0.1)
    assert warmup_stable_decay(200, 100, 10, 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_has_one_optimizer_and_only_inner_matrices_decay(kind: str) -> None:
    model = _model()
    optimizers = _build(model, kind)
    groups = [(group, p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert len(groups) == len({id(p) for _, p in groups}) == len(list(model.parameters()))
    decayed = {id(p) for group, p in groups if group["weight_decay"] > 0}
    inner = {id(p) for name, p in model.named_parameters() if name.startswith("blocks") and p.dim() == 2}
    assert decayed == inner
    if kind == "muon":
        assert {id(p) for group in optimizers[0].param_groups for p in group["params"]} == inner


def test_embeddings_and_unembedding_are_not_inside() -> None:
    names = {
        n
        for n, p in Decoder(replace(_model().config, tie_embeddings=False)).named_parameters()
        if is_matrix_inside(n, p)
    }
    assert names and all(name.startswith("blocks.") and "norm" not in name for name in names)


def test_the_learning_rate_is_a_share_of_the_peak_of_each_group() -> None:
    model = _model()
    optimizers = build_optimizers(model, kind="muon", lr=0.4, muon_lr=0.8, weight_decay=0.0, betas=(0.9, 0.95))
    for share in (0.5, 0.25):  # a share of the peak, not of what was set before
        set_learning_rate(optimizers, share)
        assert [g["lr"] for o in optimizers for g in o.param_groups] == [0.8 * share, 0.4 * share]
