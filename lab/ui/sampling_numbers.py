"""The numbers of the lesson on sampling: what the model says next, every stage of choosing, texts that it writes.

All computation goes through `models.compute_slots`, is bounded in length, and is kept for everybody where it can be
asked for again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from lab import models, traces
from lab.bounded_store import BoundedStore
from lab.source import CODE_HASH
from lm_core.beam_search import BeamConfig, BeamSearch, beam_search
from lm_core.checkpoint_error import with_a_reason
from lm_core.config import DecoderConfig
from lm_core.generation import generate, token_times
from lm_core.model import Decoder
from lm_core.probability import softmax
from lm_core.sampling import ORDER, SamplingConfig, filter_stages, sample

Floats = NDArray[np.floating[Any]]
Ids = tuple[int, ...]
KEPT_BYTES = 96 * 2**20
MOST_WRITTEN = 64  # new tokens in one go
MEASURE_SECONDS = 12.0  # of one way of writing
TAIL = 3  # tokens before one that are enough to say what it means there

_KEPT: BoundedStore[Floats] = BoundedStore(most_things=1024)


@dataclass(frozen=True)
class Prompt:
    """The text in hand as the model reads it. `stop_ids` end a text; `n_cut` tokens were left out at the end."""

    model: str
    shape: models.Shape
    token_ids: Ids
    has_start: bool
    n_cut: int
    stop_ids: frozenset[int]

    @property
    def room(self) -> int:
        """How many tokens the model can still write and read."""
        return self.shape.context_length - len(self.token_ids)


def read(model: str, text: str) -> Prompt:
    """The text in tokens. Raises what `models.load` and `models.shape` raise, and UnreadableTextError."""
    shape, loaded = models.shape(model), models.load(model)
    tokenizer = loaded.tokenizer
    assert tokenizer is not None  # or `load` had raised
    start = [] if loaded.start_id is None else [loaded.start_id]
    try:
        ids = start + tokenizer.encode(text[: traces.MOST_CHARACTERS])
    except ValueError as error:
        raise traces.UnreadableTextError(str(error)) from None
    if not ids:
        raise traces.UnreadableTextError("the tokenizer gives no token for this text")
    kept = tuple(ids[: min(traces.MOST_TOKENS, shape.context_length)])
    stop = frozenset() if tokenizer.eos_id is None else frozenset([tokenizer.eos_id])
    return Prompt(model, shape, kept, bool(start), len(ids) - len(kept), stop)


def _decoder(model: str) -> Decoder:
    loaded = models.load(model).model
    if not isinstance(loaded, Decoder):
        raise models.NotCausalError(f"{model} is an encoder: every word sees every other")
    return loaded


def config_of(model: str) -> DecoderConfig:
    """The sizes of a model."""
    return _decoder(model).config


def labels(model: str, ids: Ids) -> list[str]:
    """One visible label a token; tokens that share a character say so, and one that ends inside it shows its bytes."""
    loaded = models.load(model)
    assert loaded.tokenizer is not None  # or `load` had raised
    has_start = bool(ids) and ids[0] == loaded.start_id
    try:
        found = loaded.tokenizer.labels(ids)
    except (ValueError, KeyError, IndexError):  # rows of the embedding that the tokenizer never gives
        found = [_lone_label(model, i) for i in ids]
    return [traces.START_LABEL, *found[1:]] if has_start else found


def _lone_label(model: str, token_id: int) -> str:
    loaded = models.load(model)
    assert loaded.tokenizer is not None  # or `load` had raised
    try:
        return loaded.tokenizer.labels([token_id])[0]
    except (ValueError, KeyError, IndexError):
        return f"⟨{token_id}⟩"


def label_after(model: str, ids: Ids, token_id: int) -> str:
    """What a token says after `ids`: one that completes a character shows the character.

    A document start inside a text is the end of the text, and is shown by its own name.
    """
    start = models.load(model).start_id
    if token_id == start:
        return _lone_label(model, token_id)
    return labels(model, (*(i for i in ids[-TAIL:] if i != start), token_id))[-1]


# --- what comes next --------------------------------------------------------------------------------------------------


def next_logits(model: str, ids: Ids) -> Floats:
    """The logits [V] of the token that follows `ids`, float32, not to be written to."""

    def make() -> Floats:
        decoder = _decoder(model)
        tokens = torch.tensor([ids], device=decoder.embed_tokens.weight.device)
        with models.compute_slots(), torch.no_grad(), with_a_reason():
            row: Floats = decoder(tokens)[0, -1].float().cpu().numpy()
        row.flags.writeable = False
        return row

    key = (model, models.fingerprint(model), CODE_HASH, ids)
    return _KEPT.get(key, lambda: 4 * config_of(model).vocab_size, make, most_bytes=KEPT_BYTES)


@dataclass(frozen=True)
class Stages:
    """Logits and probabilities [6 V] after the model and after each step of `order`, full vocabulary, float32."""

    config: SamplingConfig
    order: tuple[str, ...]
    logits: Floats
    probabilities: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """`model`, then the steps."""
        return ("model", *self.order)

    def of(self, stage: str) -> Floats:
        """Probabilities [V] after a stage."""
        return self.probabilities[self.names.index(stage)]

    def logits_of(self, stage: str) -> Floats:
        """Logits [V] after a stage."""
        return self.logits[self.names.index(stage)]

    def before(self, stage: str) -> str:
        """The name of the stage in front."""
        return self.names[self.names.index(stage) - 1]

    def n_kept(self, stage: str) -> int:
        """How many tokens can still be drawn after a stage."""
        return int(np.isfinite(self.logits_of(stage)).sum())


def stages(model: str, ids: Ids, config: SamplingConfig, order: tuple[str, ...] = ORDER) -> Stages:
    """Every stage between the model's logits after `ids` and the draw."""
    logits = torch.from_numpy(next_logits(model, ids).copy())[None]
    found = filter_stages(logits, config, torch.tensor([ids]), order)
    rows = torch.cat(list(found.values()))
    return Stages(config, tuple(order), rows.numpy(), softmax(rows).numpy())


