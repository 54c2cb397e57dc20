"""The stream is a sum: its parts, the logits that they make, and the lens, held to the models and to transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lm_core import residual_stream as rs
from lm_core.checkpoint import load_pretrained
from lm_core.config import DecoderConfig
from lm_core.model import Decoder, ModelTrace
from tests import tiny_models

CONFIGS = {"gpt2": tiny_models.gpt2(n_layers=3), "llama": tiny_models.llama(n_layers=3)}
IDS = torch.tensor([[7, 7, 250, 3, 91, 12]])


def _model(config: DecoderConfig) -> Decoder:
    """Every parameter random, biases and norms too: nothing is hidden by a one or a zero."""
    generator = torch.Generator().manual_seed(3)
    model = Decoder(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.3, 0.7, generator=generator)
    return model


@pytest.fixture(params=list(CONFIGS))
def traced(request: pytest.FixtureRequest) -> tuple[Decoder, ModelTrace]:
    model = _model(CONFIGS[request.param])
    with torch.no_grad():
        return model, model.trace(IDS)


def _parts(trace: ModelTrace) -> Tensor:
    attention, mlp = (torch.stack([getattr(layer, n)[0] for layer in trace.layers]) for n in ("attn_out", "mlp_out"))
    return rs.stream_parts(trace.embedded[0], attention, mlp)


def test_the_parts_add_up_to_every_state(traced: tuple[Decoder, ModelTrace]) -> None:
    _, trace = traced
    states = _parts(trace).cumsum(0)
    assert len(states) == 7
    torch.testing.assert_close(states[0], trace.embedded[0])
    for k, layer in enumerate(trace.layers):
        torch.testing.assert_close(states[2 * k + 1], layer.resid_mid[0])
        torch.testing.assert_close(states[2 * k + 2], layer.resid_post[0])


def test_the_attributions_add_up_to_the_logits(traced: tuple[Decoder, ModelTrace]) -> None:
    model, trace = traced
    with torch.no_grad():
        logits = model(IDS)[0]
        tokens = [0, 5, 289]
        for position in range(IDS.shape[1]):
            parts = _parts(trace)[:, position]
            table = rs.logit_parts(parts, model.final_norm, model.unembed.weight[tokens])
            assert table.shape == (8, 3)
            torch.testing.assert_close(table.sum(0), logits[position, tokens], rtol=1e-11, atol=1e-10)
            has_bias = model.final_norm.bias is not None
            assert bool(table[-1].abs().max() > 1e-3) == has_bias


def test_an_attribution_is_the_slope_of_the_logit_with_the_scale_held(traced: tuple[Decoder, ModelTrace]) -> None:
    """Scale one part by t with the division frozen: the logit moves on a line, and its slope is the attribution."""
    model, trace = traced
    parts = _parts(trace)[:, 2]
    whole, norm = parts.sum(0), model.final_norm
    centred = whole - whole.mean() if norm.kind == "layer_norm" else whole
    size = (centred.square().mean() + norm.eps).sqrt()
    u = model.unembed.weight[11]
    with torch.no_grad():
        table = rs.logit_parts(parts, norm, u[None])[:, 0]
        for p, part in enumerate(parts):
            for t in (0.0, -2.0):
                moved = whole + (t - 1) * part
                moved = moved - moved.mean() if norm.kind == "layer_norm" else moved
                bias = 0 if norm.bias is None else norm.bias
                torch.testing.assert_close((moved / size * norm.weight + bias) @ u, table.sum() + (t - 1) * table[p])


def test_without_freezing_the_parts_do_not_add_up(traced: tuple[Decoder, ModelTrace]) -> None:
    model, trace = traced
    parts = _parts(trace)[:, 2]
    with torch.no_grad():
        each_by_itself = sum(model.final_norm(part) for part in parts)
        assert not torch.allclose(each_by_itself, model.final_norm(parts.sum(0)), rtol=0.01)


def test_the_lens_on_the_last_state_is_the_model(traced: tuple[Decoder, ModelTrace]) -> None:
    model, trace = traced
    with torch.no_grad():
        seen = rs.logit_lens(trace.layers[-1].resid_post[0], model.final_norm, model.unembed.weight)
        torch.testing.assert_close(seen, model(IDS)[0])


@pytest.mark.parametrize("family", list(CONFIGS))
def test_the_lens_on_earlier_states_is_that_of_transformers(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    changes = {"d_model": 24} if family == "llama" else {}  # transformers wants whole heads
    folder = tiny_models.save(tmp_path, getattr(tiny_models, family)(n_layers=3, **changes))
    ours = load_pretrained(f"folder:{folder}").model
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert isinstance(ours, Decoder)
    with torch.no_grad():
        hidden = theirs(IDS, output_hidden_states=True).hidden_states
        final = theirs.transformer.ln_f if family == "gpt2" else theirs.model.norm
        trace = ours.trace(IDS)
        states = [trace.embedded, *(layer.resid_post for layer in trace.layers)]
        for k in range(3):  # transformers has put the last one through the norm already
            expected = theirs.lm_head(final(hidden[k]))
            seen = rs.logit_lens(states[k], ours.final_norm, ours.unembed.weight)
            torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)


def test_what_attention_adds_comes_from_heads_and_sources(traced: tuple[Decoder, ModelTrace]) -> None:
    model, trace = traced
    for block, layer in zip(model.blocks, trace.layers, strict=True):
        w_o, a = block.attention.w_o, layer.attention
        for i in (0, 3, 5):
            with torch.no_grad():
                written = rs.written_by_source(a.weights[0, :, i], a.v[0], w_o.weight)
                assert written.shape == (model.config.n_heads, 6, model.config.d_model)
                assert not written[:, i + 1 :].any(), "nothing comes from a later token"
                bias = torch.zeros(1).double() if w_o.bias is None else w_o.bias
                total = layer.attn_out[0, i]
                torch.testing.assert_close(written.sum((0, 1)) + bias, total)
                shares = rs.share_of_length(written, total).sum() + rs.share_of_length(bias.expand(len(total)), total)
                torch.testing.assert_close(shares, total.norm())


def test_one_term_of_attention_by_hand(traced: tuple[Decoder, ModelTrace]) -> None:
    model, trace = traced
    c, a = model.config, trace.layers[1].attention
    h, i, j = c.n_heads - 2, 4, 2
    v = a.v[0, h * c.n_kv_heads // c.n_heads, j]
    w_o = model.blocks[1].attention.w_o.weight[:, h * c.d_head : (h + 1) * c.d_head]
    expected = a.weights[0, h, i, j] * (w_o @ v)
    seen = rs.written_by_source(a.weights[0, :, i], a.v[0], model.blocks[1].attention.w_o.weight)[h, j]
    torch.testing.assert_close(seen, expected)


def test_cosine_is_that_of_torch() -> None:
    a, b = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rs.cosine(a, b), torch.nn.functional.cosine_similarity(a, b, dim=-1))


def test_ranks_are_places_in_the_sorted_vocabulary() -> None:
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(1))
    order = logits.argsort(dim=-1, descending=True)
    for token in (0, 17, 29):
        assert rs.rank_of(logits, token).tolist() == [row.tolist().index(token) + 1 for row in order]
