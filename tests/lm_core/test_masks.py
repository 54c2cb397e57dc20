"""Who may look at whom: every mask against its one-line definition, written as plain loops."""

import pytest
import torch
from torch import Tensor

from lm_core.attention import attend
from lm_core.mask_experiments import leak, packed, pad, run, spoilt
from lm_core.masks import (
    add_penalty,
    causal_mask,
    document_mask,
    fill_forbidden,
    flipped,
    padding_mask,
    prefix_mask,
    reachable,
    sliding_window_mask,
)
from lm_core.model import Decoder
from tests import tiny_models


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


# --- masks on a whole model -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Decoder:
    torch.manual_seed(0)
    return Decoder(getattr(tiny_models, request.param)(n_layers=3)).eval()


@pytest.fixture(scope="module")
def row() -> Tensor:
    return torch.randint(290, (9,), generator=torch.Generator().manual_seed(1))


def test_a_packed_row_gives_each_document_what_it_gets_alone(model: Decoder) -> None:
    documents = [torch.tensor(ids) for ids in ([5, 6, 7, 8], [9], [100, 200, 3, 5, 5])]
    with torch.no_grad():
        alone = torch.cat([model(ids[None])[0] for ids in documents])
    torch.testing.assert_close(packed(model, documents), alone, atol=1e-5, rtol=1e-5)
    # Without the block mask the second and third document see what is not theirs.
    assert (packed(model, documents, apart=False)[4:] - alone[4:]).abs().max() > 1e-3


def test_positions_that_run_through_matter_where_they_are_learned(model: Decoder) -> None:
    documents = [torch.tensor([5, 6, 7, 8]), torch.tensor([100, 200, 3])]
    gap = (packed(model, documents, restart=False) - packed(model, documents))[4:].abs().max()
    if model.embed_positions is None:
        assert gap < 1e-5  # RoPE sees distances only
    else:
        assert gap > 1e-3


def test_run_with_the_causal_mask_is_the_model(model: Decoder, row: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(run(model, row[None], causal_mask(9)).logits, model(row[None]))


def test_nothing_leaks_under_a_causal_mask(model: Decoder, row: Tensor) -> None:
    moved = leak(model, row, 5, int(row[5] + 1) % 290, causal_mask(9))
    assert torch.equal(moved[:, :5], torch.zeros(4, 5))  # to the last bit, in every layer
    assert (moved[:, 5] > 0).all() and (moved[1:, 6:] > 0).all()


@pytest.mark.parametrize("allowed", [flipped(causal_mask(9), [(2, 5)]), sliding_window_mask(9, 3), prefix_mask(9, 6)])
def test_what_moves_is_what_can_be_reached(model: Decoder, row: Tensor, allowed: Tensor) -> None:
    moved = leak(model, row, 5, int(row[5] + 1) % 290, allowed)
    assert torch.equal(moved > 0, reachable(allowed, 3)[:, :, 5])


def test_one_open_cell_moves_its_row_first_and_then_all_who_see_that_row() -> None:
    reach = reachable(flipped(causal_mask(6), [(1, 4)]), 2)[:, :, 4]
    assert reach.int().tolist() == [[0, 0, 0, 0, 1, 0], [0, 1, 0, 0, 1, 1], [0, 1, 1, 1, 1, 1]]


def test_padding_on_either_side_changes_nothing(model: Decoder) -> None:
    documents = [torch.tensor([5, 6, 7, 8]), torch.tensor([100, 200])]
    with torch.no_grad():
        alone = [model(ids[None])[0] for ids in documents]
    for left in (False, True):
        batch = pad(documents, 0, left)
        allowed = causal_mask(4) & batch.real[:, None, :]
        logits = run(model, batch.token_ids, allowed, batch.position_ids).logits
        for found, real, expected in zip(logits, batch.real, alone, strict=True):
            torch.testing.assert_close(found[real], expected, atol=1e-5, rtol=1e-5)


def test_nan_spreads_to_every_later_position_in_the_second_layer(model: Decoder, row: Tensor) -> None:
    allowed = causal_mask(9).clone()
    allowed[4] = False
    bad = spoilt(model, row, allowed)
    assert bad.sum(dim=-1).tolist()[:2] == [0, 1] and bad[1, 4]
    assert bad[2].all()  # 0 · NaN is NaN: also those that may not look at it
    assert not run(model, row[None], allowed).logits.isnan().any()


# --- other ways to mask -----------------------------------------------------------------------------------------------


def test_a_large_negative_number_is_infinity_for_usual_scores() -> None:
    scaled, allowed = torch.randn(4, 4, generator=torch.Generator().manual_seed(2)), causal_mask(4)
    true = scaled.masked_fill(~allowed, -torch.inf).softmax(dim=-1)
    for masked in (fill_forbidden(scaled, allowed), add_penalty(scaled, allowed)):
        assert torch.equal(masked.softmax(dim=-1), true)


def test_each_way_fails_as_it_says() -> None:
    allowed = torch.tensor([True, False])
    low, high = torch.tensor([-2e4, 0.0]), torch.tensor([0.0, 2e4])
    assert fill_forbidden(low, allowed).softmax(dim=-1).tolist() == [0, 1]  # allowed scores below the number
    assert fill_forbidden(high, allowed).softmax(dim=-1).tolist() == [1, 0]
    assert add_penalty(high, allowed).softmax(dim=-1).tolist() == [0, 1]  # a forbidden one far above the allowed
    nobody, scores = torch.tensor([False, False]), torch.tensor([1.0, 3.0])
    assert fill_forbidden(scores, nobody).softmax(dim=-1).tolist() == [0.5, 0.5]
    torch.testing.assert_close(add_penalty(scores, nobody).softmax(dim=-1), scores.softmax(dim=-1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("window", [1, 3, 8])
def test_the_window_is_the_one_of_transformers(window: int) -> None:
    masking_utils = pytest.importorskip("transformers.masking_utils")
    theirs = masking_utils.sliding_window_causal_mask_function(window)
    assert torch.equal(
        sliding_window_mask(8, window), _by_rule(8, 8, lambda i, j: theirs(0, 0, torch.tensor(i), torch.tensor(j)))
    )


def test_attention_under_a_window_is_torchs() -> None:
    q, k, v = torch.randn(3, 2, 7, 4, generator=torch.Generator().manual_seed(3))
    allowed = sliding_window_mask(7, 3)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    torch.testing.assert_close(attend(q, k, v, allowed).head_out, expected)
