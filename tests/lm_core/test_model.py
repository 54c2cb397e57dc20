"""A whole model: its two paths are one, its sums hold, nothing sees the future, and `Ops` changes what it should."""

import math
from collections.abc import Callable
from dataclasses import astuple, fields, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core.attention import AttentionTrace, attend
from lm_core.block import LayerTrace
from lm_core.config import DecoderConfig, EncoderConfig, gpt2_config, llama_config
from lm_core.encoder import Encoder, EncoderTrace
from lm_core.layers import gelu_tanh, layer_norm
from lm_core.masks import causal_mask, padding_mask
from lm_core.model import Decoder, ModelTrace
from lm_core.ops import REFERENCE, Ops
from lm_core.positions import RopeScaling

B, T, VOCAB = 2, 7, 11
EXACT = {"rtol": 0.0, "atol": 1e-12}  # float64
EPS = 0.1  # so large that a forgotten or misplaced eps shows


def _gpt2(**changes: object) -> DecoderConfig:
    shape = {"vocab_size": VOCAB, "d_model": 12, "n_layers": 3, "n_heads": 4, "context_length": 9, "norm_eps": EPS}
    return gpt2_config(**{**shape, **changes})  # type: ignore[arg-type]


def _llama(**changes: object) -> DecoderConfig:
    shape = {
        "vocab_size": VOCAB, "d_model": 12, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "d_head": 6, "d_mlp": 17,
        "context_length": 9, "norm_eps": EPS, "rope_theta": 50.0,
    }  # fmt: skip
    return llama_config(**{**shape, **changes})  # type: ignore[arg-type]


CONFIGS: dict[str, Callable[[], DecoderConfig]] = {
    "gpt2": _gpt2,
    "gpt2 untied": lambda: _gpt2(tie_embeddings=False, activation="gelu", d_mlp=13),
    "llama grouped": _llama,
    "llama plain, biased": lambda: _llama(n_kv_heads=4, attention_bias=True, mlp_bias=True, tie_embeddings=False),
    "llama 3 scaling": lambda: _llama(n_kv_heads=1, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 64)),
}


def _shake(model: torch.nn.Module) -> None:
    """Random numbers in every parameter, biases and norms too: a part that is not used shows."""
    random = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random))


def _decoder(name: str) -> Decoder:
    model = Decoder(CONFIGS[name]()).double()
    _shake(model)
    return model


def _encoder(**changes: object) -> Encoder:
    shape = {"vocab_size": VOCAB, "d_model": 12, "n_layers": 2, "n_heads": 4, "d_mlp": 17, "context_length": 9}
    model = Encoder(EncoderConfig(**{**shape, "norm_eps": EPS, **changes})).double()  # type: ignore[arg-type]
    _shake(model)
    return model


def _ids(n_tokens: int = T) -> Tensor:
    ids = torch.randint(VOCAB, (B, n_tokens), generator=torch.Generator().manual_seed(2))
    ids[:, -1] = ids[:, 0]  # a repeated id
    return ids


def _gradients(loss: Tensor, model: torch.nn.Module) -> list[Tensor]:
    return [
        torch.zeros_like(p) if g is None else g
        for p, g in zip(
            model.parameters(), torch.autograd.grad(loss, list(model.parameters()), allow_unused=True), strict=True
        )
    ]


