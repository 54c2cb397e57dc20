"""Fine-tuning: a trained model learns a style, or a task, from a little text.

Notation:  B batch · T positions. Losses are in nats.

`finetune` is a generator: its caller does with each record what it likes, and stops by no longer asking.

    for record in finetune(make_learner(model, config), data, config, folder=folder):
        print(record.step, record.loss)
"""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lm_core import device as devices
from lm_core.adapters import learned
from lm_core.batches import Batch, LabelledData
from lm_core.doctor import Expected, Finding, History, examine
from lm_core.finetune_config import FinetuneConfig
from lm_core.finetune_fit import Data, check_fit
from lm_core.finetune_record import FinetuneRecord, Sample, Validation
from lm_core.learner import Learner
from lm_core.metrics import classification_report, peak_memory_bytes, perplexity
from lm_core.optim import SCHEDULES, build_optimizers, set_learning_rate
from lm_core.training_state import find_state, load_state, read_facts, save_state
from lm_core.training_step import accumulate, apply_step, clip

MEASURE_UPDATE_EVERY = 10
MAY_CHANGE = {"n_steps", "save_every", "sample_every"}  # of a config, when a run goes on
Sampler = Callable[[], list[Sample]]


@torch.no_grad()
def validate(learner: Learner, data: Data, config: FinetuneConfig) -> Validation:
    """Mean loss over the validation part (or `validation_batches` of it), and every measure of a classifier."""
    total, count, classes, guesses = 0.0, 0, [], []
    for batch in data.validation_batches(config.batch_size, config.validation_batches):
        there = batch.to(learner.device)
        with _autocast(learner, config):
            logits = learner(there.token_ids, there.lengths)
        total += learner.loss(logits, there.targets).item() * batch.n_targets
        count += batch.n_targets
        if learner.head is not None:
            classes.append(batch.targets)
            guesses.append(logits.argmax(dim=-1).cpu())
    loss = total / count
    if not isinstance(data, LabelledData):
        return Validation(loss, perplexity(loss), count)
    report = classification_report(torch.cat(classes), torch.cat(guesses), len(data.labels))
    return Validation(loss, perplexity(loss), count, report)


def _autocast(learner: Learner, config: FinetuneConfig) -> Any:
    return devices.autocast(learner.device, {"auto": None, "float32": False, "bfloat16": True}[config.precision])


@dataclass
class _Progress:
    """What a run must remember between steps, and so what its state on disk says beside the weights."""

    step: int = 0
    seconds: float = 0.0
    expected: Expected | None = None
    best: tuple[float, float] | None = None
    best_step: int = 0
    history: History = field(default_factory=History)
    found: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, facts: dict[str, Any]) -> "_Progress":
        """From the facts of a state."""
        kept = facts["progress"]
        pairs = {name: [(int(a), b) for a, b in kept["history"][name]] for name in ("updates", "validations")}
        return cls(**(kept | {
            "expected": Expected(**kept["expected"]), "best": tuple(kept["best"]),
            "history": History(**(kept["history"] | pairs)),
        }))  # fmt: skip


