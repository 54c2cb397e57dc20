"""Exercises on the parts of a block: norms, the feed-forward network, the block, a whole small GPT."""

import torch

from lm_core import attention, layers, masks, plain_model
from lm_core.judge.exercise import Case, Draw, Exercise, Property, mutant

B, T, D = 2, 5, 6
ACTIVATION = "Activation = Callable[[Tensor], Tensor]"
WEIGHTS = "Weights = Mapping[str, Tensor]  # name -> matrix or vector"
EPS_LINE = "EPS = 1e-5  # GPT-2's"


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
    speed=lambda draw: Case("large", (draw.normal(8, 40, 64), torch.ones(64), torch.zeros(64), 1e-5)),
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


def _rms_norm_cases(draw: Draw) -> list[Case]:
    x, weight = draw.normal(B, T, D) * 3 + 2, draw.normal(D)
    return [
        Case("weight_one", (x, torch.ones(D), None, 1e-5)),
        Case("weight", (x, weight, None, 1e-5)),
        Case("large_eps", (x, weight, None, 0.5)),
        Case("one_position", (x[:1, :1], weight, None, 1e-5)),
        Case("square", (draw.normal(D, D), weight, None, 1e-5)),
        Case("with_a_bias", (x, weight, torch.zeros(D), 1e-5), variants=False),
    ]


RMS_NORM = Exercise(
    number=14, slug="rms_norm", references=(layers.rms_norm,), cases=_rms_norm_cases,
    topic="layers", difficulty=1, importance=4, minutes=10, prerequisites=("layer_norm",),
    line="x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight",
    speed=lambda draw: Case("large", (draw.normal(8, 40, 64), torch.ones(64), None, 1e-5)),
    axes={"": "B T D"},
    properties=(Property("unit_scale", ("weight_one",), _unit_scale),),
    mutants=(
        mutant("centred", "    return x / torch", "    x = x - x.mean(dim=-1, keepdim=True)\n    return x / torch"),
        mutant("eps_outside", "torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps)", "(torch.sqrt(x.square().mean(dim=-1, keepdim=True)) + eps)"),
        mutant("no_root", "torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps)", "(x.square().mean(dim=-1, keepdim=True) + eps)"),
        mutant("sum", "x.square().mean(dim=-1, keepdim=True)", "x.square().sum(dim=-1, keepdim=True)"),
        mutant("over_positions", "mean(dim=-1", "mean(dim=-2"),
        mutant("mean_absolute", "torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps)", "(x.abs().mean(dim=-1, keepdim=True) + eps)"),
        mutant("no_weight", " + eps) * weight", " + eps)"),
        mutant("not_refused", "    if bias is not None:\n", "    if False:\n"),
    ),
)  # fmt: skip


def _feed_forward_cases(draw: Draw) -> list[Case]:
    m = 9
    x, w_in, w_out, w_gate = draw.normal(B, T, D), draw.normal(m, D), draw.normal(D, m), draw.normal(m, D)
    b_in, b_out, b_gate = draw.normal(m), draw.normal(D), draw.normal(m)
    silu = torch.nn.functional.silu
    return [
        Case("relu", (x, w_in, b_in, w_out, b_out, torch.relu)),
        Case("silu", (x, w_in, b_in, w_out, b_out, silu)),
        Case("no_biases", (x, w_in, None, w_out, None, silu)),
        Case("gated", (x, w_in, None, w_out, None, silu), {"w_gate": w_gate}),
        Case("gated_with_biases", (x, w_in, b_in, w_out, b_out, silu), {"w_gate": w_gate, "b_gate": b_gate}),
        Case("one_position", (x[:, :1], w_in, b_in, w_out, b_out, silu)),
    ]


