"""What a model is asked to predict: the next token, or words that were hidden from it.

Notation:  B batch · T positions · W words of a row · V vocab_size.

    causal    inputs  The old king          targets  old king looked          at every position, from the left only
    masked    inputs  The [MASK] king       labels   ·   old  ·               at the selected positions, from both sides

A position that nobody is asked about has the label IGNORED, which `cross_entropy` leaves out.

Sources:  Devlin et al. 2019, "BERT", section 3.1 (task 1) and appendix A.1: 15 %, of these 80/10/10. Whole words: the
          note of May 2019 to their published code; Cui et al. 2021, "Pre-Training With Whole Word Masking".
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # the label that torch's cross-entropy and `transformers` skip
UNTOUCHED, MASKED, REPLACED, KEPT = range(4)  # what became of a position: the numbers in `Corrupted.kind`


def next_token_targets(token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a causal model: the target of each position is the token after it.

    token_ids int [B T + 1] -> inputs [B T], targets [B T]; the same text, one place apart.
    Raises ValueError for fewer than two tokens. Bengio et al. 2003, eq. 1.

    >>> next_token_targets(torch.tensor([[5, 6, 7]]))
    (tensor([[5, 6]]), tensor([[6, 7]]))
    """
    if token_ids.shape[-1] < 2:
        raise ValueError(f"{token_ids.shape[-1]} token has no next one: at least 2 are needed")
    return token_ids[..., :-1], token_ids[..., 1:]


def word_numbers(begins_word: Tensor, may_select: Tensor) -> Tensor:
    """Which word each position belongs to: 0, 1, 2 … along the row, and −1 where nothing may be selected.

    begins_word, may_select bool [B T] -> int64 [B T]. What follows a special token begins a word.

    >>> begins = torch.tensor([[False, True, False, True, False]])  # [CLS] hap py ␣end [SEP]
    >>> word_numbers(begins, torch.tensor([[False, True, True, True, False]]))
    tensor([[-1,  0,  0,  1, -1]])
    """
    after_special = F.pad(~may_select, (1, 0), value=True)[..., :-1]
    starts = (begins_word | after_special) & may_select
    return torch.where(may_select, starts.cumsum(dim=-1) - 1, -1)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one corruption, drawn beforehand so that the rest is plain arithmetic.

    select [B T]: uniform in [0, 1); the number at place w decides on WORD w of the row.
    kind [B T]: uniform in [0, 1), one a position. replacement int [B T]: ordinary token ids.
    """

    select: Tensor
    kind: Tensor
    replacement: Tensor


def draw(batch: int, n_tokens: int, ordinary_ids: Tensor, generator: torch.Generator) -> Draws:
    """Numbers for rows [B T]; replacements come evenly from ordinary_ids. The same generator gives the same numbers.

    >>> draw(1, 3, torch.arange(10), torch.Generator().manual_seed(1)).replacement.shape
    torch.Size([1, 3])
    """
    shape, device = (batch, n_tokens), generator.device
    select, kind = torch.rand(2, *shape, generator=generator, device=device)
    places = torch.randint(len(ordinary_ids), shape, generator=generator, device=device)
    return Draws(select, kind, ordinary_ids[places])


@dataclass(frozen=True)
class Corrupted:
    """inputs [B T] for the model; labels [B T], the ORIGINAL id where selected, else IGNORED; kind int64 [B T]."""

    inputs: Tensor
    labels: Tensor
    kind: Tensor


def corrupt(
    token_ids: Tensor,
    words: Tensor,
    draws: Draws,
    mask_id: int,
    *,
    select_share: float = 0.15,
    mask_share: float = 0.8,
    replace_share: float = 0.1,
) -> Corrupted:
    """Hide whole words: select each with probability 15 %; of the selected positions 80 % become [MASK], 10 % another
    token at random, and 10 % stay as they are.

    A label stands at every selected position, also where the input was kept: the model cannot know which of its
    inputs to trust, so it must have an opinion on all. Words are selected whole; then each of a word's tokens meets
    its own fate, as in Devlin et al.'s code. token_ids int [B T]; words [B T] from `word_numbers` (−1: never selected).
    Raises ValueError for shares outside 0 … 1, or 80 % and 10 % that make more than 1.  Devlin et al. 2019, A.1.

    >>> ids, words = torch.tensor([[2, 11, 12, 13, 3]]), torch.tensor([[-1, 0, 0, 1, -1]])
    >>> draws = Draws(torch.tensor([[0.1, 0.9, 0.0, 0.0, 0.0]]), torch.full((1, 5), 0.5), torch.full((1, 5), 7))
    >>> result = corrupt(ids, words, draws, mask_id=4)  # word 0 has drawn 0.1 < 0.15: both its tokens go
    >>> result.inputs.tolist(), result.labels.tolist()
    ([[2, 4, 4, 13, 3]], [[-100, 11, 12, -100, -100]])
    """
    if not (0 <= select_share <= 1 and min(mask_share, replace_share) >= 0 and mask_share + replace_share <= 1):
        raise ValueError(
            f"shares must lie in 0 … 1 and mask + replace at most 1, not {select_share}, {mask_share}, {replace_share}"
        )
    of_word = draws.select.gather(-1, words.clamp(min=0))  # every token of a word sees the same number
    selected = (words >= 0) & (of_word < select_share)
    masked = selected & (draws.kind < mask_share)
    replaced = selected & ~masked & (draws.kind < mask_share + replace_share)
    inputs = torch.where(masked, mask_id, torch.where(replaced, draws.replacement, token_ids))
    labels = torch.where(selected, token_ids, IGNORED)
    kept = selected & ~masked & ~replaced
    return Corrupted(inputs, labels, MASKED * masked + REPLACED * replaced + KEPT * kept)
