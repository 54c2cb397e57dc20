"""Counts by formula, held to real models and to PyTorch's own counter."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lm_core.config import DecoderConfig, gpt2_config
from lm_core.counting import attention_flops, flops_per_token, model_parts
from lm_core.model import Decoder
from tests import tiny_models

CONFIGS = {
    "gpt2": tiny_models.gpt2(n_layers=3),
    "gpt2 untied": tiny_models.gpt2(tie_embeddings=False, d_mlp=31),
    "llama": tiny_models.llama(n_layers=3),
    "llama with biases": tiny_models.llama(attention_bias=True, mlp_bias=True, tie_embeddings=False),
    "one head": tiny_models.gpt2(n_heads=1, n_layers=1),
    "plain with rope": dataclasses.replace(tiny_models.gpt2(), positions="rope", mlp_bias=False),
}
# The parameters of each part, by the names that the model gives them.
OWNERS = {
    "embedding": ("embed_tokens",),
    "positions": ("embed_positions",),
    "attention": (".attention.",),
    "mlp": (".mlp.",),
    "norms": (".norm_1.", ".norm_2."),
    "final_norm": ("final_norm",),
    "unembedding": ("unembed.",),
}


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> DecoderConfig:
    return CONFIGS[request.param]


def test_each_part_counts_what_the_model_holds(config: DecoderConfig) -> None:
    model = Decoder(config)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    parts = model_parts(config)
    for part in parts:
        held = sum(n for name, n in sizes.items() if any(owner in name for owner in OWNERS[part.name]))
        assert part.parameters == held, part.name
    assert sum(part.parameters for part in parts) == model.n_parameters()


@pytest.mark.parametrize("n", [1, 2, 13])
def test_flops_are_those_that_pytorch_counts(config: DecoderConfig, n: int) -> None:
    model = Decoder(config).init_weights()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.trace(torch.arange(n)[None])
    assert counter.get_total_flops() == n * flops_per_token(config, n)


def test_the_written_formula_is_the_number(config: DecoderConfig) -> None:
    for part in model_parts(config):
        if part.terms:
            assert eval(part.numbers.replace(r"\cdot", "*")) == part.parameters  # our own text, digits and signs
            assert part.formula.count(r"\cdot") == part.numbers.count(r"\cdot")


def test_attention_grows_with_the_text_and_the_rest_does_not(config: DecoderConfig) -> None:
    assert flops_per_token(config, 9) - flops_per_token(config, 4) == attention_flops(config, 5)
    assert attention_flops(config, 0) == 0


def test_published_sizes_of_gpt2() -> None:
    sizes = {(768, 12, 12): 124_439_808, (1024, 24, 16): 354_823_168, (1280, 36, 20): 774_030_080}
    for (d_model, n_layers, n_heads), published in sizes.items():
        c = gpt2_config(vocab_size=50257, d_model=d_model, n_layers=n_layers, n_heads=n_heads, context_length=1024)
        assert sum(part.parameters for part in model_parts(c)) == published
