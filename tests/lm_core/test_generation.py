"""Writing text: with or without a cache, with our operations or yours, the same numbers give the same tokens."""

from dataclasses import astuple, replace

import pytest
import torch
from torch import Tensor

from lm_core.attention import AttentionTrace, attend
from lm_core.config import gpt2_config, llama_config
from lm_core.counting import cache_bytes
from lm_core.generation import generate, positions_computed, token_times
from lm_core.model import Decoder
from lm_core.ops import REFERENCE, Ops
from lm_core.sampling import SamplingConfig, sample

CONTEXT = 12
PROMPT = torch.tensor([3, 1, 3])
DRAW = SamplingConfig(temperature=1.3, top_k=9, top_p=0.95)
GREEDY = SamplingConfig(temperature=0.0)


def _model(family: str) -> Decoder:
    shape = {"vocab_size": 23, "d_model": 12, "n_layers": 2, "n_heads": 3, "context_length": CONTEXT}
    llama = {"d_mlp": 17, "d_head": 6, "n_kv_heads": 1}
    model = Decoder(gpt2_config(**shape) if family == "gpt2" else llama_config(**shape, **llama))
    random = torch.Generator().manual_seed(4)
    model.init_weights(random).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random))
    return model


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Decoder:
    return _model(request.param)


def _copy_of_reference() -> Ops:
    return Ops(*(lambda *a, f=f, **k: f(*a, **k) for f in astuple(REFERENCE)))


@pytest.mark.parametrize("sampling", [GREEDY, DRAW], ids=["greedy", "draw"])
def test_cache_no_cache_and_your_own_ops_write_the_same(model: Decoder, sampling: SamplingConfig) -> None:
    cached = list(generate(model, PROMPT, 8, sampling, seed=5))
    assert len(cached) == 8
    assert cached == list(generate(model, PROMPT, 8, sampling, seed=5, use_cache=False))
    assert cached == list(generate(model, PROMPT, 8, sampling, seed=5, ops=_copy_of_reference()))
    if sampling is DRAW:
        assert len(set(cached)) > 2  # no fixed point that any code would hit


def test_greedy_equals_a_loop_written_here(model: Decoder) -> None:
    text = PROMPT.tolist()
    for _ in range(6):
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    assert list(generate(model, PROMPT, 6)) == text[3:]


def test_draws_use_one_number_a_token_from_the_seeded_generator(model: Decoder) -> None:
    random, text = torch.Generator().manual_seed(5), PROMPT[None]
    for _ in range(6):
        chosen = sample(model(text)[:, -1], DRAW, torch.rand(1, generator=random))
        text = torch.cat([text, chosen[None]], dim=1)
    assert list(generate(model, PROMPT, 6, DRAW, seed=5)) == text[0, 3:].tolist()


def test_seeds_decide(model: Decoder) -> None:
    texts = [tuple(generate(model, PROMPT, 8, DRAW, seed=seed)) for seed in (0, 0, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 2


def test_wrong_ops_write_something_else(model: Decoder) -> None:
    def unscaled(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> AttentionTrace:
        return attend(q, k, v, allowed, scale=0.0)

    def least_likely(logits: Tensor, *_: object) -> Tensor:
        return logits.argmin(dim=-1)

    right = list(generate(model, PROMPT, 8, DRAW))
    assert right != list(generate(model, PROMPT, 8, DRAW, ops=replace(REFERENCE, attend=unscaled)))
    text = PROMPT.tolist()
    for _ in range(5):
        text.append(int(model(torch.tensor([text]))[0, -1].argmin()))
    assert list(generate(model, PROMPT, 5, ops=replace(REFERENCE, sample=least_likely))) == text[3:]


def test_a_stop_token_is_written_and_ends_the_text(model: Decoder) -> None:
    whole = list(generate(model, PROMPT, 8, DRAW))
    stop = whole[3]
    end = whole.index(stop)
    assert list(generate(model, PROMPT, 8, DRAW, stop_ids=frozenset([stop]))) == whole[: end + 1]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("n_prompt", [1, 3, CONTEXT])
def test_a_full_context_ends_the_text(model: Decoder, n_prompt: int, use_cache: bool) -> None:
    """The last token is predicted from a full context and does not have to fit in it: hence the + 1."""
    prompt = torch.arange(n_prompt)
    written = list(generate(model, prompt, 100, DRAW, use_cache=use_cache))
    assert len(written) == CONTEXT - n_prompt + 1
    whole = torch.cat([prompt, torch.tensor(written[:-1], dtype=torch.long)])
    assert len(whole) == CONTEXT


def test_prompts_that_cannot_be_continued(model: Decoder) -> None:
    with pytest.raises(ValueError, match="the prompt has 13 tokens, but this model sees at most 12"):
        list(generate(model, torch.arange(13), 1))
    with pytest.raises(ValueError, match="no tokens"):
        list(generate(model, torch.tensor([], dtype=torch.long), 1))
    assert list(generate(model, PROMPT, 0)) == []


def test_writing_leaves_no_gradient_and_no_change(model: Decoder) -> None:
    before, prompt = [p.clone() for p in model.parameters()], PROMPT.clone()
    for _ in generate(model, prompt, 3):
        assert torch.is_grad_enabled()  # the caller's own code between two tokens is not affected
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert torch.equal(prompt, PROMPT)
    assert all(p.grad is None for p in model.parameters())


PENALTY = SamplingConfig(1.1, 9, 0.95, repetition_penalty=1.8, min_p=0.02)


def test_a_penalty_sees_the_whole_text_with_and_without_a_cache(model: Decoder) -> None:
    written = list(generate(model, PROMPT, 8, PENALTY, seed=2))
    assert written == list(generate(model, PROMPT, 8, PENALTY, seed=2, use_cache=False))
    random, text = torch.Generator().manual_seed(2), PROMPT[None]
    for token in written:
        with torch.no_grad():
            logits = model(text)[:, -1]
        assert sample(logits, PENALTY, torch.rand(1, generator=random), seen=text).tolist() == [token]
        text = torch.cat([text, torch.tensor([[token]])], dim=1)


def test_your_own_sample_need_not_know_of_penalties(model: Decoder) -> None:
    def plain(logits: Tensor, config: SamplingConfig, uniform: Tensor) -> Tensor:
        return logits.argmax(-1)

    assert len(list(generate(model, PROMPT, 3, DRAW, ops=replace(REFERENCE, sample=plain)))) == 3


@pytest.mark.parametrize("use_cache", [True, False])
def test_each_token_is_timed_and_positions_are_counted(model: Decoder, use_cache: bool) -> None:
    seen: list[int] = []
    hook = model.embed_tokens.register_forward_hook(lambda _, args, out: seen.append(args[0].shape[-1]))
    seconds = list(token_times(model, PROMPT, 6, use_cache))
    hook.remove()
    assert len(seconds) == 6 and all(s > 0 for s in seconds)
    assert sum(seen) == positions_computed(3, 6, use_cache)


def test_the_cache_takes_the_memory_that_the_formula_says(model: Decoder) -> None:
    for n in (1, 7):
        cache = model.new_cache(1, n)
        real = sum(t.nbytes for layer in cache.layers for t in (layer.k, layer.v))
        assert real == cache_bytes(model.config, n, bytes_a_number=8)  # the fixture's models are float64
