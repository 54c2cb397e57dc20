"""Exercises on the parts of a block: norms, the feed-forward network, the block, a whole small GPT."""

import torch

from lm_core import layers
from lm_core.judge.exercise import Case, Draw, Exercise, Property, mutant

B, T, D = 2, 5, 6


def _layer_norm_cases(draw: Draw) -> list[Case]:
    x = draw.normal(B, T, D) * 3 + 2
    weight, bias, ones, zeros = draw.normal(D), draw.normal(D), torch.ones(D), torch.zeros(D)
    return [
        Case("weight_one_bias_zero", (x, ones, zeros, 1e-5)),
        Case("weight_and_bias", (x, weight, bias, 1e-5)),
        Case("large_eps", (x, weight, bias, 0.5)),
        Case("no_bias", (x, weight, None, 1e-5)),
        Case("one_position", (x[:1, :1], weight, bias, 1e-5)),
        Case("square", (draw.normal(D, D), weight, bias, 1e-5)),
    ]


def _mean_zero(y: torch.Tensor) -> bool:
    return bool(y.mean(-1).abs().max() < 1e-3)


def _unit_scale(y: torch.Tensor) -> bool:
    return bool((y.square().mean(-1) - 1).abs().max() < 1e-2)


LAYER_NORM = Exercise(
    number=13,
    slug="layer_norm",
    references=(layers.layer_norm,),
    cases=_layer_norm_cases,
    topic="layers",
    difficulty=2,
    importance=4,
    minutes=15,
    line="(x - mean) / torch.sqrt(variance + eps) * weight + bias,  variance = centred.square().mean(-1, keepdim=True)",
    axes={"": "B T D"},
    properties=(
        Property("mean_zero", ("weight_one_bias_zero",), _mean_zero),
        Property("unit_scale", ("weight_one_bias_zero",), _unit_scale),
    ),
    mutants=(
        mutant("eps_outside", "torch.sqrt(variance + eps)", "(torch.sqrt(variance) + eps)"),
        mutant(
            "unbiased", "centred.square().mean(dim=-1, keepdim=True)",
            "centred.square().sum(dim=-1, keepdim=True) / (x.shape[-1] - 1)",
        ),
        mutant("no_root", "/ torch.sqrt(variance + eps)", "/ (variance + eps)"),
        mutant(
            "over_positions", "x.mean(dim=-1, keepdim=True)", "x.mean(dim=-2, keepdim=True)",
            "centred.square().mean(dim=-1", "centred.square().mean(dim=-2",
        ),
        mutant(
            "over_everything", "x.mean(dim=-1, keepdim=True)", "x.mean()",
            "centred.square().mean(dim=-1, keepdim=True)", "centred.square().mean()",
        ),
        mutant("not_centred", "centred = x - x.mean(dim=-1, keepdim=True)", "centred = x"),
        mutant("bias_first", "return normal if bias is None else normal + bias",
               "return normal if bias is None else (normal / weight + bias) * weight"),
        mutant("no_weight", "torch.sqrt(variance + eps) * weight", "torch.sqrt(variance + eps)"),
    ),
)  # fmt: skip

EXERCISES = (LAYER_NORM,)
