"""What the heads of a model are worth, what they write and what they specialise in, as arrays for figures.

Everything is computed by `lm_core.ablation`, `lm_core.head_parts` and `lm_core.head_measures`; see there for the terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from lab import models
from lab.source import CODE_HASH
from lab.traces import MOST_TOKENS, START_LABEL, TextTrace
from lm_core import ablation, head_measures, head_parts
from lm_core.model import Decoder

Off = Literal["one", "others", "layer"]
Kind = Literal["zero", "mean"]
OFF: tuple[Off, ...] = ("one", "others", "layer")
KINDS: tuple[Kind, ...] = ("zero", "mean")
RANDOM_TOKENS = 25  # the length of the passage in Olsson et al. 2022
RANDOM_SEED = 0
QUICK = 3e10  # multiplications that all single ablations of a text may take unasked: a second or two on a laptop


def _decoder(model: str) -> Decoder:
    return cast(Decoder, models.load(model).model)  # an encoder has been refused when the text was read


def _tensor(model: Decoder, token_ids: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor([token_ids], device=model.embed_tokens.weight.device)


@dataclass(frozen=True)
class Prediction:
    """Probabilities of the next token before and after some heads are switched off, [V] each; KL(before ‖ after)."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    kl_bits: float


def kept_heads(n_layers: int, n_heads: int, layer: int, head: int, off: Off) -> NDArray[np.bool_]:
    """Which heads still work, [L H]: all but one, all but the others of its layer, or all but its whole layer.

    >>> kept_heads(1, 3, 0, 1, "others").tolist()
    [[False, True, False]]
    """
    keep = np.ones((n_layers, n_heads), dtype=bool)
    if off == "one":
        keep[layer, head] = False
    else:
        keep[layer] = False
        keep[layer, head] = off == "others"
    return keep


def prediction_without(
    model: str, token_ids: tuple[int, ...], layer: int, head: int, off: Off, kind: Kind
) -> Prediction:
    """What `model` expects after `token_ids`, with all heads and with some switched off."""
    return _prediction(model, models.fingerprint(model), token_ids, layer, head, off, kind, CODE_HASH)


@st.cache_data(max_entries=48, show_spinner=False)
def _prediction(
    model: str, files: str, token_ids: tuple[int, ...], layer: int, head: int, off: Off, kind: Kind, code: str
) -> Prediction:
    decoder = _decoder(model)
    ids = _tensor(decoder, token_ids)
    keep = kept_heads(decoder.config.n_layers, decoder.config.n_heads, layer, head, off)
    with models.compute_slots(), torch.no_grad():
        trace = decoder.trace(ids)
        instead = ablation.mean_head_out(trace) if kind == "mean" else None
        before = trace.logits[0, -1]
        after = ablation.logits_without(decoder, ids, torch.from_numpy(keep).to(ids.device), instead, trace)[0, -1]
        bits = float(ablation.kl_bits(before, after))
    return Prediction(_softmax(before), _softmax(after), bits)


def _softmax(logits: torch.Tensor) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = torch.softmax(logits.double(), dim=-1).cpu().numpy()
    return probabilities


def is_quick(model: str, n_tokens: int) -> bool:
    """Whether switching off every head in turn takes a moment only."""
    c = _decoder(model).config
    half_the_layers = models.shape(model).n_parameters / 2
    return half_the_layers * n_tokens * c.n_layers * c.n_heads < QUICK


def head_costs(model: str, token_ids: tuple[int, ...], kind: Kind) -> NDArray[np.float64]:
    """Bits by which the prediction after `token_ids` moves when each head alone is off, [L H]."""
    return _costs(model, models.fingerprint(model), token_ids, kind, CODE_HASH)


@st.cache_data(max_entries=48, show_spinner=False)
def _costs(model: str, files: str, token_ids: tuple[int, ...], kind: Kind, code: str) -> NDArray[np.float64]:
    decoder = _decoder(model)
    with models.compute_slots():
        costs: NDArray[np.float64] = (
            ablation.head_costs(decoder, _tensor(decoder, token_ids), kind == "mean").cpu().numpy()
        )
    return costs


@dataclass(frozen=True)
class Written:
    """What attention of one layer adds at one position, taken apart.

    parts [H (+ 1) D]: a row a head, then W_O's bias where there is one. attn_out [D]: what the model added. shares
    [H (+ 1)] of `parts`; missed: the largest difference between the sum of the parts and attn_out.
    """

    parts: NDArray[np.float32]
    shares: NDArray[np.float32]
    attn_out: NDArray[np.float32]
    has_bias: bool
    missed: float