class _Run:
    """One run of `finetune`, cut into its parts."""

    record: dict[str, Any] | None = None  # of the step last saved, as JSON

    def __init__(
        self,
        learner: Learner,
        data: Data,
        config: FinetuneConfig,
        folder: Path | None,
        sampler: Sampler | None,
        may_save: Callable[[], None] | None,
    ) -> None:
        check_fit(learner, data, config)
        self.learner, self.data, self.config, self.folder, self.sampler = learner, data, config, folder, sampler
        self.may_save = may_save
        self.optimizers = build_optimizers(
            learner, kind=config.optimizer, lr=config.lr, muon_lr=config.muon_lr, weight_decay=config.weight_decay,
            betas=(config.beta1, config.beta2), momentum=config.momentum,
        )  # fmt: skip
        self.progress, self.fingerprint = _Progress(), data.fingerprint
        self.started, self.first_step, self.before = time.perf_counter(), 0, 0.0

    # --- on disk

    def _facts(self) -> dict[str, Any]:
        config, progress = asdict(self.config), asdict(self.progress)
        return {"step": self.progress.step, "config": config, "data": self.fingerprint, "progress": progress}

    def saved(self, record: FinetuneRecord) -> FinetuneRecord:
        """The record, once the state is on disk and holds it too: a kill may come before anyone hears of it."""
        self.record = replace(record, saved=True).to_json()
        return replace(record, saved=self.save())

    def save(self, name: str = "state") -> bool:
        """Write the state (or, without the optimizers, the `best` one), if there is a folder to write to."""
        if self.folder is None:
            return False
        optimizers, more = (self.optimizers, {"record": self.record}) if name == "state" else ([], {})
        save_state(self.folder / name, self.learner, optimizers, self._facts() | more, self.may_save)
        return True

    def resume(self) -> bool:
        """Go on from the state on disk; False when there is none. ValueError when it is another run's."""
        place = None if self.folder is None else find_state(self.folder / "state")
        if self.folder is None or place is None:
            return False
        facts, now = read_facts(place), self._facts()
        then = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["config"].items()}
        changed = [k for k, v in now["config"].items() if then.get(k) != v and k not in MAY_CHANGE]
        if changed:
            name = changed[0]
            raise ValueError(f"the saved run has {name} = {then.get(name)!r}, this one {now['config'][name]!r}")
        if facts["data"] != now["data"]:
            raise ValueError("the saved run learned from other data than this: choose another folder")
        load_state(self.folder / "state", self.learner, self.optimizers)
        self.progress = _Progress.read(facts)
        self.first_step, self.before = self.progress.step, self.progress.seconds
        return True

    # --- one step

    def _elapsed(self) -> float:
        return self.before + time.perf_counter() - self.started

    def _validated(self, record: FinetuneRecord) -> FinetuneRecord:
        """The record with its validation; the best one so far is kept on disk."""
        validation, p = validate(self.learner, self.data, self.config), self.progress
        p.history.validations.append((record.step, validation.loss))
        is_best = math.isfinite(validation.loss) and (p.best is None or validation.score > p.best)
        if is_best:
            p.best, p.best_step = validation.score, record.step
            self.save("best")
        return replace(record, validation=validation, best=is_best)

    def begin(self) -> FinetuneRecord:
        """Step 0: what the model can do before it learns, and what its first loss should be."""
        record = self._validated(FinetuneRecord(0, self.config.n_steps, lr=0.0))
        assert record.validation is not None
        n = self.learner.head.out_features if self.learner.head is not None else self.learner.body.config.vocab_size
        chance = math.log(n)
        fresh = self.learner.head is not None or self.config.from_scratch
        self.progress.expected = Expected(chance if fresh else record.validation.loss, chance, fresh)
        samples = () if self.sampler is None else tuple(self.sampler())
        self.progress.seconds = self._elapsed()
        return self.saved(replace(record, samples=samples, seconds=self.progress.seconds))

    def _gradients(self, batches: list[Batch]) -> tuple[float, float]:
        """(loss, gradient norm before clipping) of one step; the one place where the device is waited for."""

        def loss_of(batch: Batch) -> Callable[[], torch.Tensor]:
            def compute() -> torch.Tensor:
                there = batch.to(self.learner.device)
                with _autocast(self.learner, self.config):
                    logits = self.learner(there.token_ids, there.lengths)
                return self.learner.loss(logits, there.targets)

            return compute

        loss = accumulate([loss_of(batch) for batch in batches], [batch.n_targets for batch in batches])
        norm = clip(self.learner.parameters(), self.config.clip_norm)
        value, grad_norm = torch.stack([loss.float(), norm.float()]).tolist()
        return value, grad_norm

    def _update(self, due: bool) -> float | None:
        """Take the optimizers' step; where `due`, ‖Δθ‖/‖θ‖ of what learns, but for a head, which starts at 0."""
        inside = [p for name, p in learned(self.learner).items() if not name.startswith("head")] if due else []
        before = [p.detach().clone() for p in inside]
        apply_step(self.optimizers)
        if not before:
            return None
        change = sum(float((p.detach() - b).square().sum()) for p, b in zip(inside, before, strict=True))
        return math.sqrt(change / max(1e-30, sum(float(b.square().sum()) for b in before)))

    def step(self) -> FinetuneRecord:
        """One whole step and its record."""
        c, p, tick = self.config, self.progress, time.perf_counter()
        share = SCHEDULES[c.schedule](p.step, c.n_steps, c.warmup, c.final_lr_share)
        set_learning_rate(self.optimizers, share)
        batches = [self.data.batch(p.step * c.accumulate + i, c.seed, c.batch_size) for i in range(c.accumulate)]
        loss, grad_norm = self._gradients(batches)
        p.history.losses.append(loss)
        p.history.grad_norms.append(grad_norm)
        p.history.lr_shares.append(share)
        record = FinetuneRecord(
            p.step + 1, c.n_steps, loss, sum(b.n_targets for b in batches), grad_norm, c.lr * share,
            peak_memory=peak_memory_bytes(self.learner.device),
        )  # fmt: skip
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):  # the weights are still those of the step before
            return replace(record, findings=self._findings(), seconds=self._elapsed(), stopped="not_a_number")
        update = self._update(due=record.step <= 3 or record.step % MEASURE_UPDATE_EVERY == 0)
        if update is not None:
            p.history.updates.append((record.step, update))
        speed = sum(b.n_tokens for b in batches) / (time.perf_counter() - tick)
        p.step = record.step
        return self._finished(replace(record, update=update, tokens_per_second=speed))

    def _finished(self, record: FinetuneRecord) -> FinetuneRecord:
        """What is due after this step: validation, samples, the doctor, a save."""
        c, p, last = self.config, self.progress, record.step == self.config.n_steps
        if last or record.step % c.validate_every == 0:
            record = self._validated(record)
        if self.sampler is not None and (last or (c.sample_every and record.step % c.sample_every == 0)):
            record = replace(record, samples=tuple(self.sampler()))
        record = replace(record, findings=self._findings())
        p.seconds = self._elapsed()
        a_step = (p.seconds - self.before) / (record.step - self.first_step)
        record = replace(record, seconds=p.seconds, seconds_left=a_step * (c.n_steps - record.step))
        due = last or record.step % c.save_every == 0
        return self.saved(record) if due else record

    def _findings(self) -> tuple[Finding, ...]:
        """What the doctor has found and not yet said in this run."""
        p = self.progress
        assert p.expected is not None
        found = examine(p.history, p.expected, self.config.n_steps, self.config.clip_norm)
        new = tuple(finding for finding in found if finding.id not in p.found)
        p.found.extend(finding.id for finding in new)
        return new


