"""Words that are hidden: what an encoder and a decoder expect in the gap, and how BERT's training hides them.

Everything is computed by `lm_core.objectives` and the models themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from lab import models, traces, vocabulary
from lab.source import CODE_HASH
from lm_core import objectives
from lm_core.encoder import Encoder
from lm_core.fast_tokenizer import Tokenizer
from lm_core.model import Decoder

ENCODER = "bundled:storyteller-mlm"
MASK_NAMES = ("[MASK]", "<mask>")
START_NAMES, END_NAMES = ("[CLS]", "<s>"), ("[SEP]", "</s>")
MASK_LABEL = "[MASK]"
MOST_TOKENS = 48  # of a sentence with a gap; more do not fit beside each other
Probabilities = NDArray[np.float64]


def encoder() -> str | None:
    """The encoder that fills gaps here, where it has been put; None where there is none."""
    return ENCODER if ENCODER in models.bundled() else None


def _tokenizer(model: str) -> Tokenizer:
    tokenizer = models.load(model).tokenizer
    assert tokenizer is not None  # or `load` had raised
    return tokenizer


def _special(tokenizer: Tokenizer, names: tuple[str, ...]) -> int | None:
    return next((tokenizer.special_tokens[name] for name in names if name in tokenizer.special_tokens), None)


def _encoded(model: str, text: str) -> list[int]:
    try:
        return [] if traces.is_blank(text) else _tokenizer(model).encode(text)
    except ValueError:
        return []


@dataclass(frozen=True)
class GapText:
    """A text in the encoder's tokens, without the special ones: any of them can be hidden."""

    token_ids: list[int]
    labels: list[str]


def gap_text(model: str, text: str) -> GapText | None:
    """The text as encoder `model` cuts it; None where it has no tokens for it."""
    ids = _encoded(model, text)[:MOST_TOKENS]
    return GapText(ids, _tokenizer(model).labels(ids)) if ids else None


def fill(model: str, ids: list[int], place: int, after: str | None = None) -> Probabilities | None:
    """What encoder `model` expects at `place` once the token there is [MASK], [V]; None where it knows no [MASK].

    `after`, where given, stands in place of everything behind the gap.
    """
    tokenizer = _tokenizer(model)
    mask_id = _special(tokenizer, MASK_NAMES)
    if mask_id is None:
        return None
    right = ids[place + 1 :] if after is None else _encoded(model, after)[:MOST_TOKENS]
    start, end = _special(tokenizer, START_NAMES), _special(tokenizer, END_NAMES)
    row = [*([] if start is None else [start]), *ids[:place], mask_id, *right, *([] if end is None else [end])]
    return _expected(model, models.fingerprint(model), tuple(row), place + (start is not None), CODE_HASH)