def written(model: str, trace: TextTrace, layer: int, query: int) -> Written:
    """The parts that the heads of `layer` write at position `query`."""
    w_o = _decoder(model).blocks[layer].attention.w_o
    head_out = torch.tensor(trace.arrays["head_out"][layer][:, query : query + 1])
    parts = head_parts.written_by_head(head_out, w_o.weight.detach().float().cpu())[:, 0]
    if w_o.bias is not None:
        parts = torch.cat([parts, w_o.bias.detach().float().cpu()[None]])
    attn_out = trace.arrays["attn_out"][layer, query]
    missed = float(np.abs(parts.sum(dim=0).numpy() - attn_out).max())
    return Written(parts.numpy(), head_parts.shares(parts).numpy(), attn_out, w_o.bias is not None, missed)


@dataclass(frozen=True)
class Specialities:
    """A passage read twice, and what part of its attention each head spends on each kind of pair.

    scores[name] [L H], NaN throughout where the text holds no such pair; even[name]: a head without preference;
    pairs[name] [T T] bool; weights [L H T T].
    """

    labels: list[str]
    scores: dict[str, NDArray[np.float32]]
    even: dict[str, float]
    pairs: dict[str, NDArray[np.bool_]]
    weights: NDArray[np.float32]


def specialities(model: str, block: tuple[int, ...] | None) -> Specialities | None:
    """The measures over `block` read twice, or over random tokens read twice where it is None.

    The passage is cut so that both halves fit; None where not even one token fits twice.
    """
    return _specialities(model, models.fingerprint(model), block, CODE_HASH)


@st.cache_data(max_entries=8, show_spinner=False)
def _specialities(model: str, files: str, block: tuple[int, ...] | None, code: str) -> Specialities | None:
    loaded, decoder = models.load(model), _decoder(model)
    tokenizer = loaded.tokenizer
    assert tokenizer is not None  # or `load` had raised
    room = (min(MOST_TOKENS, decoder.config.context_length) - (loaded.start_id is not None)) // 2
    if block is None:
        known = min(tokenizer.vocab_size, decoder.config.vocab_size)
        ordinary = torch.tensor(sorted(set(range(known)) - set(tokenizer.special_tokens.values())))
        generator = torch.Generator().manual_seed(RANDOM_SEED)
        passage = head_measures.random_block(min(RANDOM_TOKENS, room, len(ordinary)), ordinary, generator)
    else:
        passage = torch.tensor(block[:room], dtype=torch.int64)
    if not len(passage):
        return None
    ids = head_measures.twice(passage, loaded.start_id)
    with models.compute_slots(), torch.no_grad():
        trace = decoder.trace(_tensor(decoder, tuple(ids.tolist())))
    weights = torch.stack([layer.attention.weights[0] for layer in trace.layers]).float().cpu()
    pairs = {name: kind(ids) for name, kind in head_measures.MEASURES.items()}
    labels = tokenizer.labels(ids.tolist())
    if loaded.start_id is not None:
        labels[0] = START_LABEL
    return Specialities(
        labels,
        {name: head_measures.share_on(weights, table).numpy() for name, table in pairs.items()},
        {name: head_measures.even_share(table) for name, table in pairs.items()},
        {name: table.numpy() for name, table in pairs.items()},
        weights.numpy(),
    )


def measures(weights: NDArray[np.float32], token_ids: list[int]) -> dict[str, NDArray[np.float32]]:
    """The measures over a text that has been read already: weights [.. T T] -> name -> [..]."""
    maps, ids = torch.tensor(weights), torch.tensor(token_ids)
    return {name: head_measures.share_on(maps, kind(ids)).numpy() for name, kind in head_measures.MEASURES.items()}


def even_shares(token_ids: list[int]) -> dict[str, float]:
    """What each measure gives a head without any preference."""
    ids = torch.tensor(token_ids)
    return {name: head_measures.even_share(kind(ids)) for name, kind in head_measures.MEASURES.items()}


def disagreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The part of its weight that the second head spends on other words than the first, averaged over the rows."""
    return float(head_measures.disagreement(torch.tensor(one), torch.tensor(other)))
