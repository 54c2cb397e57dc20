"""The staircase of attention: each step equals the next in values and in gradients, and torch's own in float64.

All shapes differ from each other (B != T != H != Dh), so that a swapped axis cannot hide.
"""

import math
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm_core.attention import (
    AttentionTrace,
    attend,
    average_of_past,
    fused_attend,
    masked_softmax,
    merge_heads,
    repeat_heads,
    split_heads,
)
from lm_core.masks import causal_mask, padding_mask
from lm_core.positions import alibi_bias, alibi_slopes

B, H, TQ, TK, DH, DV = 2, 3, 5, 7, 4, 6
EXACT = {"rtol": 0.0, "atol": 1e-13}  # float64, numbers of order 1


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _qkv(n_kv_heads: int = H, n_queries: int = TQ) -> list[Tensor]:
    shapes = [(B, H, n_queries, DH), (B, n_kv_heads, TK, DH), (B, n_kv_heads, TK, DV)]
    return [_random(*shape, seed=i).requires_grad_() for i, shape in enumerate(shapes)]


def _gradients(out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of a sum weighted by fixed random numbers: a plain sum would hide errors that cancel."""
    return list(torch.autograd.grad((out * _random(*out.shape, seed=99)).sum(), inputs, retain_graph=True))


def _same(first: Tensor, second: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(first, second, **EXACT)
    for ours, theirs in zip(_gradients(first, inputs), _gradients(second, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


def _mask_with_empty_row() -> Tensor:
    allowed = causal_mask(TQ, TK)
    allowed[2] = False
    return allowed


MASKS: dict[str, Tensor | None] = {
    "none": None,
    "causal": causal_mask(TQ, TK),
    "padding": padding_mask(torch.tensor([3, 7]), TK)[:, None],
    "causal and padding": padding_mask(torch.tensor([3, 7]), TK)[:, None] & causal_mask(TQ, TK),
    "a row with nothing": _mask_with_empty_row(),
    "nothing at all": torch.zeros(TQ, TK, dtype=torch.bool),
}
BIASES: dict[str, Tensor | None] = {
    "none": None,
    "alibi": alibi_bias(TQ, TK, alibi_slopes(H)).double(),
    "random": _random(B, H, TQ, TK, seed=7),
}


@pytest.mark.parametrize("scale", [None, 1.0, 0.3, 0.0])
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("mask", MASKS)
def test_attend_equals_the_fused_path_in_values_and_gradients(mask: str, bias: str, scale: float | None) -> None:
    inputs = _qkv()
    slow = attend(*inputs, MASKS[mask], BIASES[bias], scale).head_out
    fast = fused_attend(*inputs, MASKS[mask], BIASES[bias], scale)
    assert slow.shape == (B, H, TQ, DV)
    _same(slow, fast, inputs)


@pytest.mark.parametrize("mask", MASKS)
def test_attend_equals_torch_called_directly(mask: str) -> None:
    inputs = _qkv()
    theirs = F.scaled_dot_product_attention(*inputs, attn_mask=MASKS[mask])
    _same(attend(*inputs, MASKS[mask]).head_out, theirs, inputs)


def test_is_causal_is_the_causal_mask() -> None:
    inputs = _qkv(n_queries=TK)
    _same(fused_attend(*inputs, is_causal=True), attend(*inputs, causal_mask(TK)).head_out, inputs)


@pytest.mark.parametrize("n_kv_heads", [1, 3])
def test_grouped_query_equals_multi_head_with_repeated_keys_and_values(n_kv_heads: int) -> None:
    n_heads, mask = 6, MASKS["causal"]
    q = _random(B, n_heads, TQ, DH).requires_grad_()
    _, k, v = _qkv(n_kv_heads)
    by_hand = [torch.stack([x[:, h * n_kv_heads // n_heads] for h in range(n_heads)], dim=1) for x in (k, v)]
    whole = attend(q, *by_hand, mask).head_out
    _same(attend(q, k, v, mask).head_out, whole, [q, k, v])
    _same(fused_attend(q, k, v, mask), whole, [q, k, v])


def test_heads_that_do_not_divide_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="5 query heads cannot share 3"):
        repeat_heads(torch.zeros(1, 3, 2, 2), 5)
    with pytest.raises(ValueError, match="width 10 is not divisible by n_heads 3"):
        split_heads(torch.zeros(1, 2, 10), 3)


@pytest.mark.parametrize("n_tokens", [1, 7])
def test_average_of_past_is_a_causal_head_whose_queries_are_zero(n_tokens: int) -> None:
    x, w_k = _random(B, n_tokens, 5).requires_grad_(), _random(4, 5, seed=1)
    w_q = torch.zeros(4, 5, dtype=torch.float64)
    head = attend(x @ w_q.T, x @ w_k.T, x, causal_mask(n_tokens)).head_out
    _same(average_of_past(x), head, [x])


def test_one_head_is_multi_head_with_one_head() -> None:
    x = _random(B, TQ, DH)
    single = attend(x, x, x, causal_mask(TQ)).head_out
    multi = merge_heads(attend(*[split_heads(x, 1)] * 3, causal_mask(TQ)).head_out)
    torch.testing.assert_close(single, multi, **EXACT)


def test_each_head_is_alone() -> None:
    q, k, v = _qkv()
    together = attend(q, k, v).head_out
    for h in range(H):
        torch.testing.assert_close(together[:, h], attend(q[:, h], k[:, h], v[:, h]).head_out, **EXACT)


@pytest.mark.parametrize("padded", [False, True])
def test_multi_head_equals_torchs_module_with_copied_weights(padded: bool) -> None:
    """nn.MultiheadAttention's masks have the opposite polarity: True there means "may NOT look"."""
    d_model, n_heads, n_tokens = 12, 3, 5
    theirs = nn.MultiheadAttention(d_model, n_heads, batch_first=True, dtype=torch.float64)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    x, lengths = _random(B, n_tokens, d_model).requires_grad_(), torch.tensor([3, 5])
    allowed, refused = causal_mask(n_tokens)[None], None
    if padded:
        allowed = allowed & padding_mask(lengths, n_tokens)
        refused = ~padding_mask(lengths, n_tokens)[:, 0]
    expected, weights = theirs(
        x, x, x, attn_mask=~causal_mask(n_tokens), key_padding_mask=refused, average_attn_weights=False
    )
    projected = x @ theirs.in_proj_weight.T + theirs.in_proj_bias
    trace = attend(*(split_heads(part, n_heads) for part in projected.chunk(3, dim=-1)), allowed[:, None])
    ours = merge_heads(trace.head_out) @ theirs.out_proj.weight.T + theirs.out_proj.bias
    torch.testing.assert_close(trace.weights, weights, **EXACT)
    _same(ours, expected, [x, *theirs.parameters()])


@pytest.mark.parametrize("path", [lambda *a: attend(*a).head_out, fused_attend], ids=["attend", "fused_attend"])
def test_a_row_with_nothing_allowed_gives_zeros_and_gradients_without_nan(path: Callable[..., Tensor]) -> None:
    q, k, v = inputs = _qkv()
    allowed = _mask_with_empty_row()
    out = path(q, k, v, allowed)
    assert torch.equal(out[:, :, 2], torch.zeros(B, H, DV, dtype=torch.float64))
    gradients = _gradients(out, inputs)
    assert all(g.isfinite().all() for g in gradients)
    assert torch.equal(gradients[0][:, :, 2], torch.zeros(B, H, DH, dtype=torch.float64))
    assert gradients[0][:, :, 3].abs().min() > 0
    # The scores themselves may be differentiated too: d weights / d scores must not be 0 · ∞.
    masked = _random(2, 3).masked_fill(torch.tensor([[True], [False]]), -math.inf).requires_grad_()
    (gradient,) = torch.autograd.grad(masked_softmax(masked)[:, 0].sum(), masked)
    assert torch.equal(gradient[0], torch.zeros(3, dtype=torch.float64))
    assert gradient[1].abs().min() > 0


@pytest.mark.parametrize("mask", MASKS)
def test_weight_rows_sum_to_one_or_are_all_zero(mask: str) -> None:
    allowed = MASKS[mask]
    weights = attend(*_qkv(), allowed).weights
    everywhere = torch.ones(B, H, TQ, TK, dtype=torch.bool) if allowed is None else allowed.expand(B, H, TQ, TK)
    sums = everywhere.any(dim=-1).double()
    torch.testing.assert_close(weights.sum(dim=-1), sums, **EXACT)
    assert weights[~everywhere].eq(0).all()
    assert weights[everywhere].gt(0).all()


def test_softmax_ignores_a_constant_and_does_not_overflow() -> None:
    x = torch.randint(-8, 8, (3, 5)).double()  # whole numbers, so that x + 1000 is exact
    assert torch.equal(masked_softmax(x + 1000), masked_softmax(x))
    torch.testing.assert_close(masked_softmax(x), torch.softmax(x, dim=-1), **EXACT)
    assert torch.equal(masked_softmax(torch.tensor([[1000.0, 0.0, -1000.0]])), torch.tensor([[1.0, 0.0, 0.0]]))


def test_every_step_of_the_trace_is_what_its_name_says() -> None:
    q, k, v = _qkv()
    allowed, bias = MASKS["causal"], BIASES["alibi"]
    t = attend(q, k, v, allowed, bias)
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k)
    scaled = scores / 2.0 + bias  # √Dh = √4
    expected = {
        "q": q, "k": k, "v": v, "scores": scores, "scaled": scaled, "masked": scaled.masked_fill(~allowed, -math.inf),
        "weights": scaled.masked_fill(~allowed, -math.inf).softmax(-1),
        "head_out": torch.einsum("bhqk,bhkd->bhqd", t.weights, v),
    }  # fmt: skip
    assert list(expected) == [field.name for field in fields(AttentionTrace)]
    for name, value in expected.items():
        torch.testing.assert_close(getattr(t, name), value, **EXACT)


