"""23. Write `corrupt`.

Check it:  python -m lm_core check mlm_corrupt
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # the label that cross-entropy leaves out
UNTOUCHED, MASKED, REPLACED, KEPT = range(4)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one corruption, drawn beforehand so that the rest is plain arithmetic.

    select [B T]: uniform in [0, 1); the number at place w decides on WORD w of the row.
    kind [B T]: uniform in [0, 1), one a position. replacement int [B T]: ordinary token ids.
    """

    select: Tensor
    kind: Tensor
    replacement: Tensor


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
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
