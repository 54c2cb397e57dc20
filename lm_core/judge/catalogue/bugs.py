"""Spot the bug: five mistakes that tutorials on language models really make, written afresh, to be found and repaired."""

import torch

from lm_core import attention, linear_probe, objectives, plain_model, probability
from lm_core.judge.catalogue import layers, training
from lm_core.judge.exercise import Case, Draw, Exercise, Property, mutant


def _row_cases(draw: Draw) -> list[Case]:
    counting = torch.arange(1.0, 17).view(4, 4)
    inf = torch.tensor(float("-inf"))
    masked = torch.where(draw.allowed(2, 3, 5, 5), draw.normal(2, 3, 5, 5), inf)
    nothing = masked.clone()
    nothing[0, 1, 2] = inf
    return [
        Case("one_to_sixteen", (counting @ counting.mT / 2,)),
        Case("plain", (draw.normal(2, 3, 5, 7),)),
        Case("masked", (masked,)),
        Case("a_row_that_sees_nothing", (nothing,), variants=False),
        Case("one_key", (draw.normal(2, 3, 5, 1),)),
    ]


BUG_ROWS = Exercise(
    number=31, slug="bug_rows", references=(attention.masked_softmax,), cases=_row_cases,
    topic="attention", difficulty=2, importance=4, minutes=10, prerequisites=("softmax",),
    line="total = exponentials.sum(dim=-1, keepdim=True)", axes={"": "B H Tq Tk"},
    properties=(Property("rows_sum_to_one", ("plain",), lambda w: bool((w.sum(-1) - 1).abs().max() < 1e-4)),),
    broken=(("total = exponentials.sum(dim=-1, keepdim=True)", "total = exponentials.sum(dim=(-2, -1), keepdim=True)"),),
    mutants=(
        mutant("whole_matrix", "total = exponentials.sum(dim=-1, keepdim=True)", "total = exponentials.sum(dim=(-2, -1), keepdim=True)"),
        mutant("columns", "total = exponentials.sum(dim=-1, keepdim=True)", "total = exponentials.sum(dim=-2, keepdim=True)"),
        mutant("everything", "total = exponentials.sum(dim=-1, keepdim=True)", "total = exponentials.sum()"),
        mutant("no_max", "    exponentials = torch.exp(masked - highest)", "    exponentials = torch.exp(masked)"),
        mutant("nan_row", "highest = torch.where(highest == -math.inf, 0.0, highest)  # −∞ − (−∞) would be NaN", "", "torch.where(total == 0, 1.0, total)", "total"),
    ),
)  # fmt: skip


def _hidden_cases(draw: Draw) -> list[Case]:
    def weights(vocab: int, d: int) -> dict[str, torch.Tensor]:
        table = {"embed_tokens.weight": draw.normal(vocab, d)}
        return table | {"final_norm.weight": 1 + draw.normal(d) / 2, "final_norm.bias": draw.normal(d)}

    return [
        Case("plain", (draw.normal(5, 6) * 3 + 1, weights(11, 6))),
        Case("as_wide_as_the_vocabulary", (draw.normal(5, 7) * 3 + 1, weights(7, 7))),
        Case("one_position", (draw.normal(1, 4), weights(9, 4))),
    ]


BUG_HIDDEN_STATE = Exercise(
    number=32, slug="bug_hidden_state", references=(plain_model.next_token_distribution,), cases=_hidden_cases,
    topic="model", difficulty=2, importance=4, minutes=10, prerequisites=("gpt_forward",),
    line='softmax(weights["embed_tokens.weight"] @ final)', axes={"": "V"}, bf16=0.2,
    given=(layers.WEIGHTS, layers.EPS_LINE, layers.LAYER_NORM.references[0], probability.softmax),
    imports=("from collections.abc import Mapping",),
    properties=(Property("sums_to_one", ("plain",), lambda p: bool((p.sum() - 1).abs() < 1e-4)),),
    broken=(('return softmax(weights["embed_tokens.weight"] @ final)', "return softmax(final)"),),
    mutants=(
        mutant("hidden_as_logits", 'return softmax(weights["embed_tokens.weight"] @ final)', "return softmax(final)"),
        mutant("norm_skipped", '@ final)', "@ resid_post[-1])"),
        mutant("first_position", "layer_norm(resid_post[-1],", "layer_norm(resid_post[0],"),
        mutant("all_positions", "layer_norm(resid_post[-1],", "layer_norm(resid_post.mean(dim=0),"),
        mutant("logits", 'return softmax(weights["embed_tokens.weight"] @ final)', 'return weights["embed_tokens.weight"] @ final'),
    ),
)  # fmt: skip


