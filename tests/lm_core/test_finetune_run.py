"""`python -m lm_core finetune`: one file in, folders out; bad input is refused before anything is written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lm_core.__main__ import main
from lm_core.checkpoint import load_pretrained
from lm_core.cli_finetune import progress_bar
from lm_core.finetune_record import FinetuneRecord
from lm_core.finetune_run import DataSource, frame_of, read_run
from lm_core.learner_files import load_classifier
from tests import tiny_models
from tests.support import ROOT

STORY = "The old king looked at the little bird.\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("model"), tiny_models.llama(d_model=24))


def _text_file(folder: Path) -> str:
    (folder / "style.txt").write_text(STORY * 40, encoding="utf-8")
    return "style.txt"


def _label_file(folder: Path, n: int = 40) -> str:
    rows = [f"{'the old king' if i % 2 else 'a little bird'} number {i},{'good' if i % 2 else 'bad'}" for i in range(n)]
    (folder / "reviews.csv").write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    return "reviews.csv"


def _run_file(folder: Path, model: Path, file: str, **settings: Any) -> Path:
    defaults: dict[str, Any] = {
        "task": "causal", "n_steps": 6, "batch_size": 2, "n_tokens": 16, "validate_every": 3, "save_every": 2,
        "precision": "float32", "lr": 5e-3, "warmup": 1,
    }  # fmt: skip
    entries = "".join(f"{key} = {json.dumps(value)}\n" for key, value in (defaults | settings).items())
    path = folder / "run.toml"
    path.write_text(
        f'[model]\nname = "folder:{model}"\n[data]\nfile = {json.dumps(file)}\n[finetune]\n{entries}'
        '[samples]\nprompts = ["The old"]\nmax_new = 5\n'
    )
    return path


def _finetune(run: Path, out: Path, *more: str) -> int:
    return main(["finetune", "--config", str(run), "--out", str(out), "--device", "cpu", *more])


def _lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_style_becomes_a_model_that_transformers_loads(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = _run_file(tmp_path, model, _text_file(tmp_path)), tmp_path / "out"
    assert _finetune(run, out) == 0
    said = capsys.readouterr().err
    assert "step 0: validation" in said and "step 6: validation" in said and "The old" in said
    lines = _lines(out)
    assert [line["step"] for line in lines] == list(range(7))
    assert lines[0]["samples"][0]["text"].startswith("The old") and lines[6]["samples"]
    assert lines[6]["validation"]["loss"] < lines[0]["validation"]["loss"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out / "model")
    ids = torch.tensor([[1, 2, 3, 4]])
    torch.testing.assert_close(load_pretrained(out / "model").model(ids), theirs(ids).logits, rtol=1e-3, atol=1e-5)
    facts = json.loads((out / "run.json").read_text())
    assert facts["best_step"] == max(line["step"] for line in lines if line["best"])
    assert facts["folders"] == ["model"] and facts["config"]["task"] == "causal"


def test_labels_become_a_classifier(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"task": "classification", "n_steps": 60, "batch_size": 8, "lr": 1e-2, "learns": "lora", "lora_rank": 2}
    run, out = _run_file(tmp_path, model, _label_file(tmp_path), **settings), tmp_path / "out"
    assert _finetune(run, out) == 0
    said = capsys.readouterr().err
    assert "numbers learn (lora)" in said and "accuracy" in said and "The old →" in said
    for folder, base in ((out / "model", None), (out / "adapter", load_pretrained(model))):
        classifier = load_classifier(folder, base)
        assert classifier.card.labels == ("bad", "good")
        assert max(classifier.probabilities("the old king number 3").items(), key=lambda p: p[1])[0] == "good"
    assert _lines(out)[-1]["validation"]["report"]["n_examples"] == 4


def test_stopped_and_resumed_it_is_the_same_run(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run_file(tmp_path, model, _text_file(tmp_path))
    assert _finetune(run, tmp_path / "whole") == 0
    short = run.read_text()
    run.write_text(
        short.replace("n_steps = 6", "n_steps = 4").replace("warmup = 1", 'warmup = 1\nschedule = "constant"')
    )
    assert _finetune(run, tmp_path / "part") == 0
    assert _finetune(run, tmp_path / "part") == 2
    assert "already holds a run" in capsys.readouterr().err
    with (tmp_path / "part" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "of a step that was never saved": 1}\n{"step": 6, "los')  # as after a kill
    run.write_text(short.replace("warmup = 1", 'warmup = 1\nschedule = "constant"'))
    assert _finetune(run, tmp_path / "part", "--resume") == 0
    assert _finetune(run, tmp_path / "constant") == 0
    ours, theirs = _lines(tmp_path / "part"), _lines(tmp_path / "constant")
    assert [line["step"] for line in ours] == list(range(7))
    assert [line.get("loss") for line in ours] == [line.get("loss") for line in theirs]
    assert _finetune(run, tmp_path / "part", "--resume") == 0
    assert "done already" in capsys.readouterr().err
    models = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("part", "constant")]
    assert models[0] == models[1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_killed_and_interrupted_runs_go_on(model: Path, tmp_path: Path, how: signal.Signals) -> None:
    """A real process, a real signal in the middle of it: at most what came after the last save is done again."""
    out = tmp_path / "out"
    run = _run_file(
        tmp_path, model, _text_file(tmp_path), n_steps=4000, save_every=5, validate_every=1000, sample_every=0
    )
    command = [sys.executable, "-m", "lm_core", "finetune", "--config", str(run), "--out", str(out), "--device", "cpu"]
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(command, cwd=ROOT, stderr=err, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_bytes().count(b"\n") > 22:
            break
        time.sleep(0.02)
    process.send_signal(how)
    assert process.wait(timeout=60) == (130 if how == signal.SIGINT else -9), (tmp_path / "err").read_text()
    seen = len((out / "metrics.jsonl").read_bytes().splitlines())
    saved = json.loads((out / "state" / "state.json").read_text())["step"]
    assert seen >= 23 and saved >= 15
    assert saved == seen - 1 if how == signal.SIGINT else saved % 5 == 0
    run.write_text(run.read_text().replace("n_steps = 4000", f"n_steps = {saved + 3}"))
    assert _finetune(run, out, "--resume") == 0
    assert [line["step"] for line in _lines(out)] == list(range(saved + 4))


# Bad input: refused in one sentence, and nothing is written


def _bytes(name: str, content: bytes) -> Any:
    def write(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return name

    return write


CLASSES = {"task": "classification"}
BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no file": (lambda _: "nowhere.txt", {}, "nowhere.txt"),
    "a folder": (lambda _: ".", {}, "reads .txt"),
    "empty": (_bytes("a.txt", b""), {}, "a.txt is empty"),
    "one line": (_bytes("a.txt", b"just one line"), {}, "the text is a single line"),
    "two short lines": (_bytes("a.txt", b"one\ntwo"), {}, "training tokens; windows of 16 need 33"),
    "50 MB": (_bytes("a.txt", b"x" * 50 * 2**20), {}, "more than the limit of 10 MB"),
    "binary": (_bytes("a.txt", bytes(range(256)) * 40), {}, "is no text: it holds zero bytes"),
    "wrong encoding": (_bytes("a.txt", "中文\n".encode("gb18030") * 50), {}, "is not UTF-8 text"),
    "a picture": (_bytes("a.png", b"x"), {}, "reads .txt files"),
    "one class": (_bytes("a.csv", b"text,label\n" + b"a b,good\n" * 9), CLASSES, "all 9 examples are called 'good'"),
    "misspelt label": (
        _bytes("a.csv", b"text,label\n" + b"a,positive\nb,negative\n" * 40 + b"x,postive\ny,postive\n"),
        CLASSES, "'postive' (2 times) looks like 'positive' (40 times)",
    ),
    "text as label": (
        _bytes("a.csv", b"text,label\n" + b"".join(b"same,word %d\n" % i for i in range(30))),
        CLASSES, "30 different labels",
    ),
    "labels for a causal task": (_label_file, {}, "reads .txt files"),
    "text for classes": (_text_file, CLASSES, "texts with labels are read from .csv, .tsv and .jsonl"),
    "batch larger than the text": (_text_file, {"batch_size": 500}, "a step learns from 500 windows"),
    "batch larger than the set": (_label_file, CLASSES | {"batch_size": 500}, "a step learns from 500 texts"),
    "0 steps": (_text_file, {"n_steps": 0}, "n_steps must be at least 1, not 0"),
    "rank 0": (_text_file, {"learns": "lora", "lora_rank": 0}, "lora rank 0 must be at least 1"),
    "rank 1000": (_text_file, {"learns": "lora", "lora_rank": 1000}, "lora rank 1000 is more than"),
    "negative learning rate": (_text_file, {"lr": -1.0}, "lr must be a positive number"),
    "unknown entry": (_text_file, {"learning_rate": 1.0}, "unknown entry 'learning_rate'"),
    "window beyond the context": (_text_file, {"n_tokens": 64}, "the model has room for 40: set n_tokens to 40"),
    "virtual tokens beyond it": (_text_file, {"learns": "soft_prompt", "n_virtual": 40}, "40 virtual tokens"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, settings, message = BAD[name]
    run, out = _run_file(tmp_path, model, make(tmp_path), **settings), tmp_path / "out"
    assert _finetune(run, out) == 2
    said = capsys.readouterr().err.strip()
    assert message in said.splitlines()[-1] and "Traceback" not in said
    assert not (out / "state").exists() and not (out / "metrics.jsonl").exists()


def test_a_learning_rate_of_ten_runs_and_the_doctor_speaks(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run_file(tmp_path, model, _text_file(tmp_path), lr=10.0, warmup=0, n_steps=12)
    assert _finetune(run, tmp_path / "out") == 0
    assert "lr_too_high: one step changes the weights by" in capsys.readouterr().err
    finished = load_pretrained(tmp_path / "out" / "model").model  # the best weights, not the last
    assert torch.isfinite(finished(torch.tensor([[1, 2]]))).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model", "run.toml is no TOML"),
        ("[modle]\nname = 'x'", r"unknown table \[modle\]"),
        ("[data]\nfile = 'a.txt'", r"missing entry name in \[model\]"),
        ("[model]\nname = 'x'\nsize = 3", r"unknown entry 'size' in \[model\]"),
        ("[model]\nname = 'x'\n[data]\nfile = 'a'\nglue = 'b'", "name one of file, glue and hub, not file and glue"),
        ("[model]\nname = 'x'\n[data]", "name one of file, glue and hub, not none"),
        ("[model]\nname = 'x'\n[data]\nfile = 'a'\nvalidation_share = 2", "validation_share must lie between 0 and 1"),
        ("[model]\nname = 'x'\n[data]\nfile = 'a'", "missing entry 'task'"),
    ],
)
def test_run_files_that_say_nothing_clear(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_run(tmp_path / "run.toml")


def test_a_glue_folder_is_data(model: Path, tmp_path: Path) -> None:
    rows = [f"{'the old king' if i % 2 else 'a little bird'} {i}\t{i % 2}" for i in range(30)]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.tsv").write_text("sentence\tlabel\n" + "\n".join(rows))
    run = _run_file(tmp_path, model, "x", task="classification")
    run.write_text(run.read_text().replace('file = "x"', 'glue = "set"'))
    assert read_run(run).data == DataSource(glue="set")
    assert _finetune(run, tmp_path / "out") == 0
    assert load_classifier(tmp_path / "out" / "model").card.labels == ("0", "1")


def test_the_frame_of_a_text(model: Path) -> None:
    assert frame_of(load_pretrained(model)) == ([0], [])


def test_the_progress_bar() -> None:
    record = FinetuneRecord(30, 120, loss=2.306, tokens_per_second=1204.4, seconds_left=12.3)
    assert progress_bar(record) == f"[{'█' * 6}{' ' * 18}] 30/120  loss 2.306  1,204 tok/s  12 s left"
    assert progress_bar(FinetuneRecord(0, 120)) == f"[{' ' * 24}] 0/120"
