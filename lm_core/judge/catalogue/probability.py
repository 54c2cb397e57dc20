"""Exercises on probability: softmax, losses, choosing the next token."""

import torch

from lm_core import probability, sampling
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
    speed=lambda draw: Case("large", (draw.normal(8, 40, 64),)),
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


def _cross_entropy_cases(draw: Draw) -> list[Case]:
    logits, targets = draw.normal(2, 5, 7) * 2, draw.ids(7, 2, 5)
    targets[0, 0] = 0
    padded = targets.clone()
    padded[0, 1:] = -100
    return [
        Case("plain", (logits, targets)),
        Case("padding", (logits, padded)),
        Case("very_unlikely", (logits * 100, targets)),
        Case("one_prediction", (draw.normal(1, 4), draw.ids(4, 1))),
        Case("other_ignored_class", (logits, targets), {"ignored": 0}),
        Case("square", (draw.normal(6, 6), draw.ids(6, 6))),
    ]


CROSS_ENTROPY = Exercise(
    number=18, slug="cross_entropy", references=(probability.cross_entropy,), cases=_cross_entropy_cases,
    topic="loss", difficulty=2, importance=5, minutes=20, prerequisites=("softmax",),
    line="-log_softmax.gather(-1, targets[..., None]).squeeze(-1);  then the sum over counted / counted.sum()",
    uses=(probability.log_softmax,),
    bf16=0.1,
    mutants=(
        mutant("log_of_softmax", "log_softmax(logits).gather", "torch.softmax(logits, dim=-1).log().gather"),
        mutant("mean_over_padding", "/ counted.sum()", "/ counted.numel()"),
        mutant("sum", "torch.where(counted, nats, 0).sum() / counted.sum()", "torch.where(counted, nats, 0).sum()"),
        mutant("sign", "nats = -log_softmax", "nats = log_softmax"),
        mutant("padding_scored", "    return torch.where(counted, nats, 0).sum() / counted.sum()", "    return nats.mean()"),
        mutant("class_zero_eaten", "counted = targets != ignored", "counted = (targets != ignored) & (targets != 0)"),
        mutant("mean_of_means", "return torch.where(counted, nats, 0).sum() / counted.sum()", "return (torch.where(counted, nats, 0).sum(-1) / counted.sum(-1)).mean()"),
        mutant("bits", "nats = -log_softmax(logits).gather(-1, picked).squeeze(-1)", "nats = -log_softmax(logits).gather(-1, picked).squeeze(-1) / math.log(2)"),
        mutant("minus_hundred_fixed", "targets != ignored", "targets != -100"),
        mutant("raw_logits", "-log_softmax(logits).gather", "-logits.gather"),
    ),
)  # fmt: skip


def _sequence_cases(draw: Draw) -> list[Case]:
    return [
        Case("plain", (draw.ids(7, 5), draw.normal(5, 7))),
        Case("one_prediction", (draw.ids(7, 2), draw.normal(2, 7))),
        Case("a_long_text", (draw.ids(50, 400), draw.normal(400, 50)), variants=False),
        Case("as_many_tokens_as_words", (draw.ids(6, 6), draw.normal(6, 6))),
    ]