def _same_with_gradients(fast: Tensor, slow: Tensor, model: torch.nn.Module) -> None:
    torch.testing.assert_close(fast, slow, **EXACT)
    upstream = torch.randn(fast.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ours, theirs = _gradients((fast * upstream).sum(), model), _gradients((slow * upstream).sum(), model)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_tokens", [1, T])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_readable_path_equals_the_fast_one_in_values_and_gradients(name: str, n_tokens: int) -> None:
    model, ids = _decoder(name), _ids(n_tokens)
    logits = model(ids)
    assert logits.shape == (B, n_tokens, VOCAB)
    _same_with_gradients(logits, model.trace(ids).logits, model)


@pytest.mark.parametrize("with_padding", [False, True])
def test_the_encoders_two_paths_are_one(with_padding: bool) -> None:
    model, ids = _encoder(next_sentence_head=True), _ids()
    allowed = padding_mask(torch.tensor([4, T]), T) if with_padding else None
    segments = (torch.arange(T) > 3).long().expand(B, T)
    trace = model.trace(ids, allowed, segments)
    _same_with_gradients(model(ids, allowed, segments), trace.logits, model)
    assert trace.next_sentence is not None
    assert trace.next_sentence.shape == (B, 2)
    assert not torch.equal(model(ids, allowed, segments), model(ids, allowed))


def test_the_next_sentence_head_reads_the_first_position() -> None:
    model, ids = _encoder(next_sentence_head=True), _ids()
    assert model.pooler is not None and model.next_sentence is not None
    trace = model.trace(ids)
    first = trace.layers[-1].resid_post[:, 0]
    torch.testing.assert_close(trace.next_sentence, model.next_sentence(model.pooler(first).tanh()), **EXACT)
    assert _encoder().trace(ids).next_sentence is None


@pytest.mark.parametrize("name", CONFIGS)
def test_pre_norm_the_stream_is_the_sum_of_what_was_added(name: str) -> None:
    trace = _decoder(name).trace(_ids())
    added = trace.embedded
    for layer in trace.layers:
        assert torch.equal(layer.resid_pre, added)
        assert torch.equal(layer.resid_mid, layer.resid_pre + layer.attn_out)
        assert torch.equal(layer.resid_post, layer.resid_mid + layer.mlp_out)
        torch.testing.assert_close(layer.resid_post, layer.resid_pre + layer.attn_out + layer.mlp_out, **EXACT)
        added = layer.resid_post
    assert len(trace.layers) == 3


def test_post_norm_normalises_each_sum() -> None:
    model = _encoder()
    trace = model.trace(_ids())
    before = trace.embedded
    for layer, block in zip(trace.layers, model.blocks, strict=True):
        first, second = block.norm_1, block.norm_2
        assert torch.equal(layer.resid_pre, before)
        mid = layer_norm(layer.resid_pre + layer.attn_out, first.weight, first.bias, EPS)
        post = layer_norm(layer.resid_mid + layer.mlp_out, second.weight, second.bias, EPS)
        torch.testing.assert_close(layer.resid_mid, mid, **EXACT)
        torch.testing.assert_close(layer.resid_post, post, **EXACT)
        before = layer.resid_post


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_sum_to_one_and_never_reach_the_future(name: str) -> None:
    allowed = causal_mask(T)
    for layer in _decoder(name).trace(_ids()).layers:
        weights = layer.attention.weights
        assert weights.shape == (B, 4, T, T)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(B, 4, T).double(), **EXACT)
        assert weights[:, :, ~allowed].eq(0).all()
        assert weights[:, :, allowed].gt(0).all()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("changed", [0, 3, T - 1])
def test_changing_a_token_leaves_everything_before_it_exactly_alone(name: str, changed: int) -> None:
    model, ids = _decoder(name), _ids()
    other = ids.clone()
    other[:, changed] = (other[:, changed] + 1) % VOCAB
    for path in ("trace", "forward"):
        if path == "forward":
            one, two = model(ids), model(other)
            assert torch.equal(one[:, :changed], two[:, :changed])
            assert not torch.isclose(one[:, changed:], two[:, changed:]).all(dim=-1).any()
            continue
        first, second = model.trace(ids), model.trace(other)
        for a, b in zip(first.layers, second.layers, strict=True):
            for name_ in ("resid_pre", "attn_in", "attn_out", "resid_mid", "mlp_hidden", "mlp_out", "resid_post"):
                assert torch.equal(getattr(a, name_)[:, :changed], getattr(b, name_)[:, :changed]), name_
            assert not torch.isclose(a.resid_post[:, changed:], b.resid_post[:, changed:]).all(dim=-1).any()


def test_an_encoder_sees_both_ways_but_never_padding() -> None:
    model, ids = _encoder(), _ids()
    other = ids.clone()
    other[:, 5] = (other[:, 5] + 1) % VOCAB
    assert not torch.isclose(model(ids)[:, 0], model(other)[:, 0]).all()
    allowed = padding_mask(torch.tensor([5, 5]), T)
    assert torch.equal(model(ids, allowed)[:, :5], model(other, allowed)[:, :5])
    shorter = model(ids[:, :5])  # padding changes nothing but rounding
    torch.testing.assert_close(model(ids, allowed)[:, :5], shorter, **EXACT)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pieces", [(7,), (1,) * 7, (3, 1, 3), (1, 4, 2), (6, 1)])
def test_with_a_cache_the_text_may_come_in_pieces(name: str, pieces: tuple[int, ...]) -> None:
    model, ids = _decoder(name), _ids()
    cache, out, start = model.new_cache(B, T), [], 0
    with torch.no_grad():
        for n in pieces:
            assert cache.length == start
            out.append(model(ids[:, start : start + n], cache=cache))
            start += n
        torch.testing.assert_close(torch.cat(out, dim=1), model(ids), **EXACT)


