"""Exercises on training: what is asked, the optimiser, adapters, measures, eight bits."""

import torch

from lm_core import adapters, metrics, objectives, optim, quantise
from lm_core.judge.exercise import Case, Draw, Exercise, mutant

MASK_ID, VOCAB = 4, 30


def corruption_cases(draw: Draw) -> list[Case]:
    """Rows of words of one to three tokens between special tokens; enough of them that every fate occurs."""
    shape = (3, 24)
    ids = 5 + draw.ids(VOCAB - 5, *shape)
    begins = draw.uniform(*shape) < 0.6
    ordinary = torch.ones(shape, dtype=torch.bool)
    ordinary[:, 0] = False
    ordinary[1, 15:] = False
    ids[~ordinary] = 2
    words = objectives.word_numbers(begins, ordinary)

    def draws() -> objectives.Draws:
        return objectives.Draws(draw.uniform(*shape), draw.uniform(*shape), 5 + draw.ids(VOCAB - 5, *shape))

    return [
        Case("half_of_the_words", (ids, words, draws(), MASK_ID), {"select_share": 0.5}, variants=False),
        Case("fifteen_percent", (ids, words, draws(), MASK_ID), variants=False),
        Case("other_shares", (ids, words, draws(), MASK_ID), {"select_share": 0.8, "mask_share": 0.4, "replace_share": 0.3}, variants=False),
        Case("all_masked", (ids, words, draws(), MASK_ID), {"select_share": 1.0, "mask_share": 1.0, "replace_share": 0.0}, variants=False),
        Case("nothing_selected", (ids, words, draws(), MASK_ID), {"select_share": 0.0}, variants=False),
        Case("impossible_shares", (ids, words, draws(), MASK_ID), {"mask_share": 0.8, "replace_share": 0.4}, variants=False),
    ]  # fmt: skip


MLM_PARTS = (
    "IGNORED = -100  # the label that cross-entropy leaves out\nUNTOUCHED, MASKED, REPLACED, KEPT = range(4)",
    objectives.Draws, objectives.Corrupted,
)  # fmt: skip

MLM_CORRUPT = Exercise(
    number=23, slug="mlm_corrupt", references=(objectives.corrupt,), cases=corruption_cases, bf16=None,
    topic="objectives", difficulty=4, importance=4, minutes=30,
    line="masked = selected & (draws.kind < mask_share);  replaced = selected & ~masked & (draws.kind < mask_share + replace_share)",
    given=MLM_PARTS, imports=("from dataclasses import dataclass",),
    axes={"inputs": "B T", "labels": "B T", "kind": "B T"},
    mutants=(
        mutant("labels_of_the_inputs", "labels = torch.where(selected, token_ids, IGNORED)", "labels = torch.where(selected, inputs, IGNORED)"),
        mutant("labels_everywhere", "labels = torch.where(selected, token_ids, IGNORED)", "labels = token_ids"),
        mutant("labels_of_masked_only", "labels = torch.where(selected, token_ids, IGNORED)", "labels = torch.where(masked, token_ids, IGNORED)"),
        mutant("none_kept", "selected & ~masked & (draws.kind < mask_share + replace_share)", "selected & ~masked"),
        mutant("same_share_of_the_draw", "draws.kind < mask_share + replace_share", "draws.kind < replace_share"),
        mutant("tokens_not_words", "of_word = draws.select.gather(-1, words.clamp(min=0))", "of_word = draws.select"),
        mutant("special_tokens_too", "selected = (words >= 0) & (of_word < select_share)", "selected = of_word < select_share"),
        mutant("all_masked", "masked = selected & (draws.kind < mask_share)", "masked = selected"),
        mutant("share_reversed", "of_word < select_share", "of_word > select_share"),
        mutant("not_refused", "    if not (0 <= select_share", "    if False and not (0 <= select_share"),
    ),
)  # fmt: skip


