"""Exercises on probability: softmax, losses, choosing the next token."""

import torch

from lm_core import probability
from lm_core.judge.exercise import Case, Draw, Exercise, Property, mutant


def _softmax_cases(draw: Draw) -> list[Case]:
    z = draw.normal(2, 5, 7)
    return [
        Case("plain", (z,)),
        Case("one_row", (draw.normal(4),)),
        Case("square", (draw.normal(5, 5),)),
        Case("plus_1000", (z + 1000,), variants=False),
        Case("minus_1000", (z - 1000,), variants=False),
        Case("rows_far_apart", (torch.cat([z - 300, z + 300], dim=1),), variants=False),
    ]


SOFTMAX = Exercise(
    number=5,
    slug="softmax",
    references=(probability.softmax,),
    cases=_softmax_cases,
    topic="attention",
    difficulty=1,
    importance=5,
    minutes=10,
    line="exponentials = torch.exp(logits - logits.amax(dim=-1, keepdim=True))",
    axes={"": "B T V"},
    properties=(Property("sums_to_one", ("plain",), lambda p: bool((p.sum(-1) - 1).abs().max() < 1e-4)),),
    mutants=(
        mutant("no_max", "torch.exp(logits - logits.amax(dim=-1, keepdim=True))", "torch.exp(logits)"),
        mutant("one_max_for_all", "logits.amax(dim=-1, keepdim=True)", "logits.max()"),
        mutant("wrong_axis", "logits.amax(dim=-1", "logits.amax(dim=0", "exponentials.sum(dim=-1", "exponentials.sum(dim=0"),
        mutant("over_everything", "exponentials.sum(dim=-1, keepdim=True)", "exponentials.sum()"),
        mutant("no_division", "return exponentials / exponentials.sum(dim=-1, keepdim=True)", "return exponentials"),
        mutant("log", "return exponentials / exponentials.sum(dim=-1, keepdim=True)",
               "return (exponentials / exponentials.sum(dim=-1, keepdim=True)).log()"),
    ),
)  # fmt: skip

EXERCISES = (SOFTMAX,)