SEQUENCE_LOG_PROB = Exercise(
    number=19, slug="sequence_log_prob", references=(probability.sequence_log_prob,), cases=_sequence_cases,
    topic="probability", difficulty=2, importance=5, minutes=20, prerequisites=("cross_entropy",),
    line="log_softmax(logits[:-1]).gather(-1, token_ids[1:, None]).sum()",
    given=(probability.log_softmax,),
    bf16=0.1,
    mutants=(
        mutant("not_shifted", "log_softmax(logits[:-1])", "log_softmax(logits[1:])"),
        mutant("first_token_too", "log_softmax(logits[:-1])", "log_softmax(logits)", "token_ids[1:, None]", "token_ids[:, None]"),
        mutant("log_of_the_product", "return log_probs.gather(-1, token_ids[1:, None]).sum()", "return log_probs.exp().gather(-1, token_ids[1:, None]).prod().log()"),
        mutant("product_of_logs", "token_ids[1:, None]).sum()", "token_ids[1:, None]).prod()"),
        mutant("mean", "token_ids[1:, None]).sum()", "token_ids[1:, None]).mean()"),
        mutant("probability", "token_ids[1:, None]).sum()", "token_ids[1:, None]).sum().exp()"),
        mutant("sign", "return log_probs.gather", "return -log_probs.gather"),
        mutant("wrong_axis", "log_probs = log_softmax(logits[:-1])", "log_probs = log_softmax(logits[:-1].mT).mT"),
        mutant("last_row_too", "    return log_probs", "    log_probs = log_softmax(logits)\n    token_ids = torch.cat([token_ids, token_ids[-1:]])\n    return log_probs"),
    ),
)  # fmt: skip


def _perplexity_cases(draw: Draw) -> list[Case]:
    log_probs = -draw.uniform(6) * 4
    return [
        Case("two_tokens", (torch.log(torch.tensor([0.5, 0.125])),), variants=False),
        Case("six_tokens", (log_probs,), variants=False),
        Case("certain", (torch.zeros(4),), variants=False),
        Case("one_token", (log_probs[:1],), variants=False),
        Case("bytes_of_english", (log_probs, "a cat sat here"), function=1, variants=False),
        Case("bytes_of_chinese", (log_probs, "猫坐在这里。"), function=1, variants=False),
        Case("bytes_of_nothing", (log_probs[:0], ""), function=1, variants=False),
    ]


PERPLEXITY = Exercise(
    number=20, slug="perplexity", references=(probability.perplexity_of, probability.bits_per_byte_of),
    cases=_perplexity_cases, device=False, bf16=None,
    topic="probability", difficulty=1, importance=4, minutes=10, prerequisites=("sequence_log_prob",),
    line="math.exp(-float(log_probs.mean()))   and   -float(log_probs.sum()) / math.log(2) / len(text.encode())",
    mutants=(
        mutant("of_the_sum", "math.exp(-float(log_probs.double().mean()))", "math.exp(-float(log_probs.double().sum()))"),
        mutant("base_two", "math.exp(-float(log_probs.double().mean()))", "2 ** -float(log_probs.double().mean())"),
        mutant("sign", "math.exp(-float(log_probs.double().mean()))", "math.exp(float(log_probs.double().mean()))"),
        mutant("mean_of_inverses", "math.exp(-float(log_probs.double().mean()))", "float((-log_probs.double()).exp().mean())"),
        mutant("characters", "len(text.encode())", "len(text)"),
        mutant("nats", " / math.log(2) / n_bytes", " / n_bytes"),
        mutant("per_token", " / math.log(2) / n_bytes", " / math.log(2) / max(1, len(log_probs))"),
        mutant("times_log_two", " / math.log(2) / n_bytes", " * math.log(2) / n_bytes"),
        mutant("not_refused", '        raise ValueError("bits per byte of an empty text is not defined")\n', "        return 0.0\n"),
    ),
)  # fmt: skip


def _top_k_cases(draw: Draw) -> list[Case]:
    logits = draw.normal(3, 9)
    return [
        Case("cold", (logits, 0.5)),
        Case("hot", (logits, 2.0)),
        Case("greedy_is_not_for_here", (logits, 0.0), variants=False),
        Case("three", (logits, 3), function=1),
        Case("one", (logits, 1), function=1),
        Case("more_than_there_are", (logits, 20), function=1),
        Case("ties", (torch.tensor([[2.0, 1.0, 2.0, 3.0, 0.0]]), 2), function=1),
    ]