SHIFT_TARGETS = Exercise(
    number=24, slug="shift_targets", references=(objectives.next_token_targets,),
    cases=lambda draw: [
        Case("plain", (draw.ids(20, 2, 6),)),
        Case("one_prediction", (draw.ids(20, 3, 2),)),
        Case("no_batch", (draw.ids(20, 7),)),
        Case("square", (draw.ids(20, 5, 5),)),
        Case("one_token", (draw.ids(20, 2, 1),)),
    ],
    topic="objectives", difficulty=1, importance=5, minutes=10,
    line="token_ids[..., :-1], token_ids[..., 1:]", axes={"[0]": "B T", "[1]": "B T"},
    mutants=(
        mutant("not_shifted", "token_ids[..., :-1], token_ids[..., 1:]", "token_ids[..., :-1], token_ids[..., :-1]"),
        mutant("backwards", "token_ids[..., :-1], token_ids[..., 1:]", "token_ids[..., 1:], token_ids[..., :-1]"),
        mutant("rolled", "token_ids[..., :-1], token_ids[..., 1:]", "token_ids, token_ids.roll(-1, dims=-1)"),
        mutant("over_texts", "token_ids[..., :-1], token_ids[..., 1:]", "token_ids[:-1], token_ids[1:]"),
        mutant("by_two", "token_ids[..., :-1], token_ids[..., 1:]", "token_ids[..., :-2], token_ids[..., 2:]"),
        mutant("full_inputs", "token_ids[..., :-1], token_ids[..., 1:]", "token_ids, token_ids[..., 1:]"),
        mutant("not_refused", "    if token_ids.shape[-1] < 2:\n", "    if False:\n"),
    ),
)  # fmt: skip


