"""Choosing a token: against transformers' warpers in the same order, and that draws follow the distribution."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from lm_core.probability import softmax
from lm_core.sampling import (
    ORDER,
    SamplingConfig,
    apply_temperature,
    filter_logits,
    filter_stages,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    sample,
)

VOCAB = 53


def _logits(batch: int = 4, seed: int = 0) -> Tensor:
    return 3 * torch.randn(batch, VOCAB, generator=torch.Generator().manual_seed(seed))


def _by_transformers(logits: Tensor, config: SamplingConfig) -> Tensor:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    no_ids = torch.zeros(len(logits), 1, dtype=torch.long)
    logits = TemperatureLogitsWarper(config.temperature)(no_ids, logits)
    if config.top_k:
        logits = TopKLogitsWarper(config.top_k)(no_ids, logits)
    return TopPLogitsWarper(config.top_p)(no_ids, logits) if config.top_p < 1 else logits


@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 0.01])
@pytest.mark.parametrize("top_k", [0, 1, 7, VOCAB, 1000])
@pytest.mark.parametrize("temperature", [0.1, 0.8, 1.0, 2.5])
def test_filters_equal_transformers(temperature: float, top_k: int, top_p: float) -> None:
    config = SamplingConfig(temperature, top_k, top_p)
    for seed in range(5):
        logits = _logits(seed=seed)
        assert torch.equal(filter_logits(logits, config), _by_transformers(logits, config))


def test_the_order_is_temperature_then_top_k_then_top_p() -> None:
    """Another order leaves another set: temperature decides how many tokens top-p needs, top-k what it renormalises."""
    logits = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    ours = filter_logits(logits, SamplingConfig(temperature=2.0, top_k=3, top_p=0.6))
    in_order = keep_top_p(keep_top_k(apply_temperature(logits, 2.0), 3), 0.6)
    assert torch.equal(ours, in_order)
    flattened_last = keep_top_p(logits, 0.6)
    assert ours.isfinite().sum() == 2
    assert keep_top_p(apply_temperature(logits, 20.0), 0.6).isfinite().sum() == 3
    assert flattened_last.isfinite().sum() == 2
    p_before_k = keep_top_k(keep_top_p(logits, 0.75), 2)
    assert p_before_k.isfinite().sum() == 2
    assert filter_logits(logits, SamplingConfig(top_k=2, top_p=0.5)).isfinite().sum() == 1  # 0.4 of 0.7 crosses 0.5
    assert keep_top_p(logits, 0.5).isfinite().sum() == 2  # 0.4 of 1.0 does not


def test_ties_with_the_kth_are_kept() -> None:
    assert keep_top_k(torch.tensor([2.0, 1.0, 2.0, 2.0, 0.0]), 2).isfinite().tolist() == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_the_token_that_crosses_p_is_kept() -> None:
    probabilities = torch.tensor([0.125, 0.5, 0.25, 0.125])  # powers of two: the sums are exact
    logits = probabilities.log()
    kept = {p: keep_top_p(logits, p).isfinite().tolist() for p in (0.001, 0.5, 0.51, 0.75, 0.76)}
    assert kept[0.001] == kept[0.5] == [False, True, False, False]
    assert kept[0.51] == kept[0.75] == [False, True, True, False]
    assert kept[0.76] == [True, True, True, False]  # of two equals the first is taken


def test_what_is_kept_is_not_changed_and_the_input_neither() -> None:
    logits = _logits()
    before = logits.clone()
    out = filter_logits(logits, SamplingConfig(top_k=5, top_p=0.7))
    assert torch.equal(logits, before)
    assert torch.equal(out[out.isfinite()], logits[out.isfinite()])


def test_temperature_sharpens_and_flattens() -> None:
    logits = _logits()
    torch.testing.assert_close(softmax(apply_temperature(logits, 0.5)), softmax(logits).square().div(
        softmax(logits).square().sum(dim=-1, keepdim=True)), rtol=1e-5, atol=1e-9)  # fmt: skip
    with pytest.raises(ValueError, match=r"temperature 0\.0 must be positive"):
        apply_temperature(logits, 0.0)


def test_greedy_takes_the_favourite_and_needs_no_number() -> None:
    logits = _logits()
    assert torch.equal(sample(logits, SamplingConfig(temperature=0.0)), logits.argmax(dim=-1))
    left = filter_logits(logits, SamplingConfig(temperature=0.0))
    assert left.isfinite().sum(dim=-1).tolist() == [1] * 4
    tie = torch.tensor([[1.0, 4.0, 4.0]])
    assert sample(tie, SamplingConfig(temperature=0.0)).tolist() == [1]  # the first, as argmax


def test_a_draw_needs_a_number() -> None:
    with pytest.raises(ValueError, match="needs `uniform` numbers"):
        sample(_logits(), SamplingConfig())


@pytest.mark.parametrize(
    "config",
    [SamplingConfig(), SamplingConfig(temperature=0.5), SamplingConfig(top_k=4), SamplingConfig(top_p=0.8)],
    ids=["plain", "cold", "top-k", "top-p"],
)
def test_draws_follow_the_distribution(config: SamplingConfig) -> None:
    """Pearson's χ² of 40,000 draws: below its expectation plus five standard deviations (a fixed seed)."""
    n, logits = 40_000, torch.tensor([[1.0, -1.0, 0.5, 2.0, 0.0, 1.5, -0.5]])
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(3))
    counts = sample(logits.expand(n, -1), config, uniform).bincount(minlength=7).double()
    expected = n * softmax(filter_logits(logits.double(), config))[0]
    possible = expected > 0
    assert counts[~possible].sum() == 0
    degrees = int(possible.sum()) - 1
    chi2 = ((counts - expected).square() / expected)[possible].sum().item()
    assert chi2 < degrees + 5 * math.sqrt(2 * degrees)


