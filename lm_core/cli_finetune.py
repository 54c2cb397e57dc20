"""`python -m lm_core finetune`: a model learns a style or a task, with a progress bar, a log and samples."""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lm_core import device as devices
from lm_core.adapters import n_learned
from lm_core.finetune_record import FinetuneRecord
from lm_core.finetune_run import finish_run, prepare_run, read_run, train_run

BAR = 24
SAID = {  # the doctor's findings and suggestions, for the terminal; a page has them in two languages
    "start_off": "the first loss {start:.2f} is not the {expected:.2f} it should be",
    "start_no_better_than_chance": "the model starts at {start:.2f}, no better than chance ({chance:.2f})",
    "not_a_number": "the loss is {loss}, the gradient norm {grad_norm}: stopped, the step before is kept",
    "divergence": "the loss has risen from {start:.2f} to {now:.2f}",
    "lr_too_high": "one step changes the weights by {update:.0%} of their length",
    "lr_too_low": "one step changes the weights by {update:.1e} of their length, and the loss stands still",
    "plateau": "the loss has stood at {loss:.2f} for {steps:.0f} steps",
    "clipping_always": "{share:.0%} of the gradients are clipped; half are longer than {norm:.1f}",
    "overfitting": "validation was best at step {best_step:.0f} ({best:.3f}), now {now:.3f}; training {training:.3f}",
}
TRY = {
    "check_start": "check model and labels", "check_text": "check that the model knows this language",
    "lower_lr": "try a third of the learning rate", "raise_lr": "try ten times the learning rate",
    "change_something": "more data, another learning rate, or stop here", "raise_clip": "raise clip_norm",
    "stop_earlier": "stop here: the best weights are kept",
}  # fmt: skip


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `finetune`."""
    parser = verbs.add_parser("finetune", help="teach a trained model a style or a task, by a run file")
    parser.add_argument("--config", type=Path, required=True, help="run file (TOML)")
    parser.add_argument("--out", type=Path, required=True, help="folder for state, metrics.jsonl and the results")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(run=run)


def progress_bar(record: FinetuneRecord) -> str:
    """`[████        ] 40/120  loss 2.31  1,204 tok/s  12 s left`."""
    full = round(BAR * record.step / record.n_steps)
    line = f"[{'█' * full}{' ' * (BAR - full)}] {record.step}/{record.n_steps}"
    if record.loss is not None:
        line += f"  loss {record.loss:.3f}  {record.tokens_per_second:,.0f} tok/s"
    if record.seconds_left:
        line += (
            f"  {record.seconds_left / 60:.0f} min left"
            if record.seconds_left >= 90
            else f"  {record.seconds_left:.0f} s left"
        )
    return line


def remarks(record: FinetuneRecord) -> Iterator[str]:
    """What else is worth a line: validation, findings, samples."""
    if (v := record.validation) is not None:
        rest = (
            f"  accuracy {v.report.accuracy:.1%}  F1 {v.report.macro_f1:.3f}"
            if v.report
            else f"  perplexity {v.perplexity:.2f}"
        )
        yield f"step {record.step}: validation {v.loss:.4f}{rest}{'  (best)' if record.best else ''}"
    for finding in record.findings:
        said = SAID[finding.id].format(**finding.evidence)
        yield f"step {record.step}, {finding.id}: {said}; {TRY[finding.suggestion]}"
    for sample in record.samples:
        yield f"    {sample.text if sample.text.startswith(sample.prompt) else f'{sample.prompt} → {sample.text}'}"


@contextmanager
def _polite_stop() -> Iterator[list[bool]]:
    """The first Ctrl-C lets the step end and be saved (the list turns non-empty), the second interrupts."""
    asked: list[bool] = []

    def handle(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    try:
        before = signal.signal(signal.SIGINT, handle)
    except ValueError:  # not in the main thread: nobody presses Ctrl-C there
        yield asked
        return
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def run(options: argparse.Namespace) -> None:
    """Prepare, train, show, save."""
    job = read_run(options.config)
    prepared = prepare_run(job, options.config.resolve().parent, devices.pick(options.device))
    kind = f"{n_learned(prepared.learner):,} of {sum(p.numel() for p in prepared.learner.parameters()):,} numbers learn"
    print(f"{job.model}: {kind} ({job.config.learns}); {prepared.learner.device}", file=sys.stderr)
    in_terminal, record = sys.stderr.isatty(), None
    records = train_run(prepared, options.out, options.resume)
    with _polite_stop() as asked:
        for record in records:
            lines = list(remarks(record))
            if in_terminal:
                print("\r" + progress_bar(record), end="\n" if lines else "   ", file=sys.stderr)
            elif record.step % 50 == 0:
                print(progress_bar(record), file=sys.stderr)
            for line in lines:
                print(line, file=sys.stderr)
            if asked:
                records.close()  # type: ignore[attr-defined]  # a generator; closing saves this very step
                raise KeyboardInterrupt
    if record is None:
        print(f"all {job.config.n_steps} steps were done already", file=sys.stderr)
    step, folders = finish_run(prepared, options.out)
    print(f"the weights of step {step}, best on validation: {', '.join(map(str, folders))}", file=sys.stderr)
