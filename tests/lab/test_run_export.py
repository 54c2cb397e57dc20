"""A run's zip: transformers and peft load its folders, TensorBoard reads its events, its notebook runs again."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

from lab import run_export
from lab.event_file import crc32c, event_file
from lm_core.finetune import load_best
from lm_core.finetune_config import FinetuneConfig, config_from_toml, config_to_toml
from lm_core.finetune_run import prepare_run, read_run, train_run
from lm_core.generation import continuation
from lm_core.learner_files import export, load_classifier
from tests import tiny_models
from tests.support import one_thread

TEXT = "\n".join(f"The old king looked at {n} little birds. The birds looked at the king." for n in range(30))
EXAMPLES = "label\ttext\n" + "".join(
    f"{'good' if n % 2 else 'bad'}\tthe {'king' if n % 2 else 'bird'} looked {n}\n" for n in range(20)
)


def make_run(tmp: Path, **changes: Any) -> tuple[SimpleNamespace, Path, list[dict[str, Any]], Any]:
    """A tiny run, really trained, in a folder as `lab.runs` lays it out."""
    config = FinetuneConfig(**({
        "task": "causal", "n_steps": 6, "batch_size": 2, "n_tokens": 12, "warmup": 1, "validate_every": 3,
        "precision": "float32", "lr": 3e-3,
    } | changes))  # fmt: skip
    base = tiny_models.save(tmp / "start", tiny_models.llama(d_model=24))
    folder, causal = tmp / "run", config.task == "causal"
    (folder / "data").mkdir(parents=True)
    name = "train.txt" if causal else "train.tsv"
    (folder / "data" / name).write_text(TEXT if causal else EXAMPLES, encoding="utf-8")
    (folder / "run.toml").write_text(
        f'[model]\nname = "folder:{base}"\n\n[data]\nfile = "data/{name}"\n\n[finetune]\n{config_to_toml(config)}'
        '\n[samples]\nprompts = ["The old"]\nmax_new = 6\n', encoding="utf-8",
    )  # fmt: skip
    prepared = prepare_run(read_run(folder / "run.toml"), folder, torch.device("cpu"))
    records = [record.to_json() for record in train_run(prepared, folder, False)]
    load_best(prepared.learner, folder)
    export(prepared.learner, prepared.base, folder / "result", prepared.card)
    spec = {"model": "run:feed", "config": asdict(config), "data": {"kind": "text", "preset": None}}
    run = SimpleNamespace(id="0123456789ab", title="A *run* | 船", spec=spec, started=1.7e9)
    return run, folder, records, prepared


def unpack(run: Any, folder: Path, records: Any, place: Path, base: Path | None = None) -> Path:
    packed = io.BytesIO()
    run_export.write_zip(run, folder, records, packed, base=base, language="en")
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(place)
    return place


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Any:
    tmp = tmp_path_factory.mktemp("lora")
    made = make_run(tmp, learns="lora")
    return *made, unpack(*made[:3], tmp / "out", base=tmp / "start")


def test_transformers_and_peft_load_what_was_trained(lora: Any) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _, _, _, prepared, out = lora
    ids = torch.tensor([[3, 14, 15, 92, 65]])
    with torch.no_grad():
        ours = prepared.learner.body(ids)
        whole = AutoModelForCausalLM.from_pretrained(out / "model")(ids).logits
        start = AutoModelForCausalLM.from_pretrained(out / "base")
        apart = start(ids).logits
        adapted = PeftModel.from_pretrained(start, out / "adapter")(ids).logits
    torch.testing.assert_close(whole, ours, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(adapted, ours, atol=1e-4, rtol=1e-4)
    assert (apart - ours).abs().max() > 1e-3  # it did learn: equal folders would prove nothing


def test_the_notebook_is_valid_runs_and_gives_the_same_curve(lora: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _, records, _, out = lora
    book = nbformat.read(out / "reproduce.ipynb", as_version=4)
    nbformat.validate(book)
    monkeypatch.chdir(out)
    names: dict[str, Any] = {}
    with one_thread():
        for cell in book.cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, cell.id, "exec"), names)
    kept = {record["step"]: record for record in records}
    assert [step for step, _, _ in names["curve"]] == list(range(run.spec["config"]["n_steps"] + 1))
    for step, loss, validation in names["curve"]:
        assert loss == kept[step].get("loss")
        assert validation == (kept[step].get("validation") or {}).get("loss")
    assert names["difference"] == 0.0 and len(names["pairs"]) == run.spec["config"]["n_steps"]
    assert len(names["figure"].data[0].x) == run.spec["config"]["n_steps"]


def test_tensorboard_reads_the_events(lora: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, _, records, _, out = lora
    read = EventAccumulator(str(out))
    read.Reload()
    losses = [record["loss"] for record in records if "loss" in record]
    found = read.Scalars("train/loss")
    assert [event.step for event in found] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(np.float32([event.value for event in found]), np.float32(losses))
    assert [event.step for event in read.Scalars("validation/loss")] == [0, 3, 6]
    assert found[0].wall_time == pytest.approx(1.7e9 + records[1]["seconds"])


def test_the_table_and_the_settings_read_back(lora: Any) -> None:
    run, _, records, _, out = lora
    rows = list(csv.DictReader((out / "metrics.csv").open(encoding="utf-8", newline="")))
    assert [int(row["step"]) for row in rows] == list(range(7)) and rows[0]["loss"] == ""
    assert [float(row["loss"]) for row in rows[1:]] == [record["loss"] for record in records[1:]]
    assert float(rows[3]["validation_loss"]) == records[3]["validation"]["loss"]
    config = config_from_toml((out / "finetune.toml").read_text(encoding="utf-8"))
    assert asdict(config) == run.spec["config"]


def test_no_path_of_this_computer_leaves_it(lora: Any) -> None:
    _, folder, _, _, out = lora
    for path in out.rglob("*"):
        if path.is_file():
            assert str(folder.parent).encode() not in path.read_bytes(), path.name
    assert 'name = "folder:base"' in (out / "run.toml").read_text(encoding="utf-8")
    assert r"A \*run\* \| 船" in (out / "README.md").read_text(encoding="utf-8")


def test_a_classifier_leaves_with_its_head(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    run, folder, records, prepared = make_run(tmp_path, task="classification", validate_every=2)
    run.spec["model"] = "bundled:storyteller"
    out = unpack(run, folder, records, tmp_path / "out")
    theirs = AutoModelForSequenceClassification.from_pretrained(out / "model")
    ours = load_classifier(out / "model")
    ids = [*ours.card.before, *prepared.base.tokenizer.encode("the king")]
    with torch.no_grad():
        probabilities = theirs(torch.tensor([ids])).logits[0].softmax(-1).tolist()
    assert ours.probabilities("the king") == pytest.approx(
        dict(zip(ours.card.labels, probabilities, strict=True)), abs=1e-5
    )
    rows = list(csv.DictReader((out / "metrics.csv").open(encoding="utf-8", newline="")))
    assert 0 <= float(rows[2]["accuracy"]) <= 1 and rows[1]["accuracy"] == ""
    assert 'name = "bundled:storyteller"' in (out / "run.toml").read_text(encoding="utf-8")


def test_what_cannot_be_exported_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, folder, records, _ = make_run(tmp_path, n_steps=1)
    monkeypatch.setattr(run_export, "MOST_BYTES", 100)
    with pytest.raises(run_export.ExportError) as refused:
        run_export.write_zip(run, folder, records, io.BytesIO())
    assert refused.value.reason == "too_large"
    (folder / "result").rename(folder / "elsewhere")
    with pytest.raises(run_export.ExportError) as refused:
        run_export.write_zip(run, folder, records, io.BytesIO())
    assert refused.value.reason == "nothing"


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    run, folder, records, _ = make_run(tmp_path, n_steps=1)
    (tmp_path / "secret").write_text("secret")
    (folder / "data" / "link.txt").symlink_to(tmp_path / "secret")
    out = unpack(run, folder, records, tmp_path / "out")
    assert not (out / "data" / "link.txt").exists() and (out / "data" / "train.txt").exists()


def test_checksums_are_those_of_the_standard() -> None:
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43  # RFC 3720, B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert len(event_file([])) > 16  # the version record stands there without any step


def test_both_languages_write_a_valid_notebook(lora: Any) -> None:
    run = lora[0]
    for language in ("en", "zh"):
        book = run_export.notebook(run, language)
        nbformat.validate(nbformat.from_dict(json.loads(json.dumps(book))))
        assert run_export.readme(run, ["model/", "adapter/", "base/"], language).count("```python") == 2


def test_continuation_of_the_exported_folder_is_that_of_the_run(lora: Any) -> None:
    from lm_core.checkpoint import load_pretrained

    _, _, _, prepared, out = lora
    loaded = load_pretrained(out / "model")
    texts = [
        continuation(model, tokenizer, "The old", 8, 1)
        for model, tokenizer in ((loaded.model, loaded.tokenizer), (prepared.learner.body, prepared.base.tokenizer))
    ]
    assert texts[0] == texts[1]