FEED_FORWARD = Exercise(
    number=15, slug="feed_forward", references=(layers.feed_forward,), cases=_feed_forward_cases,
    topic="layers", difficulty=2, importance=4, minutes=15,
    line="wide = F.linear(x, w_in, b_in);  hidden = activation(wide), or activation(F.linear(x, w_gate, b_gate)) * wide",
    given=(ACTIVATION,), imports=("from collections.abc import Callable",),
    axes={"[0]": "B T M", "[1]": "B T D"},
    bf16=0.1,
    mutants=(
        mutant("no_activation", "activation(wide) if w_gate", "wide if w_gate"),
        mutant("activation_last", "activation(wide) if w_gate", "wide if w_gate", "F.linear(hidden, w_out, b_out)", "activation(F.linear(hidden, w_out, b_out))"),
        mutant("activation_twice", "return hidden, F.linear(hidden, w_out, b_out)", "return hidden, activation(F.linear(hidden, w_out, b_out))"),
        mutant("gate_not_bent", "activation(F.linear(x, w_gate, b_gate)) * wide", "F.linear(x, w_gate, b_gate) * activation(wide)"),
        mutant("gate_added", "activation(F.linear(x, w_gate, b_gate)) * wide", "activation(F.linear(x, w_gate, b_gate)) + wide"),
        mutant("gate_ignored", "activation(wide) if w_gate is None else activation(F.linear(x, w_gate, b_gate)) * wide", "activation(wide)"),
        mutant("both_bent", "activation(F.linear(x, w_gate, b_gate)) * wide", "activation(F.linear(x, w_gate, b_gate)) * activation(wide)"),
        mutant("no_output_bias", "F.linear(hidden, w_out, b_out)", "F.linear(hidden, w_out)"),
        mutant("residual", "F.linear(hidden, w_out, b_out)", "x + F.linear(hidden, w_out, b_out)"),
    ),
)  # fmt: skip


def _block_weights(draw: Draw, d: int, m: int) -> dict[str, torch.Tensor]:
    """Weights of one block, names as in `Block.state_dict()`; far from the values they start with."""
    weights = {}
    for name in "qkvo":
        weights[f"attention.w_{name}.weight"] = draw.normal(d, d) / 2
        weights[f"attention.w_{name}.bias"] = draw.normal(d) / 2
    weights |= {"mlp.w_in.weight": draw.normal(m, d) / 2, "mlp.w_in.bias": draw.normal(m) / 2}
    weights |= {"mlp.w_out.weight": draw.normal(d, m) / 2, "mlp.w_out.bias": draw.normal(d) / 2}
    for i in (1, 2):
        weights |= {f"norm_{i}.weight": 1 + draw.normal(d) / 2, f"norm_{i}.bias": draw.normal(d) / 2}
    return weights


def _block_cases(draw: Draw) -> list[Case]:
    x, weights = draw.normal(B, T, D) * 2 + 1, _block_weights(draw, D, 10)
    later = x.clone()
    later[:, -1] += 3
    return [
        Case("plain", (x, weights, 3)),
        Case("last_position_changed", (later, weights, 3)),
        Case("one_head", (x, weights, 1)),
        Case("one_position", (x[:, :1], weights, 2)),
    ]


def _past_kept(plain: dict[str, torch.Tensor], later: dict[str, torch.Tensor]) -> bool:
    return bool((plain["resid_post"] - later["resid_post"])[:, :-1].abs().max() < 1e-4)


BLOCK_PARTS = (
    ACTIVATION, WEIGHTS, EPS_LINE, masks.causal_mask, attention.split_heads, attention.merge_heads, layers.layer_norm,
    layers.gelu_tanh, layers.feed_forward, plain_model.MultiHeadSteps, plain_model.multi_head, plain_model.BlockSteps,
)  # fmt: skip
BLOCK_IMPORTS = ("from collections.abc import Callable, Mapping", "from dataclasses import dataclass")

PRE_NORM_BLOCK = Exercise(
    number=16, slug="pre_norm_block", references=(plain_model.pre_norm_block,), cases=_block_cases,
    topic="block", difficulty=3, importance=5, minutes=25, prerequisites=("multi_head", "layer_norm", "feed_forward"),
    line="resid_mid = resid_pre + attn_out;  mlp_in = layer_norm(resid_mid, ...);  resid_post = resid_mid + mlp_out",
    given=BLOCK_PARTS, imports=BLOCK_IMPORTS, bf16=1.0,
    axes=dict.fromkeys(("attn_in", "attn_out", "resid_mid", "mlp_in", "mlp_out", "resid_post"), "B T D"),
    properties=(Property("future_cannot_reach_past", ("plain", "last_position_changed"), _past_kept),),
    mutants=(
        mutant("no_first_norm", 'attn_in = layer_norm(resid_pre, weights["norm_1.weight"], weights["norm_1.bias"], EPS)', "attn_in = resid_pre"),
        mutant("post_norm", 'resid_mid = resid_pre + attn_out', 'resid_mid = layer_norm(resid_pre + attn_out, weights["norm_1.weight"], weights["norm_1.bias"], EPS)'),
        mutant("no_residual_attention", "resid_mid = resid_pre + attn_out", "resid_mid = attn_out"),
        mutant("residual_of_the_normed", "resid_mid = resid_pre + attn_out", "resid_mid = attn_in + attn_out"),
        mutant("mlp_reads_the_old_stream", "mlp_in = layer_norm(resid_mid,", "mlp_in = layer_norm(resid_pre,"),
        mutant("mlp_reads_unnormed", 'mlp_in = layer_norm(resid_mid, weights["norm_2.weight"], weights["norm_2.bias"], EPS)', "mlp_in = resid_mid"),
        mutant("same_norm_twice", 'weights["norm_2.weight"], weights["norm_2.bias"]', 'weights["norm_1.weight"], weights["norm_1.bias"]'),
        mutant("no_residual_mlp", "resid_mid + mlp_out)", "mlp_out)"),
        mutant("residual_of_the_start", "resid_mid + mlp_out)", "resid_pre + mlp_out)"),
        mutant("not_causal", "multi_head(attn_in, inside, n_heads, causal)", "multi_head(attn_in, inside, n_heads)"),
        mutant("other_activation", "        gelu_tanh,\n", "        torch.relu,\n"),
    ),
)  # fmt: skip