def test_a_full_cache_says_so_with_the_numbers() -> None:
    model, ids = _decoder("llama grouped"), _ids()
    cache = model.new_cache(B, 4)
    with torch.no_grad(), pytest.raises(ValueError, match="room for 4 positions, not for 7"):
        model(ids, cache=cache)


@pytest.mark.parametrize(
    "model", [_decoder("gpt2"), _decoder("llama grouped"), _encoder()], ids=["gpt2", "llama", "bert"]
)
def test_lengths_that_cannot_be_are_refused_with_the_numbers(model: Decoder | Encoder) -> None:
    for path in (model, model.trace):
        with pytest.raises(ValueError, match="10 tokens, but this model sees at most 9"):
            path(_ids(10))
        with pytest.raises(ValueError, match="no tokens"):
            path(torch.zeros(B, 0, dtype=torch.long))
    assert model(_ids(9)).shape == (B, 9, VOCAB)


def test_allowed_replaces_the_causal_mask_on_both_paths() -> None:
    model, ids = _decoder("gpt2"), _ids()
    everything = torch.ones(T, T, dtype=torch.bool)
    both_ways = model(ids, everything)
    torch.testing.assert_close(both_ways, model.trace(ids, everything).logits, **EXACT)
    assert not torch.isclose(both_ways[:, 0], model(ids)[:, 0]).all()
    per_text = torch.stack([causal_mask(T), everything])
    mixed = model(ids, per_text)
    torch.testing.assert_close(mixed[0], model(ids)[0], **EXACT)
    torch.testing.assert_close(mixed[1], both_ways[1], **EXACT)


def test_texts_of_a_batch_do_not_meet() -> None:
    model, ids = _decoder("llama grouped"), _ids()
    torch.testing.assert_close(model(ids)[:1], model(ids[:1]), **EXACT)


def test_positions_matter_with_both_kinds() -> None:
    for name in ("gpt2", "llama grouped"):
        model = _decoder(name)
        same_token_everywhere = torch.zeros(1, T, dtype=torch.long)
        layer = model.trace(same_token_everywhere).layers[0]
        spread = layer.attention.weights[0, :, -1].std(dim=-1)
        assert (spread > 1e-3).all()  # without positions every past token would weigh the same


def test_the_trace_keeps_q_and_k_before_and_after_rotation() -> None:
    layer = _decoder("llama grouped").trace(_ids()).layers[0]
    assert layer.q_proj.shape == (B, 4, T, 6)
    assert layer.k_proj.shape == (B, 2, T, 6)
    assert torch.equal(layer.q_proj[:, :, 0], layer.attention.q[:, :, 0])  # position 0 turns by 0
    assert not torch.isclose(layer.q_proj[:, :, 1:], layer.attention.q[:, :, 1:]).all()
    layer = _decoder("gpt2").trace(_ids()).layers[0]
    assert torch.equal(layer.q_proj, layer.attention.q)
    assert torch.equal(layer.k_proj, layer.attention.k)


# Ops: "your code" in place of the package's


def _leaves(trace: ModelTrace | EncoderTrace | LayerTrace | AttentionTrace) -> list[Tensor]:
    out: list[Tensor] = []
    for field in fields(trace):
        value = getattr(trace, field.name)
        if isinstance(value, Tensor):
            out.append(value)
        elif value is not None:
            for part in value if isinstance(value, tuple) else (value,):
                out.extend(_leaves(part))
    return out