BUG_LABELS = Exercise(
    number=33, slug="bug_labels", references=(objectives.corrupt,), cases=training.corruption_cases, bf16=None,
    topic="objectives", difficulty=2, importance=4, minutes=10, prerequisites=("mlm_corrupt",),
    line="labels = torch.where(selected, token_ids, IGNORED)",
    given=training.MLM_PARTS, imports=("from dataclasses import dataclass",),
    axes={"inputs": "B T", "labels": "B T", "kind": "B T"},
    broken=(("labels = torch.where(selected, token_ids, IGNORED)", "labels = torch.where(selected, inputs, IGNORED)"),),
    mutants=(
        mutant("labels_of_the_inputs", "labels = torch.where(selected, token_ids, IGNORED)", "labels = torch.where(selected, inputs, IGNORED)"),
        mutant("labels_everywhere", "labels = torch.where(selected, token_ids, IGNORED)", "labels = token_ids"),
        mutant("labels_of_masked_only", "labels = torch.where(selected, token_ids, IGNORED)", "labels = torch.where(masked, token_ids, IGNORED)"),
        mutant("labels_of_the_rest", "labels = torch.where(selected, token_ids, IGNORED)", "labels = torch.where(selected, IGNORED, token_ids)"),
        mutant("labels_are_mask", "labels = torch.where(selected, token_ids, IGNORED)", "labels = torch.where(selected, mask_id, IGNORED)"),
    ),
)  # fmt: skip


def _shift_cases(draw: Draw) -> list[Case]:
    return [
        Case("plain", (draw.normal(2, 5, 7) * 2, draw.ids(7, 2, 5))),
        Case("one_prediction", (draw.normal(3, 2, 7), draw.ids(7, 3, 2))),
        Case("all_alike", (draw.normal(4, 4, 4), draw.ids(4, 4, 4))),
    ]


BUG_SHIFT = Exercise(
    number=34, slug="bug_shift", references=(probability.next_token_nats,), cases=_shift_cases,
    topic="objectives", difficulty=2, importance=5, minutes=10, prerequisites=("shift_targets", "cross_entropy"),
    line="cross_entropy(logits[:, :-1], token_ids[:, 1:])", bf16=0.1,
    given=(probability.log_softmax, probability.cross_entropy),
    broken=(("cross_entropy(logits[:, :-1], token_ids[:, 1:])", "cross_entropy(logits, token_ids)"),),
    mutants=(
        mutant("itself", "cross_entropy(logits[:, :-1], token_ids[:, 1:])", "cross_entropy(logits, token_ids)"),
        mutant("backwards", "cross_entropy(logits[:, :-1], token_ids[:, 1:])", "cross_entropy(logits[:, 1:], token_ids[:, :-1])"),
        mutant("over_texts", "cross_entropy(logits[:, :-1], token_ids[:, 1:])", "cross_entropy(logits[:-1], token_ids[1:])"),
        mutant("first_position_only", "cross_entropy(logits[:, :-1], token_ids[:, 1:])", "cross_entropy(logits[:, 0], token_ids[:, 1])"),
        mutant("rolled", "cross_entropy(logits[:, :-1], token_ids[:, 1:])", "cross_entropy(logits, token_ids.roll(-1, dims=1))"),
    ),
)  # fmt: skip


def _held_out_cases(draw: Draw) -> list[Case]:
    def data(n: int, d: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.cat([torch.arange(classes), draw.ids(classes, n - classes)])
        return draw.normal(n, d) + 0.5 * torch.eye(classes, d)[labels], labels

    return [
        Case(
            "pure_chance",
            (draw.normal(40, 24), torch.cat([torch.tensor([0, 1]), draw.ids(2, 38)]), 20, 0.5, 60),
            variants=False,
        ),
        Case("two_classes", (*data(200, 5, 2), 40, 0.1, 20), variants=False),
        Case("three_classes", (*data(300, 8, 3), 60, 0.1, 3), variants=False),
        Case("half", (*data(180, 5, 3), 90, 0.3, 10), variants=False),
    ]


BUG_EVALUATION = Exercise(
    number=35, slug="bug_evaluation", references=(linear_probe.held_out_accuracy,), cases=_held_out_cases, bf16=None,
    topic="evaluation", difficulty=2, importance=5, minutes=15, prerequisites=("precision_recall",), device=False,
    line="predictions = (features[n_train:] @ weight).argmax(dim=-1);  compare with labels[n_train:]",
    given=(probability.softmax,),
    properties=(Property("between_zero_and_one", ("two_classes",), lambda a: 0 <= a <= 1),),
    broken=(
        ("features[n_train:] @ weight", "features[:n_train] @ weight"),
        ("predictions == labels[n_train:]", "predictions == labels[:n_train]"),
    ),
    mutants=(
        mutant("judged_on_training", "features[n_train:] @ weight", "features[:n_train] @ weight", "predictions == labels[n_train:]", "predictions == labels[:n_train]"),
        mutant("judged_on_all", "features[n_train:] @ weight", "features @ weight", "predictions == labels[n_train:]", "predictions == labels"),
        mutant("trained_on_all", "x, y = features[:n_train],", "n_held_out, n_train = n_train, len(features)\n    x, y = features[:n_train],", "features[n_train:] @ weight", "features[n_held_out:] @ weight", "predictions == labels[n_train:]", "predictions == labels[n_held_out:]"),
        mutant("trained_on_the_others", "x, y = features[:n_train],", "x, y = features[n_train:],", "[labels[:n_train]]", "[labels[n_train:]]"),
        mutant("count", ".double().mean())", ".double().sum())"),
        mutant("error_rate", "(predictions == labels[n_train:])", "(predictions != labels[n_train:])"),
    ),
)  # fmt: skip

EXERCISES = (BUG_ROWS, BUG_HIDDEN_STATE, BUG_LABELS, BUG_SHIFT, BUG_EVALUATION)
