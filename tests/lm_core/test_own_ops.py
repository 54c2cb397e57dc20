"""A model on somebody's own functions: right ones change nothing, and what cannot fit is told, not computed with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from lm_core import attention, layers, masks, positions, sampling
from lm_core.config import DecoderConfig, gpt2_config
from lm_core.judge.catalogue import BY_SLUG
from lm_core.judge.files import module_of, solution_text
from lm_core.model import Decoder
from lm_core.ops import REFERENCE, attend_with
from lm_core.own_ops import WrongResultError, fitted, ops_from, steps_from
from lm_core.sampling import SamplingConfig, filter_stages

LLAMA = DecoderConfig(
    vocab_size=17, d_model=12, n_layers=2, n_heads=6, n_kv_heads=2, d_head=4, d_mlp=10, context_length=9,
    norm="rms_norm", norm_eps=0.1, positions="rope", activation="silu", gated_mlp=True, attention_bias=False,
    mlp_bias=False, tie_embeddings=False,
)  # fmt: skip
GPT2 = gpt2_config(vocab_size=17, d_model=12, n_layers=2, n_heads=3, context_length=9)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2]])
WHERE = {
    "scaled_scores": attention, "attend": attention, "split_heads": attention, "causal_mask": masks, "rope": positions,
    "rms_norm": layers, "layer_norm": layers, "feed_forward": layers,
}  # fmt: skip


def model(config: DecoderConfig) -> Decoder:
    random = torch.Generator().manual_seed(3)
    made = Decoder(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.4, generator=random)
    return made.eval()


@pytest.mark.parametrize("slug", list(WHERE))
@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_the_solutions_of_the_exercises_change_no_number(slug: str, config: DecoderConfig) -> None:
    made, exercise = model(config), BY_SLUG[slug]
    theirs = module_of(solution_text(exercise))
    own = ops_from({f.__name__: getattr(theirs, f.__name__) for f in exercise.references})
    assert own != REFERENCE
    with torch.no_grad():
        right, yours = made.trace(IDS), made.trace(IDS, ops=own)
    torch.testing.assert_close(yours.logits, right.logits, rtol=0, atol=0)
    torch.testing.assert_close(yours.layers[1].attention.masked, right.layers[1].attention.masked, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["attend", "causal_mask", "rms_norm", "feed_forward", "rotate", "split_heads"])
def test_every_function_is_really_called(name: str) -> None:
    calls: list[str] = []
    home = next(m for m in (attention, masks, layers, positions) if hasattr(m, name))

    def spy(*args: object, **kwargs: object) -> object:
        calls.append(name)
        return getattr(home, name)(*args, **kwargs)

    with torch.no_grad():
        model(LLAMA).trace(IDS, ops=ops_from({name: spy}))
    assert calls


def test_a_whole_attend_goes_before_its_steps_and_steps_are_used_without_it() -> None:
    doubled = {"scale_scores": lambda scores, d_head: 2 * scores}
    q = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    alone = ops_from(doubled).attend(q, q, q)
    torch.testing.assert_close(alone.scaled, 2 * alone.scores)
    both = ops_from({**doubled, "attend": attention.attend}).attend(q, q, q)
    torch.testing.assert_close(both.scaled, both.scores / 2)


def test_attend_of_the_usual_steps_is_attend() -> None:
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, h, 5, 4, generator=random) for h in (6, 2, 2))
    allowed = masks.causal_mask(5)
    for name, value in vars(attend_with()(q, k, v, allowed)).items():
        torch.testing.assert_close(value, getattr(attention.attend(q, k, v, allowed), name), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (torch.zeros(7, 6, dtype=torch.bool), "bool [7, 6]"), (torch.zeros(7, 7), "float [7, 7]"),
        (None, "None"), ([1, 2], "a list of 2"), ("x", "str"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_both_forms(returned: object, told: str) -> None:
    own = ops_from({"causal_mask": lambda n, m=None, device=None: returned})
    with pytest.raises(WrongResultError) as found, torch.no_grad():
        model(LLAMA).trace(IDS, ops=own)
    error = found.value
    assert (error.function, error.returned, error.wanted) == ("causal_mask", told, "bool [7, 7]")


def test_a_students_own_trace_class_is_read_by_its_fields() -> None:
    @dataclass
    class Half:
        q: Tensor

    x = torch.eye(2)
    like = attention.attend(x, x, x)
    with pytest.raises(WrongResultError, match="attend returned Half; AttentionTrace is needed"):
        fitted(Half(x), like, "attend")
    with pytest.raises(WrongResultError) as found:
        fitted(replace(like, weights=torch.ones(2, 3)), like, "attend")
    assert (found.value.part, found.value.returned, found.value.wanted) == ("weights", "float [2, 3]", "float [2, 2]")
    assert fitted(replace(like, weights=like.weights.double()), like, "attend").weights.dtype == torch.float32


def test_a_name_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place in a model for cross_entropy"):
        ops_from({"cross_entropy": torch.relu})


def test_the_stages_of_sampling_run_on_other_steps() -> None:
    logits, config = torch.tensor([[3.0, 1.0, 2.0, 0.0]]), SamplingConfig(temperature=0.5, top_k=2, top_p=0.9)
    seen = torch.tensor([[0]])
    right = filter_stages(logits, config, seen)
    same = filter_stages(logits, config, seen, steps=steps_from({"keep_top_k": sampling.keep_top_k}))
    assert all(torch.equal(a, b) for a, b in zip(right.values(), same.values(), strict=True))
    nothing = steps_from({"keep_top_k": lambda logits, k: logits, "attend": attention.attend})
    yours = filter_stages(logits, config, seen, steps=nothing)
    assert torch.equal(yours["temperature"], right["temperature"])
    assert yours["top_k"].isfinite().all() and not right["top_k"].isfinite().all()
    with pytest.raises(WrongResultError):
        filter_stages(logits, config, seen, steps=steps_from({"keep_top_p": lambda logits, p: logits[0]}))
