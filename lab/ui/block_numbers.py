"""The numbers of the lesson on the block: the model in hand asked by `lm_core`, cached where it takes time."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from lab import models
from lab.source import CODE_HASH
from lab.traces import START_LABEL, TextTrace
from lm_core import neurons, residual_stream
from lm_core.block import Norm
from lm_core.config import DecoderConfig
from lm_core.counting import Part, flops_per_token, model_parts
from lm_core.model import Decoder

Floats = NDArray[np.floating[Any]]
CORPUS = Path(__file__).resolve().parents[2] / "assets" / "data" / "neuron_corpus.en.txt"
CANDIDATES = 5  # how many guesses are shown
EXAMPLES = 6  # how many places of the corpus are shown for a neuron


def _decoder(model: str) -> Decoder:
    loaded = models.load(model).model
    if not isinstance(loaded, Decoder):
        raise models.NotCausalError(f"{model} is an encoder: every word sees every other")
    return loaded


def _double(values: Floats) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float64))


def label(model: str, token_id: int) -> str:
    """What stands on the chip of one token of the vocabulary."""
    loaded = models.load(model)
    assert loaded.tokenizer is not None  # or `load` had raised
    if token_id == loaded.start_id:
        return START_LABEL
    try:
        return loaded.tokenizer.labels([token_id])[0]
    except (ValueError, KeyError, IndexError):  # rows of the embedding that the tokenizer never gives
        return f"⟨{token_id}⟩"


def candidates(trace: TextTrace, position: int) -> list[int]:
    """The tokens that the model finds likeliest after `position`, the likeliest first."""
    logits = trace.arrays["logits"][position]
    order: list[int] = np.argsort(-logits, kind="stable")[:CANDIDATES].tolist()
    return order


def parts(trace: TextTrace, position: int) -> torch.Tensor:
    """The rows that were added to the stream at one position, float64 [2L+1 D]."""
    arrays = trace.arrays
    attention, mlp = _double(arrays["attn_out"]), _double(arrays["mlp_out"])
    return residual_stream.stream_parts(_double(arrays["embedded"]), attention, mlp)[:, position]


def _final_norm(decoder: Decoder) -> Norm:
    return copy.deepcopy(decoder.final_norm).cpu().double()


@dataclass(frozen=True)
class LogitTable:
    """Direct logit attribution at one position: `table` [2L+2 K], its last row the norm's bias; `logits` [K].

    `rows` [2L+1 D] are the parts after the frozen norm, `columns` [K D] the tokens' rows of W_U; `size` is what the
    final norm divides by.
    """

    table: Floats
    logits: Floats
    rows: Floats
    columns: Floats
    size: float


def logit_table(model: str, trace: TextTrace, position: int, token_ids: list[int]) -> LogitTable:
    """Which part of the stream adds how much to the logits of some tokens, in float64."""
    decoder = _decoder(model)
    norm, added = _final_norm(decoder), parts(trace, position)
    columns = decoder.unembed.weight.detach()[token_ids].cpu().double()
    with torch.no_grad():
        table = residual_stream.logit_parts(added, norm, columns)
        rows = residual_stream.through_frozen_norm(added, added.sum(0), norm)
    whole = added.sum(0)
    centred = whole - whole.mean() if norm.kind == "layer_norm" else whole
    size = float(torch.sqrt(centred.square().mean() + norm.eps))
    return LogitTable(
        table.numpy(), trace.arrays["logits"][position, token_ids].astype(np.float64), rows.numpy(), columns.numpy(),
        size,
    )  # fmt: skip


@dataclass(frozen=True)
class Lens:
    """The logit lens on every state, S = L + 1 (the embedding, then after each layer).

    ids, probabilities [S T K]: the likeliest tokens. ranks [S T] and shares [S T]: place and probability of the token
    that is followed: `followed` [T], the next one of the text, and after the last one the model's own guess.
    """

    ids: NDArray[np.int64]
    probabilities: Floats
    ranks: NDArray[np.int64]
    shares: Floats
    followed: list[int]


def lens(model: str, trace: TextTrace) -> Lens:
    """What the model would say after each layer, at every position."""
    computed = hashlib.sha256(trace.arrays["resid_post"].tobytes()).hexdigest()  # maybe by a learner's functions
    return _lens(model, models.fingerprint(model), CODE_HASH, tuple(trace.token_ids), computed, trace)


@st.cache_data(max_entries=24, show_spinner=False)
def _lens(
    model: str, files: str, code: str, token_ids: tuple[int, ...], computed: str, _trace: TextTrace
) -> Lens:  # fmt: skip
    decoder, arrays = _decoder(model), _trace.arrays
    weight = decoder.unembed.weight
    followed = [*token_ids[1:], int(arrays["logits"][-1].argmax())]
    target = torch.tensor(followed, device=weight.device)[:, None]
    found: list[list[torch.Tensor]] = []
    with models.compute_slots(), torch.no_grad():
        for state in [arrays["embedded"], *arrays["resid_post"]]:
            rows = torch.tensor(state).to(weight)
            logits = residual_stream.logit_lens(rows, decoder.final_norm, weight).float()
            probabilities = logits.softmax(-1)
            top = logits.topk(min(CANDIDATES, logits.shape[-1]))
            places = [residual_stream.rank_of(row, token) for row, token in zip(logits, followed, strict=True)]
            found.append(
                [
                    top.indices,
                    probabilities.gather(1, top.indices),
                    torch.stack(places),
                    probabilities.gather(1, target),
                ]
            )
    ids, shown, ranks, shares = (torch.stack(part).cpu().numpy() for part in zip(*found, strict=True))
    return Lens(ids, shown, ranks, shares[..., 0], followed)


@dataclass(frozen=True)
class Sources:
    """What each earlier token, through each head, adds at one position: rows [H T D]; shares [H T] of the length.

    total [D] is what attention adds, length its length, bias_share the bias's part of it.
    """

    rows: Floats
    shares: Floats
    total: Floats
    length: float
    bias_share: float


def sources(model: str, trace: TextTrace, layer: int, position: int) -> Sources:
    """Attention of one layer at one position, taken apart by head and by the token it comes from, in float64."""
    w_o = _decoder(model).blocks[layer].attention.w_o
    weights, v = trace.arrays["weights"][layer][:, position], trace.arrays["v"][layer]
    total = _double(trace.arrays["attn_out"][layer, position])
    rows = residual_stream.written_by_source(_double(weights), _double(v), w_o.weight.detach().cpu().double())
    shares = residual_stream.share_of_length(rows, total)
    bias = torch.zeros_like(total) if w_o.bias is None else w_o.bias.detach().cpu().double()
    bias_share = residual_stream.share_of_length(bias, total)
    return Sources(rows.numpy(), shares.numpy(), total.numpy(), float(total.norm()), float(bias_share))


@dataclass(frozen=True)
class Example:
    """A place of the corpus where a neuron is strong: the activation, the labels around it, which of them it is."""

    activation: float
    labels: list[str]
    at: int


@st.cache_data(max_entries=4, show_spinner=False)
def _corpus(model: str, files: str, code: str, text: str) -> tuple[list[list[str]], list[dict[str, Any]]] | None:
    """The corpus read once by one model: labels of every sentence, and the highest and lowest activations."""
    loaded, decoder = models.load(model), _decoder(model)
    assert loaded.tokenizer is not None  # or `load` had raised
    start = [] if loaded.start_id is None else [loaded.start_id]
    texts, labels = [], []
    for line in text.splitlines():
        try:
            ids = (start + loaded.tokenizer.encode(line))[: decoder.config.context_length]
        except ValueError:
            continue
        if len(ids) > len(start):
            texts.append(ids)
            labels.append(loaded.tokenizer.labels(ids[len(start) :]))
    if not texts:
        return None
    with models.compute_slots():
        ends = neurons.strongest_activations(decoder, texts, EXAMPLES, skip=len(start))
    return labels, [
        {"values": end.values.float().cpu().numpy(), "texts": end.texts.cpu().numpy().astype(np.int32),
         "positions": end.positions.cpu().numpy().astype(np.int32) - len(start)}
        for end in ends
    ]  # fmt: skip


def examples(model: str, layer: int, neuron: int, high: bool) -> list[Example]:
    """Where in our corpus a neuron is highest (or lowest); empty where the model's context holds no word."""
    found = _corpus(model, models.fingerprint(model), CODE_HASH, CORPUS.read_text(encoding="utf-8"))
    if found is None:
        return []
    labels, ends = found
    end = ends[0 if high else 1]
    places = zip(*(end[name][layer, :, neuron].tolist() for name in ("values", "texts", "positions")), strict=True)
    return [Example(value, labels[which], at) for value, which, at in places]


