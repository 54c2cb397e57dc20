"""Learning from words that were hidden: the batches and the loss of an encoder.

Notation:  B batch · T positions · S selected positions of a batch · D d_model · V vocab_size. Losses are in nats.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core import device as devices
from lm_core.encoder import Encoder
from lm_core.encoder_rows import NO_PAIR, Frame, Row, SentenceStream
from lm_core.masks import padding_mask
from lm_core.objectives import IGNORED, corrupt, draw, word_numbers


@dataclass(frozen=True)
class MaskingConfig:
    """How rows are made and hidden.

    select_share of the words is asked for; pair_share of the rows are pairs, for the next-sentence head; short_share
    of the batches have rows of a quarter of the length, and four times as many: a learner's sentence is short.
    neighbours_first: whether the first layer's heads begin by looking at neighbours (`neighbour_heads`).
    """

    select_share: float = 0.15
    pair_share: float = 0.0
    short_share: float = 0.3
    neighbours_first: bool = False

    def __post_init__(self) -> None:
        for name in ("select_share", "pair_share", "short_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0 … 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class MaskedRows:
    """Batches for the masked-language objective; the same (step, seed) gives the same batch."""

    stream: SentenceStream
    frame: Frame
    masking: MaskingConfig

    def __len__(self) -> int:
        return len(self.stream.token_ids)

    def batch(
        self, step: int, seed: int, batch_size: int, n_tokens: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """inputs, labels, segments int64 [B T], lengths [B], is_next [B]: what `masked_language_loss` takes."""
        random = np.random.default_rng([seed, step])
        if random.random() < self.masking.short_share:
            batch_size, n_tokens = 4 * batch_size, max(8, n_tokens // 4)
        rows = []
        for _ in range(batch_size):
            make = self.stream.pair if random.random() < self.masking.pair_share else self.stream.single
            rows.append(make(random, n_tokens, self.frame))
        token_ids, segments, lengths = pad(rows, self.frame.pad)
        kinds = self.stream.kinds
        begins = torch.from_numpy(kinds.begins_word(token_ids.numpy()))
        may_select = ~torch.from_numpy(kinds.special[token_ids.numpy()])
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        ordinary = torch.from_numpy(np.flatnonzero(~kinds.special))
        draws = draw(len(rows), token_ids.shape[1], ordinary, generator)
        result = corrupt(
            token_ids, word_numbers(begins, may_select), draws, self.frame.mask, select_share=self.masking.select_share
        )
        is_next = torch.tensor([row.is_next for row in rows])
        return result.inputs, result.labels, segments, lengths, is_next


def pad(rows: list[Row], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of several lengths as one block: token_ids and segments int64 [B T], lengths [B]; T is the longest.

    >>> pad([Row(np.array([1, 5, 2]), np.zeros(3, int), 0), Row(np.array([1, 2]), np.zeros(2, int), 0)], 9)[0]
    tensor([[1, 5, 2],
            [1, 2, 9]])
    """
    lengths = torch.tensor([len(row.token_ids) for row in rows])
    longest = int(lengths.max())
    token_ids = torch.full((len(rows), longest), pad_id)
    segments = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        token_ids[i, : len(row.token_ids)] = torch.from_numpy(row.token_ids)
        segments[i, : len(row.token_ids)] = torch.from_numpy(row.segments)
    return token_ids, segments, lengths


def masked_language_loss(
    model: Encoder, inputs: Tensor, labels: Tensor, segments: Tensor, lengths: Tensor, is_next: Tensor
) -> Tensor:
    """Mean cross-entropy over the selected positions, plus that of the next-sentence head over the pairs.

    `L = −1/S Σ log P(label)  [ − 1/pairs Σ log P(is_next) ]`. The vocabulary head computes only the S selected rows
    [S V] of about 0.15 · B · T: nobody asks about the others.  Devlin et al. 2019, A.2.
    """
    with devices.autocast(inputs.device):
        hidden = model.hidden(inputs, padding_mask(lengths, inputs.shape[-1]), segments)
        selected = labels != IGNORED
        logits = model.mlm_logits(hidden[selected])
        pair_logits = model.next_sentence_logits(hidden)
    loss = F.cross_entropy(logits.float(), labels[selected], reduction="sum") / selected.sum().clamp(min=1)
    if pair_logits is not None:
        asked = (is_next != NO_PAIR).sum().clamp(min=1)
        loss = loss + F.cross_entropy(pair_logits.float(), is_next, reduction="sum", ignore_index=NO_PAIR) / asked
    return loss
