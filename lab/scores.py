"""What the chain rule makes of a text: each token's probability under a model, as arrays for the pages."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lab import models
from lab.traces import TextTrace
from lm_core.model import Decoder
from lm_core.probability import BITS_PER_NAT, entropy_bits, naive_product, score_sequence, softmax

Floats = NDArray[np.float64]


class TooShortError(ValueError):
    """A text of a single token, and a model without a document start: there is nothing to score."""

    reason = "one_token"


@dataclass(frozen=True)
class TextScore:
    """Every scored token: labels, ids, log P in nats (float64), rank. `first` is its place in the trace (always 1).

    n_bytes are the UTF-8 bytes of the scored tokens.
    """

    labels: list[str]
    token_ids: list[int]
    log_probs: Floats
    ranks: NDArray[np.int64]
    n_bytes: int
    has_start: bool

    @property
    def probabilities(self) -> Floats:
        """P(w_t | w_<t)."""
        return np.asarray(np.exp(self.log_probs))

    @property
    def bits(self) -> Floats:
        """Surprisal −log₂ P of each token."""
        return self.log_probs * -BITS_PER_NAT

    @property
    def total_nats(self) -> float:
        """log P of the whole text."""
        return float(self.log_probs.sum())

    @property
    def perplexity(self) -> float:
        """exp of the mean of −log P."""
        return float(np.exp(-self.log_probs.mean()))

    @property
    def bits_per_byte(self) -> float:
        """All bits over all bytes."""
        return float(self.bits.sum()) / self.n_bytes


def score(model: str, trace: TextTrace) -> TextScore:
    """Score the text of a trace by its own logits. Raises TooShortError where nothing can be scored."""
    if len(trace.token_ids) < 2:
        raise TooShortError("the text is a single token, and this model has no document start: nothing to score")
    found = score_sequence(torch.tensor(trace.token_ids), torch.from_numpy(np.array(trace.arrays["logits"])).double())
    tokenizer = models.load(model).tokenizer
    assert tokenizer is not None  # or the trace had not been made
    n_bytes = sum(len(tokenizer.token_bytes(token_id)) for token_id in trace.token_ids[1:])
    return TextScore(
        trace.labels[1:], trace.token_ids[1:], found.log_probs.double().numpy(), found.ranks.numpy(),
        max(n_bytes, 1), trace.has_start,
    )  # fmt: skip


@dataclass(frozen=True)
class Conditional:
    """The whole distribution before one token: p [V], and the tokens by falling probability."""

    probabilities: Floats
    order: NDArray[np.int64]
    entropy_bits: float


def conditional(trace: TextTrace, position: int) -> Conditional:
    """What the model expects at `position` (≥ 1), after everything before it."""
    p = softmax(torch.from_numpy(np.array(trace.arrays["logits"][position - 1])).double())
    order = torch.argsort(p, descending=True, stable=True)
    return Conditional(p.numpy(), order.numpy(), float(entropy_bits(p)))


def token_labels(model: str, token_ids: list[int]) -> list[str]:
    """One visible label for each token by itself."""
    tokenizer = models.load(model).tokenizer
    assert tokenizer is not None
    return [tokenizer.labels([token_id])[0] for token_id in token_ids]


@dataclass(frozen=True)
class Product:
    """The product of the probabilities in float32, factor by factor, of a text that is read again and again."""

    products: NDArray[np.float32]
    first_subnormal: int | None
    first_zero: int | None
    log2_sums: Floats


def product_of_repeats(text_score: TextScore, repeats: int) -> Product:
    """Multiply the probabilities of the text `repeats` times over, in float32, beside the sum of their logarithms."""
    p = torch.from_numpy(np.tile(text_score.probabilities, repeats))
    found = naive_product(p)
    return Product(
        found.products.numpy(), found.first_subnormal, found.first_zero, -np.cumsum(np.tile(text_score.bits, repeats))
    )


@dataclass(frozen=True)
class HiddenAndRow:
    """One logit as a dot product: h [D] after the final norm, the token's row of W_U [D], and the logit."""

    hidden: Floats
    row: Floats
    logit: float
    log_total: float  # log Σ exp of all logits


@torch.no_grad()
def logit_operands(model: str, trace: TextTrace, position: int, token_id: int) -> HiddenAndRow:
    """h_{t−1} and the row of W_U whose product is the logit of `token_id` at `position`."""
    decoder = models.load(model).model
    assert isinstance(decoder, Decoder)  # or the trace had not been made
    weight = decoder.unembed.weight
    stream = torch.from_numpy(np.array(trace.arrays["resid_post"][-1][position - 1])).to(weight)
    hidden = decoder.final_norm(stream)
    logits = torch.from_numpy(np.array(trace.arrays["logits"][position - 1])).double()
    return HiddenAndRow(
        hidden.double().cpu().numpy(), weight[token_id].double().cpu().numpy(), float(logits[token_id]),
        float(torch.logsumexp(logits, 0)),
    )  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two tokens that stand for each other in two texts, or one alone (None): labels and bits."""

    first: int | None
    second: int | None


def aligned(first: TextScore, second: TextScore) -> list[Pair]:
    """The tokens of two texts side by side: equal runs opposite each other, what differs beside a gap or each other."""
    pairs: list[Pair] = []
    matcher = difflib.SequenceMatcher(None, first.token_ids, second.token_ids, autojunk=False)
    for _, a_start, a_end, b_start, b_end in matcher.get_opcodes():
        for k in range(max(a_end - a_start, b_end - b_start)):
            a, b = a_start + k, b_start + k
            pairs.append(Pair(a if a < a_end else None, b if b < b_end else None))
    return pairs