@dataclass(frozen=True)
class NeuronWeights:
    """What one neuron reads with and writes: w_in, w_gate (None without a gate) and w_out, each [D]; biases."""

    w_in: Floats
    w_gate: Floats | None
    w_out: Floats
    b_in: float
    b_gate: float
    activation: str


def neuron_weights(model: str, layer: int, neuron: int) -> NeuronWeights:
    """The learned rows of neuron `neuron` of layer `layer`."""
    mlp = _decoder(model).blocks[layer].mlp

    def row(linear: torch.nn.Linear) -> Floats:
        values: Floats = linear.weight.detach()[neuron].float().cpu().numpy()
        return values

    def bias(linear: torch.nn.Linear | None) -> float:
        return 0.0 if linear is None or linear.bias is None else float(linear.bias.detach()[neuron])

    w_out: Floats = mlp.w_out.weight.detach()[:, neuron].float().cpu().numpy()
    gate = None if mlp.w_gate is None else row(mlp.w_gate)
    return NeuronWeights(row(mlp.w_in), gate, w_out, bias(mlp.w_in), bias(mlp.w_gate), mlp.activation)


def norm_weights(model: str, layer: int) -> tuple[Floats, Floats]:
    """The learned scale and offset (zeros where there is none), [D], of the norm before the feed-forward network."""
    norm = _decoder(model).blocks[layer].norm_2
    weight: Floats = norm.weight.detach().float().cpu().numpy()
    offset: Floats = np.zeros_like(weight) if norm.bias is None else norm.bias.detach().float().cpu().numpy()
    return weight, offset


