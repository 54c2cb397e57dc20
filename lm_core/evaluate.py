"""How good a causal model is, on text it has never seen: bits per byte, and grammar by minimal pairs.

Notation:  T positions · V vocab_size. Logarithms are summed in float64.
"""

import gzip
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core import device as devices
from lm_core.fast_tokenizer import Tokenizer
from lm_core.model import Decoder
from lm_core.probability import BITS_PER_NAT

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TextScore:
    """Totals over a text: `nats` of all scored tokens, how many there were, and the bytes of the text in UTF-8."""

    nats: float
    n_tokens: int
    n_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """nats / ln 2 / bytes: the same unit for every tokenizer."""
        return self.nats * BITS_PER_NAT / self.n_bytes

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens): depends on the tokenizer."""
        return math.exp(self.nats / self.n_tokens)


def windows(n_tokens: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Cut T tokens into windows (start, end, first token scored), so that each token after the first is scored once.

    Every window but the first gives its first context − stride tokens as a run-up only: a token is never judged on
    less than that much context.

    >>> list(windows(10, context=4, stride=2))
    [(0, 4, 1), (2, 6, 4), (4, 8, 6), (6, 10, 8)]
    """
    if not 0 < stride < context:
        raise ValueError(f"stride {stride} must lie between 1 and context - 1 = {context - 1}")
    start, scored = 0, 1
    while scored < n_tokens:
        end = min(start + context, n_tokens)
        yield start, end, scored
        start, scored = start + stride, end


def _log_probs(model: Decoder, rows: Tensor) -> Tensor:
    """log P(token t | tokens before it in the row), nats, float64 [B T−1]; rows int64 [B T]."""
    device = model.embed_tokens.weight.device
    with torch.no_grad(), devices.autocast(device, enabled=False):
        logits = model(rows[:, :-1].to(device))
    targets = rows[:, 1:].to(device)
    return -F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets).double()


def score_texts(
    model: Decoder,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    stride: int | None = None,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> TextScore:
    """Bits per byte and perplexity of a causal model over texts, each begun with the document-start token.

    stride (default: half the context) is how far the window moves; see `windows`. A model without a start token does
    not score a text's first token, but its bytes count. Raises ValueError when there is nothing to score.
    """
    texts = list(texts)
    context = model.config.context_length
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    jobs: list[tuple[list[int], int]] = []  # (tokens of the window and the one after, where scoring starts in it)
    for text in texts:
        ids = start + tokenizer.encode(text)
        jobs += [(ids[a:b], first - a) for a, b, first in windows(len(ids), context + 1, stride or context // 2)]
    if not jobs:
        raise ValueError("there is nothing to score: the texts have no tokens")
    jobs.sort(key=lambda job: len(job[0]))  # rows of equal length share a batch
    nats, n_tokens = 0.0, 0
    for at in range(0, len(jobs), batch_size):
        batch = jobs[at : at + batch_size]
        longest = max(len(ids) for ids, _ in batch)
        rows = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in batch])  # padding follows: causal, unseen
        for row, (ids, first) in zip(_log_probs(model, rows), batch, strict=True):
            nats -= float(row[first - 1 : len(ids) - 1].sum())
            n_tokens += len(ids) - first
        if progress:
            progress(min(at + batch_size, len(jobs)), len(jobs))
    return TextScore(nats, n_tokens, sum(len(text.encode()) for text in texts))


@dataclass(frozen=True)
class MinimalPair:
    """Two sentences that differ in one point of grammar; `paradigm` names the point."""

    good: str
    bad: str
    paradigm: str


def read_minimal_pairs(path: Path) -> list[MinimalPair]:
    """BLiMP's format: a JSON object a line with `sentence_good`, `sentence_bad`, `UID`; may be gzipped."""
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [MinimalPair(row["sentence_good"], row["sentence_bad"], row["UID"]) for row in rows]


def minimal_pair_accuracy(
    model: Decoder,
    tokenizer: Tokenizer,
    pairs: list[MinimalPair],
    *,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> dict[str, float]:
    """For each paradigm the share of pairs whose good sentence is the more probable one; chance is 0.5.

    log P of the whole sentence after the document-start token, not divided by its length. Warstadt et al. 2020.
    """
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    sentences = [start + tokenizer.encode(text) for pair in pairs for text in (pair.good, pair.bad)]
    totals = torch.zeros(len(sentences), dtype=torch.float64)
    order = sorted(range(len(sentences)), key=lambda n: len(sentences[n]))
    for at in range(0, len(order), batch_size):
        chosen = order[at : at + batch_size]
        longest = len(sentences[chosen[-1]])
        rows = torch.tensor([sentences[n] + [0] * (longest - len(sentences[n])) for n in chosen])
        for n, row in zip(chosen, _log_probs(model, rows), strict=True):
            totals[n] = row[: len(sentences[n]) - 1].sum()
        if progress:
            progress(min(at + batch_size, len(order)), len(order))
    right: dict[str, list[bool]] = defaultdict(list)
    for n, pair in enumerate(pairs):
        right[pair.paradigm].append(bool(totals[2 * n] > totals[2 * n + 1]))
    return {name: sum(hits) / len(hits) for name, hits in sorted(right.items())}