def _unscaled(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> AttentionTrace:
    return attend(q, k, v, allowed, scale=1.0)


@pytest.mark.parametrize("name", CONFIGS)
def test_ops_equal_to_the_reference_change_nothing_at_all(name: str) -> None:
    model, ids = _decoder(name), _ids()
    wrapped = Ops(*(lambda *a, f=f, **k: f(*a, **k) for f in astuple(REFERENCE)))
    assert wrapped != REFERENCE
    ours, theirs = _leaves(model.trace(ids)), _leaves(model.trace(ids, ops=wrapped))
    assert len(ours) == 4 + 3 * (10 + 8)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("make", [lambda: _decoder("gpt2"), lambda: _decoder("llama grouped"), _encoder])
def test_attention_without_scaling_diverges_first_where_the_scaling_is(make: Callable[[], Decoder | Encoder]) -> None:
    model, ids = make(), _ids()
    right, wrong = model.trace(ids), model.trace(ids, ops=replace(REFERENCE, attend=_unscaled))
    first, other = right.layers[0], wrong.layers[0]
    for name in ("resid_pre", "attn_in", "q_proj", "k_proj"):
        assert torch.equal(getattr(first, name), getattr(other, name))
    assert torch.equal(first.attention.scores, other.attention.scores)
    assert torch.equal(other.attention.scaled, other.attention.scores)
    assert not torch.isclose(first.attention.weights, other.attention.weights).all()
    assert not torch.isclose(first.resid_post, other.resid_post).all()
    assert not torch.isclose(right.logits, wrong.logits).all()


@pytest.mark.parametrize(
    ("name", "op", "wrong"),
    [
        ("gpt2", "causal_mask", lambda n, device=None: torch.ones(n, n, dtype=torch.bool, device=device)),
        ("gpt2", "layer_norm", lambda x, w, b, eps: layer_norm(x, w, b, 0.0)),
        ("llama grouped", "rms_norm", lambda x, w, b, eps: layer_norm(x, w, b, eps)),
        ("gpt2", "feed_forward", lambda x, *a: (x, torch.zeros_like(x))),
        ("llama grouped", "rotate", lambda x, angles: x),
    ],
)
def test_every_op_of_the_forward_pass_is_really_used(name: str, op: str, wrong: Callable[..., Tensor]) -> None:
    model, ids = _decoder(name), _ids()
    changed = model.trace(ids, ops=replace(REFERENCE, **{op: wrong})).logits
    assert not torch.isclose(changed, model.trace(ids).logits).all()
    torch.testing.assert_close(model(ids), model.trace(ids).logits, **EXACT)  # and nothing was patched


def test_rotation_is_no_op_of_a_model_with_learned_positions() -> None:
    model, ids = _decoder("gpt2"), _ids()
    assert torch.equal(
        model.trace(ids, ops=replace(REFERENCE, rotate=lambda x, _: 0 * x)).logits, model.trace(ids).logits
    )


# Fresh weights


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fresh_model_knows_nothing(name: str) -> None:
    """Loss close to ln V, and close to uniform everywhere: within 1 %."""
    config = replace(CONFIGS[name](), vocab_size=200, norm_eps=1e-5)
    model = Decoder(config).init_weights(torch.Generator().manual_seed(1))
    ids = torch.randint(200, (16, 9), generator=torch.Generator().manual_seed(2))
    loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()
    assert loss == pytest.approx(math.log(200), rel=0.01)


def test_what_writes_to_the_stream_starts_smaller_by_the_root_of_two_layers() -> None:
    model = Decoder(gpt2_config(vocab_size=100, d_model=64, n_layers=8, n_heads=4, context_length=100))
    model.init_weights(torch.Generator().manual_seed(1))
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert p.eq(0).all(), name
        elif "norm" in name:
            assert p.eq(1).all(), name
        else:
            writes = "w_o." in name or "w_out." in name
            assert p.std().item() == pytest.approx(0.02 / 4 if writes else 0.02, rel=0.05), name
            assert abs(p.mean().item()) < 1e-3, name


def test_the_same_generator_gives_the_same_weights() -> None:
    one, two, three = (Decoder(_gpt2()).init_weights(torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.embed_tokens.weight, three.embed_tokens.weight)


def test_a_tied_matrix_is_one_and_counted_once() -> None:
    d, v, m, context = 12, VOCAB, 48, 9
    layer = 4 * (d * d + d) + (d * m + m) + (m * d + d) + 4 * d
    tied = v * d + context * d + 3 * layer + 2 * d
    assert Decoder(_gpt2()).n_parameters() == tied
    assert Decoder(_gpt2(tie_embeddings=False)).n_parameters() == tied + v * d
    encoder = _encoder()
    assert encoder.unembed.weight is encoder.embed_tokens.weight


def test_a_fresh_encoder_is_small_and_still_tied() -> None:
    config = EncoderConfig(vocab_size=100, d_model=64, n_layers=2, n_heads=4, d_mlp=80, context_length=30)
    model = Encoder(config).init_weights(torch.Generator().manual_seed(0))
    assert model.unembed.weight is model.embed_tokens.weight
    d, m = 64, 80
    layer = 4 * (d * d + d) + (d * m + m) + (m * d + d) + 4 * d
    assert model.n_parameters() == (100 + 30 + 2) * d + 2 * d + 2 * layer + (d * d + d) + 2 * d + 100
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert p.eq(0).all(), name
        elif "norm" in name:
            assert p.eq(1).all(), name
        else:
            tolerance = 0.3 if "segments" in name else 0.05  # only 128 numbers
            assert p.std().item() == pytest.approx(0.02, rel=tolerance), name


def test_gelu_of_gpt2_is_the_tanh_one() -> None:
    model, ids = _decoder("gpt2"), _ids()
    layer, mlp = model.trace(ids).layers[0], model.blocks[0].mlp
    torch.testing.assert_close(layer.mlp_hidden, gelu_tanh(mlp.w_in(layer.mlp_in)), **EXACT)
