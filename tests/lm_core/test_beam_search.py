"""Beam search: against transformers on tiny random models, against brute force, and its own laws."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lm_core.beam_search import BeamConfig, beam_search, extend, score_of
from lm_core.config import gpt2_config
from lm_core.generation import generate
from lm_core.model import Decoder
from lm_core.probability import score_sequence

VOCAB, STOP = 11, 0
PROMPT = torch.tensor([3, 7, 3])


def _theirs(seed: int = 0):  # type: ignore[no-untyped-def]
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=12, n_layer=2, n_head=3, n_positions=24, bos_token_id=STOP, eos_token_id=STOP
    )
    theirs = GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(0.25 * torch.randn_like(parameter))
    return theirs


def _ours(theirs, folder):  # type: ignore[no-untyped-def]
    from lm_core.checkpoint import load_pretrained

    theirs.save_pretrained(folder)
    return load_pretrained(folder, torch.device("cpu")).model


@pytest.fixture(scope="module", params=[5, 7, 11])
def pair(request, tmp_path_factory):  # type: ignore[no-untyped-def]
    theirs = _theirs(request.param)
    return theirs, _ours(theirs, tmp_path_factory.mktemp("gpt2"))


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("n_beams", [2, 3, 5])
def test_equals_transformers(pair, n_beams: int, length_penalty: float, early_stopping: bool) -> None:  # type: ignore[no-untyped-def]
    theirs, ours = pair
    config = BeamConfig(n_beams, 9, length_penalty, early_stopping)
    found = beam_search(ours, PROMPT, config, frozenset([STOP]))
    expected = theirs.generate(
        PROMPT[None], attention_mask=torch.ones(1, 3, dtype=torch.long), do_sample=False, num_beams=n_beams,
        max_new_tokens=9, length_penalty=length_penalty, early_stopping=early_stopping, num_return_sequences=n_beams,
        output_scores=True, return_dict_in_generate=True, pad_token_id=STOP,
    )  # fmt: skip
    assert len(found.finished) == n_beams
    for beam, row, score in zip(found.finished, expected.sequences, expected.sequences_scores, strict=True):
        new = row[3:].tolist()
        if STOP in new:
            new = new[: new.index(STOP) + 1]
        assert list(beam.token_ids) == new
        assert beam.score == pytest.approx(float(score), abs=1e-4)


def test_some_of_those_beams_end_early_and_some_do_not(pair) -> None:  # type: ignore[no-untyped-def]
    """Otherwise the test above would not see how endings are handled."""
    lengths = {
        len(beam.token_ids)
        for alpha in (0.0, 2.0)
        for beam in beam_search(pair[1], PROMPT, BeamConfig(5, 9, alpha), frozenset([STOP])).finished
    }
    assert len(lengths) > 1


def test_one_beam_is_greedy(pair) -> None:  # type: ignore[no-untyped-def]
    for first in range(VOCAB):
        prompt = torch.tensor([first, 5])
        for alpha in (0.0, 1.0):
            found = beam_search(pair[1], prompt, BeamConfig(1, 12, alpha), frozenset([STOP]))
            assert list(found.finished[0].token_ids) == list(generate(pair[1], prompt, 12, stop_ids=frozenset([STOP])))


def test_a_total_is_the_sum_of_log_probabilities(pair) -> None:  # type: ignore[no-untyped-def]
    _, ours = pair
    for beam in beam_search(ours, PROMPT, BeamConfig(4, 7), frozenset([STOP])).finished:
        whole = torch.cat([PROMPT, torch.tensor(beam.token_ids)])
        with torch.no_grad():
            log_probs = score_sequence(whole, ours(whole[None])[0]).log_probs[len(PROMPT) - 1 :]
        assert beam.total == pytest.approx(float(log_probs.sum()), abs=1e-4)
        assert beam.score == pytest.approx(beam.total / len(beam.token_ids), abs=1e-6)


def test_enough_beams_find_the_likeliest_text_of_all(pair) -> None:  # type: ignore[no-untyped-def]
    """With V² beams nothing is ever dropped: the best of all V³ texts, by trying each."""
    _, ours = pair
    found = beam_search(ours, PROMPT, BeamConfig(VOCAB**2, 3, 0.0))
    every = torch.tensor(list(itertools.product(range(VOCAB), repeat=3)))
    whole = torch.cat([PROMPT.expand(len(every), -1), every], dim=1)
    with torch.no_grad():
        log_probs = ours(whole)[:, 2:-1].log_softmax(-1).gather(-1, every[..., None]).sum((1, 2))
    assert list(found.finished[0].token_ids) == every[log_probs.argmax()].tolist()
    assert found.finished[0].total == pytest.approx(float(log_probs.max()), abs=1e-4)


def test_the_steps_tell_how_beams_live_and_die(pair) -> None:  # type: ignore[no-untyped-def]
    found = beam_search(pair[1], PROMPT, BeamConfig(3, 8), frozenset([STOP]))
    living = [0.0]
    for step in found.steps:
        totals = [candidate.total for candidate in step]
        assert totals == sorted(totals, reverse=True)
        for candidate in step:
            assert candidate.total == pytest.approx(living[candidate.parent] + candidate.log_prob, abs=1e-5)
        living = [candidate.total for candidate in step if candidate.fate == "lives"]
        assert len(living) <= 3
        assert all(candidate.token != STOP for candidate in step if candidate.fate == "lives")
    assert any(candidate.fate == "dropped" for step in found.steps for candidate in step)


def test_the_context_bounds_the_search() -> None:
    model = Decoder(gpt2_config(vocab_size=9, d_model=8, n_layers=1, n_heads=2, context_length=5)).init_weights()
    found = beam_search(model, torch.tensor([1, 2, 3]), BeamConfig(2, 50))
    assert {len(beam.token_ids) for beam in found.finished} == {2}
    with pytest.raises(ValueError, match="the prompt has 5 tokens: no room in 5"):
        beam_search(model, torch.tensor([1, 2, 3, 4, 5]), BeamConfig(2, 50))
    with pytest.raises(ValueError, match="no tokens"):
        beam_search(model, torch.tensor([], dtype=torch.long), BeamConfig(2, 50))


def test_more_beams_than_tokens() -> None:
    model = Decoder(gpt2_config(vocab_size=3, d_model=8, n_layers=1, n_heads=2, context_length=9)).init_weights()
    assert len(beam_search(model, torch.tensor([1]), BeamConfig(6, 2)).finished) == 6


def test_parts() -> None:
    totals, parents, tokens = extend(torch.tensor([[-1.0, -9.0], [-0.1, -0.2]]), torch.tensor([-0.5, -2.0]), 9)
    assert totals.tolist() == pytest.approx([-1.5, -2.1, -2.2, -9.5])
    assert (parents.tolist(), tokens.tolist()) == ([0, 1, 1, 0], [0, 0, 1, 1])
    assert score_of(-8.0, 4, 0.5) == -4.0
    for wrong in ({"n_beams": 0}, {"max_new": 0}, {"length_penalty": math.nan}, {"length_penalty": math.inf}):
        with pytest.raises(ValueError, match=r"is less than 1|is not between"):
            BeamConfig(**wrong)  # type: ignore[arg-type]
