"""What a model computes for a text, as arrays: the one service that figures get their numbers from.

Everything is float32 numpy, the batch dimension dropped; names and shapes are those of `lm_core.trace_arrays`.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lab import models
from lab.bounded_store import BoundedStore
from lab.source import CODE_HASH
from lm_core.attention import AttentionTrace, attend
from lm_core.checkpoint import LoadedModel
from lm_core.checkpoint_error import CheckpointError, with_a_reason
from lm_core.config import DecoderConfig
from lm_core.model import Decoder
from lm_core.positions import rotary_angles
from lm_core.tokenizer_files import Tokenizer
from lm_core.trace_arrays import trace_arrays

MOST_TOKENS = 128  # what a screen can show; the command line takes more
START_LABEL = "⟨start⟩"  # the document-start token: every text of ours begins with it
MOST_CHARACTERS = 2000  # cut before tokenising: ten thousand words cost nothing
MOST_BYTES = 2**30  # of one trace; GPT-2 large takes half of it for 128 tokens
KEPT_BYTES = 2**29  # of all traces that are kept; GPT-2 small on 128 tokens takes a quarter of it


class UnreadableTextError(ValueError):
    """The model's tokenizer has no tokens for a text."""

    reason = "no_tokens"


@dataclass(frozen=True)
class TextTrace:
    """A text as the model saw it, and everything it computed.

    labels: one visible label a token. n_tokens is the length before `n_cut` tokens were left out at the end.
    has_start: whether the first token is the model's document start and not of the text.
    """

    labels: list[str]
    token_ids: list[int]
    has_start: bool
    n_cut: int
    arrays: dict[str, NDArray[np.float32]]

    def layer(self, name: str, layer: int) -> NDArray[np.float32]:
        """One array of one layer."""
        return self.arrays[name][layer]

    def head(self, name: str, layer: int, head: int) -> NDArray[np.float32]:
        """One array of one head; keys and values of a grouped-query model belong to the head's group."""
        stack = self.arrays[name][layer]
        return stack[head * stack.shape[0] // self.arrays["weights"].shape[1]]


# A module's own and no `cache_data`: that would keep 24 traces of any size, and copy the one in hand at every rerun.
_KEPT: BoundedStore[TextTrace] = BoundedStore(most_things=64)


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in a text: empty, spaces, or only control characters.

    >>> is_blank(" \\t\\u200b"), is_blank(" a")
    (True, False)
    """
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf", "Cn", "Cs") for c in text)


def trace(model: str, text: str) -> TextTrace:
    """Everything model `model` computes for `text`, at most `MOST_TOKENS` tokens of it.

    Raises ValueError for a blank text, what `models.load` raises, NotCausalError for an encoder, UnreadableTextError
    for a text that the tokenizer cannot encode, and CheckpointError for a model with too many numbers to show.
    """
    if is_blank(text):
        raise ValueError("a text without anything to see")
    text = text[:MOST_CHARACTERS]
    key = (model, models.fingerprint(model), text, CODE_HASH)
    kept = _KEPT.get(
        key, lambda: _n_bytes(_read(model, text)), lambda: _compute(_read(model, text)), most_bytes=KEPT_BYTES
    )
    # All learners share the numbers, which cannot be written to; the lists around them are everybody's own.
    return replace(kept, labels=list(kept.labels), token_ids=list(kept.token_ids), arrays=dict(kept.arrays))


@dataclass(frozen=True)
class _Text:
    """A text cut to what fits, and the model that reads it."""

    loaded: LoadedModel
    model: Decoder
    tokenizer: Tokenizer
    token_ids: list[int]
    n_cut: int


def _read(name: str, text: str) -> _Text:
    loaded = models.load(name)
    tokenizer = loaded.tokenizer
    assert tokenizer is not None  # or `load` had raised
    if not isinstance(loaded.model, Decoder):
        raise models.NotCausalError(f"{name} is an encoder: every word sees every other")
    start = [] if loaded.start_id is None else [loaded.start_id]
    try:
        token_ids = start + tokenizer.encode(text)
    except ValueError as error:
        raise UnreadableTextError(str(error)) from None
    if not token_ids:
        raise UnreadableTextError("the tokenizer gives no token for this text")
    kept = token_ids[: min(MOST_TOKENS, loaded.model.config.context_length)]
    _check_size(loaded.model.config, len(kept))
    return _Text(loaded, loaded.model, tokenizer, kept, len(token_ids) - len(kept))


def _compute(text: _Text) -> TextTrace:
    device = text.model.embed_tokens.weight.device
    with models.compute_slots(), torch.no_grad(), with_a_reason():
        arrays = trace_arrays(text.model.trace(torch.tensor([text.token_ids], device=device)))
    for values in arrays.values():
        values.flags.writeable = False
    labels = text.tokenizer.labels(text.token_ids)
    has_start = text.loaded.start_id is not None
    if has_start:
        labels[0] = START_LABEL
    return TextTrace(labels, text.token_ids, has_start, text.n_cut, arrays)


def _n_bytes(text: _Text) -> int:
    return _size(text.model.config, len(text.token_ids))


def _size(c: DecoderConfig, n_tokens: int) -> int:
    """Bytes of all numbers of a trace, by the shapes in `lm_core.trace_arrays`; rather too many than too few."""
    a_layer = c.n_heads * (4 * n_tokens + 6 * c.d_head) + 7 * c.d_model + c.d_mlp
    return 4 * n_tokens * (c.n_layers * a_layer + c.d_model + c.vocab_size + 2)


def _check_size(c: DecoderConfig, n_tokens: int) -> None:
    """A folder can ask for a million heads with few parameters: their maps are what fills the memory."""
    if (size := _size(c, n_tokens)) > MOST_BYTES:
        sentence = f"the numbers of {n_tokens} tokens would take {size / 2**30:,.1f} GiB"
        raise CheckpointError(f"{sentence}; the limit is {MOST_BYTES / 2**30:.1f} GiB", "too_large")


@dataclass(frozen=True)
class HeadWeights:
    """The learned numbers of one head. q, k, v [D Dh] (so that x·W), their biases [Dh] or zeros; o [Dh D]."""

    q: NDArray[np.float32]
    k: NDArray[np.float32]
    v: NDArray[np.float32]
    o: NDArray[np.float32]
    q_bias: NDArray[np.float32]
    k_bias: NDArray[np.float32]
    v_bias: NDArray[np.float32]


def head_weights(model: str, layer: int, head: int) -> HeadWeights:
    """The matrices of head `head` of layer `layer`."""
    attention = models.load(model).model.blocks[layer].attention
    d, group = attention.d_head, attention.n_heads // attention.n_kv_heads
    own, shared = slice(head * d, (head + 1) * d), slice(head // group * d, (head // group + 1) * d)

    def matrix(linear: torch.nn.Linear, rows: slice) -> NDArray[np.float32]:
        values: NDArray[np.float32] = linear.weight.detach()[rows].float().cpu().numpy().T
        return values

    def bias(linear: torch.nn.Linear, rows: slice) -> NDArray[np.float32]:
        if linear.bias is None:
            return np.zeros(d, dtype=np.float32)
        values: NDArray[np.float32] = linear.bias.detach()[rows].float().cpu().numpy()
        return values

    w_o: NDArray[np.float32] = attention.w_o.weight.detach()[:, own].float().cpu().numpy().T
    return HeadWeights(
        matrix(attention.w_q, own), matrix(attention.w_k, shared), matrix(attention.w_v, shared), w_o,
        bias(attention.w_q, own), bias(attention.w_k, shared), bias(attention.w_v, shared),
    )  # fmt: skip


def output_column(model: str, layer: int, column: int) -> tuple[NDArray[np.float32], float]:
    """The weights [H·Dh] and the bias with which W_O makes number `column` of what layer `layer` writes."""
    w_o = models.load(model).model.blocks[layer].attention.w_o
    weights: NDArray[np.float32] = w_o.weight.detach()[column].float().cpu().numpy()
    return weights, 0.0 if w_o.bias is None else float(w_o.bias.detach()[column])


@dataclass(frozen=True)
class NormWeights:
    """The learned scale [D] and offset [D] (zeros where there is none) of the normalisation before attention."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def norm_weights(model: str, layer: int) -> NormWeights:
    """The normalisation that attention of layer `layer` reads through."""
    norm = models.load(model).model.blocks[layer].norm_1
    weight: NDArray[np.float32] = norm.weight.detach().float().cpu().numpy()
    bias = np.zeros_like(weight) if norm.bias is None else norm.bias.detach().float().cpu().numpy()
    return NormWeights(weight, bias)


def attend_arrays(
    q: NDArray[np.floating], k: NDArray[np.floating], v: NDArray[np.floating],
    allowed: NDArray[np.bool_] | None = None, scale: float | None = None,
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """`lm_core.attention.attend` on arrays [T Dh], in float64: what the toy numbers and the temperature run on."""
    steps: AttentionTrace = attend(
        torch.from_numpy(np.array(q, dtype=np.float64)),
        torch.from_numpy(np.array(k, dtype=np.float64)),
        torch.from_numpy(np.array(v, dtype=np.float64)),
        None if allowed is None else torch.from_numpy(allowed),
        scale=scale,
    )
    return {name: value.numpy() for name, value in vars(steps).items()}


def turning_angle(model: str, position: int, column: int) -> float:
    """By which angle (radians) number `column` of q and k is turned at `position` in a model with RoPE."""
    c = models.load(model).model.config
    if not isinstance(c, DecoderConfig) or c.positions != "rope":
        raise ValueError(f"{model} does not turn its queries and keys")
    angles = rotary_angles(torch.tensor([position]), c.d_head, c.rope_theta, c.rope_scaling)
    return float(angles[0, column % (c.d_head // 2)])


def head_contributions(model: str, trace: TextTrace, layer: int, query: int) -> NDArray[np.float64]:
    """How long the row is that each head writes into the stream at `query`: ‖head_out_h · W_O,h‖, [H]."""
    heads = range(trace.arrays["weights"].shape[1])
    written = [trace.arrays["head_out"][layer, h, query] @ head_weights(model, layer, h).o for h in heads]
    return np.array([np.linalg.norm(row) for row in written])
