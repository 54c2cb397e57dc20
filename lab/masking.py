"""Numbers for the lesson on masks: another mask on the model in hand, as arrays for figures.

Everything is computed by `lm_core.masks` and `lm_core.mask_experiments`; see there for the terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from lab import models, traces
from lab.source import CODE_HASH
from lab.traces import MOST_TOKENS, START_LABEL
from lm_core import mask_experiments as experiments
from lm_core import masks
from lm_core.attention import apply_mask, masked_softmax
from lm_core.model import Decoder

Kind = Literal["none", "causal", "window", "prefix", "documents"]
KINDS: tuple[Kind, ...] = ("causal", "none", "window", "prefix", "documents")
Rule = Literal["none", "causal", "padding", "both"]
RULES: tuple[Rule, ...] = ("none", "causal", "padding", "both")
OFFERED: tuple[Rule, ...] = ("both", "causal", "padding", "none")
Way = Literal["infinity", "filled", "added"]
WAYS: tuple[Way, ...] = ("infinity", "filled", "added")
PENALTY = -1e4
PAD_LABEL = "⟨pad⟩"
Bool = NDArray[np.bool_]
Array = NDArray[np.floating]


def _decoder(model: str) -> Decoder:
    return cast(Decoder, models.load(model).model)  # an encoder has been refused when the text was read


def _device(model: str) -> torch.device:
    return _decoder(model).embed_tokens.weight.device


# --- masks ------------------------------------------------------------------------------------------------------------


def sizes(kind: Kind, n_tokens: int) -> tuple[int, int, int] | None:
    """The least, the largest and the usual size of a mask of this kind; None where it has none, or only one.

    >>> sizes("window", 9), sizes("prefix", 9), sizes("causal", 9)
    ((1, 9, 3), (0, 9, 4), None)
    """
    least = {"window": 1, "prefix": 0, "documents": 1}.get(kind)
    if least is None or n_tokens <= least:
        return None
    return least, n_tokens, min(3, n_tokens) if kind == "window" else n_tokens // 2


def mask(kind: Kind, size: int, n_tokens: int) -> Bool:
    """Who may look at whom in one text, bool [T T]. size: of the window, the prefix, or the first document."""
    if kind == "none":
        found = masks.full_mask(n_tokens)
    elif kind == "window":
        found = masks.sliding_window_mask(n_tokens, max(1, size))
    elif kind == "prefix":
        found = masks.prefix_mask(n_tokens, size)
    elif kind == "documents":
        found = masks.document_mask((torch.arange(n_tokens) >= size).long())
    else:
        found = masks.causal_mask(n_tokens)
    return found.numpy()


def flipped(allowed: Bool, cells: list[tuple[int, int]]) -> Bool:
    """The mask with some cells turned over."""
    return masks.flipped(torch.from_numpy(allowed), cells).numpy()


def reachable(allowed: Bool, n_layers: int) -> Bool:
    """From where anything can have come after 0 … n_layers layers, [L + 1 T T]."""
    return masks.reachable(torch.from_numpy(allowed), n_layers).numpy()


# --- one row, masked in several ways ----------------------------------------------------------------------------------


def row_ways(scores: Array, allowed: Bool) -> dict[Way, tuple[Array, Array]]:
    """One row of scaled scores [T] masked in three ways: the scores that softmax gets, and the weights, float32."""
    row, open_ = torch.tensor(np.asarray(scores, dtype=np.float32)), torch.tensor(allowed)
    masked = {
        "infinity": apply_mask(row, open_),
        "filled": masks.fill_forbidden(row, open_, PENALTY),
        "added": masks.add_penalty(row, open_, PENALTY),
    }
    return {way: (masked[way].numpy(), masked_softmax(masked[way][None])[0].numpy()) for way in WAYS}


def case_scores(row: Array, allowed: Bool, up: float, down: float) -> Array:
    """A row of scaled scores [T] brought to a case: the forbidden ones `up` higher, then the whole row `down` lower.

    Softmax does not notice the second: it only looks at differences. A number that is filled in does.

    >>> case_scores(np.array([1.0, 2.0]), np.array([True, False]), 10, 100).tolist()
    [-99.0, -88.0]
    """
    return np.where(allowed, row, np.asarray(row, dtype=np.float64) + up) - down


def broken(ways: dict[Way, tuple[Array, Array]], allowed: Bool, least: float = 0.01) -> tuple[Way, ...]:
    """In which ways of masking a forbidden place gets more than `least` of the weight, of one row's `row_ways`."""
    return tuple(way for way in WAYS if float(ways[way][1][~allowed].sum()) > least)


