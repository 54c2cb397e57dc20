"""A finished run to take away: one zip with the model, what it measured, and a notebook that does it again.

README.md          what is what, how transformers or peft loads it
model/ adapter/    what the run left
run.toml data/     what it did: `python -m lm_core finetune --config run.toml --out elsewhere` does the same
finetune.toml      the settings alone, every one written out (`lm_core.finetune_config.read_config`)
metrics.csv        a row a step
events.out.tfevents.*   the same for TensorBoard
reproduce.ipynb    the run by functions of lm_core, compared with metrics.csv
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from lab.event_file import event_file
from lab.language import text
from lm_core.finetune_config import config_from_dict, config_to_toml

COLUMNS = (
    "step", "loss", "validation_loss", "validation_perplexity", "accuracy", "macro_f1", "grad_norm", "lr", "update",
    "tokens_per_second", "seconds", "peak_memory",
)  # fmt: skip
MOST_BYTES = 2 * 2**30
BASE = "base"  # the folder in the zip, or beside it, of a starting model that no public name means
Record = Mapping[str, Any]


class RunFacts(Protocol):
    """What an export needs to know of a run; `lab.store.Run` has it."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def spec(self) -> dict[str, Any]: ...
    @property
    def started(self) -> float | None: ...


class ExportError(ValueError):
    """A run that cannot be exported; `reason` is the id of a text in `[export]`."""

    def __init__(self, reason: str, **numbers: object) -> None:
        super().__init__(reason)
        self.reason, self.numbers = reason, numbers


def file_name(run: RunFacts) -> str:
    """The name of the zip: plain letters of the title and the beginning of the id.

    >>> from types import SimpleNamespace
    >>> file_name(SimpleNamespace(id="0123456789ab", title="../My run, 船!"))
    'My-run-01234567.zip'
    """
    words = re.sub(r"[^A-Za-z0-9]+", "-", run.title).strip("-")[:40]
    return f"{words or 'run'}-{run.id[:8]}.zip"


def row(record: Record) -> dict[str, float | int | None]:
    """One record as the columns of metrics.csv; None for what was not measured."""
    validation = record.get("validation") or {}
    report = validation.get("report") or {}
    found = {
        "validation_loss": validation.get("loss"), "validation_perplexity": validation.get("perplexity"),
        "accuracy": report.get("accuracy"), "macro_f1": report.get("macro_f1"),
    }  # fmt: skip
    return {name: found[name] if name in found else record.get(name) for name in COLUMNS}


def metrics_csv(records: Iterable[Record]) -> str:
    """A row a step; what was not measured is empty. Where a step comes twice (a resumed run) the later one holds."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row(record) for _, record in sorted({int(r["step"]): r for r in records}.items()))
    return out.getvalue()


def events(records: Iterable[Record], started: float) -> bytes:
    """The same as a TensorBoard event file: tags `train/loss`, `validation/loss`, `validation/accuracy`, ...; the wall
    time of a step is the start of the run plus its seconds of training.
    """
    rows = []
    for step, record in sorted({int(r["step"]): r for r in records}.items()):
        values = {
            ("validation/" + name.removeprefix("validation_") if name.startswith(("validation", "accuracy", "macro"))
             else f"train/{name}"): float(value)
            for name, value in row(record).items() if value is not None and name not in ("step", "seconds")
        }  # fmt: skip
        rows.append((started + float(record.get("seconds") or 0.0), step, values))
    return event_file(rows)


def portable_toml(toml: str, model: str) -> str:
    """run.toml with a model's name that means something elsewhere, in place of a path of this computer."""
    return re.sub(r"(?m)^name = .*$", lambda _: f"name = {json.dumps(portable_name(model))}", toml, count=1)


def portable_name(model: str) -> str:
    """A model's name that another computer understands too.

    >>> portable_name("bundled:storyteller"), portable_name("run:0123abcd")
    ('bundled:storyteller', 'folder:base')
    """
    return model if model.startswith(("bundled:", "hub:")) else f"folder:{BASE}"


def _adapter_config(path: Path, model: str) -> str:
    """peft's settings, the starting model by a name that means something elsewhere: hub id, `base`, `bundled:NAME`."""
    name = portable_name(model)
    known = name.removeprefix("folder:") if not name.startswith("hub:") else name[4:].partition("@")[0]
    content = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": known}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def notebook(run: RunFacts, language: str | None = None) -> dict[str, Any]:
    """A notebook (format 4.5) that trains the same run by functions of lm_core and compares the curves."""

    def say(key: str, **values: object) -> str:
        return text(f"export.{key}", language=language, **values)

    cells = [
        ("markdown", say("notebook_title", title=_line(run.title)) + "\n\n" + say("notebook_needs")),
        ("code", _PREPARE), ("markdown", say("notebook_train")), ("code", _TRAIN),
        ("markdown", say("notebook_compare")), ("code", _COMPARE), ("code", _PLOT),
        ("markdown", say("notebook_samples")), ("code", _SAMPLES),
    ]  # fmt: skip
    return {
        "nbformat": 4, "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "cells": [_cell(k, kind, source) for k, (kind, source) in enumerate(cells, 1)],
    }  # fmt: skip