def _adamw_cases(draw: Draw) -> list[Case]:
    param, grad = draw.normal(3, 4), draw.normal(3, 4)
    zero = torch.zeros(3, 4)
    later = optim.AdamState(6, draw.normal(3, 4) / 3, draw.uniform(3, 4))
    return [
        Case("first_step", (param, grad, optim.AdamState(0, zero, zero), 0.1), variants=False),
        Case("seventh_step", (param, grad, later, 0.1), variants=False),
        Case("strong_decay", (param, grad, later, 0.1), {"weight_decay": 0.9}, variants=False),
        Case("no_decay", (param, grad, later, 0.1), {"weight_decay": 0.0}, variants=False),
        Case("other_betas", (param, grad, later, 0.02), {"betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.3}, variants=False),
        Case("one_number", (param[0, 0], grad[0, 0], optim.AdamState(2, grad[0, 1], grad[0, 2].square()), 0.1), variants=False),
    ]  # fmt: skip


ADAMW_STEP = Exercise(
    number=25, slug="adamw_step", references=(optim.adamw_step,), cases=_adamw_cases, bf16=None,
    topic="optimizer", difficulty=3, importance=4, minutes=30,
    line="param * (1 - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps),  m_hat = m / (1 - betas[0] ** step)",
    given=(optim.AdamState, optim.adam_start), uses=(optim.adam_step,), imports=("from dataclasses import dataclass",),
    mutants=(
        mutant("no_bias_correction", "m_hat = m / (1 - betas[0] ** step)", "m_hat = m", "v_hat = v / (1 - betas[1] ** step)", "v_hat = v"),
        mutant("coupled_decay", "adam_step(param * (1 - lr * weight_decay), grad, state, lr, betas, eps)", "adam_step(param, grad, state, lr, betas, eps, weight_decay)"),
        mutant("decay_without_lr", "param * (1 - lr * weight_decay)", "param * (1 - weight_decay)"),
        mutant("decay_ignored", "param * (1 - lr * weight_decay)", "param"),
        mutant("decay_after", "    return adam_step(param * (1 - lr * weight_decay), grad, state, lr, betas, eps)", "    new, state = adam_step(param, grad, state, lr, betas, eps)\n    return new * (1 - lr * weight_decay), state"),
        mutant("eps_inside", "(v_hat.sqrt() + eps)", "(v_hat + eps).sqrt()"),
        mutant("no_root", "(v_hat.sqrt() + eps)", "(v_hat + eps)"),
        mutant("not_squared", "(1 - betas[1]) * grad.square()", "(1 - betas[1]) * grad.abs()"),
        mutant("step_late", "step = state.step + 1", "step = max(1, state.step)", "AdamState(step, m, v)\n\n", "AdamState(state.step + 1, m, v)\n\n"),
        mutant("hats_kept", "AdamState(step, m, v)\n\n", "AdamState(step, m_hat, v_hat)\n\n"),
        mutant("betas_swapped", "m = betas[0] * state.m + (1 - betas[0]) * grad", "m = (1 - betas[0]) * state.m + betas[0] * grad"),
        mutant("uphill", "param - lr * m_hat", "param + lr * m_hat"),
    ),
)  # fmt: skip


WARMUP_COSINE = Exercise(
    number=26, slug="warmup_cosine", references=(optim.warmup_cosine,),
    cases=lambda draw: [
        Case("in_the_warm_up", (3, 100, 10, 0.1)),
        Case("first_step", (0, 100, 10, 0.1)),
        Case("peak", (10, 100, 10, 0.1)),
        Case("middle", (55, 100, 10, 0.1)),
        Case("end", (100, 100, 10, 0.1)),
        Case("after_the_end", (130, 100, 10, 0.1)),
        Case("no_warm_up", (20, 80, 0, 0.0)),
        Case("any", (11 + int(draw.ids(80)), 100, 7, 0.25)),
    ],
    topic="optimizer", difficulty=2, importance=3, minutes=15, device=False,
    line="floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)),  progress = (step - warmup) / (n_steps - warmup)",
    mutants=(
        mutant("starts_at_zero", "return (step + 1) / warmup", "return step / warmup"),
        mutant("no_warm_up", "    if step < warmup:\n        return (step + 1) / warmup\n", ""),
        mutant("warm_up_counted_twice", "(step - warmup) / max(1, n_steps - warmup)", "step / n_steps"),
        mutant("rises", "(1 + math.cos", "(1 - math.cos"),
        mutant("no_half", "(1 - floor) * 0.5 *", "(1 - floor) *"),
        mutant("floor_on_top", "floor + (1 - floor) * 0.5", "floor + 0.5"),
        mutant("no_floor", "floor + (1 - floor) * 0.5", "0.5"),
        mutant("comes_back", "min(1.0, (step - warmup) / max(1, n_steps - warmup))", "(step - warmup) / max(1, n_steps - warmup)"),
        mutant("line", "0.5 * (1 + math.cos(math.pi * progress))", "(1 - progress)"),
    ),
)  # fmt: skip


def _clip_cases(draw: Draw) -> list[Case]:
    grads = [draw.normal(3, 4), draw.normal(5), draw.normal(1)]
    return [
        Case("too_long", (grads, 1.0)),
        Case("short_enough", ([g / 100 for g in grads], 1.0)),
        Case("one_tensor", (grads[:1], 0.5)),
        Case("just_one_is_long", ([grads[0] * 100, grads[1] / 100], 2.0)),
        Case("nothing", ([], 1.0), variants=False),
        Case("limit_of_zero", (grads, 0.0), variants=False),
    ]


CLIP = Exercise(
    number=27, slug="clip_gradients", references=(optim.clip_by_global_norm,), cases=_clip_cases, bf16=None,
    topic="optimizer", difficulty=2, importance=3, minutes=15,
    line="norm = sqrt(Σ over all tensors of Σ g²);  factor = min(1, max_norm / (norm + 1e-6));  every gradient times factor",
    imports=("from collections.abc import Sequence",),
    mutants=(
        mutant("each_alone", "return [grad * factor for grad in grads], norm", "return [grad * (max_norm / (grad.norm() + 1e-6)).clamp(max=1.0) for grad in grads], norm"),
        mutant("values_cut", "return [grad * factor for grad in grads], norm", "return [grad.clamp(-max_norm, max_norm) for grad in grads], norm"),
        mutant("always", ".clamp(max=1.0)", ""),
        mutant("norms_added", "torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()", "torch.stack([grad.norm() for grad in grads]).sum()"),
        mutant("no_root", "for grad in grads]).sum().sqrt()", "for grad in grads]).sum()"),
        mutant("norm_after", "return [grad * factor for grad in grads], norm", "return [grad * factor for grad in grads], norm * factor"),
        mutant("inverse", "max_norm / (norm + 1e-6)", "(norm + 1e-6) / max_norm"),
        mutant("largest_only", "torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()", "torch.stack([grad.square().sum() for grad in grads]).max().sqrt()"),
        mutant("not_refused", "    if not max_norm > 0:\n", "    if False:\n"),
    ),
)  # fmt: skip


def _lora_cases(draw: Draw) -> list[Case]:
    n_in, n_out, rank = 5, 4, 2
    x, weight, bias = draw.normal(2, 3, n_in), draw.normal(n_out, n_in), draw.normal(n_out)
    a, b = draw.normal(rank, n_in), draw.normal(n_out, rank)
    return [
        Case("plain", (x, weight, bias, a, b, 2.0)),
        Case("no_bias", (x, weight, None, a, b, 0.25)),
        Case("b_still_zero", (x, weight, bias, a, torch.zeros_like(b), 2.0)),
        Case(
            "square", (draw.normal(3, 3), draw.normal(3, 3), draw.normal(3), draw.normal(3, 3), draw.normal(3, 3), 0.5)
        ),
        Case("merged", (weight, a, b, 0.5), function=1),
        Case("merged_square", (draw.normal(3, 3), draw.normal(3, 3), draw.normal(3, 3), 2.0), function=1),
    ]


LORA = Exercise(
    number=28, slug="lora_forward", references=(adapters.lora_forward, adapters.lora_merge), cases=_lora_cases,
    topic="finetuning", difficulty=2, importance=4, minutes=15, bf16=0.1,
    line="F.linear(x, weight, bias) + scale * ((x @ a.mT) @ b.mT)   and   weight + scale * (b @ a)",
    mutants=(
        mutant("no_scale", "+ scale * ((x @ a.mT)", "+ ((x @ a.mT)"),
        mutant("scale_on_everything", "return F.linear(x, weight, bias) + scale * ((x @ a.mT) @ b.mT)", "return scale * (F.linear(x, weight, bias) + (x @ a.mT) @ b.mT)"),
        mutant("detour_only", "return F.linear(x, weight, bias) + scale", "return scale"),
        mutant("no_bias", "F.linear(x, weight, bias)", "F.linear(x, weight)"),
        mutant("bias_scaled", "return F.linear(x, weight, bias) + scale * ((x @ a.mT) @ b.mT)", "return F.linear(x, weight) + scale * (F.linear(x @ a.mT, b, bias))"),
        mutant("divided", "+ scale * ((x @ a.mT) @ b.mT)", "+ ((x @ a.mT) @ b.mT) / scale"),
        mutant("merge_no_scale", "weight + scale * (b @ a)", "weight + b @ a"),
        mutant("merge_scales_weight", "weight + scale * (b @ a)", "scale * (weight + b @ a)"),
        mutant("merge_detour_only", "weight + scale * (b @ a)", "scale * (b @ a)"),
        mutant("merge_transposed", "weight + scale * (b @ a)", "weight + scale * (a.mT @ b.mT)"),
    ),
)  # fmt: skip


def _report_cases(draw: Draw) -> list[Case]:
    labels, predictions = draw.ids(3, 40), draw.ids(3, 40)
    labels[:6], predictions[:6] = 0, torch.tensor([0, 0, 0, 1, 1, 2])
    table = torch.tensor([[50, 3, 2], [10, 20, 5], [0, 4, 6]]) + draw.ids(3, 3, 3)
    never = torch.tensor([[4, 0, 1], [2, 0, 3], [0, 0, 0]])
    functions = ("confusion", "accuracy", "precision", "recall", "f1")
    cases = [Case("confusion", (labels, predictions, 3)), Case("more_classes_than_seen", (labels, predictions, 5))]
    cases += [Case(name, (table,), function=i) for i, name in enumerate(functions) if i]
    cases += [Case(f"{name}_of_a_class_never_seen", (never,), function=i) for i, name in enumerate(functions) if i > 1]
    cases += [Case("unknown_class", (labels, predictions, 2)), Case("different_lengths", (labels, predictions[1:], 3))]
    return cases


PRECISION_RECALL = Exercise(
    number=29, slug="precision_recall",
    references=(metrics.confusion_matrix, metrics.accuracy, metrics.precision, metrics.recall, metrics.f1),
    cases=_report_cases, bf16=None, topic="evaluation", difficulty=2, importance=4, minutes=25,
    line="hits = confusion.diagonal();  precision: hits / confusion.sum(dim=0);  recall: hits / confusion.sum(dim=1)",
    uses=(metrics._share,),
    mutants=(
        mutant("transposed", "both[0] * n_classes + both[1]", "both[1] * n_classes + both[0]"),
        mutant("accuracy_by_class", "float(confusion.diagonal().sum() / confusion.sum())", "float((confusion.diagonal() / confusion.sum(dim=1)).mean())"),
        mutant("precision_is_recall", "_share(confusion.diagonal(), confusion.sum(dim=0))", "_share(confusion.diagonal(), confusion.sum(dim=1) + 0)"),
        mutant("recall_is_precision", "_share(confusion.diagonal(), confusion.sum(dim=1))", "_share(confusion.diagonal(), confusion.sum(dim=0) + 0)"),
        mutant("nothing_over_nothing", "torch.where(whole > 0, part.double() / whole.clamp(min=1), 0.0)", "part.double() / whole"),
        mutant("arithmetic_mean", "_share(2 * confusion.diagonal(), confusion.sum(dim=0) + confusion.sum(dim=1))", "(precision(confusion) + recall(confusion)) / 2"),
        mutant("no_two", "_share(2 * confusion.diagonal(),", "_share(confusion.diagonal(),"),
        mutant("over_all", "_share(confusion.diagonal(), confusion.sum(dim=0))", "_share(confusion.diagonal(), confusion.sum())"),
        mutant("not_refused", "    if both.min() < 0 or both.max() >= n_classes:\n", "    both = both.clamp(0, n_classes - 1)\n    if both.min() < 0 or both.max() >= n_classes:\n"),
    ),
)  # fmt: skip


def _int8_cases(draw: Draw) -> list[Case]:
    """Numbers that stand clear of the half-way points, so that every right formula rounds them alike."""
    step = torch.tensor([0.01, 0.2, 0.003, 0.07])[:, None]
    levels = (draw.ids(201, 4, 9) - 100).float() + 0.6 * (draw.uniform(4, 9) - 0.5)
    levels[:, 0] = torch.tensor([127.0, -127.0, 127.0, -127.0])
    with_zeros = levels * step
    with_zeros[1] = 0
    return [
        Case("plain", (levels * step,), variants=False),
        Case("a_row_of_zeros", (with_zeros,), variants=False),
        Case("one_row", (levels[:1] * 0.5,), variants=False),
        Case("negative_largest", (-levels.abs() * step,), variants=False),
        Case("back", (levels.round().to(torch.int8), step), function=1, variants=False),
        Case("back_again", (levels[:, :4].round().to(torch.int8), step * 3), function=1, variants=False),
    ]


INT8 = Exercise(
    number=30, slug="int8", references=(quantise.quantise_int8, quantise.dequantise_int8), cases=_int8_cases, bf16=None,
    topic="compression", difficulty=2, importance=3, minutes=20,
    line="scale = weight.abs().amax(dim=-1, keepdim=True) / 127;  torch.round(weight / scale).to(torch.int8)",
    given=("LEVELS = 127  # of each sign: −128 is left unused, so that the range is symmetric",),
    axes={"": "out in", "[0]": "out in", "[1]": "out 1"},
    mutants=(
        mutant("one_scale", "weight.abs().amax(dim=-1, keepdim=True)", "weight.abs().max().expand(weight.shape[0], 1)"),
        mutant("scale_of_columns", "weight.abs().amax(dim=-1, keepdim=True)", "weight.abs().amax(dim=-2, keepdim=True)"),
        mutant("cut_not_rounded", "torch.round(weight / scale).to(torch.int8)", "(weight / scale).to(torch.int8)"),
        mutant("floor", "torch.round(weight / scale)", "torch.floor(weight / scale)"),
        mutant("levels_128", "largest / LEVELS", "largest / 128"),
        mutant("levels_255", "largest / LEVELS", "largest / 255"),
        mutant("sign_forgotten", "weight.abs().amax", "weight.amax"),
        mutant("zero_row", "torch.where(largest == 0, 1.0, largest / LEVELS)", "largest / LEVELS"),
        mutant("divided", "quantised.to(scale.dtype) * scale", "quantised.to(scale.dtype) / scale"),
        mutant("scale_inverted", "return torch.round(weight / scale).to(torch.int8), scale", "return torch.round(weight / scale).to(torch.int8), 1 / scale"),
    ),
)  # fmt: skip

EXERCISES = (
    MLM_CORRUPT, SHIFT_TARGETS, ADAMW_STEP, WARMUP_COSINE, CLIP, LORA, PRECISION_RECALL, INT8,
)  # fmt: skip
