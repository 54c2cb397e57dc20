"""Who may look at whom: every mask against its one-line definition, written as plain loops."""

import pytest
import torch

from lm_core.masks import causal_mask, document_mask, padding_mask, prefix_mask, sliding_window_mask


def _by_rule(n_queries: int, n_keys: int, rule) -> torch.Tensor:  # type: ignore[no-untyped-def]
    return torch.tensor([[bool(rule(i, j)) for j in range(n_keys)] for i in range(n_queries)])


@pytest.mark.parametrize(("n_queries", "n_keys"), [(1, 1), (5, 5), (1, 7), (3, 7)])
def test_causal_queries_are_the_last_positions(n_queries: int, n_keys: int) -> None:
    expected = _by_rule(n_queries, n_keys, lambda i, j: j <= i + n_keys - n_queries)
    assert torch.equal(causal_mask(n_queries, n_keys), expected)


def test_one_polarity_true_means_may_attend() -> None:
    allowed = causal_mask(2)
    assert allowed.dtype == torch.bool
    assert allowed[1, 0]
    assert not allowed[0, 1]


def test_a_query_without_its_own_key_is_refused() -> None:
    with pytest.raises(ValueError, match="4 queries but only 3 keys"):
        causal_mask(4, 3)


def test_padding_broadcasts_over_the_queries() -> None:
    mask = padding_mask(torch.tensor([0, 2, 5]), 5)
    assert mask.shape == (3, 1, 5)
    assert mask.sum(dim=-1).flatten().tolist() == [0, 2, 5]
    assert mask[1, 0].tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("window", [1, 3, 9])
def test_sliding_window(window: int) -> None:
    expected = _by_rule(6, 6, lambda i, j: i - window < j <= i)
    assert torch.equal(sliding_window_mask(6, window), expected)


def test_a_window_as_long_as_the_text_is_causal_and_none_is_refused() -> None:
    assert torch.equal(sliding_window_mask(6, 6), causal_mask(6))
    with pytest.raises(ValueError, match="window 0"):
        sliding_window_mask(6, 0)


@pytest.mark.parametrize("n_prefix", [0, 1, 3, 6])
def test_prefix(n_prefix: int) -> None:
    expected = _by_rule(6, 6, lambda i, j: j <= i or j < n_prefix)
    assert torch.equal(prefix_mask(6, n_prefix), expected)


def test_prefix_has_causal_and_full_attention_as_its_ends() -> None:
    assert torch.equal(prefix_mask(4, 0), causal_mask(4))
    assert prefix_mask(4, 4).all()


def test_documents_do_not_see_each_other() -> None:
    ids = torch.tensor([[4, 4, 9, 9, 9], [1, 2, 2, 3, 3]])
    expected = torch.stack([_by_rule(5, 5, lambda i, j, row=row: j <= i and row[i] == row[j]) for row in ids])
    assert torch.equal(document_mask(ids), expected)
    assert torch.equal(document_mask(ids[0]), expected[0])
    assert torch.equal(document_mask(torch.zeros(5)), causal_mask(5))