def by_likelihood(probabilities: Floats) -> NDArray[np.int64]:
    """Token ids, the likeliest first; of equals the lower id first."""
    return np.argsort(-probabilities, kind="stable")


def entropy_bits(probabilities: Floats) -> float:
    """How undecided a distribution is, in bits."""
    p = probabilities.astype(np.float64)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum()) + 0.0


@dataclass(frozen=True)
class Crossing:
    """The token with which top-p reaches p: the sum before it, with it, and how many tokens are kept."""

    token: int
    before: float
    after: float
    n_kept: int


def crossing(found: Stages) -> Crossing | None:
    """Which token crosses p; None where top-p is off."""
    if found.config.top_p >= 1:
        return None
    probabilities = found.of(found.before("top_p")).astype(np.float64)
    order, n = by_likelihood(probabilities), found.n_kept("top_p")
    sums = probabilities[order].cumsum()
    return Crossing(int(order[n - 1]), float(sums[n - 2]) if n > 1 else 0.0, float(sums[n - 1]), n)


# --- drawing and writing ----------------------------------------------------------------------------------------------


def uniforms(seed: int, n: int) -> list[float]:
    """The first n numbers of a seed, as `generate` draws them: number i decides new token i."""
    random = torch.Generator().manual_seed(seed)
    return [float(torch.rand(1, generator=random)) for _ in range(n)]


def draw(model: str, ids: Ids, config: SamplingConfig, uniform: float) -> int:
    """The token that a number draws after `ids`, as `generate` would."""
    logits = torch.from_numpy(next_logits(model, ids).copy())[None]
    return int(sample(logits, config, torch.tensor([uniform]), seen=torch.tensor([ids])))


def draw_many(found: Stages, seed: int, n: int) -> NDArray[np.int64]:
    """How often each token [V] comes in n draws from the last stage."""
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(seed))
    kept = np.flatnonzero(np.isfinite(found.logits[-1]))  # the others would only be walked past
    logits = torch.from_numpy(found.logits[-1][kept])[None].expand(n, -1)
    counts = np.zeros(found.logits.shape[1], dtype=np.int64)
    counts[kept] = sample(logits, SamplingConfig(), uniform).bincount(minlength=len(kept)).numpy()
    return counts


def written(prompt: Prompt, config: SamplingConfig, seed: int, n: int) -> Ids:
    """What `generate` writes: at most n new tokens, bounded by `MOST_WRITTEN` and by the context."""
    return _written(
        prompt.model, models.fingerprint(prompt.model), CODE_HASH, prompt.token_ids, tuple(sorted(prompt.stop_ids)),
        config.temperature, config.top_k, config.top_p, config.repetition_penalty, config.min_p, seed,
        min(n, MOST_WRITTEN, prompt.room),
    )  # fmt: skip


@st.cache_data(max_entries=256, show_spinner=False)
def _written(
    model: str, files: str, code: str, ids: Ids, stop: Ids, temperature: float, top_k: int, top_p: float,
    penalty: float, min_p: float, seed: int, n: int,
) -> Ids:  # fmt: skip
    config = SamplingConfig(temperature, top_k, top_p, penalty, min_p)
    with models.compute_slots(), with_a_reason():
        return tuple(generate(_decoder(model), torch.tensor(ids), n, config, stop_ids=frozenset(stop), seed=seed))


def searched(prompt: Prompt, n_beams: int, n: int, length_penalty: float) -> BeamSearch:
    """A beam search after the prompt."""
    key = (prompt.model, models.fingerprint(prompt.model), CODE_HASH, prompt.token_ids, n_beams, n, length_penalty)

    def make() -> BeamSearch:
        config = BeamConfig(n_beams, min(n, MOST_WRITTEN, prompt.room), length_penalty)
        with models.compute_slots(), with_a_reason():
            return beam_search(_decoder(prompt.model), torch.tensor(prompt.token_ids), config, prompt.stop_ids)

    return _SEARCHES.get(key, lambda: 200 * n_beams * n, make, most_bytes=KEPT_BYTES)


_SEARCHES: BoundedStore[BeamSearch] = BoundedStore(most_things=128)


def log_probability(model: str, prompt: Ids, new: Ids) -> float:
    """log P(new | prompt) in nats: the chain rule, token by token."""
    decoder = _decoder(model)
    ids = torch.tensor([prompt + new], device=decoder.embed_tokens.weight.device)
    with models.compute_slots(), torch.no_grad(), with_a_reason():
        rows = decoder(ids)[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        return float(rows.gather(-1, ids[0, len(prompt) :, None]).double().sum())


def measure(prompt: Prompt, n: int, use_cache: bool) -> list[float]:
    """Seconds that each of n greedy tokens takes, now, on this machine; fewer when `MEASURE_SECONDS` are over."""
    decoder, seconds, end = _decoder(prompt.model), [], time.monotonic() + MEASURE_SECONDS
    with models.compute_slots(), with_a_reason():
        wanted = min(n, MOST_WRITTEN, prompt.room)
        for took in token_times(decoder, torch.tensor(prompt.token_ids), wanted, use_cache):
            seconds.append(took)
            if time.monotonic() > end:
                break
    return seconds
