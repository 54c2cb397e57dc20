"""Softmax, entropy and the chain rule: against torch, and over every string of a toy vocabulary."""

import itertools
import math

import numpy as np
import pytest
import torch

from lm_core.config import gpt2_config, llama_config
from lm_core.model import Decoder
from lm_core.probability import (
    SequenceScore,
    entropy_bits,
    guess_bits,
    log_softmax,
    naive_product,
    score_sequence,
    softmax,
)

EXACT = {"rtol": 0.0, "atol": 1e-13}


def _logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _sharp(model: Decoder) -> Decoder:
    """Weights large enough that the distributions are far from uniform."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=random))
    return model.double()


def test_softmax_and_its_logarithm_equal_torchs_with_gradients() -> None:
    x = _logits(2, 3, 7).requires_grad_()
    upstream = _logits(2, 3, 7, seed=1)
    for ours, theirs in ((softmax, torch.softmax), (log_softmax, torch.log_softmax)):
        one, other = ours(x), theirs(x, dim=-1)
        torch.testing.assert_close(one, other, **EXACT)
        torch.testing.assert_close(
            torch.autograd.grad(one, x, upstream), torch.autograd.grad(other, x, upstream), **EXACT
        )


def test_a_constant_changes_nothing() -> None:
    x = torch.randint(-8, 8, (3, 5)).double()  # whole numbers, so that x + 1000 is exact
    assert torch.equal(softmax(x + 1000), softmax(x))
    assert torch.equal(log_softmax(x + 1000), log_softmax(x))
    assert softmax(x.float() * 1000).isfinite().all()


def test_entropy_counts_bits() -> None:
    p = softmax(_logits(4, 6))
    by_hand = [-sum(x * math.log2(x) for x in row) for row in p.tolist()]
    torch.testing.assert_close(entropy_bits(p), torch.tensor(by_hand, dtype=torch.float64), **EXACT)
    assert entropy_bits(torch.full((8,), 1 / 8)).item() == pytest.approx(3.0, abs=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_probabilities_of_all_strings_sum_to_one(family: str, length: int) -> None:
    """Π P(w_t | w_<t), summed over every string of `length` tokens, is 1; token 0 stands for the start."""
    vocab = 3
    shape = {"vocab_size": vocab, "d_model": 8, "n_layers": 2, "n_heads": 2, "context_length": length + 1}
    config = gpt2_config(**shape) if family == "gpt2" else llama_config(**shape, d_mlp=12)
    model = _sharp(Decoder(config))
    strings = torch.tensor([(0, *string) for string in itertools.product(range(vocab), repeat=length)])
    with torch.no_grad():
        logits = model(strings)
    log_probs = log_softmax(logits[:, :-1]).gather(-1, strings[:, 1:, None])[..., 0]
    of_strings = log_probs.sum(dim=-1).exp()
    assert of_strings.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert of_strings.std() > 0.01  # far from uniform: a constant would pass too easily
    by_score = [math.exp(score_sequence(ids, rows).total_nats) for ids, rows in zip(strings, logits, strict=True)]
    torch.testing.assert_close(
        torch.tensor(by_score, dtype=torch.float64), of_strings, rtol=5e-6, atol=0.0
    )  # scored in float32
    products = [math.prod(score_sequence(i, r).probabilities.tolist()) for i, r in zip(strings, logits, strict=True)]
    torch.testing.assert_close(torch.tensor(products, dtype=torch.float64), of_strings, rtol=5e-6, atol=0.0)


def test_row_t_minus_one_predicts_token_t() -> None:
    ids = torch.tensor([2, 0, 0, 3])  # a repeated id: a gather along the wrong axis shows
    logits = _logits(4, 5)
    p = torch.softmax(logits, dim=-1)
    score = score_sequence(ids, logits)
    expected = [p[0, 0].item(), p[1, 0].item(), p[2, 3].item()]
    assert score.first == 1
    assert score.probabilities.tolist() == pytest.approx(expected, rel=1e-6)
    assert score.total_nats == pytest.approx(sum(map(math.log, expected)), rel=1e-6)
    assert score.mean_nats == pytest.approx(-score.total_nats / 3)
    assert score.perplexity == pytest.approx(math.prod(expected) ** (-1 / 3), rel=1e-6)
    assert score.surprisal_bits.tolist() == pytest.approx([-math.log2(x) for x in expected], rel=1e-6)
    assert score.bits_per_byte(7) == pytest.approx(-math.log2(math.prod(expected)) / 7, rel=1e-6)


def test_rank_one_is_the_favourite_and_ties_share_the_better_rank() -> None:
    logits = torch.tensor([[0.0, 5.0, 2.0, 5.0], [1.0, 2.0, 3.0, 4.0], [0.0] * 4])
    assert score_sequence(torch.tensor([0, 3, 0]), logits).ranks.tolist() == [1, 4]


def test_a_perplexity_of_a_uniform_model_is_the_vocabulary() -> None:
    score = score_sequence(torch.tensor([0, 1, 2, 3, 3]), torch.zeros(5, 11))
    assert score.perplexity == pytest.approx(11.0, rel=1e-6)


def test_texts_that_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="3 tokens but 4 rows"):
        score_sequence(torch.tensor([0, 1, 2]), torch.zeros(4, 5))
    alone = score_sequence(torch.tensor([1]), torch.zeros(1, 5))
    assert len(alone.log_probs) == 0
    assert math.isnan(alone.mean_nats)
    with pytest.raises(ValueError, match="empty text"):
        SequenceScore(torch.tensor([0]), 1, torch.zeros(1), torch.ones(1)).bits_per_byte(0)


def test_a_tiny_probability_is_an_ordinary_logarithm() -> None:
    score = score_sequence(torch.tensor([0, 1]), torch.tensor([[0.0, -300.0], [0.0, 0.0]]))
    assert score.probabilities.item() == 0.0  # float32 ends at 1e-45
    assert score.total_nats == pytest.approx(-300.0)


# --- the product that nobody should form ------------------------------------------------------------------------------


def test_a_naive_product_is_numpys_in_float32() -> None:
    p = softmax(_logits(200, 9))[:, 0]
    found = naive_product(p)
    with np.errstate(under="ignore"):
        expected = np.cumprod(p.numpy().astype(np.float32), dtype=np.float32)
    np.testing.assert_array_equal(found.products.numpy(), expected)
    tiny = np.finfo(np.float32).tiny
    assert found.first_zero == int(np.flatnonzero(expected == 0)[0])
    assert found.first_subnormal == int(np.flatnonzero((expected > 0) & (expected < tiny))[0]) < found.first_zero


def test_where_a_product_of_halves_leaves_the_numbers() -> None:
    """2^-126 is the last in full precision, 2^-149 the last above 0: the places are known exactly."""
    found = naive_product(torch.full((160,), 0.5, dtype=torch.float64))
    assert (found.first_subnormal, found.first_zero) == (126, 149)  # counted from 0: the 127th and the 150th factor
    assert naive_product(torch.full((126,), 0.5)).first_subnormal is None
    alive = naive_product(torch.full((160,), 0.5), torch.float64)
    assert (alive.first_subnormal, alive.first_zero) == (None, None)
    assert naive_product(torch.tensor([0.5, 0.0])).first_zero == 1
    assert naive_product(torch.tensor([1e-30, 1e-30])).first_subnormal is None  # straight to 0
    assert naive_product(torch.empty(0)).products.shape == (0,)


# --- guessing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [{}, {2: 0.5}, {0: 0.7, 4: 0.2}, {1: 0.0, 3: 0.3}])
def test_a_guess_is_a_distribution(shares: dict[int, float]) -> None:
    vocab = 6
    assert math.fsum(2 ** -guess_bits(shares, w, vocab) for w in range(vocab)) == pytest.approx(1.0, abs=1e-12)
    for token, share in shares.items():
        assert guess_bits(shares, token, vocab) == (-math.log2(share) if share else math.inf)


def test_nobody_gains_by_stating_anything_but_what_he_believes() -> None:
    """Believing that token 0 comes with 0.7 and each of nine others with 0.3 / 9, the mean cost is least at 0.7."""
    belief, vocab = 0.7, 10

    def expected(stated: float) -> float:
        cost = [guess_bits({0: stated}, w, vocab) for w in range(vocab)]
        return belief * cost[0] + (1 - belief) / 9 * sum(cost[1:])

    costs = {stated / 100: expected(stated / 100) for stated in range(5, 100, 5)}
    assert min(costs, key=costs.__getitem__) == belief


def test_shares_for_the_whole_vocabulary_leave_nothing() -> None:
    with pytest.raises(ValueError, match="leave something"):
        guess_bits({0: 0.4, 1: 0.4}, 0, 2)


@pytest.mark.parametrize("shares", [{0: 1.0}, {0: 0.6, 1: 0.4}, {0: 0.8, 1: 0.8}, {0: -0.1}, {0: math.nan}])
def test_a_guess_must_leave_something(shares: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="leave something"):
        guess_bits(shares, 0, 6)
