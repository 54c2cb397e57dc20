"""What each choice of the storyteller's recipe is worth: short runs, same seed, same tokens, one thing changed.

    python -m benchmarks.pretraining_choices --data ../shared/data --out runs/choices

Each run sees 0.5 million tokens; the figure is the loss on the selection split (books held out by name, never the
validation books). So short a race says which choice starts faster, not where a long run ends: read it so.
A run that is finished is not run again.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lm_core import device as devices
from lm_core.config import gpt2_config
from lm_core.recipe import Recipe, read_recipe, train_recipe

RECIPE = Path(__file__).resolve().parents[1] / "assets" / "models" / "storyteller" / "recipe.toml"
TOKENS = 120 * 16 * 256


def changed(**train: object) -> Callable[[Recipe], Recipe]:
    """The recipe with other values under [train]."""
    return lambda recipe: replace(recipe, train=replace(recipe.train, **train))  # type: ignore[arg-type]


def as_gpt2(recipe: Recipe) -> Recipe:
    """LayerNorm, learned positions and a plain GELU network of the same size instead of RMSNorm, RoPE and SwiGLU."""
    c = recipe.model
    shape = gpt2_config(
        vocab_size=c.vocab_size, d_model=c.d_model, n_layers=c.n_layers, n_heads=c.n_heads,
        context_length=c.context_length, d_mlp=c.d_mlp * 3 // 2,
    )  # fmt: skip
    return replace(recipe, model=shape)


CHOICES: dict[str, Callable[[Recipe], Recipe]] = {
    "as it is: Muon, Llama shape, tied, 16 x 256, straight line down": lambda recipe: recipe,
    "AdamW for everything": changed(optimizer="adamw"),
    "GPT-2 shape": as_gpt2,
    "output matrix of its own (not tied)": lambda r: replace(r, model=replace(r.model, tie_embeddings=False)),
    "batches twice as large, half the steps": changed(batch_size=32, n_steps=60, warmup=10),
    "batches half as large, twice the steps": changed(batch_size=8, n_steps=240, warmup=40),
    "learning rate of Muon 3e-3": changed(muon_lr=3e-3),
    "learning rate of Muon 1.2e-2": changed(muon_lr=1.2e-2),
    "cosine instead of a straight line": changed(schedule="cosine"),
    "windows of 128": changed(n_tokens=128, batch_size=32),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    recipe = read_recipe(RECIPE)
    common = {"n_steps": 120, "batch_size": 16, "warmup": 20, "schedule": "linear", "seed": 1}
    base = changed(**common, validate_every=10**6, validation_batches=20, save_every=10**6)(recipe)
    done = options.out / "results.json"
    results: dict[str, float] = json.loads(done.read_text()) if done.exists() else {}
    for i, (name, change) in enumerate(CHOICES.items()):
        if name not in results:
            run = change(replace(base, start=None))
            run = replace(
                run,
                train=replace(run.train, validation_batches=320 * 256 // run.train.n_tokens // run.train.batch_size),
            )
            folder = options.out / str(i)
            folder.mkdir(parents=True, exist_ok=True)
            for file in ("tokenizer.json", "tokenizer_config.json", "train.npy", "selection.npy"):
                if i and not (folder / file).exists():  # prepared once
                    (folder / file).hardlink_to(options.out / "0" / file)
            *_, (record, model) = train_recipe(run, options.data, folder, devices.pick(options.device))
            assert run.train.n_steps * run.train.batch_size * run.train.n_tokens == TOKENS
            assert record.validation_loss is not None
            results[name] = record.validation_loss
            done.write_text(json.dumps(results, indent=1))
            print(f"{record.validation_loss:.4f}  {name}  ({model.n_parameters():,} parameters)", flush=True)
    first = next(iter(results.values()))
    print("\n| choice | nats a token | against the first |\n| --- | --- | --- |")
    print("\n".join(f"| {name} | {loss:.3f} | {loss - first:+.3f} |" for name, loss in results.items()))


if __name__ == "__main__":
    main()
