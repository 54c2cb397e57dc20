"""Experiments with positions: against the whole model, against transformers' rotation, against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core.config import DecoderConfig
from lm_core.learned_positions import cosine_similarity, learn_position_table, nearness
from lm_core.model import Decoder
from lm_core.ops import REFERENCE
from lm_core.position_experiments import (
    attention_of_layer,
    losses_in_one_run,
    losses_in_windows,
    placed,
    put_back,
    rope_pairs_by_distance,
    rope_scores,
    shuffled_order,
    table_scores,
)
from tests import tiny_models

T = 9
CONFIGS = {"gpt2": tiny_models.gpt2(n_layers=3), "llama": tiny_models.llama(n_layers=3, rope_theta=50.0)}
EXACT = {"rtol": 0.0, "atol": 1e-12}


def _model(config: DecoderConfig) -> Decoder:
    torch.manual_seed(3)
    model = Decoder(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return model


@pytest.fixture(params=list(CONFIGS))
def model(request: pytest.FixtureRequest) -> Decoder:
    return _model(CONFIGS[request.param])


def _ids(n: int = T, seed: int = 0) -> Tensor:
    return torch.randint(0, 290, (1, n), generator=torch.Generator().manual_seed(seed))


def test_with_everything_left_in_it_is_the_models_own_attention(model: Decoder) -> None:
    ids = _ids()
    whole = model.trace(ids)
    for layer in range(3):
        torch.testing.assert_close(attention_of_layer(model, ids, layer).weights, whole.layers[layer].attention.weights)


def test_without_positions_it_is_the_model_with_a_rotation_that_does_nothing_or_an_empty_table(model: Decoder) -> None:
    ids, everywhere = _ids(), torch.ones(T, T, dtype=torch.bool)
    left = attention_of_layer(model, ids, 2, positions=False, causal=False).weights
    if model.embed_positions is None:
        whole = model.trace(ids, everywhere, replace(REFERENCE, rotate=lambda x, angles: x))
    else:
        with torch.no_grad():
            model.embed_positions.weight.zero_()
        whole = model.trace(ids, everywhere)
    torch.testing.assert_close(left, whole.layers[2].attention.weights, **EXACT)


@pytest.mark.parametrize("layer", [0, 2])
def test_shuffling_changes_nothing_without_positions_and_mask_and_much_with_either(model: Decoder, layer: int) -> None:
    ids, order = _ids(), shuffled_order(T, 1, seed=5)

    def difference(**ways: bool) -> float:
        one, other = (attention_of_layer(model, x, layer, **ways).weights for x in (ids, ids[:, order]))
        return float((one - put_back(other, order)).abs().max())

    assert difference(positions=False, causal=False) < 1e-12
    assert difference(positions=False, causal=True) > 0.01
    assert difference(positions=True, causal=False) > 0.01
    assert difference() > 0.01


def test_the_mask_alone_leaves_the_scores_of_layer_1_as_they_were(model: Decoder) -> None:
    ids, order = _ids(), shuffled_order(T, 0, seed=5)
    one, other = (attention_of_layer(model, x, 0, positions=False).scores for x in (ids, ids[:, order]))
    torch.testing.assert_close(put_back(other, order), one, **EXACT)


@pytest.mark.parametrize("n_fixed", [0, 1])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 40])
def test_an_order_is_a_permutation_that_moves_something(n: int, n_fixed: int) -> None:
    if n < n_fixed:
        return
    for seed in range(30):
        order = shuffled_order(n, n_fixed, seed)
        assert sorted(order.tolist()) == list(range(n)) and order[:n_fixed].tolist() == list(range(n_fixed))
        assert (order.tolist() != list(range(n))) is (n - n_fixed >= 2)
        assert torch.equal(order, shuffled_order(n, n_fixed, seed))


def test_put_back_undoes_the_shuffle() -> None:
    weights, order = torch.rand(2, T, T), shuffled_order(T, 0, seed=2)
    assert torch.equal(put_back(weights[:, order][:, :, order], order), weights)
    assert not torch.equal(weights[:, order][:, :, order], weights)


def test_scores_by_place_are_those_of_transformers_rotation() -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    d, n = 8, 11
    q, k = torch.randn(2, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    frequencies = 500.0 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angles = torch.arange(n)[:, None] * frequencies
    cos, sin = (torch.cat([f(angles), f(angles)], dim=-1)[None] for f in (torch.cos, torch.sin))
    turned_q, turned_k = apply_rotary_pos_emb(q.expand(1, 1, n, d), k.expand(1, 1, n, d), cos, sin)
    scores = rope_scores(q, k, torch.arange(n), theta=500.0)
    torch.testing.assert_close(scores, (turned_q @ turned_k.mT)[0, 0], rtol=0, atol=3e-6)  # our angles are float32
    for offset in range(-n + 1, n):
        diagonal = scores.diagonal(offset)
        assert float(diagonal.max() - diagonal.min()) < 3e-6
    assert float(scores.max() - scores.min()) > 0.5
    by_distance = rope_pairs_by_distance(q, k, torch.arange(n), theta=500.0)
    torch.testing.assert_close(by_distance.sum(dim=-1), scores[:, 0], **EXACT)


def test_each_pair_adds_a_wave() -> None:
    d, theta = 6, 100.0
    q, k = torch.randn(2, d, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    parts = rope_pairs_by_distance(q, k, torch.arange(20), theta)
    for i in range(3):
        a, b = complex(q[i], q[i + 3]), complex(k[i], k[i + 3])
        for distance in range(20):
            turn = complex(math.cos(distance * theta ** (-2 * i / d)), math.sin(distance * theta ** (-2 * i / d)))
            assert parts[distance, i].item() == pytest.approx((a * turn * b.conjugate()).real, abs=3e-6)


def test_scores_by_place_of_a_table_are_those_of_whole_texts() -> None:
    model = _model(CONFIGS["gpt2"])
    query, key, head = 17, 201, 2
    scores = table_scores(model, query, key, 12, head)
    for m, n in ((7, 2), (11, 10), (3, 9)):
        ids = torch.zeros(1, 12, dtype=torch.long)
        ids[0, m], ids[0, n] = query, key
        whole = model.trace(ids).layers[0].attention.scores[0, head, m, n]
        torch.testing.assert_close(scores[m, n], whole, **EXACT)
    assert float((scores.diagonal() - scores[0, 0]).abs().max()) > 0.1
    with pytest.raises(ValueError, match="no table"):
        table_scores(_model(CONFIGS["llama"]), 1, 2, 4, 0)


def test_one_run_inside_the_context_is_the_models_own_loss(model: Decoder) -> None:
    ids = _ids(30)[0]
    expected = F.cross_entropy(model(ids[None])[0, :-1].float(), ids[1:], reduction="none")
    torch.testing.assert_close(losses_in_one_run(model, ids), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses_in_windows(model, ids), expected, rtol=1e-5, atol=1e-5)


def test_one_run_beyond_the_context_is_that_of_the_same_weights_with_a_longer_context() -> None:
    model, ids = _model(CONFIGS["llama"]), _ids(300)[0]  # more than one chunk of logits
    longer = Decoder(replace(model.config, context_length=512)).double()
    longer.load_state_dict(model.state_dict())
    expected = F.cross_entropy(longer(ids[None])[0, :-1].float(), ids[1:], reduction="none")
    torch.testing.assert_close(losses_in_one_run(model, ids), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="at most 40"):
        model(ids[None])


def test_a_table_ends_where_its_rows_end() -> None:
    model = _model(CONFIGS["gpt2"])
    assert placed(model, _ids(40))[0].shape == (1, 40, 12)
    with pytest.raises(ValueError, match="position 40 has no row: the table ends with row 39"):
        losses_in_one_run(model, _ids(41)[0])


@pytest.mark.parametrize("n", [2, 40, 41, 42, 61, 100])
@pytest.mark.parametrize("context", [1, 2, 40])
def test_windows_judge_each_token_once_on_at_least_half_a_context(n: int, context: int) -> None:
    model = _model(tiny_models.llama(context_length=context))
    ids, found = _ids(n)[0], losses_in_windows(_model(tiny_models.llama(context_length=context)), _ids(n)[0])
    assert len(found) == n - 1
    for place in {1, min(context, n - 1), n // 2, n - 1}:
        runs = [
            F.cross_entropy(model(ids[None, place - used : place])[0, -1].float(), ids[place]).item()
            for used in range(min(place, max(1, context // 2)), min(place, context) + 1)
        ]
        assert min(abs(found[place - 1].item() - one) for one in runs) < 1e-5


def test_nearness_is_the_softmax_of_minus_the_distance() -> None:
    rows = [[math.exp(-abs(i - j) / 2.5) for j in range(7)] for i in range(7)]
    expected = torch.tensor([[x / sum(row) for x in row] for row in rows])
    torch.testing.assert_close(nearness(7, 2.5), expected)


def test_a_table_learns_who_is_near() -> None:
    first, last = learn_position_table(20, 8, keep=(0, 300), reach=2.0, seed=1)
    target = nearness(20, 2.0)
    floor = -(target * target.log()).sum(dim=-1).mean().item()
    weights = torch.softmax(last.table @ last.table.T / math.sqrt(8), dim=-1)
    torch.testing.assert_close(last.weights, weights)
    assert last.loss_nats == pytest.approx(-(target * weights.log()).sum(dim=-1).mean().item(), abs=1e-5)
    assert first.loss_nats - floor > 1 > 10 * (last.loss_nats - floor) > 0
    alike = cosine_similarity(last.table)
    middle = range(4, 16)
    assert all(alike[i, i + 1] > alike[i, i + 4] for i in middle)
    before = cosine_similarity(first.table)
    assert not all(before[i, i + 1] > before[i, i + 4] for i in middle)
    torch.testing.assert_close(
        alike, torch.nn.functional.cosine_similarity(last.table[:, None], last.table[None], dim=-1), rtol=0, atol=1e-5
    )


def test_a_table_keeps_the_steps_asked_for_and_repeats_itself() -> None:
    records = learn_position_table(6, 4, keep=(3, 0))
    assert [record.step for record in records] == [0, 3]
    assert torch.equal(records[1].table, learn_position_table(6, 4, keep=(3,))[0].table)
    assert not torch.equal(records[0].table, records[1].table)
    with pytest.raises(ValueError, match="no step"):
        learn_position_table(keep=())
