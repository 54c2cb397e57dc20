"""How large each step is and in which direction: schedules, and which parameter has which optimizer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from lm_core.config import llama_config
from lm_core.model import Decoder
from lm_core.optim import (
    adam_start,
    adam_step,
    adamw_step,
    build_optimizers,
    clip_by_global_norm,
    is_matrix_inside,
    momentum_step,
    set_learning_rate,
    sgd_step,
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


# One step, written out: the same numbers as torch's


SHAPES = [(4, 3), (5,)]
LR, DECAY = 0.03, 0.2


def _start(seed: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random, dtype=torch.float64) for shape in SHAPES]


def _torch_steps(make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer], n: int = 7) -> list[torch.Tensor]:
    parameters = [torch.nn.Parameter(p) for p in _start(0)]
    optimizer = make(parameters)
    for step in range(n):
        for parameter, grad in zip(parameters, _start(step + 1), strict=True):
            parameter.grad = grad
        optimizer.step()
    return [p.detach() for p in parameters]


def _our_steps(step_once: Callable[..., Any], memories: list[Any], n: int = 7) -> list[torch.Tensor]:
    parameters = _start(0)
    for step in range(n):
        for i, grad in enumerate(_start(step + 1)):
            parameters[i], memories[i] = step_once(parameters[i], grad, memories[i])
    return parameters


def _check(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for mine, other, before in zip(ours, theirs, _start(0), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)
        assert not torch.allclose(mine, before)


def test_sgd_equals_torch() -> None:
    theirs = _torch_steps(lambda p: torch.optim.SGD(p, lr=LR, weight_decay=DECAY))
    _check(_our_steps(lambda p, g, s: (sgd_step(p, g, LR, DECAY), s), [None, None]), theirs)


def test_momentum_equals_torch() -> None:
    theirs = _torch_steps(lambda p: torch.optim.SGD(p, lr=LR, momentum=0.8, weight_decay=DECAY))
    memories = [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    _check(_our_steps(lambda p, g, s: momentum_step(p, g, s, LR, 0.8, DECAY), memories), theirs)


@pytest.mark.parametrize(("ours", "theirs"), [(adam_step, torch.optim.Adam), (adamw_step, torch.optim.AdamW)])
def test_adam_and_adamw_equal_torch(ours: Callable[..., Any], theirs: Callable[..., torch.optim.Optimizer]) -> None:
    options = {"lr": LR, "betas": (0.7, 0.93), "eps": 0.1, "weight_decay": DECAY}
    reference = _torch_steps(lambda p: theirs(p, **options))
    _check(_our_steps(lambda p, g, s: ours(p, g, s, **options), [adam_start(p) for p in _start(0)]), reference)
    defaults = _torch_steps(lambda p: theirs(p, lr=LR))
    _check(_our_steps(lambda p, g, s: ours(p, g, s, LR), [adam_start(p) for p in _start(0)]), defaults)


def test_a_step_changes_nothing_that_it_was_given() -> None:
    param, grad = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    state, velocity = adam_start(param), torch.zeros(2)
    sgd_step(param, grad, 0.1)
    momentum_step(param, grad, velocity, 0.1)
    adam_step(param, grad, state, 0.1, weight_decay=0.1)
    adamw_step(param, grad, state, 0.1)
    clip_by_global_norm([param, grad], 0.1)
    assert param.tolist() == [1.0, 2.0] and grad.tolist() == [3.0, 4.0]
    assert state.m.tolist() == state.v.tolist() == velocity.tolist() == [0.0, 0.0] and state.step == 0


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1e6])
def test_clipping_equals_torch(max_norm: float) -> None:
    grads = _start(5)
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad.clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    clipped, ours = clip_by_global_norm(grads, max_norm)
    torch.testing.assert_close(ours, norm)
    for mine, parameter in zip(clipped, parameters, strict=True):
        torch.testing.assert_close(mine, parameter.grad)


def test_nothing_to_clip() -> None:
    with pytest.raises(ValueError, match="nothing to clip"):
        clip_by_global_norm([], 1.0)
    with pytest.raises(ValueError, match="max_norm must be positive, not 0"):
        clip_by_global_norm([torch.ones(1)], 0.0)


@pytest.mark.parametrize(
    ("kind", "step_once"),
    [
        ("sgd", lambda p, g, s, decay: (sgd_step(p, g, LR, decay), s)),
        ("momentum", lambda p, g, s, decay: momentum_step(p, g, p * 0 if s is None else s, LR, 0.7, decay)),
        ("adam", lambda p, g, s, decay: adam_step(p, g, s or adam_start(p), LR, (0.8, 0.9), weight_decay=decay)),
        ("adamw", lambda p, g, s, decay: adamw_step(p, g, s or adam_start(p), LR, (0.8, 0.9), weight_decay=decay)),
    ],
)  # fmt: skip
def test_what_trains_is_what_is_written_out(kind: str, step_once: Callable[..., Any]) -> None:
    """The fused optimizers that `build_optimizers` gives take the steps of the readable functions, group by group."""
    model = _model()
    parameters = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizers = build_optimizers(model, kind=kind, lr=LR, weight_decay=DECAY, betas=(0.8, 0.9), momentum=0.7)
    memory: dict[str, Any] = dict.fromkeys(parameters)
    random = torch.Generator().manual_seed(0)
    for _ in range(3):
        for name, parameter in model.named_parameters():
            grad = torch.randn(parameter.shape, generator=random)
            parameter.grad = grad.clone()
            decay = DECAY if is_matrix_inside(name, parameter) else 0.0
            parameters[name], memory[name] = step_once(parameters[name], grad, memory[name], decay)
        for optimizer in optimizers:
            optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), parameters[name], rtol=1e-5, atol=1e-6)


def test_nothing_to_optimize() -> None:
    with pytest.raises(ValueError, match="no parameter of this model learns"):
        _build(_model().requires_grad_(False), "adamw")
