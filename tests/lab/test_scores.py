"""The scores of a text against transformers, on the bundled storyteller."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lab import models, scores, traces
from tests import tiny_models

MODEL = models.DEFAULT
FOLDER = models.MODELS / MODEL.removeprefix("bundled:")
TEXTS = ["The old king looked at the little bird.", "床前明月光，疑是地上霜。", "A 🙂 and a cat"]

pytestmark = pytest.mark.skipif(MODEL not in models.bundled(), reason="the storyteller is not in this checkout")


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(FOLDER).eval()


@torch.no_grad()
def _run(theirs: torch.nn.Module, trace: traces.TextTrace) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and the hidden state after the final norm, float64 [T ..]."""
    out = theirs(torch.tensor([trace.token_ids]), output_hidden_states=True)
    return out.logits[0].double(), out.hidden_states[-1][0].double()


@pytest.mark.parametrize("text", TEXTS)
def test_a_score_is_transformers(text: str, theirs: torch.nn.Module) -> None:
    trace = traces.trace(MODEL, text)
    found = scores.score(MODEL, trace)
    logits, _ = _run(theirs, trace)
    after = torch.tensor(trace.token_ids[1:])
    expected = torch.log_softmax(logits[:-1], -1)[torch.arange(len(after)), after]
    np.testing.assert_allclose(found.log_probs, expected.numpy(), atol=2e-4)
    own = logits[torch.arange(len(after)), after]
    assert found.ranks.tolist() == ((logits[:-1] > own[:, None]).sum(-1) + 1).tolist()
    assert found.token_ids == trace.token_ids[1:] and found.labels == trace.labels[1:] and found.has_start
    assert found.n_bytes == len(text.encode())
    assert found.perplexity == pytest.approx(math.exp(-float(expected.mean())), rel=1e-4)
    assert found.bits_per_byte == pytest.approx(-float(expected.sum()) / math.log(2) / len(text.encode()), rel=1e-4)
    assert float(np.prod(found.probabilities)) == pytest.approx(math.exp(found.total_nats), rel=1e-9)


@pytest.mark.parametrize("position", [1, 4])
def test_a_conditional_is_transformers_softmax(position: int, theirs: torch.nn.Module) -> None:
    trace = traces.trace(MODEL, TEXTS[0])
    found = scores.conditional(trace, position)
    p = torch.softmax(_run(theirs, trace)[0][position - 1], -1)
    np.testing.assert_allclose(found.probabilities, p.numpy(), atol=1e-5)
    assert math.fsum(found.probabilities) == pytest.approx(1.0, abs=1e-9)
    assert found.order[0] == int(p.argmax())
    assert (np.diff(found.probabilities[found.order]) <= 0).all() and len(set(found.order.tolist())) == len(p)
    assert found.entropy_bits == pytest.approx(float(-(p * p.log2()).sum()), abs=1e-3)


@pytest.mark.parametrize("position", [1, 5])
def test_a_logit_is_the_dot_product_of_its_operands(position: int, theirs: torch.nn.Module) -> None:
    trace = traces.trace(MODEL, TEXTS[0])
    logits, hidden = _run(theirs, trace)
    rows = theirs.get_output_embeddings().weight.detach().double()
    for token_id in (trace.token_ids[position], 17):
        found = scores.logit_operands(MODEL, trace, position, token_id)
        np.testing.assert_allclose(found.hidden, hidden[position - 1].numpy(), atol=2e-4)
        np.testing.assert_array_equal(found.row, rows[token_id].numpy())
        assert found.hidden @ found.row == pytest.approx(found.logit, abs=1e-3)
        assert found.logit == pytest.approx(float(logits[position - 1, token_id]), abs=1e-3)
        assert found.log_total == pytest.approx(float(torch.logsumexp(logits[position - 1], 0)), abs=1e-3)


def test_labels_of_single_tokens() -> None:
    trace = traces.trace(MODEL, TEXTS[0])
    assert scores.token_labels(MODEL, trace.token_ids[1:4]) == trace.labels[1:4]


def test_a_single_token_without_a_start_cannot_be_scored(tmp_path: Path) -> None:
    folder = tiny_models.save_startless(tmp_path)
    name = f"folder:{folder}"
    with pytest.raises(scores.TooShortError, match="nothing to score"):
        scores.score(name, traces.trace(name, "a"))
    found = scores.score(name, traces.trace(name, "ab"))
    assert not found.has_start and found.n_bytes == 1 and len(found.labels) == 1


def _score(*token_ids: int) -> scores.TextScore:
    n = len(token_ids)
    return scores.TextScore([str(i) for i in token_ids], list(token_ids), np.full(n, -1.0), np.ones(n, int), n, True)


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        ((1, 2, 3), (1, 2, 3), [(0, 0), (1, 1), (2, 2)]),
        ((1, 2, 3), (1, 9, 3), [(0, 0), (1, 1), (2, 2)]),  # replaced
        ((1, 2, 3), (1, 9, 2, 3), [(0, 0), (None, 1), (1, 2), (2, 3)]),  # inserted
        ((1, 2, 3), (1, 3), [(0, 0), (1, None), (2, 1)]),  # removed
        ((1, 2, 3), (1, 8, 9, 3), [(0, 0), (1, 1), (None, 2), (2, 3)]),  # one for two
        ((5,), (6,), [(0, 0)]),
    ],
)
def test_tokens_are_laid_side_by_side(first: tuple[int], second: tuple[int], pairs: list[tuple[int, int]]) -> None:
    assert [(pair.first, pair.second) for pair in scores.aligned(_score(*first), _score(*second))] == pairs


def test_the_product_of_repeats_beside_its_logarithm() -> None:
    s = scores.score(MODEL, traces.trace(MODEL, TEXTS[0]))
    n = len(s.labels)
    found = scores.product_of_repeats(s, 10)
    assert found.products.shape == found.log2_sums.shape == (10 * n,) and found.products.dtype == np.float32
    assert found.log2_sums[-1] == pytest.approx(10 * s.total_nats / math.log(2), rel=1e-9)
    factors = np.tile(s.probabilities.astype(np.float32), 10)
    with np.errstate(under="ignore"):
        np.testing.assert_array_equal(found.products, np.cumprod(factors, dtype=np.float32))
    assert found.first_zero is not None and (found.products[found.first_zero :] == 0).all()
    assert found.products[found.first_zero - 1] > 0
    alive = slice(0, found.first_subnormal)
    np.testing.assert_allclose(np.log2(found.products[alive].astype(float)), found.log2_sums[alive], atol=1e-4)
    assert scores.product_of_repeats(_score(1, 2), 1).first_zero is None