def _gpt_cases(draw: Draw) -> list[Case]:
    d, vocab, n_layers = 6, 11, 3
    weights = {"embed_tokens.weight": draw.normal(vocab, d), "embed_positions.weight": draw.normal(9, d)}
    for layer in range(n_layers):
        own = _block_weights(draw, d, 8)
        weights |= {f"blocks.{layer}.{name}": w for name, w in own.items()}
    weights |= {"final_norm.weight": 1 + draw.normal(d) / 2, "final_norm.bias": draw.normal(d)}
    ids = draw.ids(vocab, B, T)
    changed = ids.clone()
    changed[:, -1] = (ids[:, -1] + 1) % vocab
    return [
        Case("plain", (ids, weights, n_layers, 2)),
        Case("last_token_changed", (changed, weights, n_layers, 2)),
        Case("no_blocks", (ids, weights, 0, 2)),
        Case("one_token", (ids[:, :1], weights, n_layers, 3)),
    ]


GPT_FORWARD = Exercise(
    number=17, slug="gpt_forward", references=(plain_model.gpt_forward,), cases=_gpt_cases,
    topic="model", difficulty=4, importance=5, minutes=35, prerequisites=("pre_norm_block",),
    line="x = tokens[token_ids] + positions[0 … T−1];  for each layer x = pre_norm_block(x, its weights, n_heads).resid_post",
    given=(*BLOCK_PARTS, plain_model.pre_norm_block, plain_model.GPTSteps), imports=BLOCK_IMPORTS, bf16=1.0,
    axes={"embedded": "B T D", **{f"stream[{i}]": "B T D" for i in range(3)}, "final": "B T D", "logits": "B T V"},
    properties=(
        Property(
            "future_cannot_reach_past", ("plain", "last_token_changed"),
            lambda a, b: bool((a["logits"] - b["logits"])[:, :-1].abs().max() < 1e-3),
        ),
    ),
    mutants=(
        mutant("no_positions", ' + weights["embed_positions.weight"][positions]', ""),
        mutant("positions_by_token", '["embed_positions.weight"][positions]', '["embed_positions.weight"][token_ids % 9]'),
        mutant("positions_from_one", "torch.arange(token_ids.shape[-1], device=token_ids.device)", "torch.arange(1, token_ids.shape[-1] + 1, device=token_ids.device)"),
        mutant("same_weights", 'begin = f"blocks.{layer}."', 'begin = "blocks.0."'),
        mutant("not_chained", "pre_norm_block(stream[-1] if stream else embedded, own", "pre_norm_block(embedded, own"),
        mutant("layers_backwards", "for layer in range(n_layers):", "for layer in reversed(range(n_layers)):"),
        mutant("stream_of_mids", "own, n_heads).resid_post", "own, n_heads).resid_mid"),
        mutant("no_final_norm", "final = layer_norm(\n        stream[-1] if stream else embedded, weights[\"final_norm.weight\"], weights[\"final_norm.bias\"], EPS\n    )", "final = stream[-1] if stream else embedded"),
        mutant("logits_of_the_stream", "final @ weights[\"embed_tokens.weight\"].mT", "(stream[-1] if stream else embedded) @ weights[\"embed_tokens.weight\"].mT"),
        mutant("probabilities", "final @ weights[\"embed_tokens.weight\"].mT", "torch.softmax(final @ weights[\"embed_tokens.weight\"].mT, dim=-1)"),
    ),
)  # fmt: skip

EXERCISES = (LAYER_NORM, RMS_NORM, FEED_FORWARD, PRE_NORM_BLOCK, GPT_FORWARD)
