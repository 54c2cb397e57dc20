"""Arrays for the lesson on positions: experiments on the model in hand, kept while nothing they depend on changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from lab import models
from lab.course import ROOT
from lab.source import CODE_HASH
from lab.ui.reading import Reading
from lm_core import learned_positions, positions
from lm_core import position_experiments as experiments
from lm_core.attention import AttentionTrace, attend
from lm_core.model import Decoder

Array = NDArray[np.floating]
Way = Literal["none", "mask", "model"]  # no positions and no mask; the mask alone; as the model is
WAYS: dict[Way, dict[str, bool]] = {
    "none": {"positions": False, "causal": False},
    "mask": {"positions": False, "causal": True},
    "model": {"positions": True, "causal": True},
}
STORY = ROOT / "assets" / "data" / "long_story.en.txt"
MOST_STORY_TOKENS = 1024
LONGEST_SEED = 4  # digits


@dataclass(frozen=True)
class Shuffled:
    """A text and the same text shuffled, read in each way by one layer: order [T], weights [H T T] in the old order."""

    order: NDArray[np.int64]
    straight: dict[Way, Array]
    back: dict[Way, Array]
    scores_straight: dict[Way, Array]
    scores_back: dict[Way, Array]

    def difference(self, way: Way, head: int) -> float:
        """The largest difference that shuffling makes to a weight of this head."""
        return float(np.abs(self.straight[way][head] - self.back[way][head]).max())


def _decoder(name: str) -> Decoder:
    model = models.load(name).model
    assert isinstance(model, Decoder)  # or the sentence could not have been traced
    return model


def shuffled(r: Reading, seed: int) -> Shuffled:
    """The reader's sentence, in order and shuffled, at the chosen layer."""
    fixed = int(r.trace.has_start)
    return _shuffled(
        r.model, models.fingerprint(r.model), tuple(r.trace.token_ids), fixed, r.view.layer, seed, CODE_HASH
    )


@st.cache_data(max_entries=24, show_spinner=False)
def _shuffled(name: str, files: str, ids: tuple[int, ...], fixed: int, layer: int, seed: int, code: str) -> Shuffled:
    model = _decoder(name)
    order = experiments.shuffled_order(len(ids), fixed, seed)
    text = torch.tensor([ids], device=model.embed_tokens.weight.device)
    found: tuple[dict[Way, Array], ...] = ({}, {}, {}, {})
    with models.compute_slots():
        for way, left_in in WAYS.items():
            one = experiments.attention_of_layer(model, text, layer, **left_in)
            other = experiments.attention_of_layer(model, text[:, order], layer, **left_in)
            arrays = (
                one.weights, experiments.put_back(other.weights, order),
                one.scores, experiments.put_back(other.scores, order),
            )  # fmt: skip
            for kept, array in zip(found, arrays, strict=True):
                kept[way] = array[0].float().cpu().numpy()
    return Shuffled(order.numpy(), *found)


def even(width: int) -> int:
    """The width up to the next even number: sines and turns come in pairs.

    >>> even(3), even(4)
    (4, 4)
    """
    return width + width % 2


def sinusoids(n_positions: int, d_model: int) -> Array:
    """The paper's table of sines and cosines, [P D]."""
    return positions.sinusoidal_positions(n_positions, even(d_model)).numpy()


def angles(r: Reading, n_positions: int) -> Array:
    """By which angle each pair turns at positions 0 … n−1, [P Dh/2]; for a model without turning, the usual ones."""
    at = torch.arange(n_positions)
    c = _decoder(r.model).config
    return positions.rotary_angles(at, even(c.d_head), c.rope_theta, c.rope_scaling).numpy()


def table(name: str, n_rows: int) -> Array | None:
    """The first rows of the model's own table of positions, [P D]; None for a model without one."""
    held = _decoder(name).embed_positions
    return None if held is None else held.weight[:n_rows].detach().float().cpu().numpy()


def summands(r: Reading, column: int) -> tuple[float, float]:
    """Number `column` of the chosen word's own vector, and of the row for its place; a model with a table only."""
    model, place = _decoder(r.model), r.view.query
    assert model.embed_positions is not None
    word = model.embed_tokens.weight[r.trace.token_ids[place], column]
    return float(word.detach()), float(model.embed_positions.weight[place, column].detach())


def theta(name: str) -> float:
    """The base of the model's turning; the usual one for a model without turning."""
    return float(_decoder(name).config.rope_theta)


@dataclass(frozen=True)
class Learned:
    """What a small table looks like after `step` steps of training."""

    step: int
    loss_nats: float
    table: Array
    alike: Array


def learned() -> list[Learned]:
    """A small table of positions, trained now (about a second) and then kept."""
    return _learned(CODE_HASH)


@st.cache_data(max_entries=2, show_spinner=False)
def _learned(code: str) -> list[Learned]:
    with models.compute_slots():
        records = learned_positions.learn_position_table()
    return [Learned(r.step, r.loss_nats, r.table.numpy(), alike(r.table.numpy())) for r in records]