def test_the_same_numbers_give_the_same_tokens() -> None:
    logits, uniform = _logits(), torch.tensor([0.1, 0.9, 0.5, 0.0])
    first = sample(logits, SamplingConfig(), uniform)
    assert torch.equal(first, sample(logits, SamplingConfig(), uniform))
    assert not torch.equal(first, sample(logits, SamplingConfig(), 1 - uniform - 1e-6))


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-24, 1 - 1e-12])
def test_no_number_draws_a_removed_token(number: float) -> None:
    """First and last of the vocabulary are removed; 1 − 1e-12 is below 1 in float64, but not in float32."""
    logits = torch.tensor([[-math.inf, 2.0, 1.0, -math.inf]])
    drawn = sample(logits, SamplingConfig(), torch.tensor([number], dtype=torch.float64))
    assert drawn.item() in (1, 2)


def test_draws_split_the_unit_interval_in_order() -> None:
    logits = torch.log(torch.tensor([0.25, 0.5, 0.25]))
    numbers = torch.tensor([0.0, 0.2499, 0.2501, 0.7499, 0.7501, 0.9999])
    assert sample(logits.expand(6, -1), SamplingConfig(), numbers).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.5}, r"temperature -0\.5 is negative"),
        ({"temperature": math.nan}, "temperature nan is not a finite number"),
        ({"temperature": math.inf}, "temperature inf is not a finite number"),
        ({"top_k": -3}, "top_k -3 is negative"),
        ({"top_p": 0.0}, r"top_p 0\.0 is not in \(0, 1\]"),
        ({"top_p": 1.2}, r"top_p 1\.2 is not in"),
        ({"top_p": math.nan}, "top_p nan is not in"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty 0\.0 is not a positive number"),
        ({"repetition_penalty": -1.2}, r"repetition_penalty -1\.2 is not"),
        ({"repetition_penalty": math.inf}, "repetition_penalty inf is not"),
        ({"repetition_penalty": math.nan}, "repetition_penalty nan is not"),
        ({"min_p": -0.1}, r"min_p -0\.1 is not in \[0, 1\]"),
        ({"min_p": 1.5}, r"min_p 1\.5 is not in"),
        ({"min_p": math.nan}, "min_p nan is not in"),
    ],
)
def test_impossible_settings_are_refused_with_the_number(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**settings)  # type: ignore[arg-type]


# --- all five steps ---------------------------------------------------------------------------------------------------

ALL_FIVE = [
    SamplingConfig(t, k, p, r, m)
    for t in (0.3, 1.0, 1.7)
    for k in (0, 6)
    for p in (1.0, 0.8)
    for r in (1.0, 1.3, 0.7)
    for m in (0.0, 0.1)
]


def _all_by_transformers(logits: Tensor, seen: Tensor, config: SamplingConfig) -> Tensor:
    """Their own list of processors, in their own order, as `generate` builds it from a GenerationConfig."""
    from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=4, n_layer=1, n_head=1, n_positions=8))
    wanted = GenerationConfig(
        do_sample=True, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p,
        repetition_penalty=config.repetition_penalty, min_p=config.min_p or None,
    )  # fmt: skip
    wanted._eos_token_tensor = None
    processors = model._get_logits_processor(wanted, input_ids_seq_length=seen.shape[1], device="cpu")
    return processors(seen, logits)


@pytest.mark.parametrize("config", ALL_FIVE, ids=str)
def test_all_five_steps_equal_transformers_list_of_processors(config: SamplingConfig) -> None:
    logits = _logits(seed=3)
    seen = torch.randint(VOCAB, (4, 9), generator=torch.Generator().manual_seed(1))
    seen[:, -1] = logits.argmax(-1)  # the favourite has been said already
    assert torch.equal(filter_logits(logits, config, seen), _all_by_transformers(logits, seen, config))


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.2, 3.0])
def test_the_penalty_with_ties_negatives_and_repeats_equals_transformers(penalty: float) -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.tensor([[2.0, 2.0, -2.0, -2.0, 0.0, -math.inf, 1.0], [0.0, -1.0, 5.0, 5.0, -3.0, 2.0, 2.0]])
    seen = torch.tensor([[0, 2, 4, 0, 5], [6, 6, 6, 1, 2]])
    ours = penalize_repetition(logits, seen, penalty)
    assert torch.equal(ours, RepetitionPenaltyLogitsProcessor(penalty)(seen, logits))
    if penalty > 1:
        assert ours[0, 0] < ours[0, 1] and ours[0, 2] < ours[0, 3], "said before: less likely, whatever the sign"


