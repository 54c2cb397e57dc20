"""Exercises on attention: scores, masks, heads, the cache."""

from lm_core import attention
from lm_core.judge.exercise import Case, Draw, Exercise, Property, mutant

B, H, T, DH = 2, 3, 5, 4


def _attend_cases(draw: Draw) -> list[Case]:
    q, k, v = draw.normal(B, H, T, DH), draw.normal(B, H, T, DH), draw.normal(B, H, T, 7)
    causal = draw.allowed(T, T).tril() | (draw.normal(T, T) > 9)
    later = k.clone()
    later[..., -1, :] += 5
    nothing = causal.clone()
    nothing[2] = False
    return [
        Case("plain", (q, k, v)),
        Case("one_position", (q[:, :, :1], k[:, :, :1], v[:, :, :1])),
        Case("masked", (q, k, v), {"allowed": causal}),
        Case("future_changed", (q, later, v), {"allowed": causal}),
        Case("large_scores", (300 * q, 300 * k, v), {"allowed": causal}, variants=False),
        Case("a_row_that_sees_nothing", (q, k, v), {"allowed": nothing}),
        Case("fewer_queries", (q[:, :, :2], k, v), {"allowed": causal[-2:]}),
        Case("scale", (q, k, v), {"scale": 0.7}),
        Case("bias", (q, k, v), {"allowed": causal, "bias": draw.normal(H, T, T)}),
        Case("shared_keys", (draw.normal(B, 6, T, DH), k, v), {"allowed": causal}),
    ]


ATTEND = Exercise(
    number=9,
    slug="attend",
    references=(attention.attend,),
    cases=_attend_cases,
    topic="attention",
    difficulty=3,
    importance=5,
    minutes=30,
    prerequisites=("softmax", "scaled_scores", "causal_mask"),
    line="scores = q @ k.mT;  scaled = scores / math.sqrt(q.shape[-1]);  masked = scaled.masked_fill(~allowed, -math.inf)",
    given=(attention.AttentionTrace, attention.repeat_heads),
    uses=(
        attention.attention_scores,
        attention.scale_scores,
        attention.apply_mask,
        attention.masked_softmax,
        attention.mix_values,
    ),
    imports=("from dataclasses import dataclass",),
    axes={
        "q": "B H Tq Dh", "k": "B H Tk Dh", "v": "B H Tk Dv", "scores": "B H Tq Tk", "scaled": "B H Tq Tk",
        "masked": "B H Tq Tk", "weights": "B H Tq Tk", "head_out": "B H Tq Dv",
    },
    properties=(
        Property("rows_sum_to_one", ("plain",), lambda plain: bool((plain["weights"].sum(-1) - 1).abs().max() < 1e-4)),
    ),
    mutants=(
        mutant("no_scale", "return scores / math.sqrt(d_head)", "return scores"),
        mutant("scale_without_root", "return scores / math.sqrt(d_head)", "return scores / d_head"),
        mutant("scale_d_model", "q.shape[-1]) if scale", "q.shape[-1] * q.shape[-3]) if scale"),
        mutant("polarity", "scaled.masked_fill(~allowed", "scaled.masked_fill(allowed"),
        mutant("minus_ten_thousand", "scaled.masked_fill(~allowed, -math.inf)", "scaled.masked_fill(~allowed, -1e4)"),
        mutant("mask_added", "scaled.masked_fill(~allowed, -math.inf)", "scaled + (~allowed) * -1e4"),
        mutant("masked_to_zero", "scaled.masked_fill(~allowed, -math.inf)", "scaled.masked_fill(~allowed, 0.0)"),
        mutant(
            "mask_after_softmax",
            "weights = masked_softmax(masked)",
            "weights = masked_softmax(scaled) if allowed is None else masked_softmax(scaled).masked_fill(~allowed, 0.0)",
        ),
        mutant(
            "wrong_axis",
            "masked.amax(dim=-1, keepdim=True)", "masked.amax(dim=-2, keepdim=True)",
            "exponentials.sum(dim=-1, keepdim=True)", "exponentials.sum(dim=-2, keepdim=True)",
        ),
        mutant(
            "nan_row",
            "highest = torch.where(highest == -math.inf, 0.0, highest)  # −∞ − (−∞) would be NaN", "",
            "torch.where(total == 0, 1.0, total)", "total",
        ),
        mutant("bias_before_scale", "scaled = scaled + bias", "scaled = (scores + bias) / math.sqrt(q.shape[-1])"),
        mutant(
            "scale_on_top", "scores * scale\n", "scores * scale / math.sqrt(q.shape[-1])\n"
        ),
        mutant("keys_mixed", "mix_values(weights, values)", "mix_values(weights, keys)"),
    ),
)  # fmt: skip

EXERCISES = (ATTEND,)