def alike(rows: Array) -> Array:
    """How alike any two rows of a table point, −1 to 1: [P D] -> [P P]."""
    return learned_positions.cosine_similarity(torch.from_numpy(np.ascontiguousarray(rows))).numpy()


def alike_by_distance(rows: Array) -> Array:
    """How alike two rows d apart are on average: mean over s of cos(p_s, p_{s+d}), [N]."""
    cosines = alike(rows)
    return np.array([np.diagonal(cosines, offset=d).mean() for d in range(len(rows))])


def _content(r: Reading) -> tuple[torch.Tensor, torch.Tensor]:
    """q of the chosen query and k of the chosen key before turning, float64 [Dh]."""
    q, k = r.head("q_proj")[r.view.query], r.head("k_proj")[r.view.key]
    return torch.from_numpy(q.astype(np.float64)), torch.from_numpy(k.astype(np.float64))


def score_by_place(r: Reading, n_positions: int) -> Array:
    """The score of the two chosen words, were they at other places: [P P], row = place of the query."""
    model = _decoder(r.model)
    c = model.config
    if c.positions == "rope":
        q, k = _content(r)
        return experiments.rope_scores(q, k, torch.arange(n_positions), c.rope_theta, c.rope_scaling).numpy()
    ids = r.trace.token_ids
    with models.compute_slots():
        return experiments.table_scores(
            model, ids[r.view.query], ids[r.view.key], n_positions, r.view.head
        ).float().cpu().numpy()  # fmt: skip


def pairs_by_distance(r: Reading, n_distances: int) -> Array:
    """What each turning pair adds to the score of the two chosen words at distances 0 … n−1, [N Dh/2]; RoPE only."""
    q, k = _content(r)
    c = _decoder(r.model).config
    distances = torch.arange(n_distances)
    return experiments.rope_pairs_by_distance(q, k, distances, c.rope_theta, c.rope_scaling).numpy()


def pairing_difference(r: Reading) -> float:
    """The largest difference between this head's scores with halves turned and with neighbours turned.

    In float64, over all pairs of the sentence: the same numbers in another order.
    """
    q, k = (torch.from_numpy(r.head(name).astype(np.float64)) for name in ("q_proj", "k_proj"))
    turn = torch.from_numpy(angles(r, r.n_tokens).astype(np.float64))
    p = positions.interleaved_to_half(q.shape[-1])
    back = torch.argsort(p)
    halves = positions.rotate(q, turn) @ positions.rotate(k, turn).mT
    turned = (positions.rotate_interleaved(x[:, back], turn) for x in (q, k))
    neighbours = next(turned) @ next(turned).mT
    return float((halves - neighbours).abs().max())


def slopes(n_heads: int) -> Array:
    """ALiBi's slope of each head, [H]."""
    return positions.alibi_slopes(n_heads).numpy()


def penalties(n_tokens: int, slope: float) -> Array:
    """ALiBi's penalty for one head, [T T]."""
    return positions.alibi_bias(n_tokens, n_tokens, torch.tensor([slope]))[0].numpy() + 0.0


def with_penalty(r: Reading, bias: Array | None) -> Array:
    """The chosen head's weights [T T] from q and k before turning, with a penalty added to the scaled scores."""
    q, k, v = (torch.from_numpy(r.head(name).astype(np.float64)) for name in ("q_proj", "k_proj", "v"))
    added = None if bias is None else torch.from_numpy(bias.astype(np.float64))
    found: AttentionTrace = attend(q, k, v, torch.from_numpy(r.allowed), bias=added)
    return found.weights.numpy()


@dataclass(frozen=True)
class Beyond:
    """Surprisal (nats) of the tokens of a long story after the first: in one run, and in windows of trained length.

    `refusal` is what the model said where it could not read the story in one run.
    """

    n_tokens: int
    windows: Array
    one_run: Array | None
    refusal: str


def beyond(name: str) -> Beyond:
    """The long story read by the model, inside and beyond the length that it was trained on."""
    return _beyond(name, models.fingerprint(name), STORY.read_text(encoding="utf-8"), CODE_HASH)


@st.cache_data(max_entries=6, show_spinner=False)
def _beyond(name: str, files: str, story: str, code: str) -> Beyond:
    loaded, model = models.load(name), _decoder(name)
    assert loaded.tokenizer is not None  # or `load` had raised
    start = [] if loaded.start_id is None else [loaded.start_id]
    kept = (start + loaded.tokenizer.encode(story))[:MOST_STORY_TOKENS]
    ids = torch.tensor(kept, device=model.embed_tokens.weight.device)
    if len(kept) <= model.config.context_length:  # nothing lies beyond: nothing to compute
        return Beyond(len(kept), np.zeros(0), None, "")
    with models.compute_slots():
        inside = experiments.losses_in_windows(model, ids).cpu().numpy()
        try:
            return Beyond(len(kept), inside, experiments.losses_in_one_run(model, ids).cpu().numpy(), "")
        except ValueError as refusal:
            return Beyond(len(kept), inside, None, str(refusal))