def plain_softmax(scores: Array, allowed: Bool) -> Array:
    """What the textbook's softmax makes of a row [T] after −∞: NaN everywhere where nothing is allowed."""
    row = torch.tensor(np.asarray(scores, dtype=np.float32))
    return torch.softmax(apply_mask(row, torch.from_numpy(allowed)), dim=-1).numpy()


def in_half(value: float) -> float:
    """A number as float16 holds it; beyond 65,504 that is infinity.

    >>> in_half(-1e4), in_half(-1e9)
    (-10000.0, -inf)
    """
    return float(torch.tensor(value).half())


# --- the whole model under another mask -------------------------------------------------------------------------------


def leak(model: str, token_ids: list[int], place: int, new_id: int, allowed: Bool) -> NDArray[np.float32]:
    """How far each position moves after each layer when the token at `place` is exchanged, [L + 1 T]."""
    return _leak(model, models.fingerprint(model), tuple(token_ids), place, new_id, allowed, CODE_HASH)


@st.cache_data(max_entries=48, show_spinner=False)
def _leak(
    model: str, files: str, ids: tuple[int, ...], place: int, new_id: int, allowed: Bool, code: str
) -> NDArray[np.float32]:
    device = _device(model)
    with models.compute_slots():
        moved = experiments.leak(
            _decoder(model), torch.tensor(ids, device=device), place, new_id, torch.from_numpy(allowed).to(device)
        )
    return moved.float().cpu().numpy()


def spoilt(model: str, token_ids: list[int], allowed: Bool) -> Bool:
    """Where NaN stands when softmax does not care for empty rows, [L + 1 T]."""
    return _spoilt(model, models.fingerprint(model), tuple(token_ids), allowed, CODE_HASH)


@st.cache_data(max_entries=48, show_spinner=False)
def _spoilt(model: str, files: str, ids: tuple[int, ...], allowed: Bool, code: str) -> Bool:
    device = _device(model)
    with models.compute_slots():
        found = experiments.spoilt(
            _decoder(model), torch.tensor(ids, device=device), torch.from_numpy(allowed).to(device)
        )
    return found.cpu().numpy()


def token_of(model: str, word: str, like: str) -> int | None:
    """The first token of a word as it would stand in place of the token labelled `like`; None for nothing to read."""
    if traces.is_blank(word):
        return None
    tokenizer = models.load(model).tokenizer
    assert tokenizer is not None  # or `load` had raised
    try:
        ids = tokenizer.encode((" " if like.startswith("␣") else "") + word.strip())
    except ValueError:
        return None
    return ids[0] if ids else None


# --- several texts at once --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Texts:
    """Several texts in tokens: ids and labels of each, the document start among them where the model has one."""

    ids: list[list[int]]
    labels: list[list[str]]


