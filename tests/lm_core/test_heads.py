"""Measures of heads, switching heads off, and their parts: against hand-made patterns and `transformers`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_core import ablation, head_measures, head_parts
from lm_core.attention import attend
from lm_core.checkpoint import load_pretrained
from lm_core.head_measures import MEASURES, even_share, share_on
from lm_core.model import Decoder
from tests.attention_reference import make_tiny

IDS = torch.tensor([9, 4, 7, 4, 7, 7, 4])


def one_hot_map(targets: list[int]) -> torch.Tensor:
    """A head that gives all its weight to one key a query."""
    weights = torch.zeros(len(targets), len(targets))
    weights[range(len(targets)), targets] = 1
    return weights


def by_hand(name: str, ids: list[int], i: int, j: int) -> bool:
    """The definition of each kind of pair, in words of Python."""
    return {
        "previous": j == i - 1,
        "first": j == 0 and i > 0,
        "same": j < i and ids[j] == ids[i],
        "induction": 0 < j < i and ids[j - 1] == ids[i],
    }[name]


@pytest.mark.parametrize("name", MEASURES)
def test_pairs_by_their_definition(name: str) -> None:
    ids = IDS.tolist()
    expected = [[by_hand(name, ids, i, j) for j in range(len(ids))] for i in range(len(ids))]
    assert MEASURES[name](IDS).tolist() == expected
    assert any(map(any, expected))


def test_pure_heads_score_one_on_their_kind_and_the_known_share_on_others() -> None:
    n, block = 13, 6
    ids = head_measures.twice(torch.arange(1, block + 1), 0)
    heads = {
        "previous": one_hot_map([0, *range(n - 1)]),
        "first": one_hot_map([0] * n),
        "same": one_hot_map([i if i <= block else i - block for i in range(n)]),
        "induction": one_hot_map([i if i <= block else i - block + 1 for i in range(n)]),
    }
    scores = {
        (head, kind): float(share_on(weights, MEASURES[kind](ids)))
        for head, weights in heads.items()
        for kind in MEASURES
    }
    twelfth = 1 / 12
    expected = dict.fromkeys(scores, 0.0) | {(kind, kind): 1.0 for kind in MEASURES}
    expected |= {
        ("previous", "first"): twelfth,
        ("first", "previous"): twelfth,
    }  # position 1: the first is the one before
    assert scores == pytest.approx(expected)


def test_share_counts_only_positions_that_have_a_pair() -> None:
    weights = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]])
    ids = torch.tensor([8, 5, 6, 5])
    assert float(share_on(weights, MEASURES["previous"](ids))) == pytest.approx((0.5 + 0.3 + 0.3) / 3)
    assert float(share_on(weights, MEASURES["first"](ids))) == pytest.approx((0.5 + 0.2 + 0.1) / 3)
    assert float(share_on(weights, MEASURES["same"](ids))) == pytest.approx(0.2), "only position 3 has a copy"
    assert float(share_on(weights, MEASURES["induction"](ids))) == pytest.approx(0.3), "what followed the 5"
    assert share_on(weights.expand(2, 3, 4, 4), MEASURES["first"](ids)).shape == (2, 3)
    assert math.isnan(float(share_on(weights, MEASURES["same"](torch.arange(4)))))


def test_even_share_is_the_score_of_a_head_without_queries() -> None:
    torch.manual_seed(1)
    for name, kind in MEASURES.items():
        x = torch.zeros(len(IDS), 2)
        even = attend(x, x, x, torch.ones(len(IDS), len(IDS)).tril().bool()).weights
        assert even_share(kind(IDS)) == pytest.approx(float(share_on(even, kind(IDS)))), name
    assert even_share(MEASURES["first"](IDS)) == pytest.approx(np.mean([1 / (i + 1) for i in range(1, 7)]))


def test_repeated_copies_each_count() -> None:
    weights = torch.full((5, 5), 0.2)
    ids = torch.tensor([3, 3, 3, 8, 3])
    # Copies before positions 1, 2, 4: 1, 2, 3 of them. After-copies: 0 for 1; key 1 for 2; keys 1, 2, 3 for 4.
    assert float(share_on(weights, MEASURES["same"](ids))) == pytest.approx((0.2 + 0.4 + 0.6) / 3)
    assert float(share_on(weights, MEASURES["induction"](ids))) == pytest.approx((0.2 + 0.6) / 2)


def test_disagreement_is_symmetric_and_within_its_bounds() -> None:
    torch.manual_seed(2)
    one, other = torch.rand(2, 3, 5, 5).softmax(dim=-1), torch.rand(2, 3, 5, 5).softmax(dim=-1)
    assert torch.equal(head_measures.disagreement(one, one), torch.zeros(2, 3))
    assert torch.allclose(head_measures.disagreement(one, other), head_measures.disagreement(other, one))
    apart = head_measures.disagreement(one_hot_map([0, 0, 0]), one_hot_map([2, 1, 1]))
    assert float(apart) == 1.0


def test_random_block_is_drawn_without_repeats_and_again_the_same() -> None:
    pool = torch.arange(40, 90)
    first, again = (head_measures.random_block(25, pool, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and len(set(first.tolist())) == 25 and set(first.tolist()) <= set(pool.tolist())
    with pytest.raises(ValueError, match="51 different tokens cannot be drawn from 50"):
        head_measures.random_block(51, pool, torch.Generator())


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("model"), request.param)


def ours(folder: Path) -> Decoder:
    model = load_pretrained(f"folder:{folder}", device=torch.device("cpu")).model
    assert isinstance(model, Decoder)
    return model


def theirs_without(folder: Path, ids: torch.Tensor, off: list[tuple[int, int]]) -> torch.Tensor:
    """`transformers`, the rows of W_O that belong to each head of `off` set to zero."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    is_llama = model.config.model_type == "llama"
    width = model.config.head_dim if is_llama else model.config.n_embd // model.config.n_head
    with torch.no_grad():
        for layer, head in off:
            own = slice(head * width, (head + 1) * width)
            if is_llama:
                model.model.layers[layer].self_attn.o_proj.weight[:, own] = 0
            else:
                model.transformer.h[layer].attn.c_proj.weight[own] = 0  # Conv1D: in, out
        return model(ids).logits