def _cell(number: int, kind: str, source: str) -> dict[str, Any]:
    cell = {"id": f"cell-{number}", "cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def _line(title: str) -> str:
    """A title as one line of Markdown that marks nothing up."""
    return re.sub(r"([\\`*_{}\[\]<>#|$!])", r"\\\1", " ".join(title.split())) or "run"


_PREPARE = """from pathlib import Path

from lm_core import device
from lm_core.finetune_run import prepare_run, read_run

here = Path(".")
run = read_run(here / "run.toml")
prepared = prepare_run(run, here, device.pick("auto"))
run.config"""
_TRAIN = """from lm_core.finetune import finetune

curve = []
for record in finetune(prepared.learner, prepared.data, run.config):
    validation = None if record.validation is None else record.validation.loss
    curve.append((record.step, record.loss, validation))
    if validation is not None:
        print(record.step, record.loss, validation)"""
_COMPARE = """import csv

with open(here / "metrics.csv", encoding="utf-8", newline="") as file:
    kept = {int(row["step"]): row for row in csv.DictReader(file)}
pairs = [(loss, float(kept[step]["loss"])) for step, loss, _ in curve if step in kept and kept[step]["loss"]]
difference = max((abs(now - then) for now, then in pairs), default=float("nan"))
print(f"{len(pairs)} steps compared; the losses differ by at most {difference:.2g} nats")"""
_PLOT = """import plotly.graph_objects as go

figure = go.Figure()
figure.add_scatter(x=[s for s, loss, _ in curve if loss is not None], y=[x for _, x, _ in curve if x is not None],
                   name="training")
figure.add_scatter(x=[s for s, _, v in curve if v is not None], y=[v for _, _, v in curve if v is not None],
                   name="validation")
figure.update_layout(xaxis_title="step", yaxis_title="loss, nats")
figure"""
_SAMPLES = """for sample in prepared.sampler() if prepared.sampler else ():
    print(sample.prompt, "→", sample.text, end="\\n\\n")"""


def readme(run: RunFacts, parts: Sequence[str], language: str | None = None) -> str:
    """What is in the zip and how to load it."""

    def say(key: str, **values: object) -> str:
        return text(f"export.{key}", language=language, **values)

    lines = [f"# {_line(run.title)}", "", say("readme_what"), ""]
    lines += [f"- `{name}`: {say(f'part_{key}')}" for name, key in _PARTS if name in parts]
    classifier = run.spec["config"].get("task") == "classification"
    if "model/" in parts:
        kind = "AutoModelForSequenceClassification" if classifier else "AutoModelForCausalLM"
        load = f'{kind}.from_pretrained("model")'
        lines += ["", "```python", f"from transformers import AutoTokenizer, {kind}", "", f"model = {load}",
                  'tokenizer = AutoTokenizer.from_pretrained("model")', "```"]  # fmt: skip
        if classifier:
            lines += ["", say("readme_classifier")]
    if "adapter/" in parts:
        lines += ["", "```python", "from peft import PeftModel", "",
                  'model = PeftModel.from_pretrained(base, "adapter")', "```", "",
                  say("readme_adapter", model=portable_name(str(run.spec["model"])))]  # fmt: skip
    if portable_name(str(run.spec["model"])) == f"folder:{BASE}":
        lines += ["", say("readme_base" if f"{BASE}/" in parts else "readme_no_base")]
    return "\n".join(lines) + "\n"


_PARTS = (
    ("model/", "model"), ("adapter/", "adapter"), (f"{BASE}/", "base"), ("run.toml", "toml"), ("data/", "data"),
    ("finetune.toml", "config"), ("metrics.csv", "metrics"), ("events", "events"), ("reproduce.ipynb", "notebook"),
)  # fmt: skip


def check(folder: Path, base: Path | None = None) -> list[tuple[str, Path]]:
    """The files of a run that go into its zip, by their names there. Raises ExportError, see `write_zip`."""
    places = {"": folder / "result", "data/": folder / "data"} | ({f"{BASE}/": base} if base is not None else {})
    files = [(f"{prefix}{path.relative_to(place).as_posix()}", path)
             for prefix, place in places.items() for path in sorted(place.rglob("*"))
             if path.is_file() and not path.is_symlink()]  # fmt: skip
    if not any(name.startswith(("model/", "adapter/")) for name, _ in files):
        raise ExportError("nothing")
    if (size := sum(path.stat().st_size for _, path in files)) > MOST_BYTES:
        raise ExportError("too_large", gb=f"{size / 2**30:.1f}", most=f"{MOST_BYTES / 2**30:.0f}")
    return files


def write_zip(
    run: RunFacts, folder: Path, records: Sequence[Record], target: BinaryIO, *, base: Path | None = None,
    language: str | None = None,
) -> None:  # fmt: skip
    """Write the zip of a run that has a result to `target`.

    folder: the run's (`lab.runs.folder`). base: the folder of the model it started from, given where that one has no
    public name (`run:ID`). Links in the folder are not followed. Raises ExportError: `nothing` where the run has left
    no model, `too_large` above MOST_BYTES.
    """
    files = check(folder, base)
    started = run.started or 0.0
    config = config_from_dict(dict(run.spec["config"]))
    toml = (folder / "run.toml").read_text(encoding="utf-8")
    made: dict[str, str | bytes] = {
        "run.toml": portable_toml(toml, str(run.spec["model"])), "finetune.toml": config_to_toml(config),
        "metrics.csv": metrics_csv(records), f"events.out.tfevents.{int(started)}.lm-lab": events(records, started),
        "reproduce.ipynb": json.dumps(notebook(run, language), ensure_ascii=False, indent=1) + "\n",
    }  # fmt: skip
    parts = [name for name, _ in _PARTS if any(known.startswith(name) for known in (*made, *(n for n, _ in files)))]
    made["README.md"] = readme(run, parts, language)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in made.items():
            archive.writestr(name, content)
        for name, path in files:
            if name == "adapter/adapter_config.json":
                archive.writestr(name, _adapter_config(path, str(run.spec["model"])))
                continue
            # weights are as good as random to a packer: stored as they are
            stored = zipfile.ZIP_STORED if path.suffix == ".safetensors" else None
            archive.write(path, name, compress_type=stored)
