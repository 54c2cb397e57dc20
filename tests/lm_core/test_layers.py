"""Norms, activations and the feed-forward network against torch, in values and gradients (float64)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core.layers import ACTIVATIONS, feed_forward, gelu, gelu_tanh, layer_norm, rms_norm, silu

B, T, D, M = 2, 5, 6, 11
EXACT = {"rtol": 0.0, "atol": 1e-13}


def _x(*shape: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()


def _same(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, **EXACT)
    upstream = _x(*ours.shape, seed=99).detach()
    for one, other in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(one, other, **EXACT)


@pytest.mark.parametrize("eps", [1e-5, 0.1])  # 0.1: an eps outside the root, or forgotten, shows
@pytest.mark.parametrize("with_bias", [True, False])
def test_layer_norm(eps: float, with_bias: bool) -> None:
    x, weight, bias = _x(B, T, D), _x(D, seed=1), _x(D, seed=2) if with_bias else None
    inputs = [x, weight] if bias is None else [x, weight, bias]
    _same(layer_norm(x, weight, bias, eps), F.layer_norm(x, (D,), weight, bias, eps), inputs)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_rms_norm(eps: float) -> None:
    x, weight = _x(B, T, D), _x(D, seed=1)
    _same(rms_norm(x, weight, None, eps), F.rms_norm(x, (D,), weight, eps), [x, weight])


def test_rms_norm_has_no_bias() -> None:
    with pytest.raises(ValueError, match="no bias"):
        rms_norm(torch.ones(1, 2), torch.ones(2), torch.zeros(2), 1e-5)


def test_norms_hold_what_they_promise() -> None:
    x, ones, zeros = _x(B, T, D) * 50 + 7, torch.ones(D).double(), torch.zeros(D).double()
    normal = layer_norm(x, ones, zeros, 0.0)
    torch.testing.assert_close(normal.mean(dim=-1), torch.zeros(B, T).double(), **EXACT)
    torch.testing.assert_close(normal.var(dim=-1, correction=0), torch.ones(B, T).double(), **EXACT)
    shorter = rms_norm(x, ones, None, 0.0)
    torch.testing.assert_close(shorter.square().mean(dim=-1), torch.ones(B, T).double(), **EXACT)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1e8])
def test_norms_survive_constant_and_huge_rows(size: float) -> None:
    x = torch.full((1, D), size)
    assert layer_norm(x, torch.ones(D), torch.zeros(D), 1e-5).isfinite().all()
    assert rms_norm(x, torch.ones(D), None, 1e-5).isfinite().all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (gelu, F.gelu),
        (gelu_tanh, lambda x: F.gelu(x, approximate="tanh")),
        (silu, F.silu),
        (ACTIVATIONS["relu"], F.relu),
    ],
    ids=["gelu", "gelu_tanh", "silu", "relu"],
)
def test_activations(ours, theirs) -> None:  # type: ignore[no-untyped-def]
    x = torch.cat([torch.linspace(-6, 6, 49, dtype=torch.float64), torch.tensor([-40.0, 40.0]).double()])
    x.requires_grad_()
    _same(ours(x), theirs(x), [x])


def test_the_two_gelus_differ_by_as_much_as_is_said() -> None:
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    difference = (gelu(x) - gelu_tanh(x)).abs().max().item()
    assert 3e-4 < difference < 5e-4


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_feed_forward_is_two_linear_maps_around_a_bend(name: str, gated: bool, with_bias: bool) -> None:
    x, w_in, w_out, w_gate = _x(B, T, D), _x(M, D, seed=1), _x(D, M, seed=2), _x(M, D, seed=3)
    b_in, b_out, b_gate = (_x(n, seed=4 + i) if with_bias else None for i, n in enumerate((M, D, M)))
    gate = (w_gate, b_gate) if gated else ()
    hidden, out = feed_forward(x, w_in, b_in, w_out, b_out, ACTIVATIONS[name], *gate)

    def zero_if_none(bias: Tensor | None) -> Tensor | float:
        return 0.0 if bias is None else bias

    wide = torch.einsum("btd,md->btm", x, w_in) + zero_if_none(b_in)
    bend = ACTIVATIONS[name]
    neurons = bend(torch.einsum("btd,md->btm", x, w_gate) + zero_if_none(b_gate)) * wide if gated else bend(wide)
    assert hidden.shape == (B, T, M)
    torch.testing.assert_close(hidden, neurons, **EXACT)
    inputs = [i for i in (x, w_in, w_out, b_in, b_out) if i is not None] + ([w_gate] if gated else [])
    _same(out, torch.einsum("btm,dm->btd", neurons, w_out) + zero_if_none(b_out), inputs)


def test_feed_forward_works_on_each_position_alone() -> None:
    x, w_in, w_out = _x(B, T, D).detach(), _x(M, D, seed=1), _x(D, M, seed=2)
    changed = x.clone()
    changed[:, 2] += 1
    before, after = (feed_forward(z, w_in, None, w_out, None, gelu)[1] for z in (x, changed))
    same = (before == after).all(dim=-1)
    assert same.tolist() == [[True, True, False, True, True]] * B


def test_gelu_at_one_is_the_normal_distribution_function() -> None:
    assert gelu(torch.tensor(1.0).double()).item() == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=1e-15)