@pytest.mark.parametrize("off", [[(0, 1)], [(1, 3)], [(0, 0), (1, 2), (1, 3)], []])
def test_zero_ablation_is_transformers_with_rows_of_w_o_zeroed(tiny: Path, off: list[tuple[int, int]]) -> None:
    model, ids = ours(tiny), torch.tensor([[0, 8, 300, 41, 8, 77]])
    keep = torch.ones(model.config.n_layers, model.config.n_heads, dtype=torch.bool)
    for layer, head in off:
        keep[layer, head] = False
    got = ablation.logits_without(model, ids, keep)
    torch.testing.assert_close(got, theirs_without(tiny, ids, off), atol=2e-4, rtol=1e-4)
    whole = model(ids)
    assert torch.allclose(got, whole, atol=2e-4) == (not off), "a head that is off changes something"


def test_mean_ablation_hands_over_the_mean(tiny: Path) -> None:
    """Against a forward hook on `transformers`' W_O that puts the head's mean over the positions in its place."""
    import transformers

    model, ids, layer, head = ours(tiny), torch.tensor([[0, 8, 300, 41, 8, 77]]), 1, 2
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    is_llama = theirs.config.model_type == "llama"
    attention = theirs.model.layers[layer].self_attn if is_llama else theirs.transformer.h[layer].attn
    d = model.config.d_head

    def averaged(_module: torch.nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        x = given[0].clone()
        x[..., head * d : (head + 1) * d] = x[..., head * d : (head + 1) * d].mean(dim=1, keepdim=True)
        return (x,)

    (attention.o_proj if is_llama else attention.c_proj).register_forward_pre_hook(averaged)
    keep = torch.ones(model.config.n_layers, model.config.n_heads, dtype=torch.bool)
    keep[layer, head] = False
    with torch.no_grad():
        trace, expected = model.trace(ids), theirs(ids).logits
    got = ablation.logits_without(model, ids, keep, ablation.mean_head_out(trace), trace)
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


def test_costs_are_those_of_single_ablations(tiny: Path) -> None:
    model, ids = ours(tiny), torch.tensor([[0, 8, 300, 41, 8]])
    with torch.no_grad():
        before = torch.log_softmax(model(ids)[0, -1].double(), dim=-1)
    costs = ablation.head_costs(model, ids)
    for layer, head in [(0, 0), (1, 1), (model.config.n_layers - 1, model.config.n_heads - 1)]:
        after = torch.log_softmax(theirs_without(tiny, ids, [(layer, head)])[0, -1].double(), dim=-1)
        bits = torch.nn.functional.kl_div(after, before, log_target=True, reduction="sum") / math.log(2)
        assert float(costs[layer, head]) == pytest.approx(float(bits), rel=2e-3, abs=1e-4)
    assert float(costs.min()) >= 0 and len(set(costs.flatten().tolist())) == costs.numel()
    assert not torch.allclose(costs, ablation.head_costs(model, ids, mean=True))


def test_a_switched_off_head_still_looks() -> None:
    torch.manual_seed(4)
    q, k, v = torch.randn(3, 1, 4, 5, 2)
    steps = ablation.attend_without(torch.tensor([True, False, True, True]))(q, k, v)
    whole = attend(q, k, v)
    assert torch.equal(steps.weights, whole.weights)
    assert torch.equal(steps.head_out[:, [0, 2, 3]], whole.head_out[:, [0, 2, 3]])
    assert torch.equal(steps.head_out[:, 1], torch.zeros(1, 5, 2))


def test_parts_add_up_to_what_attention_writes(tiny: Path) -> None:
    model, ids = ours(tiny), torch.tensor([[0, 8, 300, 41]])
    with torch.no_grad():
        layer = model.trace(ids).layers[1]
        w_o = model.blocks[1].attention.w_o
        parts = head_parts.written_by_head(layer.attention.head_out[0], w_o.weight)
    bias = 0 if w_o.bias is None else w_o.bias
    torch.testing.assert_close(parts.sum(dim=0) + bias, layer.attn_out[0])
    d = model.config.d_head
    for h in range(model.config.n_heads):
        own = layer.attention.head_out[0, h] @ w_o.weight[:, h * d : (h + 1) * d].T
        torch.testing.assert_close(parts[h], own.detach())


def test_shares_add_up_to_one_and_know_their_sign() -> None:
    torch.manual_seed(5)
    assert float(head_parts.shares(torch.randn(7, 11)).sum()) == pytest.approx(1, abs=1e-5)
    against = head_parts.shares(torch.tensor([[3.0, 1.0], [-1.0, -1.0]]))
    assert against.tolist() == pytest.approx([1.5, -0.5])
    assert head_parts.shares(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).isnan().all()


def test_groups_are_those_of_repeat_heads() -> None:
    from lm_core.attention import repeat_heads

    for n_heads, n_kv in [(6, 2), (8, 8), (12, 1), (9, 3)]:
        marked = repeat_heads(torch.arange(float(n_kv)).reshape(1, n_kv, 1, 1), n_heads).flatten().tolist()
        assert [head_parts.group_of(h, n_heads, n_kv) for h in range(n_heads)] == marked


def test_kept_numbers_are_those_of_the_cache(tiny: Path) -> None:
    model = ours(tiny)
    cache = model.new_cache(1, 5)
    held = sum(layer.k.numel() + layer.v.numel() for layer in cache.layers)
    c = model.config
    assert head_parts.kept_numbers(c.n_layers, c.n_kv_heads, c.d_head) * 5 == held