def test_a_temperature_is_a_scale() -> None:
    q, k, v = _qkv()
    temperature = 0.1
    ours = attend(q, k, v, scale=1 / (math.sqrt(DH) * temperature)).weights
    torch.testing.assert_close(ours, attend(q / temperature, k, v).weights, **EXACT)


def test_no_input_is_changed_in_place() -> None:
    q, k, v = (x.detach() for x in _qkv(1))
    inputs = [q, k, v, _mask_with_empty_row(), BIASES["random"]]
    copies = [x.clone() for x in inputs]
    trace, fused = attend(*inputs), fused_attend(*inputs)
    trace.head_out.add_(1)
    fused.add_(1)
    assert all(torch.equal(x, copy) for x, copy in zip(inputs, copies, strict=True))


@pytest.mark.parametrize("shape", [(B, H, TQ, DH), (H, TQ, DH), (TQ, DH), (B, H, 1, DH)])
def test_arrays_without_batch_or_heads_and_single_tokens_are_taken(shape: tuple[int, ...]) -> None:
    x = _random(*shape)
    ours = attend(x, x, x, causal_mask(shape[-2])).head_out
    assert ours.shape == shape
    torch.testing.assert_close(ours, fused_attend(x, x, x, causal_mask(shape[-2])), **EXACT)
    assert torch.equal(ours[..., 0, :], x[..., 0, :])  # the first position sees only itself


