"""Sentiment on the real SST-2, held out honestly, with the floor that naive Bayes sets on the very same split.

    python benchmarks/sst2.py --data ../shared/data/sst2 --out FOLDER                       # 2 minutes each way
    python benchmarks/sst2.py --data ../shared/data/sst2 --out FOLDER --minutes 15
    python benchmarks/sst2.py --data ../shared/data/sst2 --out FOLDER --model hub:HuggingFaceTB/SmolLM2-135M --ways lora

SST-2's training file holds phrases of sentences: a phrase of a held-out sentence in training gives the answer away. So
held out are whole sentences (phrases that lie in no longer one, of 10 words or more), drawn by a hash of their text,
half to choose the checkpoint, half to report; and every training phrase of three or more words that lies in one of them
is dropped, as is every shorter phrase or sentence that is one of them. Nothing reported here was used to choose.

Ways: whole model, head only, LoRA, soft prompt, from scratch; each trains for the same time at its own learning rate.
"""

import argparse
import hashlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lm_core import device as devices
from lm_core.adapters import n_learned
from lm_core.batches import LabelledData, labelled_data
from lm_core.checkpoint import load_pretrained, resolve
from lm_core.data import Example, read_glue
from lm_core.finetune import finetune, load_best, validate
from lm_core.finetune_config import FinetuneConfig
from lm_core.finetune_run import frame_of
from lm_core.learner import Learner, make_learner

SENTENCE_WORDS = 10
SHORTEST_DROPPED = 3
TIMED_STEPS = 8
WAYS: dict[str, dict[str, object]] = {
    "whole": {"learns": "whole", "lr": 3e-4},
    "head": {"learns": "head", "lr": 1e-2},
    "lora": {
        "learns": "lora",
        "lora_rank": 8,
        "lora_targets": ("w_q", "w_k", "w_v", "w_o", "w_in", "w_out"),
        "lr": 2e-3,
    },
    "soft_prompt": {"learns": "soft_prompt", "n_virtual": 16, "lr": 2e-2},
    "scratch": {"learns": "whole", "from_scratch": True, "lr": 1e-3},
}


# --- the split


def maximal(examples: Sequence[Example]) -> list[Example]:
    """The phrases that lie in no longer phrase of the file, as runs of words: the sentences it was cut from.

    Longest first, each phrase marks all runs of words inside it; what is not marked when its turn comes is maximal.
    """
    by_length = sorted({tuple(e.text.split()): e for e in examples}.items(), key=lambda row: -len(row[0]))
    inside: set[tuple[str, ...]] = set()
    found = []
    for words, example in by_length:
        if words not in inside:
            found.append(example)
            n = len(words)
            inside.update(words[i:j] for i in range(n) for j in range(i + 1, n + 1) if j - i < n)
    return found


def split(examples: Sequence[Example], n_held_out: int) -> tuple[list[Example], list[Example], list[Example]]:
    """(train, validation, test) as the top of this file says."""
    sentences = [e for e in maximal(examples) if len(e.text.split()) >= SENTENCE_WORDS]
    sentences.sort(key=lambda e: hashlib.sha256(e.text.encode()).digest())
    held = sentences[: 2 * n_held_out]
    whole, runs = {tuple(e.text.split()) for e in held}, set()
    for words in whole:
        n = len(words)
        runs.update(words[i:j] for i in range(n) for j in range(i + SHORTEST_DROPPED, n + 1))
    train = [e for e in examples if (w := tuple(e.text.split())) not in whole and w not in runs]
    return train, held[:n_held_out], held[n_held_out:]


# --- the floor


def naive_bayes(train: Sequence[Example], test: Sequence[Example]) -> float:
    """Accuracy of multinomial naive Bayes over words and pairs of words, one count added to each (Laplace)."""

    def features(text: str) -> list[str]:
        words = text.split()
        return words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]

    counts = {label: Counter[str]() for label in sorted({e.label for e in train})}
    for example in train:
        counts[example.label].update(features(example.text))
    vocabulary = len(set().union(*counts.values()))
    totals = {label: math.log(sum(c.values()) + vocabulary) for label, c in counts.items()}
    priors = Counter(e.label for e in train)

    def score(label: str, found: list[str]) -> float:
        likelihood = sum(math.log(counts[label][f] + 1) - totals[label] for f in found)
        return math.log(priors[label] / len(train)) + likelihood

    guesses = [max(counts, key=lambda label, e=e: score(label, features(e.text))) for e in test]  # type: ignore[misc]
    return sum(guess == e.label for guess, e in zip(guesses, test, strict=True)) / len(test)


