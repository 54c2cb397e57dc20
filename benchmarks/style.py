"""What 90 seconds of fine-tuning are worth: for each shipped style corpus, before, after, and from scratch.

    python benchmarks/style.py --out FOLDER         # every corpus under assets/data, 90 seconds each way
    python benchmarks/style.py --out FOLDER --seconds 900 --corpus ship_log.en

The loss is measured on whole test documents that share no run of 8 words with the training or validation part (for
Chinese: of 8 characters). "After" and "from scratch" are trained for the same time at the learning rate that the
validation part, never the test part, prefers among those given. Steps are counted out beforehand: a few are timed, and
the schedule then ends when the time does. Prompts and seeds stand fixed in this file, and no sample is picked.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from lm_core import device as devices
from lm_core.batches import CausalData, causal_data
from lm_core.checkpoint import LoadedModel, load_pretrained
from lm_core.data import SEPARATOR, decode_text, read_limited
from lm_core.evaluate import score_texts
from lm_core.finetune import finetune, load_best
from lm_core.finetune_config import FinetuneConfig
from lm_core.generation import continuation
from lm_core.labels import without_shared_ngrams
from lm_core.learner import Learner, make_learner

DATA = Path(__file__).resolve().parents[1] / "assets" / "data"
PROMPTS = {
    "ship_log.en": ["Day 40. At sea.\n0600.", "Day 7. Funchal.\n"],
    "radio_play.en": ["SOUND:", "NARRATOR:"],
    "free_verse.zh": ["雨", "我的影子"],
}
SEEDS = (1, 2)
TIMED_STEPS = 6


def documents(path: Path) -> list[str]:
    """The documents of one part."""
    text = decode_text(read_limited(path), path.name)
    return [document.strip("\n") for document in text.split(SEPARATOR) if document.strip()]


def prepared(model: str, config: FinetuneConfig) -> tuple[LoadedModel, Learner]:
    """A fresh copy of the model, ready to learn."""
    base = load_pretrained(model, devices.pick(), trainable=True)
    return base, make_learner(base.model, config)


def steps_in(seconds: float, model: str, data: CausalData, config: FinetuneConfig) -> int:
    """How many steps fit into the time, by timing a few."""
    _, learner = prepared(model, config)
    records = finetune(learner, data, replace(config, n_steps=TIMED_STEPS + 1, validation_batches=1))
    for _ in range(2):  # the state before, and a step that pays for what is done once
        next(records)
    start = time.perf_counter()
    for _ in range(TIMED_STEPS - 2):
        next(records)
    return max(1, int(seconds / ((time.perf_counter() - start) / (TIMED_STEPS - 2))))


def trained(model: str, data: CausalData, config: FinetuneConfig, out: Path) -> tuple[LoadedModel, float, float]:
    """(the model with its best validation, that loss, the seconds it took)."""
    base, learner = prepared(model, config)
    losses, seconds = [], 0.0
    for record in finetune(learner, data, config, folder=out):
        seconds = record.seconds
        if record.validation is not None:
            losses.append(record.validation.loss)
    load_best(learner, out)
    return base, min(losses), seconds


def nats(base: LoadedModel, texts: list[str]) -> float:
    """Nats a token over whole documents, each begun with the start token."""
    assert base.tokenizer is not None
    base.model.eval()
    score = score_texts(base.model, base.tokenizer, texts)  # type: ignore[arg-type]  # a causal model
    return score.nats / score.n_tokens


def samples(base: LoadedModel, name: str) -> None:
    """Every prompt with every seed."""
    assert base.tokenizer is not None
    for prompt in PROMPTS.get(name, ["The", "One day"]):
        for seed in SEEDS:
            text = continuation(base.model, base.tokenizer, prompt, 60, seed)  # type: ignore[arg-type]
            print(f"      [{seed}] " + text.replace("\n", "\n          "))


def corpus(name: str, options: argparse.Namespace, out: Path) -> None:
    """The figures and the samples of one corpus."""
    train, kept, test = (documents(DATA / f"style.{name}.{part}.txt") for part in ("train", "validation", "test"))
    clean = without_shared_ngrams(test, train + kept, 8)
    base = load_pretrained(options.model)
    assert base.tokenizer is not None
    data = causal_data(train, kept, base.tokenizer, options.n_tokens)
    print(f"\n{name}: {len(data.train):,} training tokens, {len(clean)} of {len(test)} test documents share no 8-gram")
    before = nats(base, clean)
    print(f"  before            {before:.3f} nats a token on the test part")
    if options.samples:
        samples(base, name)
    config = FinetuneConfig(task="causal", batch_size=options.batch_size, n_tokens=options.n_tokens, warmup=5)
    for label, scratch, rates in (("after", False, options.lr), ("from scratch", True, options.scratch_lr)):
        tried = []
        for lr in rates:
            setting = replace(config, lr=lr, from_scratch=scratch)
            n_steps = options.steps or steps_in(options.seconds, options.model, data, setting)
            setting = replace(setting, n_steps=n_steps, validate_every=max(1, n_steps // 8), save_every=n_steps)
            place = out / f"{name}-{label.replace(' ', '-')}-{lr}"
            found, validation, seconds = trained(options.model, data, setting, place)
            tried.append((validation, lr, n_steps, seconds, found))
        validation, lr, n_steps, seconds, found = min(tried, key=lambda row: row[0])
        gain = nats(found, clean)
        print(f"  {label:17} {gain:.3f}   ({gain - before:+.3f}; lr {lr:g}, {n_steps} steps, {seconds:.0f} s, "
              f"validation {validation:.3f})", flush=True)  # fmt: skip
        if options.samples:
            samples(found, name)


def main() -> None:
    """Every corpus, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="", help="one corpus, as ship_log.en; without it all of them")
    parser.add_argument("--model", default="bundled:storyteller")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--steps", type=int, default=0, help="this many steps in place of a time")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--n-tokens", type=int, default=128)
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-4, 1e-3])
    parser.add_argument("--scratch-lr", type=float, nargs="+", default=[1e-3, 3e-3])
    parser.add_argument("--no-samples", dest="samples", action="store_false")
    parser.add_argument("--out", type=Path, required=True, help="an empty folder for the checkpoints")
    options = parser.parse_args()
    names = sorted(
        path.name.removeprefix("style.").removesuffix(".train.txt") for path in DATA.glob("style.*.train.txt")
    )
    chosen = [name for name in names if options.corpus in ("", name)]
    if not chosen:
        parser.error(f"no corpus {options.corpus!r}; there is: {', '.join(names) or 'none'}")
    print(f"{options.model}, {torch.get_num_threads()} threads")
    for name in chosen:
        corpus(name, options, options.out)


if __name__ == "__main__":
    main()
