"""Exercises on attention: scores, masks, heads, the cache."""

import torch

from lm_core import attention, masks, plain_model
from lm_core.judge.exercise import Case, Draw, Exercise, Property, mutant

B, H, T, DH = 2, 3, 5, 4
CPU = torch.device("cpu")
WEIGHTS = "Weights = Mapping[str, Tensor]  # name -> matrix or vector"


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
    speed=lambda draw: Case("large", tuple(draw.normal(2, 4, 48, 8) for _ in range(3))),
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
        mutant("minus_a_billion", "scaled.masked_fill(~allowed, -math.inf)", "scaled.masked_fill(~allowed, -1e9)"),
        mutant("smallest_float", "scaled.masked_fill(~allowed, -math.inf)", "scaled.masked_fill(~allowed, torch.finfo(scaled.dtype).min)"),
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


def _score_cases(draw: Draw) -> list[Case]:
    q, k = draw.normal(B, H, T, DH), draw.normal(B, H, 7, DH)
    return [
        Case("scores", (q, k)),
        Case("same_number_of_queries_and_keys", (q, q + k[:, :, :T])),
        Case("as_many_as_components", (q[:, :, :DH], k[:, :, :DH])),
        Case("one_query", (q[:, :, :1], k)),
        Case("no_batch", (q[0, 0], k[0, 0])),
        Case("scaled", (q @ k.mT, DH), function=1),
        Case("scaled_wide", (draw.normal(B, H, T, T), 64), function=1),
    ]


SCALED_SCORES = Exercise(
    number=6, slug="scaled_scores", references=(attention.attention_scores, attention.scale_scores), cases=_score_cases,
    topic="attention", difficulty=1, importance=5, minutes=10,
    line="q @ k.mT   and   scores / math.sqrt(d_head)",
    speed=lambda draw: Case("large", (draw.normal(2, 4, 48, 8), draw.normal(2, 4, 48, 8))),
    axes={"": "B H Tq Tk"},
    mutants=(
        mutant("no_scale", "return scores / math.sqrt(d_head)", "return scores"),
        mutant("by_d_head", "return scores / math.sqrt(d_head)", "return scores / d_head"),
        mutant("multiplied", "return scores / math.sqrt(d_head)", "return scores * math.sqrt(d_head)"),
        mutant("by_number_of_keys", "return scores / math.sqrt(d_head)", "return scores / math.sqrt(scores.shape[-1])"),
        mutant("keys_by_queries", "return q @ k.mT", "return k @ q.mT"),
        mutant("not_transposed", "return q @ k.mT", "return q @ k.reshape(*k.shape[:-2], k.shape[-1], k.shape[-2])"),
        mutant("scaled_too_early", "return q @ k.mT", "return q @ k.mT / math.sqrt(q.shape[-1])"),
    ),
)  # fmt: skip


CAUSAL_MASK = Exercise(
    number=7, slug="causal_mask", references=(masks.causal_mask,),
    cases=lambda draw: [
        Case("square", (5,), {"device": CPU}),
        Case("one_position", (1,)),
        Case("more_keys_than_queries", (2, 5)),
        Case("one_new_position", (1, 4)),
        Case("any", (3 + int(draw.ids(4)), 8 + int(draw.ids(4)))),
        Case("fewer_keys_than_queries", (4, 2)),
    ],
    topic="masks", difficulty=2, importance=5, minutes=15,
    speed=lambda draw: Case("large", (200,)),
    line="query = torch.arange(n_keys - n_queries, n_keys)[:, None];  key = torch.arange(n_keys)[None, :];  key <= query",
    axes={"": "Tq Tk"},
    properties=(Property("allows_itself", ("square",), lambda mask: bool(mask.diagonal().all())),),
    mutants=(
        mutant("strictly_before", "return key <= query", "return key < query"),
        mutant("the_future", "return key <= query", "return key >= query"),
        mutant("polarity", "return key <= query", "return key > query"),
        mutant("first_positions", "torch.arange(n_keys - n_queries, n_keys, device=device)", "torch.arange(n_queries, device=device)"),
        mutant("floats", "return key <= query", "return torch.zeros(n_queries, n_keys, device=device).masked_fill(key > query, float('-inf'))"),
        mutant("transposed", "return key <= query", "return (key <= query).mT"),
        mutant("not_refused", "    if n_keys < n_queries:\n", "    if False:\n"),
    ),
)  # fmt: skip