TOP_K = Exercise(
    number=21, slug="top_k", references=(sampling.apply_temperature, sampling.keep_top_k), cases=_top_k_cases,
    topic="sampling", difficulty=2, importance=4, minutes=15, prerequisites=("softmax",),
    line="kth = logits.topk(k, dim=-1).values[..., -1:];  logits.masked_fill(logits < kth, -math.inf)",
    given=(probability.softmax,), axes={"": "B V"},
    mutants=(
        mutant("multiplied", "return logits / temperature", "return logits * temperature"),
        mutant("probabilities", "return logits / temperature", "return softmax(logits / temperature)"),
        mutant("temperature_not_refused", "    if not temperature > 0:\n", "    if False:\n"),
        mutant("zero", "logits.masked_fill(logits < kth, -math.inf)", "logits.masked_fill(logits < kth, 0.0)"),
        mutant("kth_lost", "logits < kth", "logits <= kth"),
        mutant("smallest", "logits.topk(min(k, logits.shape[-1]), dim=-1)", "logits.topk(min(k, logits.shape[-1]), dim=-1, largest=False)"),
        mutant("all_rows", "logits < kth", "logits < kth.max()"),
        mutant("ties_cut", "    return logits.masked_fill(logits < kth, -math.inf)", "    best = logits.topk(min(k, logits.shape[-1]), dim=-1).indices\n    return torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best))"),
        mutant("too_many", "logits.topk(min(k, logits.shape[-1]), dim=-1)", "logits.topk(k, dim=-1)"),
    ),
)  # fmt: skip


def _top_p_cases(draw: Draw) -> list[Case]:
    logits = draw.normal(3, 9) * 2
    return [
        Case(
            "crossing", (torch.log(torch.tensor([[0.1, 0.5, 0.25, 0.15], [0.05, 0.05, 0.1, 0.8]])), 0.7), variants=False
        ),
        Case("most", (logits, 0.9), variants=False),
        Case("half", (logits, 0.5), variants=False),
        Case("only_the_best", (logits, 0.01), variants=False),
        Case("flat", (torch.zeros(1, 8) + torch.arange(8) * 1e-3, 0.55), variants=False),
    ]


TOP_P = Exercise(
    number=22, slug="top_p", references=(sampling.keep_top_p,), cases=_top_p_cases, bf16=None,
    topic="sampling", difficulty=3, importance=4, minutes=25, prerequisites=("top_k",),
    line="before = probabilities.cumsum(dim=-1) - probabilities;  removed where before >= p, scattered back by the sort's index",
    given=(probability.softmax,), axes={"": "B V"},
    mutants=(
        mutant("crossing_dropped", "before = probabilities.cumsum(dim=-1) - probabilities", "before = probabilities.cumsum(dim=-1)"),
        mutant("ignored", "return logits.masked_fill(removed, -math.inf)", "return logits"),
        mutant("ascending", "descending=True, stable=True", "descending=False, stable=True"),
        mutant("not_put_back", "torch.zeros_like(logits, dtype=torch.bool).scatter(-1, index, before >= p)", "before >= p"),
        mutant("sorted_returned", "return logits.masked_fill(removed, -math.inf)", "return ordered.masked_fill(before >= p, -math.inf)"),
        mutant("logits_summed", "probabilities = softmax(ordered)", "probabilities = ordered"),
        mutant("zero", "return logits.masked_fill(removed, -math.inf)", "return logits.masked_fill(removed, 0.0)"),
        mutant("threshold", "    return logits.masked_fill(removed, -math.inf)", "    return logits.masked_fill(softmax(logits) < 1 - p, -math.inf)"),
        mutant("probabilities_returned", "return logits.masked_fill(removed, -math.inf)", "return softmax(logits.masked_fill(removed, -math.inf))"),
        mutant("one_too_many", "before >= p", "before - probabilities >= p"),
    ),
)  # fmt: skip

EXERCISES = (SOFTMAX, CROSS_ENTROPY, SEQUENCE_LOG_PROB, PERPLEXITY, TOP_K, TOP_P)
