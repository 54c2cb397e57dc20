"""Choosing a token: against transformers' warpers in the same order, and that draws follow the distribution."""

import math

import pytest
import torch
from torch import Tensor

from lm_core.probability import softmax
from lm_core.sampling import SamplingConfig, apply_temperature, filter_logits, keep_top_k, keep_top_p, sample

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
    ],
)
def test_impossible_settings_are_refused_with_the_number(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**settings)  # type: ignore[arg-type]
