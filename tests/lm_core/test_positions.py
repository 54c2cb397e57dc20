"""Positions against formulas written another way: complex numbers, plain loops, transformers, the paper's slopes."""

import math

import pytest
import torch
from torch import Tensor

from lm_core.positions import (
    RopeScaling,
    alibi_bias,
    alibi_slopes,
    interleaved_to_half,
    rotary_angles,
    rotate,
    rotate_interleaved,
    sinusoidal_positions,
)

B, H, T, DH = 2, 3, 7, 10
EXACT = {"rtol": 0.0, "atol": 1e-13}


def _x(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sinusoidal_equals_the_papers_formula_number_by_number() -> None:
    n_positions, d_model = 40, 6
    table = sinusoidal_positions(n_positions, d_model)
    for t in range(n_positions):
        for i in range(d_model // 2):
            angle = t / 10000 ** (2 * i / d_model)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=4e-6)  # angles are float32
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=4e-6)


def test_an_odd_width_is_refused_with_the_number() -> None:
    with pytest.raises(ValueError, match="d_model 7 is odd"):
        sinusoidal_positions(3, 7)
    with pytest.raises(ValueError, match="d_head 5 is odd"):
        rotary_angles(torch.arange(3), 5)


def test_angles_are_position_times_falling_frequency() -> None:
    angles = rotary_angles(torch.tensor([0, 1, 9]), 6, theta=500.0)
    expected = [[t * 500.0 ** (-2 * i / 6) for i in range(3)] for t in (0, 1, 9)]
    torch.testing.assert_close(angles, torch.tensor(expected), rtol=1e-6, atol=0.0)
    batched = rotary_angles(torch.tensor([[0, 1], [9, 1]]), 6, theta=500.0)
    assert torch.equal(batched[1, 0], angles[2])


def test_rotation_is_multiplication_by_a_complex_number() -> None:
    x, angles = _x(B, H, T, DH), _x(T, DH // 2, seed=1)
    turn = torch.polar(torch.ones_like(angles), angles)
    neighbours = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)
    torch.testing.assert_close(rotate_interleaved(x, angles), neighbours, **EXACT)
    halves = torch.complex(x[..., : DH // 2], x[..., DH // 2 :]) * turn
    torch.testing.assert_close(rotate(x, angles), torch.cat([halves.real, halves.imag], dim=-1), **EXACT)


def test_the_two_orders_of_components_are_one_rotation_under_a_permutation() -> None:
    x, angles, p = _x(B, H, T, DH), _x(T, DH // 2, seed=1), interleaved_to_half(DH)
    assert torch.equal(rotate_interleaved(x, angles), rotate(x[..., p], angles)[..., p.argsort()])
    assert not torch.equal(rotate_interleaved(x, angles), rotate(x, angles))


def test_dot_products_do_not_see_the_permutation() -> None:
    q, k, angles, p = _x(T, DH), _x(T, DH, seed=2), _x(T, DH // 2, seed=1), interleaved_to_half(DH)
    interleaved = rotate_interleaved(q, angles) @ rotate_interleaved(k, angles).mT
    torch.testing.assert_close(rotate(q[..., p], angles) @ rotate(k[..., p], angles).mT, interleaved, **EXACT)


def test_rotation_equals_transformers() -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k, angles = _x(B, H, T, DH), _x(B, 1, T, DH, seed=2), _x(T, DH // 2, seed=1)
    both = torch.cat([angles, angles], dim=-1)[None]
    theirs = apply_rotary_pos_emb(q, k, both.cos(), both.sin())
    torch.testing.assert_close((rotate(q, angles), rotate(k, angles)), theirs, **EXACT)


def test_only_the_distance_matters() -> None:
    q, k = _x(DH), _x(DH, seed=1)
    frequencies = rotary_angles(torch.tensor([1]), DH).double()
    near = [rotate(q[None], s * frequencies) @ rotate(k[None], (s - 3) * frequencies).mT for s in (3, 4, 50)]
    torch.testing.assert_close(near[1], near[0], **EXACT)
    torch.testing.assert_close(near[2], near[0], **EXACT)
    other = rotate(q[None], 5 * frequencies) @ rotate(k[None], 3 * frequencies).mT
    assert (other - near[0]).abs() > 1e-3


def test_rotation_keeps_length_and_leaves_position_zero_alone() -> None:
    x = _x(B, H, T, DH)
    turned = rotate(x, rotary_angles(torch.arange(T), DH).double())
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), **EXACT)
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert turned.dtype == torch.float64
    assert rotate(x.bfloat16(), rotary_angles(torch.arange(T), DH)).dtype == torch.bfloat16


def test_llama3_scaling_equals_transformers() -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    d_head, theta, scaling = 64, 500000.0, RopeScaling(8.0, 1.0, 4.0, 8192)
    parameters = {
        "rope_type": "llama3", "rope_theta": theta, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config = LlamaConfig(
        hidden_size=4 * d_head, num_attention_heads=4, max_position_embeddings=131072, rope_parameters=parameters
    )
    theirs, attention_factor = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    ours = rotary_angles(torch.tensor([1]), d_head, theta, scaling)[0]
    plain = rotary_angles(torch.tensor([1]), d_head, theta)[0]
    assert attention_factor == 1.0
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0.0)
    kept, divided = torch.isclose(ours, plain), torch.isclose(ours, plain / 8)
    assert kept.any() and divided.any() and not (kept | divided).all()  # all three regimes were tried


def test_alibi_slopes_are_the_published_ones() -> None:
    """Press et al. 2022: 8 heads have 1/2 ... 1/256; the authors' own code gives 12 heads these last four."""
    eight = [2.0**-i for i in range(1, 9)]
    torch.testing.assert_close(alibi_slopes(8), torch.tensor(eight), rtol=0.0, atol=0.0)
    twelve = [*eight, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    torch.testing.assert_close(alibi_slopes(12), torch.tensor(twelve), rtol=1e-7, atol=0.0)
    sixteen = [2 ** (-i / 2) for i in range(1, 17)]
    torch.testing.assert_close(alibi_slopes(16), torch.tensor(sixteen), rtol=1e-7, atol=0.0)
    assert torch.equal(alibi_slopes(1), torch.tensor([2.0**-8]))


def test_alibi_bias_grows_with_distance_and_queries_are_the_last_positions() -> None:
    slopes = alibi_slopes(3)
    bias = alibi_bias(2, 5, slopes)
    expected = [[[-slope * abs(i + 3 - j) for j in range(5)] for i in range(2)] for slope in slopes.tolist()]
    torch.testing.assert_close(bias, torch.tensor(expected), rtol=0.0, atol=0.0)
