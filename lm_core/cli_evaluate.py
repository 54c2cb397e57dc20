"""`python -m lm_core evaluate`: the figures of a model card, with progress."""

import argparse
import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np

from lm_core import device as devices
from lm_core.checkpoint import LoadedModel, load_pretrained
from lm_core.data import read_documents
from lm_core.encoder import Encoder
from lm_core.encoder_rows import Frame
from lm_core.evaluate import minimal_pair_accuracy, read_minimal_pairs, score_texts
from lm_core.fast_tokenizer import Tokenizer
from lm_core.masked_evaluate import (
    Counts,
    Score,
    ask,
    first_of_each,
    hide_words,
    one_by_one,
    pseudo_pair_accuracy,
    rows_of,
    total,
)
from lm_core.model import Decoder
from lm_core.ngram import BigramModel
from lm_core.probability import BITS_PER_NAT
from lm_core.recipe import Recipe, held_back_texts, read_recipe, training_texts
from lm_core.token_kinds import TokenKinds

MASK_SEED = 1


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `evaluate`."""
    parser = verbs.add_parser("evaluate", help="bits per byte on texts, accuracy on minimal pairs")
    parser.add_argument("--model", required=True, help="bundled:NAME, folder:PATH, hub:owner/name@revision or a path")
    parser.add_argument("--data", type=Path, required=True, help=".jsonl or .txt (also .gz); BLiMP's format is known")
    parser.add_argument("--recipe", type=Path, help="score the recipe's test texts; --data is then its data folder")
    parser.add_argument("--stride", type=int, help="how far the window moves (default: half the context)")
    parser.add_argument("--limit", type=int, help="minimal pairs: only the first so many of each paradigm")
    parser.add_argument("--rows", type=int, default=60, help="an encoder: rows for the pseudo-perplexity (default 60)")
    parser.add_argument(
        "--against", type=Path, help="an encoder: folder of a run; count its training tokens as baseline"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(run=run)


def _holds_pairs(path: Path) -> bool:
    """Whether the first line of a file is a minimal pair."""
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return '"sentence_good"' in lines.readline()


class _Progress:
    """A line on stderr that is written again, at most twice a second."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= 0.5 or done == total:
            self.last = now
            left = (now - self.start) / done * (total - done)
            print(f"\r{done:,} of {total:,}  {left:.0f} s left   ", end="", file=sys.stderr, flush=True)
        if done == total:
            print(file=sys.stderr)


def _against_counting(recipe: Recipe, data: Path, model: Decoder, tokenizer: Tokenizer) -> dict[str, float]:
    """Bits per character on the recipe's test texts, beside baselines that count characters in its training texts."""
    texts = held_back_texts(recipe, data)
    score = score_texts(model, tokenizer, texts, progress=_Progress())
    counted = BigramModel(training_texts(recipe, data))
    n_characters = sum(map(len, texts))
    return {
        "bits_per_character": score.nats * BITS_PER_NAT / n_characters,
        "bigram_bits_per_character": sum(map(counted.bits, texts)) / n_characters,
        "unigram_bits_per_character": sum(counted.bits(text, pairs=False) for text in texts) / n_characters,
        "bits_per_byte": score.bits_per_byte,
        "texts": len(texts),
        "characters": n_characters,
    }


def _masked_figures(loaded: LoadedModel, tokenizer: Tokenizer, options: argparse.Namespace) -> dict[str, float]:
    """An encoder on texts: hidden words over all rows, pseudo-perplexity over some, and the baselines if asked for."""
    model = loaded.model
    assert isinstance(model, Encoder)
    texts = [document.text for document in read_documents(options.data)]
    rows = rows_of(texts, tokenizer, model.config.context_length)
    frame = Frame.of(tokenizer.special_tokens)
    hidden = hide_words(rows, TokenKinds.of(tokenizer), MASK_SEED)
    every = max(1, len(rows) // options.rows)
    singles = [question for row in rows[::every][: options.rows] for question in one_by_one(row)]
    scores: dict[str, tuple[Score, Score]] = {
        "": (
            total(ask(model, hidden, frame, progress=_Progress())),
            total(ask(model, singles, frame, progress=_Progress())),
        )
    }
    if options.against is not None:
        counts = Counts(np.load(options.against / "train.npy"), model.config.vocab_size)
        for name, pairs in (("unigram_", False), ("bigram_", True)):
            asked = [total(counts.answer(q, pairs=pairs) for q in part) for part in (hidden, singles)]
            scores[name] = (asked[0], asked[1])
    figures: dict[str, float] = {}
    for name, (masked, pseudo) in scores.items():
        figures |= {
            f"{name}masked_accuracy": masked.accuracy,
            f"{name}masked_perplexity": masked.perplexity,
            f"{name}pseudo_perplexity": pseudo.perplexity,
        }
    return figures | {
        "rows": len(rows),
        "masked_tokens": scores[""][0].n_tokens,
        "pseudo_rows": len(rows[::every][: options.rows]),
        "pseudo_tokens": scores[""][1].n_tokens,
    }


def run(options: argparse.Namespace) -> None:
    """Load, measure, print."""
    path = Path(options.model)
    loaded = load_pretrained(path if path.is_dir() else options.model, device=devices.pick(options.device))
    if loaded.tokenizer is None:
        raise ValueError(f"{options.model} has no tokenizer, so it cannot read text")
    if options.recipe is not None:
        if not isinstance(loaded.model, Decoder):
            raise ValueError(f"{options.model} is an encoder: its recipe keeps no texts for a test")
        recipe = read_recipe(options.recipe)
        figures: dict[str, float] = _against_counting(recipe, options.data, loaded.model, loaded.tokenizer)
    elif _holds_pairs(options.data):
        pairs = read_minimal_pairs(options.data)
        pairs = pairs if options.limit is None else first_of_each(pairs, options.limit)
        if isinstance(loaded.model, Decoder):
            shares = minimal_pair_accuracy(loaded.model, loaded.tokenizer, pairs, progress=_Progress())
        else:
            shares = pseudo_pair_accuracy(loaded.model, loaded.tokenizer, pairs, progress=_Progress())
        figures = {"mean": sum(shares.values()) / len(shares), **shares}
    elif isinstance(loaded.model, Encoder):
        figures = _masked_figures(loaded, loaded.tokenizer, options)
    else:
        texts = [document.text for document in read_documents(options.data)]
        score = score_texts(loaded.model, loaded.tokenizer, texts, stride=options.stride, progress=_Progress())
        figures = {
            "bits_per_byte": score.bits_per_byte,
            "perplexity": score.perplexity,
            "tokens": score.n_tokens,
            "bytes": score.n_bytes,
        }
    if options.json:
        print(json.dumps(figures))
    else:
        width = max(map(len, figures))
        print("\n".join(f"{name:<{width}}  {value:,.4f}" for name, value in figures.items()))