def _both_cases(draw: Draw) -> list[Case]:
    return [
        Case("plain", (torch.tensor([5, 3, 1]), 5)),
        Case("full", (torch.tensor([4, 4]), 4)),
        Case("one_position", (torch.tensor([1, 1, 1]), 1)),
        Case("as_many_texts_as_positions", (torch.tensor([3, 1, 4, 2]), 4)),
        Case("any", (1 + draw.ids(6, 4), 6)),
    ]


CAUSAL_PADDING_MASK = Exercise(
    number=8, slug="causal_padding_mask", references=(masks.causal_padding_mask,), cases=_both_cases,
    topic="masks", difficulty=2, importance=4, minutes=15, prerequisites=("causal_mask",),
    line="causal & (position[None, :] < lengths[:, None])[:, None, :]",
    axes={"": "B Tq Tk"},
    mutants=(
        mutant("or", "causal & real[:, None, :]", "causal | real[:, None, :]"),
        mutant("padding_only", "return causal & real[:, None, :]", "return real[:, None, :].expand(-1, n_tokens, -1)"),
        mutant("causal_only", "return causal & real[:, None, :]", "return causal.expand(len(lengths), -1, -1)"),
        mutant("queries_masked", "real[:, None, :]", "real[:, :, None]"),
        mutant("one_too_many", "position[None, :] < lengths[:, None]", "position[None, :] <= lengths[:, None]"),
        mutant("polarity", "return causal & real[:, None, :]", "return ~(causal & real[:, None, :])"),
        mutant("padding_allowed", "position[None, :] < lengths", "position[None, :] >= lengths"),
    ),
)  # fmt: skip


def _split_cases(draw: Draw) -> list[Case]:
    return [
        Case("split", (draw.normal(B, T, 12), 3)),
        Case("split_square", (draw.normal(B, 4, 16), 4)),
        Case("split_one_head", (draw.normal(1, T, 6), 1)),
        Case("split_one_position", (draw.normal(B, 1, 6), 2)),
        Case("merge", (draw.normal(B, H, T, DH),), function=1),
        Case("merge_square", (draw.normal(4, 4, 4, 4),), function=1),
        Case("width_not_divisible", (draw.normal(B, T, 10), 4), variants=False),
    ]


SPLIT_HEADS = Exercise(
    number=10, slug="split_heads", references=(attention.split_heads, attention.merge_heads), cases=_split_cases,
    topic="multi_head", difficulty=2, importance=4, minutes=15,
    line="x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)   and   x.transpose(-3, -2).flatten(-2)",
    axes={"": "B H T Dh"},
    mutants=(
        mutant("view_only", "x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)", "x.reshape(*x.shape[:-2], n_heads, x.shape[-2], x.shape[-1] // n_heads)"),
        mutant("dealt_out", "x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)", "x.unflatten(-1, (-1, n_heads)).movedim(-1, -3)"),
        mutant("not_swapped", "x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)", "x.unflatten(-1, (n_heads, -1))"),
        mutant("width_heads", "x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)", "x.unflatten(-1, (-1, n_heads)).transpose(-3, -2)"),
        mutant("merge_view_only", "x.transpose(-3, -2).flatten(-2)", "x.reshape(*x.shape[:-3], x.shape[-2], -1)"),
        mutant("merge_dealt_out", "x.transpose(-3, -2).flatten(-2)", "x.movedim(-3, -1).flatten(-2)"),
        mutant("merge_not_swapped", "x.transpose(-3, -2).flatten(-2)", "x.flatten(-2)"),
        mutant("not_refused", "    if x.shape[-1] % n_heads:\n", "    if x.shape[-1] % n_heads:\n        x = x[..., : x.shape[-1] // n_heads * n_heads]\n    if x.shape[-1] % n_heads:\n"),
    ),
)  # fmt: skip


def _multi_head_cases(draw: Draw) -> list[Case]:
    d = H * DH
    weights = {f"w_{name}.weight": draw.normal(d, d) / 2 for name in "qkvo"}
    weights |= {f"w_{name}.bias": draw.normal(d) for name in "qkvo"}
    x = draw.normal(B, T, d)
    causal = torch.ones(T, T).tril().bool()
    return [
        Case("plain", (x, weights, H)),
        Case("causal", (x, weights, H), {"allowed": causal}),
        Case("one_head", (x, weights, 1), {"allowed": causal}),
        Case("many_heads", (x, weights, 6), {"allowed": causal}),
        Case("one_position", (x[:, :1], weights, H)),
    ]