def test_dividing_a_negative_logit_would_reward_repeating() -> None:
    """Why we do not divide always, as the paper's formula says."""
    logits = torch.tensor([[1.0, -4.0]])
    ours = softmax(penalize_repetition(logits, torch.tensor([[1]]), 2.0))[0, 1]
    as_printed = softmax(torch.tensor([[1.0, -4.0 / 2.0]]))[0, 1]
    assert ours < softmax(logits)[0, 1] < as_printed


@pytest.mark.parametrize("min_p", [0.001, 0.1, 0.5, 1.0])
def test_min_p_equals_transformers_with_ties(min_p: float) -> None:
    from transformers import MinPLogitsWarper

    logits = torch.cat([_logits(), _logits(seed=5).round()])  # rounded: many ties
    no_ids = torch.zeros(len(logits), 1, dtype=torch.long)
    assert torch.equal(keep_min_p(logits, min_p), MinPLogitsWarper(min_p)(no_ids, logits))
    if min_p == 1:
        ties = (logits == logits.amax(-1, keepdim=True)).sum(-1)
        assert torch.equal(keep_min_p(logits, min_p).isfinite().sum(-1), ties) and ties.max() > 1


def test_ties_in_top_k_and_top_p_against_transformers() -> None:
    """Top-k keeps all that tie with the k-th, as theirs. Of equals at the edge of top-p both keep as many and may keep
    others: ours the lowest ids, as argmax does; theirs what an unstable sort puts last."""
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    for seed in range(20):
        logits = _logits(seed=seed).round()
        no_ids = torch.zeros(len(logits), 1, dtype=torch.long)
        assert torch.equal(keep_top_k(logits, 6), TopKLogitsWarper(6)(no_ids, logits))
        ours, theirs = keep_top_p(logits, 0.81), TopPLogitsWarper(0.81)(no_ids, logits)
        assert torch.equal(ours.sort(dim=-1).values, theirs.sort(dim=-1).values)


@pytest.mark.parametrize("config", ALL_FIVE, ids=str)
def test_filters_never_empty_and_probabilities_sum_to_one(config: SamplingConfig) -> None:
    logits = torch.cat([_logits(), torch.zeros(1, VOCAB), 1000 * _logits(1, 8), _logits(1, 9) - 1000])
    seen = torch.randint(VOCAB, (len(logits), 6), generator=torch.Generator().manual_seed(2))
    stages = filter_stages(logits, config, seen)
    assert tuple(stages) == ("model", *ORDER)
    for name, after in stages.items():
        assert after.isfinite().any(dim=-1).all(), name
        torch.testing.assert_close(softmax(after).sum(-1), torch.ones(len(logits)))
    kept = [after.isfinite() for after in stages.values()]
    assert all((late <= early).all() for early, late in itertools.pairwise(kept)), "nothing comes back"


def test_the_order_of_all_five_matters() -> None:
    """min-p before temperature keeps 1 token, after it 3; top-p before top-k keeps 2, after it 1."""
    logits = torch.log(torch.tensor([[0.6, 0.25, 0.15]]))
    ours = filter_logits(logits, SamplingConfig(temperature=3.0, min_p=0.5))
    other = apply_temperature(keep_min_p(logits, 0.5), 3.0)
    assert (int(ours.isfinite().sum()), int(other.isfinite().sum())) == (3, 1)
    config, order = SamplingConfig(temperature=3.0, min_p=0.5), ("min_p", "temperature")
    assert torch.equal(filter_stages(logits, config, order=order)["temperature"], other)
    with pytest.raises(ValueError, match=r"unknown steps \['top_q'\]"):
        filter_stages(logits, config, order=("top_q",))
    logits = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    ours = filter_logits(logits, SamplingConfig(top_k=2, top_p=0.5))
    other = keep_top_k(keep_top_p(logits, 0.5), 2)
    assert (int(ours.isfinite().sum()), int(other.isfinite().sum())) == (1, 2)
    # A penalty divides logits: after temperature it is the same, after a softmax's shift it is not.
    seen, shifted = torch.tensor([[0]]), logits + 5
    assert not torch.allclose(
        softmax(penalize_repetition(logits, seen, 2.0)), softmax(penalize_repetition(shifted, seen, 2.0))
    )


def test_a_penalty_needs_to_know_what_was_said() -> None:
    with pytest.raises(ValueError, match=r"repetition_penalty 1\.2 needs the tokens"):
        filter_logits(_logits(), SamplingConfig(repetition_penalty=1.2))
    greedy = SamplingConfig(temperature=0.0, repetition_penalty=5.0)
    assert sample(torch.tensor([[3.0, 2.0]]), greedy, seen=torch.tensor([[0]])).tolist() == [1]
    with pytest.raises(ValueError, match="not a positive number"):
        penalize_repetition(_logits(), torch.zeros(4, 1, dtype=torch.long), 0.0)
