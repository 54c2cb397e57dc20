"""A fine-tune from one TOML file: which model, which data, how; what `python -m lm_core finetune` runs.

[model]
name = "bundled:storyteller"            # or folder:PATH, hub:owner/name@revision

[data]                                  # one of file, glue, hub; paths start from the folder of this file
file = "style.txt"                      # .txt for the causal task; .csv, .tsv, .jsonl with labels for the other
validation = "other.txt"                # without it a share of the file is kept: validation_share

[finetune]                              # every field of FinetuneConfig; task is the only one that must be there
task = "causal"

[samples]
prompts = ["Once upon a time"]          # continued, or classified, before and after
"""

import json
import tomllib
from collections.abc import Callable, Collection, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from lm_core.batches import causal_data, labelled_data, parts_of, split_text
from lm_core.checkpoint import LoadedModel, load_pretrained, resolve
from lm_core.data import SEPARATOR, Example, decode_text, parse_examples, read_glue, read_limited
from lm_core.encoder import Encoder
from lm_core.fast_tokenizer import FastTokenizer
from lm_core.finetune import Data, Sampler, finetune, load_best
from lm_core.finetune_config import FinetuneConfig, config_from_dict
from lm_core.finetune_record import FinetuneRecord, Sample
from lm_core.generation import continuation
from lm_core.hub_data import read_hub_examples
from lm_core.learner import Learner, make_learner
from lm_core.learner_files import ClassifierCard, LoadedClassifier, export
from lm_core.model import Decoder
from lm_core.training_state import find_state, read_facts


@dataclass(frozen=True)
class DataSource:
    """Where the text comes from; exactly one of file, glue (a folder) and hub (a set's name) is given."""

    file: str = ""
    glue: str = ""
    hub: str = ""
    validation: str = ""
    revision: str | None = None
    subset: str | None = None
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        given = [name for name in ("file", "glue", "hub") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"data: name one of file, glue and hub, not {' and '.join(given) or 'none'}")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"data: validation_share must lie between 0 and 1, not {self.validation_share}")


@dataclass(frozen=True)
class FinetuneRun:
    """Everything that decides a run. max_new tokens are added to each of the prompts; `seed` draws them."""

    model: str
    data: DataSource
    config: FinetuneConfig
    prompts: tuple[str, ...] = ()
    max_new: int = 60
    seed: int = 1


def read_run(path: Path) -> FinetuneRun:
    """Parse and validate a run file. Raises ValueError naming what is wrong, FileNotFoundError for a missing file."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no TOML: {error}") from None
    if unknown := sorted(raw.keys() - {"model", "data", "finetune", "samples"}):
        raise ValueError(f"{path.name}: unknown table [{unknown[0]}]")
    if not isinstance(raw.get("model", {}).get("name"), str):
        raise ValueError(f'{path.name}: missing entry name in [model], for instance "bundled:storyteller"')
    samples = raw.get("samples", {})
    known = {field.name for field in fields(DataSource)}
    for table, names in (("data", known), ("samples", {"prompts", "max_new", "seed"}), ("model", {"name"})):
        if strange := sorted(raw.get(table, {}).keys() - names):
            raise ValueError(f"{path.name}: unknown entry {strange[0]!r} in [{table}]")
    return FinetuneRun(
        model=raw["model"]["name"], data=DataSource(**raw.get("data", {})),
        config=config_from_dict(raw.get("finetune", {}), f"{path.name} [finetune]"),
        prompts=tuple(samples.get("prompts", ())), max_new=samples.get("max_new", 60), seed=samples.get("seed", 1),
    )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A run with everything loaded and checked, nothing computed."""

    run: FinetuneRun
    base: LoadedModel
    learner: Learner
    data: Data
    card: ClassifierCard | None
    sampler: Sampler | None


def prepare_run(
    run: FinetuneRun, where: Path, device: torch.device, allowed_sets: Collection[str] | None = None
) -> Prepared:
    """Load model and data and put them together. Paths in the run start from `where`.

    Raises ValueError (also CheckpointError, FileNotFoundError), in one sentence, for whatever cannot work.
    """
    config = run.config
    base = load_pretrained(resolve(run.model, bare_path=True), device, trainable=True)
    base = LoadedModel(base.model, base.tokenizer, run.model, base.folder)
    if base.tokenizer is None:
        raise ValueError(f"{run.model} has no tokenizer.json, so it cannot read text")
    if base.tokenizer.vocab_size > base.model.config.vocab_size:
        sizes = f"{base.tokenizer.vocab_size} tokens, the model {base.model.config.vocab_size}"
        raise ValueError(f"the tokenizer of {run.model} knows {sizes}: they do not belong together")
    data: Data
    if config.task == "causal":
        data = causal_data(*_texts(run.data, where), base.tokenizer, config.n_tokens)
        learner = make_learner(base.model, config, prompt_ids=data.train.token_ids[: config.n_virtual].tolist())
        return Prepared(run, base, learner, data, None, _continuations(run, base, learner))
    before, after = frame_of(base)
    virtual = config.n_virtual if config.learns == "soft_prompt" else 0
    longest = min(config.n_tokens, base.model.config.context_length - virtual)
    data = labelled_data(*_examples(run.data, where, allowed_sets), base.tokenizer, longest, (before, after))
    words = [token for ids, _ in data.train[: config.n_virtual] for token in ids[len(before) :]]
    learner = make_learner(base.model, config, len(data.labels), words)
    card = ClassifierCard(data.labels, config.pooling, tuple(before), tuple(after))
    return Prepared(run, base, learner, data, card, _classes(run, base, learner, card))


