"""The race with and without the mask: really trained, the same but for the mask, and the cheat is found out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lab.runs.mask_race import documents
from lm_core.batches import causal_data
from lm_core.mask_race import ARMS, START, RaceConfig, position_losses, race, two_models, write
from lm_core.tokenizer import train_bpe
from lm_core.training_step import next_token_loss
from tests.support import one_thread

SMALL = RaceConfig(n_steps=80, vocab_size=280, validate_every=40, max_new=12, max_seconds=300)


@pytest.fixture(scope="module")
def ran() -> list:  # type: ignore[type-arg]
    with one_thread():
        return list(race(documents("train"), documents("validation"), SMALL))


def test_the_cheats_loss_collapses_everywhere_but_where_it_cannot_copy(ran: list) -> None:  # type: ignore[type-arg]
    first, last = ran[0], ran[-1]
    assert last.last and [record.step for record in ran] == list(range(1, 81))
    assert abs(first.losses["causal"] - first.losses["open"]) < 0.2  # the same weights, the same batch
    assert last.validation["open"] < 0.6 * last.validation["causal"]
    places = last.by_position["open"]
    assert len(places) == SMALL.n_tokens
    assert places[-1] > 3 * max(places[:-1])
    assert places[-1] > last.by_position["causal"][-1]  # at the only place that counts when writing it is the worse one


def test_validation_is_the_mean_over_the_places(ran: list) -> None:  # type: ignore[type-arg]
    for arm in ARMS:
        assert sum(ran[-1].by_position[arm]) / SMALL.n_tokens == pytest.approx(ran[-1].validation[arm], abs=1e-5)
    assert [record.step for record in ran if record.validation] == [40, 80]


def test_the_race_is_the_same_again(ran: list) -> None:  # type: ignore[type-arg]
    again = list(race(documents("train"), documents("validation"), replace(SMALL, n_steps=3)))
    assert [record.losses for record in again] == [record.losses for record in ran[:3]]
    assert set(ran[-1].samples) == {"causal", "open"}
    assert all(text.startswith(prompt) for arm in ARMS for text, prompt in
               zip(ran[-1].samples[arm], SMALL.prompts, strict=True))  # fmt: skip


def test_time_ends_the_race_with_everything_said() -> None:
    ended = list(race(documents("train"), documents("validation"), replace(SMALL, max_seconds=1e-9)))
    assert len(ended) == 1 and ended[0].last and ended[0].samples and ended[0].by_position


def test_both_begin_with_equal_weights_and_see_what_their_mask_allows() -> None:
    tokenizer = train_bpe(documents("train"), 280, [START])
    models = two_models(replace(SMALL, vocab_size=tokenizer.vocab_size))
    pairs = zip(models["causal"].parameters(), models["open"].parameters(), strict=True)
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)
    data = causal_data(documents("train"), documents("validation"), tokenizer, SMALL.n_tokens)
    ids = torch.from_numpy(data.validation.token_ids[: SMALL.n_tokens].astype("int64"))[None]
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % tokenizer.vocab_size
    for arm, sees in (("causal", False), ("open", True)):
        model, allowed = models[arm], ARMS[arm](SMALL.n_tokens)
        moved = (model(ids, allowed) - model(other, allowed))[0, 0].abs().max().item()
        assert (moved > 0) is sees
    windows = torch.from_numpy(data.validation.token_ids.astype("int64"))
    n = (len(windows) - 1) // SMALL.n_tokens * SMALL.n_tokens
    logits = models["causal"](windows[:n].reshape(-1, SMALL.n_tokens))  # its own causal mask, by the fast path
    theirs = next_token_loss(logits, windows[1 : n + 1].reshape(-1, SMALL.n_tokens))
    ours = position_losses(models["causal"], data, "causal").mean()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_writing_uses_the_mask_of_learning() -> None:
    tokenizer = train_bpe(documents("train"), 280, [START])
    config = replace(SMALL, vocab_size=tokenizer.vocab_size, prompts=("Day 1. At sea. Wind NW",), max_new=25)
    model = two_models(config)["causal"]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # far from uniform: another mask gives another text
    assert write(model, tokenizer, config, "causal") == write(model, tokenizer, config, "causal")
    assert write(model, tokenizer, config, "causal") != write(model, tokenizer, config, "open")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"n_steps": 0}, "n_steps"), ({"max_seconds": 0}, "max_seconds"), ({"prompts": ()}, "prompts")],
)
def test_impossible_numbers_are_refused(changes: dict, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=said):
        RaceConfig(**changes)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(ValueError, match="tokens"):
        next(race(["short"], ["x"], SMALL))