def test_merge_undoes_split_and_heads_are_neighbouring_columns() -> None:
    x = _random(B, TQ, H * DH)
    heads = split_heads(x, H)
    assert torch.equal(heads[:, 1], x[..., DH : 2 * DH])
    assert torch.equal(merge_heads(heads), x)


def test_the_order_of_keys_does_not_matter_without_positions() -> None:
    q, k, v = _qkv()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(attend(q, k[:, :, order], v[:, :, order]).head_out, attend(q, k, v).head_out, **EXACT)


def test_dividing_by_the_root_of_d_head_keeps_the_variance_of_scores_at_one() -> None:
    for d_head in (16, 256):
        q, k = _random(1, 400, d_head, seed=3), _random(1, 500, d_head, seed=4)
        trace = attend(q, k, k)
        assert trace.scores.var() == pytest.approx(d_head, rel=0.05)
        assert trace.scaled.var() == pytest.approx(1.0, rel=0.05)


def test_under_autocast_on_a_cpu_attention_is_computed_in_float32() -> None:
    """Its bfloat16 gradients are slow there: the inputs are rounded by the layer before, the attention is not."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 4, generator=random).bfloat16().requires_grad_() for _ in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = fused_attend(q, k, v, is_causal=True)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert q.grad is not None and q.grad.dtype == torch.bfloat16
    exact = fused_attend(q.float(), k.float(), v.float(), is_causal=True)
    assert torch.equal(out, exact)
