"""The plain functions against the classes, and the small references against torch and the tokenizer."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from lm_core.bpe_merges import apply_merges
from lm_core.config import gpt2_config
from lm_core.linear_probe import held_out_accuracy
from lm_core.masks import causal_mask, causal_padding_mask, padding_mask
from lm_core.model import Decoder
from lm_core.plain_model import gpt_forward, kv_cache_step, next_token_distribution
from lm_core.probability import (
    bits_per_byte_of,
    cross_entropy,
    next_token_nats,
    perplexity_of,
    score_sequence,
    sequence_log_prob,
)
from lm_core.quantise import dequantise_int8, quantise_int8
from lm_core.tokenizer import train_bpe


@pytest.fixture(scope="module")
def model() -> Decoder:
    config = gpt2_config(vocab_size=23, d_model=12, n_layers=3, n_heads=3, context_length=9)
    random = torch.Generator().manual_seed(3)
    model = Decoder(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) / 2)
    return model


@torch.no_grad()
def test_gpt_forward_is_the_decoder(model: Decoder) -> None:
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 9, 7]])
    steps, trace = gpt_forward(ids, model.state_dict(), 3, 3), model.trace(ids)
    torch.testing.assert_close(steps.logits, trace.logits)
    torch.testing.assert_close(steps.embedded, trace.embedded)
    for mine, theirs in zip(steps.stream, trace.layers, strict=True):
        torch.testing.assert_close(mine, theirs.resid_post)
    torch.testing.assert_close(
        next_token_distribution(steps.stream[-1][0], model.state_dict()), trace.logits[0, -1].softmax(-1)
    )


def test_kv_cache_steps_give_what_one_pass_gives() -> None:
    q, k, v = torch.randn(3, 2, 3, 7, 4, generator=torch.Generator().manual_seed(1))
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    keys, values, parts = k[:, :, :0], v[:, :, :0], []
    for begin, end in ((0, 3), (3, 4), (4, 7)):
        part, keys, values = kv_cache_step(q[:, :, begin:end], k[:, :, begin:end], v[:, :, begin:end], keys, values)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=-2), whole)
    assert torch.equal(keys, k) and torch.equal(values, v)


def test_losses_are_torchs() -> None:
    random = torch.Generator().manual_seed(2)
    logits, ids = torch.randn(2, 6, 11, generator=random) * 9, torch.randint(11, (2, 6), generator=random)
    padded = ids.clone()
    padded[1, 2:] = -100
    for targets in (ids, padded):
        torch.testing.assert_close(cross_entropy(logits, targets), F.cross_entropy(logits.mT, targets))
    torch.testing.assert_close(
        next_token_nats(logits, ids), F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    )
    score = score_sequence(ids[0], logits[0])
    assert math.isclose(float(sequence_log_prob(ids[0], logits[0])), score.total_nats, rel_tol=1e-5)
    assert math.isclose(perplexity_of(score.log_probs), score.perplexity, rel_tol=1e-9)
    assert math.isclose(bits_per_byte_of(score.log_probs, "猫!"), score.bits_per_byte(4), rel_tol=1e-9)


def test_masks_together_are_both_masks() -> None:
    lengths = torch.tensor([4, 1, 6])
    assert torch.equal(causal_padding_mask(lengths, 6), causal_mask(6) & padding_mask(lengths, 6))


def test_apply_merges_is_the_tokenizers_encoding() -> None:
    tokenizer = train_bpe(["the lower the slower, 猫和狗 和 猫 the low"] * 2, 290)
    for word in (" lower", "slow", "猫和", "theory", "x"):
        symbols = apply_merges(word.encode(), tokenizer.ranks)
        assert tuple(tokenizer.vocab[symbol] for symbol in symbols) == tokenizer.merge_steps(word).token_ids


def test_int8_is_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(4)) * torch.tensor([1, 10, 0, 1e-3, 5])[:, None]
    quantised, scale = quantise_int8(weight)
    assert int(quantised.min()) >= -127 and quantised.abs().amax(dim=1).tolist() == [127, 127, 0, 127, 127]
    assert bool(((dequantise_int8(quantised, scale) - weight).abs() <= scale * 0.5001).all())


def test_held_out_accuracy_is_a_trained_linear_layers() -> None:
    random = torch.Generator().manual_seed(5)
    x, y = torch.randn(60, 4, generator=random), torch.randint(3, (60,), generator=random)
    weight = torch.zeros(4, 3, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.3)
    for _ in range(7):
        optimizer.zero_grad()
        F.cross_entropy(x[:40] @ weight, y[:40]).backward()
        optimizer.step()
    accuracy = float(((x[40:] @ weight).argmax(-1) == y[40:]).float().mean())
    assert math.isclose(held_out_accuracy(x, y, 40, 0.3, 7), accuracy, abs_tol=1e-6)
