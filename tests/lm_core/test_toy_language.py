"""The language of five words: every string of it is there, and their probabilities are the model's and add up to 1."""

import math

import pytest
import torch

from lm_core import toy_language as toy

LEVELS = list(toy.all_strings(toy.trained_model(), toy.LONGEST))


@pytest.mark.parametrize("n", range(1, toy.LONGEST + 1))
def test_every_level_holds_every_string_once_and_sums_to_one(n: int) -> None:
    level = LEVELS[n - 1]
    assert level.token_ids.shape == (5**n, n)
    assert len({tuple(row) for row in level.token_ids.tolist()}) == 5**n
    assert math.fsum(level.log_probs.exp().tolist()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("n", range(1, toy.LONGEST + 1))
def test_what_has_ended_and_what_goes_on_are_one(n: int) -> None:
    mass = toy.ended_mass(LEVELS[:n])
    assert len(mass.ended) == n
    assert math.fsum([*mass.ended, mass.open]) == pytest.approx(1.0, abs=1e-12)
    assert all(0 < part < 1 for part in (*mass.ended, mass.open))


def test_the_mass_of_strings_of_two_words_by_hand() -> None:
    by_hand = [
        p
        for row, p in zip(LEVELS[2].token_ids.tolist(), LEVELS[2].log_probs.exp().tolist(), strict=True)
        if 0 not in row[:2] and row[2] == 0
    ]
    assert len(by_hand) == 16
    assert toy.ended_mass(LEVELS).ended[2] == pytest.approx(math.fsum(by_hand), abs=1e-14)


@pytest.mark.parametrize("n", [1, 3, toy.LONGEST])
def test_a_strings_log_probability_is_the_models_own(n: int) -> None:
    """One forward pass over the whole string, read with torch's log_softmax: what the levels added step by step."""
    level, model = LEVELS[n - 1], toy.trained_model()
    for k in torch.linspace(0, 5**n - 1, 5).long().tolist():
        ids = torch.cat([torch.tensor([toy.END]), level.token_ids[k]])
        rows = torch.log_softmax(model(ids[None])[0, :-1], dim=-1)
        expected = sum(rows[t, ids[t + 1]].item() for t in range(n))
        assert level.log_probs[k].item() == pytest.approx(expected, abs=1e-10)


def test_the_same_weights_on_every_call_and_other_weights_for_another_seed() -> None:
    first = {name: weight.clone() for name, weight in toy.trained_model().state_dict().items()}
    toy.trained_model.cache_clear()
    again = toy.trained_model().state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    other = toy.trained_model.__wrapped__(n_steps=1, seed=2).state_dict()
    assert any(not torch.equal(weight, other[name]) for name, weight in first.items())


def test_it_has_learnt_its_sentences() -> None:
    """The seven sentences hold most of the probability; untrained, they hold next to none."""

    def share(levels: list[toy.Level]) -> float:
        total = 0.0
        for sentence in toy.SENTENCES:
            ids = toy.sentence_ids(sentence)[1:]
            level = levels[len(ids) - 1]
            total += float(level.log_probs[(level.token_ids == torch.tensor(ids)).all(dim=1)].exp())
        return total

    untrained = list(toy.all_strings(toy.trained_model.__wrapped__(n_steps=0), toy.LONGEST))
    assert share(LEVELS) > 0.9 > 0.1 > share(untrained)