MULTI_HEAD = Exercise(
    number=11, slug="multi_head", references=(plain_model.multi_head,), cases=_multi_head_cases,
    topic="multi_head", difficulty=3, importance=5, minutes=30, prerequisites=("attend", "split_heads"),
    line="q = split_heads(F.linear(x, weights['w_q.weight'], weights['w_q.bias']), n_heads), and the like for k and v",
    given=(WEIGHTS, attention.split_heads, attention.merge_heads, plain_model.MultiHeadSteps),
    imports=("from collections.abc import Mapping", "from dataclasses import dataclass"),
    axes={"q": "B H T Dh", "k": "B H T Dh", "v": "B H T Dh", "head_out": "B H T Dh", "concat": "B T D", "out": "B T D"},
    bf16=0.3,
    mutants=(
        mutant("scale_d_model", "attn_mask=allowed)", "attn_mask=allowed, scale=1 / math.sqrt(x.shape[-1]))"),
        mutant("no_scale", "attn_mask=allowed)", "attn_mask=allowed, scale=1.0)"),
        mutant("no_split", "weights[f\"{name}.bias\"]), n_heads)", "weights[f\"{name}.bias\"]), 1)"),
        mutant("heads_not_side_by_side", "concat = merge_heads(head_out)", "concat = head_out.reshape(x.shape)"),
        mutant("no_w_o", 'F.linear(concat, weights["w_o.weight"], weights["w_o.bias"])', "concat"),
        mutant("no_bias", 'F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])', 'F.linear(x, weights[f"{name}.weight"])'),
        mutant("not_transposed", 'F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])', 'x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]'),
        mutant("mask_ignored", "attn_mask=allowed)", "attn_mask=None)"),
        mutant("polarity", "attn_mask=allowed)", "attn_mask=None if allowed is None else ~allowed)"),
        mutant("keys_and_values_swapped", "attention(q, k, v,", "attention(q, v, k,"),
    ),
)  # fmt: skip


def _cache_cases(draw: Draw) -> list[Case]:
    def new(n: int) -> list[torch.Tensor]:
        return [draw.normal(B, H, n, DH) for _ in range(3)]

    def past(n: int) -> list[torch.Tensor]:
        return [draw.normal(B, H, n, DH) for _ in range(2)]

    return [
        Case("one_new_position", (*new(1), *past(6))),
        Case("first_step", (*new(3), *past(0))),
        Case("three_new_positions", (*new(3), *past(2))),
        Case("first_position", (*new(1), *past(0))),
    ]


KV_CACHE = Exercise(
    number=12, slug="kv_cache_step", references=(plain_model.kv_cache_step,), cases=_cache_cases,
    topic="generation", difficulty=3, importance=4, minutes=25, prerequisites=("attend", "causal_mask"),
    line="keys, values = torch.cat([past_k, k], dim=-2), torch.cat([past_v, v], dim=-2);  allowed = causal_mask(n, P + n)",
    given=(masks.causal_mask,),
    axes={"[0]": "B H n Dh", "[1]": "B H Tk Dh", "[2]": "B H Tk Dh"},
    mutants=(
        mutant("new_first", "torch.cat([past_k, k], dim=-2), torch.cat([past_v, v], dim=-2)", "torch.cat([k, past_k], dim=-2), torch.cat([v, past_v], dim=-2)"),
        mutant("past_forgotten", "torch.cat([past_k, k], dim=-2), torch.cat([past_v, v], dim=-2)", "k, v"),
        mutant("first_positions", "attn_mask=allowed)", "is_causal=True)"),
        mutant("no_mask", "attn_mask=allowed)", "attn_mask=None)"),
        mutant("only_new_returned", "attn_mask=allowed), keys, values", "attn_mask=allowed), k, v"),
        mutant("same_for_values", "torch.cat([past_v, v], dim=-2)", "torch.cat([past_k, v], dim=-2)"),
        mutant("own_key_missing", "attn_mask=allowed)", "attn_mask=allowed & ~torch.eye(keys.shape[-2], dtype=torch.bool, device=q.device)[-q.shape[-2] :])"),
    ),
)  # fmt: skip

EXERCISES = (
    SCALED_SCORES, CAUSAL_MASK, CAUSAL_PADDING_MASK, ATTEND, SPLIT_HEADS, MULTI_HEAD, KV_CACHE,
)  # fmt: skip