def finetune(
    learner: Learner,
    data: Data,
    config: FinetuneConfig,
    *,
    folder: Path | None = None,
    resume: bool = False,
    sampler: Sampler | None = None,
    may_save: Callable[[], None] | None = None,
) -> Generator[FinetuneRecord]:
    """Train what learns in `learner`, one record a step, after one for step 0: the model before it learns.

    With `folder`: `folder/state` is written every `save_every` steps, at the end, and when the caller closes the
    generator; `folder/best` holds the best validation so far (`load_best`). `resume` goes on from the state as if
    nothing had happened: bit for bit in float32 with the same number of threads. `may_save` is asked before every save
    (`save_state`): what it raises ends the run with its last save whole.

    A loss or gradient that is no number ends the run with a record that says so (`stopped`), before the weights take
    that step: learner, state and best stay good. Raises ValueError, before anything is computed, for what does not go
    together, for a folder that already holds a run (without `resume`) and for a state of another run.
    """
    run = _Run(learner, data, config, folder, sampler, may_save)
    if folder is not None and not resume and find_state(folder / "state") is not None:
        raise ValueError(f"{folder.name} already holds a run: resume it, or choose another folder")
    if not (resume and run.resume()):
        yield run.begin()
    while run.progress.step < config.n_steps:
        record = run.step()
        try:
            yield record
        except GeneratorExit:  # the caller stops here: keep this very step
            if not record.saved and not record.stopped:
                run.save()
            raise
        if record.stopped:
            return


def load_best(learner: Learner, folder: Path) -> int:
    """Give the learner the weights of its best validation; returns their step. FileNotFoundError if there are none."""
    return int(load_state(folder / "best", learner, [])["step"])