def frame_of(base: LoadedModel) -> tuple[list[int], list[int]]:
    """What the model was trained to see before and after a text: [start]; BERT's [CLS] and [SEP]."""
    if isinstance(base.model, Encoder) and isinstance(base.tokenizer, FastTokenizer):
        plain, framed = base.tokenizer.encode("a"), base.tokenizer.encode("a", add_special_tokens=True)
        at = next(i for i in range(len(framed)) if framed[i : i + len(plain)] == plain)
        return framed[:at], framed[at + len(plain) :]
    return ([] if base.start_id is None else [base.start_id]), []


def _texts(source: DataSource, where: Path) -> tuple[list[str], list[str]]:
    if not source.file:
        raise ValueError("the causal task learns from a text: name it as file in [data]")
    text = _text(where / source.file)
    if source.validation:
        return [d.strip("\n") for d in text.split(SEPARATOR) if d.strip()], [_text(where / source.validation)]
    return split_text(text, source.validation_share)


def _text(path: Path) -> str:
    if path.suffix.lower() not in (".txt", ".md", ".gz"):
        raise ValueError(f"{path.name}: the causal task reads .txt files (also .txt.gz)")
    return decode_text(read_limited(path), path.name)


def _examples(source: DataSource, where: Path, allowed: Collection[str] | None) -> tuple[list[Example], list[Example]]:
    if source.hub:
        found = read_hub_examples(source.hub, allowed=allowed, revision=source.revision, subset=source.subset)
        return parts_of(found, source.validation_share)
    if source.glue:
        train, dev = read_glue(where / source.glue)
        return (train, dev) if dev else parts_of(train, source.validation_share)
    path = where / source.file
    examples = parse_examples(read_limited(path), path.name)
    if source.validation:
        other = where / source.validation
        return examples, parse_examples(read_limited(other), other.name)
    return parts_of(examples, source.validation_share)


def _continuations(run: FinetuneRun, base: LoadedModel, learner: Learner) -> Sampler | None:
    tokenizer, body = base.tokenizer, learner.body
    if not run.prompts or tokenizer is None or not isinstance(body, Decoder):
        return None

    def sample() -> list[Sample]:
        texts = [continuation(body, tokenizer, p, run.max_new, run.seed, learner.virtual_ids) for p in run.prompts]
        return [Sample(prompt, text) for prompt, text in zip(run.prompts, texts, strict=True)]

    return sample


def _classes(run: FinetuneRun, base: LoadedModel, learner: Learner, card: ClassifierCard) -> Sampler | None:
    classifier = LoadedClassifier(learner, base, card)

    def sample() -> list[Sample]:
        samples = []
        for prompt in run.prompts:
            label, p = max(classifier.probabilities(prompt).items(), key=lambda pair: pair[1])
            samples.append(Sample(prompt, f"{label} {p:.3f}"))
        return samples

    return sample if run.prompts else None


def logged(out: Path) -> list[dict[str, Any]]:
    """The records up to the last save, from `out/metrics.jsonl`; what went past it will come again.

    The record of the saved step lies in the state too: a kill may come between the save and the log.
    """
    saved, log = find_state(out / "state"), out / "metrics.jsonl"
    if saved is None:
        return []
    facts = read_facts(saved)
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    kept = [record for line in lines if line.endswith("}") and (record := json.loads(line))["step"] <= facts["step"]]
    last = facts.get("record")
    return [*kept, last] if last and (not kept or kept[-1]["step"] < last["step"]) else kept


def train_run(
    prepared: Prepared, out: Path, resume: bool, may_save: Callable[[], None] | None = None
) -> Generator[FinetuneRecord]:
    """Run or resume; every record also goes to `out/metrics.jsonl`, a line each. `may_save`: see `finetune`."""
    out.mkdir(parents=True, exist_ok=True)
    log, kept = out / "metrics.jsonl", logged(out) if resume else []
    records = finetune(
        prepared.learner, prepared.data, prepared.run.config, folder=out, resume=resume, sampler=prepared.sampler,
        may_save=may_save,
    )  # fmt: skip
    started = False
    with closing(records):  # whoever stops asking us stops it too, and hears what its last save says
        for record in records:
            if not started:  # only now is it known that this run may write here
                new = log.with_suffix(".partial")
                new.write_text("".join(map(_line, kept)), encoding="utf-8")
                new.replace(log)
                started = True
            with log.open("a", encoding="utf-8") as file:
                file.write(_line(record.to_json()))
            yield record


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def finish_run(prepared: Prepared, out: Path, into: Path | None = None) -> tuple[int, list[Path]]:
    """Go back to the best validation and write its folders, to `out` or elsewhere; returns (its step, the folders)."""
    step = load_best(prepared.learner, out)
    into = out if into is None else into
    into.mkdir(parents=True, exist_ok=True)
    written = export(prepared.learner, prepared.base, into, prepared.card)
    facts: dict[str, Any] = {
        "model": prepared.run.model, "best_step": step, "data": prepared.data.fingerprint,
        "config": asdict(prepared.run.config), "folders": [folder.name for folder in written],
    }  # fmt: skip
    (into / "run.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return step, written