def read_texts(model: str, texts: list[str], most: int = 24) -> Texts:
    """Each text in tokens, at most `most` of each; those that are blank or cannot be read are left out."""
    loaded = models.load(model)
    assert loaded.tokenizer is not None  # or `load` had raised
    start = [] if loaded.start_id is None else [loaded.start_id]
    most = min(most, MOST_TOKENS // max(1, len(texts)), loaded.model.config.context_length // max(1, len(texts)))
    ids, labels = [], []
    for text in texts:
        try:
            own = [] if traces.is_blank(text) else loaded.tokenizer.encode(text)
        except ValueError:
            continue
        if own:
            kept = (start + own)[: max(2, most)]
            ids.append(kept)
            labels.append(([START_LABEL] if start else []) + loaded.tokenizer.labels(kept[len(start) :]))
    return Texts(ids, labels)


@dataclass(frozen=True)
class Padded:
    """A batch [B T] as rectangle, where its tokens are real, and what each rule allows: [B T T] each.

    moved[rule] [B]: the part of the prediction after each text's last word that is another than for the text alone.
    """

    real: Bool
    allowed: dict[Rule, Bool]
    moved: dict[Rule, Array]


def padded(model: str, texts: Texts, left: bool) -> Padded:
    """The texts as one batch under every rule, beside each text alone."""
    return _padded(model, models.fingerprint(model), tuple(map(tuple, texts.ids)), left, CODE_HASH)


@st.cache_data(max_entries=24, show_spinner=False)
def _padded(model: str, files: str, ids: tuple[tuple[int, ...], ...], left: bool, code: str) -> Padded:
    decoder, device = _decoder(model), _device(model)
    loaded = models.load(model)
    pad_id = getattr(loaded.tokenizer, "eos_id", None) or 0
    documents = [torch.tensor(each, device=device) for each in ids]
    batch = experiments.pad(documents, pad_id, left)
    n = batch.token_ids.shape[-1]
    causal, real = masks.causal_mask(n, device=device), masks.padding_mask(batch.lengths, n, left)
    rules: dict[Rule, torch.Tensor] = {
        "none": masks.full_mask(n, device=device), "causal": causal, "padding": real, "both": causal & real
    }  # fmt: skip
    last = [n - 1 if left else len(each) - 1 for each in ids]
    allowed: dict[Rule, Bool] = {}
    moved: dict[Rule, Array] = {}
    with models.compute_slots():
        alone = torch.stack([_alone(decoder, each)[-1] for each in documents])
        for rule, table in rules.items():
            full = table.expand(len(ids), n, n)
            logits = experiments.run(decoder, batch.token_ids, full, batch.position_ids).logits
            found = torch.stack([logits[b, place] for b, place in enumerate(last)])
            allowed[rule], moved[rule] = full.cpu().numpy(), _moved(found, alone)
    return Padded(batch.real.cpu().numpy(), allowed, moved)


def _alone(decoder: Decoder, ids: torch.Tensor) -> torch.Tensor:
    """Logits of one text by itself, [T V]."""
    return experiments.run(decoder, ids[None], masks.causal_mask(len(ids), device=ids.device)).logits[0]


def _moved(found: torch.Tensor, alone: torch.Tensor) -> Array:
    """Half the sum of |p − p'| of two rows of logits [N V]: the part of the probability that went elsewhere, [N]."""
    one, other = (torch.softmax(logits.double(), dim=-1) for logits in (found, alone))
    return ((one - other).abs().sum(dim=-1) / 2).cpu().numpy()


PACKINGS: tuple[tuple[bool, bool], ...] = ((False, False), (False, True), (True, False), (True, True))


@dataclass(frozen=True)
class Packed:
    """Several texts in one row: which of them each token belongs to [T], its place, and the mask [T T].

    moved[apart, restart] [B] as in `Padded`; gap: the largest difference of any logit to the text alone, same keys.
    """

    documents: NDArray[np.int64]
    places: NDArray[np.int64]
    allowed: Bool
    moved: dict[tuple[bool, bool], Array]
    gap: dict[tuple[bool, bool], float]


def packed(model: str, texts: Texts) -> Packed:
    """The texts packed in each of four ways, beside each text alone."""
    return _packed(model, models.fingerprint(model), tuple(map(tuple, texts.ids)), CODE_HASH)


@st.cache_data(max_entries=24, show_spinner=False)
def _packed(model: str, files: str, ids: tuple[tuple[int, ...], ...], code: str) -> Packed:
    decoder, device = _decoder(model), _device(model)
    documents = [torch.tensor(each, device=device) for each in ids]
    numbers = torch.repeat_interleave(torch.arange(len(ids)), torch.tensor([len(each) for each in ids]))
    ends = np.cumsum([len(each) for each in ids]) - 1
    moved, gap = {}, {}
    with models.compute_slots():
        alone = [_alone(decoder, each) for each in documents]
        for apart, restart in PACKINGS:
            row = experiments.packed(decoder, documents, apart, restart)
            moved[apart, restart] = _moved(row[ends], torch.stack([each[-1] for each in alone]))
            gap[apart, restart] = float((row - torch.cat(alone)).abs().max())
    places, allowed = masks.positions_in_documents(numbers).numpy(), masks.document_mask(numbers).numpy()
    return Packed(numbers.numpy(), places, allowed, moved, gap)