def change_when_scaled(model: str, layer: int, row: Floats, factor: float) -> tuple[float, float]:
    """(largest change of any number after the norm, largest number after it) when the row is multiplied; float64."""
    norm = copy.deepcopy(_decoder(model).blocks[layer].norm_2).cpu().double()
    with torch.no_grad():
        before, after = norm(_double(row)), norm(factor * _double(row))
    return float((after - before).abs().max()), float(before.abs().max())


def config(model: str) -> DecoderConfig:
    """The sizes of a model."""
    return _decoder(model).config


def counted_parts(model: str) -> tuple[Part, ...]:
    """The parts of a model with their counts."""
    return model_parts(config(model))


@st.cache_data(max_entries=24, show_spinner=False)
def _flops(model: str, files: str, code: str, token_ids: tuple[int, ...]) -> int:
    decoder = _decoder(model)
    ids = torch.tensor([token_ids], device=decoder.embed_tokens.weight.device)
    with models.compute_slots(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        decoder.trace(ids)
    return int(counter.get_total_flops())


def flops(model: str, trace: TextTrace) -> tuple[int, int]:
    """FLOPs of this text: (as PyTorch counts them while the readable path runs, by the formula)."""
    n = len(trace.token_ids)
    counted = _flops(model, models.fingerprint(model), CODE_HASH, tuple(trace.token_ids))
    return counted, n * flops_per_token(config(model), n)
