"""Shapes that cannot work are refused, with their numbers."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from lm_core.config import DecoderConfig, EncoderConfig, gpt2_config, llama_config

VOCAB = 11


def _gpt2(**changes: object) -> DecoderConfig:
    shape = {"vocab_size": VOCAB, "d_model": 12, "n_layers": 3, "n_heads": 4, "context_length": 9}
    return gpt2_config(**{**shape, **changes})  # type: ignore[arg-type]


def _llama(**changes: object) -> DecoderConfig:
    shape = {"vocab_size": VOCAB, "d_model": 12, "n_layers": 3, "n_heads": 4, "context_length": 9}
    return llama_config(**{**shape, "d_mlp": 17, "d_head": 6, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: _gpt2(d_model=30), "d_model 30 is not divisible by n_heads 4"),
        (lambda: _gpt2(n_heads=0), "d_model 12 is not divisible by n_heads 0"),
        (lambda: _gpt2(vocab_size=0), "vocab_size must be a positive whole number, not 0"),
        (lambda: _gpt2(n_layers=-1), "n_layers must be a positive whole number, not -1"),
        (lambda: _gpt2(context_length=2.5), r"context_length must be a positive whole number, not 2\.5"),
        (lambda: _gpt2(n_layers=True), "n_layers must be a positive whole number, not True"),
        (lambda: _gpt2(activation="tanh"), "unknown activation 'tanh': use one of gelu, gelu_tanh, silu, relu"),
        (lambda: _llama(n_kv_heads=3), "n_heads 4 is not divisible by n_kv_heads 3"),
        (lambda: _llama(n_kv_heads=0), "n_kv_heads must be a positive whole number, not 0"),
        (lambda: _llama(d_head=5), "d_head 5 is odd"),
        (lambda: _llama(d_mlp=0), "d_mlp must be a positive whole number, not 0"),
        (lambda: replace(_gpt2(), positions="alibi"), "unknown positions 'alibi'"),
        (lambda: replace(_gpt2(), norm="batch_norm"), "unknown norm 'batch_norm'"),
        (lambda: EncoderConfig(VOCAB, 12, 2, 5, 17, 9), "d_model 12 is not divisible by n_heads 5"),
        (lambda: EncoderConfig(VOCAB, 12, 2, 4, 17, 0), "context_length must be a positive whole number, not 0"),
        (lambda: EncoderConfig(VOCAB, 12, 2, 4, 17, 9, activation="x"), "unknown activation 'x'"),
    ],
)
def test_impossible_shapes_are_refused_with_their_numbers(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_the_family_is_known_by_its_switches() -> None:
    assert _gpt2().family == "gpt2"
    assert _llama().family == "llama"
    assert EncoderConfig(VOCAB, 12, 2, 4, 17, 9).family == "bert"
    for mixture in (replace(_gpt2(), norm="rms_norm"), replace(_llama(), positions="learned"),
                    replace(_gpt2(), mlp_bias=False), replace(_gpt2(), n_kv_heads=2)):  # fmt: skip
        with pytest.raises(ValueError, match="neither GPT-2 nor Llama"):
            _ = mixture.family
