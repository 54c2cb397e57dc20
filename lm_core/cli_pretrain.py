"""`python -m lm_core pretrain`: a model from a recipe, with a progress line and samples."""

import argparse
import sys
from pathlib import Path

from lm_core import device as devices
from lm_core.checkpoint import save_pretrained
from lm_core.generation import continuation
from lm_core.model import Decoder
from lm_core.pretrain import Record
from lm_core.recipe import prepare, read_recipe, shorter, train_recipe

SAMPLE_EVERY = 500


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `pretrain`."""
    parser = verbs.add_parser("pretrain", help="train a model from nothing, by a recipe; run again to resume")
    parser.add_argument("--config", type=Path, required=True, help="recipe (TOML)")
    parser.add_argument("--data", type=Path, required=True, help="folder that the recipe's paths start from")
    parser.add_argument("--out", type=Path, required=True, help="folder for states, log and the finished model")
    parser.add_argument("--steps", type=int, help="train this many steps instead of the recipe's")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(run=run)


def progress_line(record: Record, n_steps: int) -> str:
    """`step 120/2600  loss 4.12  5,100 tok/s  38 min left`."""
    seconds_a_step = record.seconds / record.step
    left = (n_steps - record.step) * seconds_a_step
    line = f"step {record.step}/{n_steps}  loss {record.loss:.3f}  {record.tokens_per_second:,.0f} tok/s"
    line += f"  {left / 60:.0f} min left" if left >= 90 else f"  {left:.0f} s left"
    return line if record.validation_loss is None else f"{line}  selection {record.validation_loss:.4f}"


def run(options: argparse.Namespace) -> None:
    """Train, show, save."""
    recipe = read_recipe(options.config)
    if options.steps is not None:
        recipe = shorter(recipe, options.steps)
    print(f"preparing {recipe.name}: tokenizer and token streams ...", file=sys.stderr)
    tokenizer, train, selection = prepare(recipe, options.data, options.out)
    device = devices.pick(options.device)
    print(f"{len(train):,} training tokens, {len(selection):,} kept to choose settings on; {device}", file=sys.stderr)
    in_terminal, model = sys.stderr.isatty(), None
    for record, model in train_recipe(recipe, options.data, options.out, device):
        line = progress_line(record, recipe.train.n_steps)
        if record.validation_loss is not None or (not in_terminal and record.step % 50 == 0):
            print(("\r" if in_terminal else "") + line, file=sys.stderr)
        elif in_terminal:
            print("\r" + line, end="  ", file=sys.stderr)
        if record.step % SAMPLE_EVERY == 0 and recipe.prompts and isinstance(model, Decoder):
            print("    " + continuation(model, tokenizer, recipe.prompts[0], 60, seed=1), file=sys.stderr)
    if model is None:
        raise ValueError(
            f"{options.out} already holds all {recipe.train.n_steps} steps: choose another --out or --steps"
        )
    save_pretrained(model, options.out, options.out / "model", half=True)  # the tokenizer's files lie in --out
    print(f"finished: {options.out / 'model'}", file=sys.stderr)
