"""What a model is asked: targets one place on, and words hidden whole, in the right proportions."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core.objectives import (
    IGNORED,
    KEPT,
    MASKED,
    REPLACED,
    UNTOUCHED,
    Corrupted,
    Draws,
    corrupt,
    draw,
    next_token_targets,
    word_numbers,
)

MASK, N_ORDINARY = 99, 90  # ids 90 … 99 are special
ORDINARY = torch.arange(N_ORDINARY)
B, T = 200, 64


def _rows(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """token_ids, words, may_select of 200 rows: [CLS] words of one to four tokens [SEP], and padding in some."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(N_ORDINARY, (B, T), generator=generator)
    begins = torch.rand(B, T, generator=generator) < 0.5
    may = torch.ones(B, T, dtype=torch.bool)
    may[:, 0] = may[:, T // 2] = may[:, -1] = False
    may[: B // 4, -20:] = False
    ids = torch.where(may, ids, 97)
    return ids, word_numbers(begins, may), may


def _corrupted(seed: int = 1, **shares: float) -> tuple[Tensor, Tensor, Tensor, Corrupted]:
    ids, words, may = _rows()
    draws = draw(B, T, ORDINARY, torch.Generator().manual_seed(seed))
    return ids, words, may, corrupt(ids, words, draws, MASK, **shares)


def _chi_square(counts: list[int], shares: list[float]) -> float:
    n = sum(counts)
    return sum((c - n * p) ** 2 / (n * p) for c, p in zip(counts, shares, strict=True))


# The next token


def test_the_target_is_the_token_after() -> None:
    ids = torch.arange(12).view(2, 6)
    inputs, targets = next_token_targets(ids)
    assert torch.equal(inputs, ids[:, :5])
    assert torch.equal(targets, inputs + 1)
    with pytest.raises(ValueError, match="1 token has no next one"):
        next_token_targets(ids[:, :1])


# Words


def test_words_are_numbered_along_each_row() -> None:
    begins = torch.tensor([[0, 0, 1, 0, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]]).bool()
    may = torch.tensor([[0, 1, 1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1, 1, 1]]).bool()
    assert word_numbers(begins, may).tolist() == [[-1, 0, 1, 1, -1, 2, 2, -1], [-1, 0, 1, 2, 3, 4, 5, 6]]


def test_what_follows_a_special_token_begins_a_word() -> None:
    may = torch.tensor([[False, True, True, False, True]])
    assert word_numbers(torch.zeros(1, 5, dtype=torch.bool), may).tolist() == [[-1, 0, 0, -1, 1]]


# Corruption


def test_the_share_of_words_selected_is_what_was_asked() -> None:
    """Chi-square with one degree of freedom: above 10.8 once in a thousand seeds."""
    for share in (0.15, 0.4):
        _, words, _, result = _corrupted(select_share=share)
        pairs = {(b, int(w)) for b in range(B) for w in words[b].unique() if w >= 0}
        picked = {(b, int(words[b, t])) for b, t in (result.kind != UNTOUCHED).nonzero().tolist()}
        assert picked <= pairs
        assert _chi_square([len(picked), len(pairs) - len(picked)], [share, 1 - share]) < 10.8


def test_of_the_selected_80_10_10() -> None:
    """Chi-square with two degrees of freedom: above 13.8 once in a thousand seeds."""
    *_, result = _corrupted(select_share=1.0)
    counts = [int((result.kind == kind).sum()) for kind in (MASKED, REPLACED, KEPT)]
    assert sum(counts) > 10_000
    assert _chi_square(counts, [0.8, 0.1, 0.1]) < 13.8


def test_replacements_are_drawn_evenly_from_the_ordinary_tokens() -> None:
    _, _, _, result = _corrupted(select_share=1.0, mask_share=0.0, replace_share=1.0)
    drawn = result.inputs[result.kind == REPLACED]
    counts = torch.bincount(drawn, minlength=N_ORDINARY).tolist()
    assert len(counts) == N_ORDINARY  # no special token among them
    assert _chi_square(counts, [1 / N_ORDINARY] * N_ORDINARY) < 89 + 4 * math.sqrt(2 * 89)


def test_a_word_is_selected_whole_or_not_at_all() -> None:
    _, words, _, result = _corrupted(select_share=0.3)
    selected = result.kind != UNTOUCHED
    for b in range(B):
        for word in words[b].unique():
            if word >= 0:
                assert len(set(selected[b][words[b] == word].tolist())) == 1
    assert 0 < int(selected.sum()) < selected.numel()


def test_specials_are_never_selected_even_when_everything_is() -> None:
    ids, _, may, result = _corrupted(select_share=1.0)
    assert torch.equal(result.kind != UNTOUCHED, may)
    assert torch.equal(result.inputs[~may], ids[~may])
    assert (result.labels[~may] == IGNORED).all()


def test_the_label_is_the_original_id_whatever_became_of_the_input() -> None:
    ids, _, _, result = _corrupted()
    for kind in (MASKED, REPLACED, KEPT):
        here = result.kind == kind
        assert here.any()
        assert torch.equal(result.labels[here], ids[here])
    assert (result.labels[result.kind == UNTOUCHED] == IGNORED).all()


def test_inputs_follow_the_kind() -> None:
    ids, words, _, result = _corrupted()
    before = ids.clone()
    replacement = draw(B, T, ORDINARY, torch.Generator().manual_seed(1)).replacement
    assert (result.inputs[result.kind == MASKED] == MASK).all()
    assert torch.equal(result.inputs[result.kind == REPLACED], replacement[result.kind == REPLACED])
    for kind in (KEPT, UNTOUCHED):
        assert torch.equal(result.inputs[result.kind == kind], ids[result.kind == kind])
    assert torch.equal(ids, before)  # nothing in place
    assert words.shape == ids.shape


def test_the_same_generator_gives_the_same_corruption() -> None:
    assert torch.equal(_corrupted(1)[3].inputs, _corrupted(1)[3].inputs)
    assert not torch.equal(_corrupted(1)[3].labels, _corrupted(2)[3].labels)


def test_nothing_is_selected_at_share_zero() -> None:
    ids, _, _, result = _corrupted(select_share=0.0)
    assert torch.equal(result.inputs, ids)
    assert (result.labels == IGNORED).all()


def test_cross_entropy_counts_only_the_selected() -> None:
    ids, words, _, result = _corrupted()
    logits = torch.randn(B, T, 100, generator=torch.Generator().manual_seed(3))
    selected = result.kind != UNTOUCHED
    by_hand = -logits.log_softmax(-1)[selected].gather(-1, ids[selected][:, None]).mean()
    assert F.cross_entropy(logits.flatten(0, 1), result.labels.flatten()).item() == pytest.approx(by_hand.item())
    assert words.max() > 10


@pytest.mark.parametrize(
    "shares", [{"select_share": 1.1}, {"mask_share": -0.1}, {"mask_share": 0.95}, {"replace_share": -0.2}]
)
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    draws = Draws(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="shares must lie"):
        corrupt(torch.ones(1, 2, dtype=torch.long), torch.zeros(1, 2, dtype=torch.long), draws, MASK, **shares)