def guess_next(
    model: str, encoder_name: str, ids: list[int], place: int, after: str | None = None
) -> Probabilities | None:
    """What decoder `model` expects at `place` of a text read to its end, [V]; None where nothing is left of it.

    The prediction stands at the last token before `place`. `after`, where given, stands in place of everything behind
    the token there. Where the text is longer than the model can read, the part on the left keeps half of the room.
    """
    left, behind = _in_decoder(model, encoder_name, ids[:place]), ids[place + 1 :]
    word = _in_decoder(model, encoder_name, ids[place : place + 1])
    right = _in_decoder(model, encoder_name, behind) if after is None else _encoded(model, after)[:MOST_TOKENS]
    loaded = models.load(model)
    room = loaded.model.config.context_length
    read = [*([] if loaded.start_id is None else [loaded.start_id]), *left][-max(1, room // 2) :]
    row = [*read, *word, *right][:room]
    return _expected(model, models.fingerprint(model), tuple(row), len(read) - 1, CODE_HASH) if read else None


def _in_decoder(model: str, encoder_name: str, ids: list[int]) -> list[int]:
    """Some of the encoder's tokens in those of `model`: the same where both cut the text alike."""
    own, written = _tokenizer(model), _tokenizer(encoder_name).decode(ids) if ids else ""
    return ids if written and own.encode(written) == ids else _encoded(model, written)


@st.cache_data(max_entries=64, show_spinner=False)
def _expected(model: str, files: str, ids: tuple[int, ...], place: int, code: str) -> Probabilities:
    network = models.load(model).model
    assert isinstance(network, Encoder | Decoder)
    device = network.embed_tokens.weight.device
    with models.compute_slots(), torch.no_grad():
        logits = network(torch.tensor([ids], device=device))[0, place]
    return torch.softmax(logits.double(), dim=-1).cpu().numpy()


def top(model: str, probabilities: Probabilities, count: int) -> list[tuple[int, str]]:
    """The likeliest tokens: (id, label), the likeliest first."""
    best = np.argsort(-probabilities, kind="stable")[:count].tolist()
    return [(i, vocabulary.label_of(model, i)) for i in best]


def top_label(model: str, token_id: int) -> str:
    """What one token says."""
    return vocabulary.label_of(model, token_id)


# --- BERT's corruption of the input -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hidden:
    """A text and what became of it: labels before and after; kind [T] as in `objectives`; words [T]."""

    labels: list[str]
    inputs: list[str]
    kind: NDArray[np.int64]
    words: NDArray[np.int64]

    @property
    def n_words(self) -> int:
        """How many things can be selected."""
        return int(self.words.max()) + 1


def has_mask_token(model: str) -> bool:
    """Whether the model's own vocabulary holds a [MASK]."""
    return _special(_tokenizer(model), MASK_NAMES) is not None


def _words(model: str, text: str, ids: list[int], whole: bool) -> torch.Tensor:
    """Which word each token belongs to, [1 T]; each is its own where words cannot be told, or are not asked for."""
    begins = torch.ones(1, len(ids), dtype=torch.bool)
    read = vocabulary.read(model, text) if whole else None
    if read is not None and read.words is not None:
        numbers = torch.tensor([number for number, _ in read.words[read.has_start :][: len(ids)]])
        begins[0, 1:] = numbers[1:] != numbers[:-1]
    return objectives.word_numbers(begins, torch.ones_like(begins))


def _draws(n_rows: int, n_tokens: int, n_ordinary: int, seed: int) -> objectives.Draws:
    generator = torch.Generator().manual_seed(seed)
    select, kind = torch.rand(2, n_rows, n_tokens, generator=generator)
    return objectives.Draws(select, kind, torch.randint(n_ordinary, (n_rows, n_tokens), generator=generator))


def hide(model: str, text: str, share: float, whole: bool, seed: int) -> Hidden | None:
    """BERT's corruption of a text, with numbers drawn from `seed`; None where the model has no tokens for it."""
    tokenizer, ids = _tokenizer(model), _encoded(model, text)[:MOST_TOKENS]
    if not ids:
        return None
    own_mask = _special(tokenizer, MASK_NAMES)
    mask_id = tokenizer.vocab_size if own_mask is None else own_mask  # one more than all there are
    words = _words(model, text, ids, whole)
    specials = set(tokenizer.special_tokens.values())
    ordinary = torch.tensor([i for i in range(tokenizer.vocab_size) if i not in specials])
    draws = _draws(1, len(ids), len(ordinary), seed)
    draws = objectives.Draws(draws.select, draws.kind, ordinary[draws.replacement])
    result = objectives.corrupt(torch.tensor([ids]), words, draws, mask_id, select_share=share)
    labels, after = tokenizer.labels(ids), result.inputs[0].tolist()
    shown = [
        MASK_LABEL if i == mask_id else labels[n] if i == ids[n] else vocabulary.label_of(model, i)
        for n, i in enumerate(after)
    ]
    return Hidden(labels, shown, result.kind[0].numpy(), words[0].numpy())


def hide_often(hidden: Hidden, share: float, n_times: int = 2000) -> NDArray[np.float64]:
    """The part of all tokens that is untouched, masked, replaced, kept, when the text is hidden `n_times` over: [4]."""
    n_tokens = len(hidden.labels)
    ids, words = torch.zeros(n_times, n_tokens, dtype=torch.int64), torch.from_numpy(hidden.words).expand(n_times, -1)
    result = objectives.corrupt(ids, words, _draws(n_times, n_tokens, 1, seed=0), 1, select_share=share)
    return np.bincount(result.kind.flatten().numpy(), minlength=4) / result.kind.numel()