# --- the models


def encoded(examples: Sequence[Example], validation: Sequence[Example], model: str, n_tokens: int) -> LabelledData:
    """Tokenized once, for all ways."""
    base = load_pretrained(resolve(model, bare_path=True))
    assert base.tokenizer is not None
    return labelled_data(examples, validation, base.tokenizer, n_tokens, frame_of(base))


def one_way(name: str, data: LabelledData, test: LabelledData, options: argparse.Namespace) -> None:
    """Train one way for the time given and print its line."""
    settings = dict(WAYS[name]) | ({"lr": options.lr} if options.lr else {})
    config = FinetuneConfig(
        task="classification", batch_size=options.batch_size, n_tokens=options.n_tokens, seed=options.seed,
        warmup=20, validate_every=10**6, save_every=10**6, **settings,  # type: ignore[arg-type]
    )  # fmt: skip

    def fresh() -> Learner:
        body = load_pretrained(resolve(options.model, bare_path=True), devices.pick(options.device), trainable=True)
        return make_learner(body.model, config, 2, [token for ids, _ in data.train[:16] for token in ids[1:]])

    n_steps = options.steps
    if not n_steps:  # so many that the schedule ends with the time; validation is inside it
        records = finetune(fresh(), data, replace(config, n_steps=TIMED_STEPS + 1, validation_batches=1))
        for _ in range(3):
            next(records)
        start = time.perf_counter()
        for _ in range(TIMED_STEPS - 3):
            next(records)
        n_steps = max(1, int(options.minutes * 60 * 0.9 / ((time.perf_counter() - start) / (TIMED_STEPS - 3))))
    config = replace(config, n_steps=n_steps, validate_every=max(1, n_steps // 6))
    learner = fresh()
    place = options.out / f"{name}-{options.seed}-{n_steps}"
    seconds, tokens = 0.0, 0
    for record in finetune(learner, data, config, folder=place):
        seconds = record.seconds
        if record.step:
            tokens += data.batch(record.step - 1, config.seed, config.batch_size).n_tokens
        for finding in record.findings:
            print(f"    step {record.step}: {finding.id} {finding.evidence}")
    step = load_best(learner, place)
    result = validate(learner, test, config).report
    assert result is not None
    half_width = 1.96 * math.sqrt(result.accuracy * (1 - result.accuracy) / result.n_examples)
    way = (
        f"{name:12} {n_learned(learner):>11,}  {config.lr:<7g} {n_steps:>6} {seconds:>6.0f} s {tokens / seconds:>7,.0f}"
    )
    print(f"{way} tok/s  {result.accuracy:6.1%} ± {half_width:.1%}   F1 {result.macro_f1:.3f}   (best at step {step})")


def main() -> None:
    """The split, the floor, then every way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder in GLUE's format")
    parser.add_argument("--out", type=Path, required=True, help="an empty folder for the checkpoints")
    parser.add_argument("--model", default="bundled:storyteller")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=0, help="this many steps in place of a time")
    parser.add_argument("--lr", type=float, default=0.0, help="in place of the one that each way has")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--n-tokens", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=800, help="sentences to choose on, and as many to report on")
    options = parser.parse_args()
    examples = read_glue(options.data)[0]
    train, chosen_on, reported = split(examples, options.held_out)
    dropped = len(examples) - len(train) - len(chosen_on) - len(reported)
    print(f"{len(train):,} training phrases ({dropped:,} dropped), {len(chosen_on)} sentences to choose on, "
          f"{len(reported)} to report on")  # fmt: skip
    most = Counter(e.label for e in reported).most_common(1)[0][1] / len(reported)
    print(f"always the same answer {most:.1%}; naive Bayes, refitted on this split {naive_bayes(train, reported):.1%}")
    data = encoded(train, chosen_on, options.model, options.n_tokens)
    test = encoded(train[:200], reported, options.model, options.n_tokens)
    assert data.labels == test.labels
    print(f"\n{options.model}, {devices.pick(options.device)}, {torch.get_num_threads()} threads, seed {options.seed}\n"
          f"{'':12} {'numbers':>11}  {'lr':7} {'steps':>6}", flush=True)  # fmt: skip
    for name in options.ways:
        one_way(name, data, test, options)


if __name__ == "__main__":
    main()
