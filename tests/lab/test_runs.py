"""Runs from submit to result: limits, what a run leaves, pause and resume, probes; workers in this process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lab import models, run_models, runs, settings, store, traces
from lab.language import LANGUAGES, placeholders, strings
from lab.runs import entry, limits, probing, reasons, reporter, worker
from lab.store import Fenced, QuotaError
from lm_core import finetune_run
from lm_core.checkpoint import load_pretrained
from lm_core.checkpoint_error import CheckpointError
from lm_core.finetune_record import FinetuneRecord
from tests import postgres as postgres_server
from tests import run_home
from tests.run_home import LABELS, TEXT, now, steps, submit, when_at, work


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    models.forget_all()
    return run_home.make(tmp_path / "home", monkeypatch)


# --- submit -----------------------------------------------------------------------------------------------------------


def test_twenty_submits_at_once_are_one_run_with_one_folder(home: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda i: submit("double click"), range(20)))
    assert len({run.id for run in found}) == 1
    assert [folder.name for folder in (home / "runs").iterdir()] == [found[0].id]


def test_the_folder_is_one_that_the_command_line_reads() -> None:
    odd = 'say "hi"\\ \n\t\x7f 猫 \ud800'
    run = submit(prompts=[odd], files=TEXT | {"validation.txt": b"The old king. The old bird."})
    read = finetune_run.read_run(runs.folder(run.id) / "run.toml")
    assert read.prompts == (odd.replace("\ud800", ""),) and read.config.n_steps == 12 and read.max_new == 4
    assert (read.data.file, read.data.validation) == ("data/train.txt", "data/validation.txt")
    assert (runs.folder(run.id) / "data" / "train.txt").read_bytes() == TEXT["train.txt"]
    assert finetune_run.read_run(runs.folder(submit("b", model="bundled:storyteller").id) / "run.toml").model == (
        "bundled:storyteller"
    )


LIMITS = {  # what is asked for -> (the limits of the teacher, the reason)
    "too_many_steps": ({"n_steps": 101}, {"steps": 100}),
    "too_long": ({"max_seconds": 61}, {"minutes": 1}),
    "too_much_text": ({}, {"text_mb": 0.001}),
    "quota": ({}, {"quota_gb": 1e-6}),
    "disk_full": ({}, {"keep_free_gb": 1e6}),
    "too_many_runs": ({}, {"a_user": 1}),
}


@pytest.mark.parametrize("reason", LIMITS)
def test_each_limit_is_checked_before_anything_is_kept(reason: str, home: Path) -> None:
    first = submit("first")
    asked, bounds = LIMITS[reason]
    (home / "lab.toml").write_text("[runs]\nkeep_free_gb = 0\n" + "".join(f"{k} = {v}\n" for k, v in bounds.items()) if
                                   reason != "disk_full" else "[runs]\nkeep_free_gb = 1e6\n")  # fmt: skip
    with pytest.raises(QuotaError) as raised:
        submit("second", **asked)
    assert raised.value.reason == reason
    assert [run.id for run in store.current().history("local")] == [first.id]
    assert [folder.name for folder in (home / "runs").iterdir()] == [first.id], "no folder is left behind"
    for language in LANGUAGES:  # the message takes exactly these numbers
        assert placeholders(strings(language)[f"runs.{reason}"]) == set(raised.value.numbers)
    assert submit("first").id == first.id, "what is there already is no new run"


REFUSED = {
    "config": [{"learning_rate": 1}, {"task": "poetry"}, {"n_steps": 0}, {"max_seconds": 0}, {"max_seconds": 1.5},
               {"probe_every": -1}, {"data": {"kind": "examples"}}, {"data": None}],
    "prompts": [{"prompts": ["x"] * 9}, {"prompts": ["x" * 1001]}, {"prompts": [3]}, {"prompts": "word"}],
    "probe": [{"probe": "x" * 301}, {"probe": None}],
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_work_is_refused_by_name(reason: str, home: Path) -> None:
    for i, changes in enumerate(REFUSED[reason]):
        with pytest.raises(entry.RefusedError) as raised:
            submit(f"{i}", **changes)
        assert raised.value.reason == reason, changes
        for language in LANGUAGES:
            assert placeholders(strings(language)[f"runs.{reason}"]) == set(raised.value.numbers)
    assert store.current().history("local") == [] and not (home / "runs").exists()


@pytest.mark.parametrize(
    "files, reason",
    [({}, "no_text"), ({"train.txt": b" \n"}, "no_text"), ({"validation.txt": b"x"}, "no_text"),
     ({"train.txt": b"x", "train.csv": b"x"}, "no_text"), ({"../train.txt": b"x"}, "config"),
     ({"train.exe": b"x"}, "config"), ({"train.txt": b"\x00\xff\xfe\x80" * 9}, "data")],
)  # fmt: skip
def test_files_that_cannot_be_learned_from(files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(entry.RefusedError) as raised:
        submit(files=files)
    assert raised.value.reason == reason


def test_only_a_model_that_may_be_opened() -> None:
    for name in ("kept:nowhere", "run:0", "hub:owner/name@v1", "run:../../etc"):
        with pytest.raises(CheckpointError):
            submit(model=name)


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "a" * 33, "ä", "a.tmp"])
def test_no_id_leads_out_of_the_folder_of_runs(run_id: str) -> None:
    with pytest.raises(ValueError, match="no run has such an id") if run_id else pytest.raises(ValueError):
        runs.folder(run_id)


# --- what a run does and leaves ---------------------------------------------------------------------------------------


def test_a_run_from_its_first_record_to_its_model() -> None:
    run = submit()
    assert work(run) == 0
    over, place, there = now(run), runs.folder(run.id), store.current()
    assert (over.status, over.reason, over.step, over.wanted) == ("finished", "", 12, "") and over.ended is not None
    assert steps(run) == list(range(13))
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert [record for _, record in there.records(run.id)] == lines, "the store says what the folder says"
    assert sorted(p.name for p in place.iterdir()) == sorted(
        ["run.toml", "data", "state", "best", "metrics.jsonl", "result"]
    )
    left = {artifact["path"]: artifact for artifact in there.artifacts(run.id, "local")}
    assert left.keys() == {p.relative_to(place).as_posix() for p in (place / "result").rglob("*") if p.is_file()}
    assert left["result/model/model.safetensors"]["bytes"] == (place / "result/model/model.safetensors").stat().st_size
    assert json.loads((place / "result" / "run.json").read_text())["model"].startswith("folder:")


@pytest.mark.parametrize("learns, model", [("whole", "kept:tiny"), ("lora", "kept:llama"), ("lora", "kept:tiny")])
def test_the_result_is_a_model_of_the_app(learns: str, model: str) -> None:
    """A LoRA is merged into it; its logits are those that `transformers` computes from the folder."""
    run = submit(learns=learns, model=model, lr=0.02)
    assert work(run) == 0
    name = f"run:{run.id}"
    assert run_models.mine() == {name: run.title} and models.is_allowed(name)
    ours = traces.trace(name, "The old king").arrays
    theirs = AutoModelForCausalLM.from_pretrained(runs.folder(run.id) / "result" / "model")
    with torch.no_grad():
        logits = theirs(torch.tensor(ours["token_ids"].tolist())[None]).logits[0].numpy()
    np.testing.assert_allclose(ours["logits"], logits, atol=1e-4)
    before = traces.trace(model, "The old king").arrays["logits"]
    assert np.abs(ours["logits"] - before).max() > 1e-3, "it has learned something"
    again = submit("again", model=name)
    assert work(again) == 0 and now(again).status == "finished", "and can be taught again"


def test_what_lessons_cannot_read_is_said_and_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    soft = submit("soft", learns="soft_prompt", n_virtual=3)
    assert work(soft) == 0
    classes = submit("classes", files=LABELS, task="classification", data={"kind": "examples"}, learns="head")
    assert work(classes) == 0
    waiting = submit("waiting")
    expected = {soft.id: "run_soft_prompt", classes.id: "run_classifier", waiting.id: "run_unfinished"}
    for run_id, reason in expected.items():
        with pytest.raises(run_models.RunModelError) as raised:
            models.load(f"run:{run_id}")
        assert raised.value.reason == reason and not models.is_allowed(f"run:{run_id}")
        assert len({strings(language)[f"trouble.{reason}"] for language in LANGUAGES}) == 2
    assert run_models.mine() == {}


def test_a_run_is_its_owners_model_only(monkeypatch: pytest.MonkeyPatch) -> None:
    run = submit(owner="ann")
    assert work(run) == 0
    assert run_models.mine() == {}
    with pytest.raises(CheckpointError) as raised:
        models.load(f"run:{run.id}")
    assert raised.value.reason == "missing"
    monkeypatch.setattr("lab.identity.owner", lambda: "ann")
    assert run_models.mine() == {f"run:{run.id}": run.title} and models.load(f"run:{run.id}").tokenizer is not None
    assert runs.delete(run.id, "local") is False and runs.folder(run.id).exists()
    assert runs.delete(run.id, "ann") is True and not runs.folder(run.id).exists()


def test_pause_and_resume_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are those of a run that was never paused, to the last bit; no step is missing or there twice."""
    whole = submit("whole", n_steps=40, save_every=1000)
    assert work(whole) == 0
    monkeypatch.setattr(reporter, "EVERY", 0.02)
    run = submit("paused", n_steps=40, save_every=1000)
    asking = when_at(run, 5, "pause")
    assert work(run) == 0
    asking.join()
    paused = now(run)
    assert paused.status == "paused" and 5 <= paused.step < 40 and not paused.is_active and paused.ended is None
    assert run_models.mine().keys() == {f"run:{run.id}", f"run:{whole.id}"}, "what it has learned so far can be tried"
    assert runs.ask(run.id, "local", "resume") and now(run).status == "queued"
    assert work(run) == 0
    assert now(run).status == "finished" and steps(run) == list(range(41))
    one, other = (load_file(runs.folder(r.id) / "state" / "state.safetensors") for r in (whole, run))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_cancelled_run_leaves_its_best() -> None:
    run = submit(n_steps=20_000)
    asking = when_at(run, 3, "cancel")
    assert work(run) == 0
    asking.join()
    assert now(run).status == "cancelled" and now(run).step < 20_000
    assert models.load(f"run:{run.id}").model.config.n_layers == 2
    assert store.current().ask(run.id, "local", "resume") is False


def test_time_over_ends_a_run_with_its_result() -> None:
    run = submit(n_steps=20_000, max_seconds=1)
    assert work(run) == 0
    over = now(run)
    assert over.status == "finished" and reasons.unpack(over.reason)[0] == "time_over" and over.step < 20_000
    assert f"run:{run.id}" in run_models.mine()


def test_a_loss_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    run = submit(lr=1e30, n_steps=50, clip_norm=1e30)
    assert work(run) == 0
    assert (now(run).status, now(run).reason) == ("failed", "not_a_number")
    json.dumps([record for _, record in store.current().records(run.id)], allow_nan=False)
    json.dumps([probe for _, probe in store.current().probes(run.id)], allow_nan=False)


def test_data_that_are_too_short_fail_in_words() -> None:
    run = submit(files={"train.txt": b"The old king.\nThe bird."}, n_tokens=32)
    assert work(run) == 0
    reason, numbers = reasons.unpack(now(run).reason)
    assert now(run).status == "failed" and reason == "data" and "windows of 32" in str(numbers["why"])


# --- probes -----------------------------------------------------------------------------------------------------------


def test_probes_are_asked_in_the_same_words_every_time() -> None:
    run = submit(n_steps=40, lr=0.02, probe_every=10, layer=0, head=2)
    assert work(run) == 0
    taken = [probe for _, probe in store.current().probes(run.id)]
    assert [probe["step"] for probe in taken] == [0, 10, 20, 30, 40]
    ids: list[int] = []
    for probe in taken:
        assert [sample["prompt"] for sample in probe["samples"]] == ["The old"]
        assert probe["next"]["ids"][: len(ids)] == ids, "what was among the likeliest once stays in the picture"
        ids = probe["next"]["ids"]
        assert len(probe["next"]["tokens"]) == len(probe["next"]["probabilities"]) == len(ids) >= 12
        attention = probe["attention"]
        assert (attention["layer"], attention["head"]) == (0, 2) and len(attention["tokens"]) == 4
        assert np.allclose(np.array(attention["weights"]).sum(axis=1), 1, atol=1e-3)
    assert set(taken[0]["change"].values()) == {0.0} and min(taken[-1]["change"].values()) > 0
    # The last probe, by hand: the base model with the weights of the last state.
    base = load_pretrained(settings.home() / "models" / "tiny")
    saved = load_file(runs.folder(run.id) / "state" / "state.safetensors")
    start = {name: parameter.clone() for name, parameter in base.model.named_parameters()}
    learned = {n.removeprefix("model.body."): t for n, t in saved.items() if n.startswith("model.")}
    assert base.model.load_state_dict(learned, strict=False).missing_keys == ["unembed.weight"], "tied to the embedding"
    assert base.tokenizer is not None and base.start_id is not None
    row = torch.tensor([[base.start_id, *base.tokenizer.encode("The old king")]])
    with torch.no_grad():
        chances = base.model(row)[0, -1].softmax(dim=-1)
        weights = base.model.trace(row).layers[0].attention.weights[0, 2]
    np.testing.assert_allclose(taken[-1]["next"]["probabilities"], chances[ids], atol=1e-5)
    assert set(chances.topk(12).indices.tolist()) <= set(ids)
    np.testing.assert_allclose(taken[-1]["attention"]["weights"], weights, atol=1e-4)
    for name, parameter in base.model.named_parameters():
        change = float((parameter.detach() - start[name]).norm() / start[name].norm()) if start[name].norm() else None
        assert change is None or taken[-1]["change"][name] == pytest.approx(change, abs=2e-5), name


def test_the_probes_of_a_classifier_name_its_guesses() -> None:
    run = submit(files=LABELS, task="classification", data={"kind": "examples"}, learns="lora", probe="a good bird")
    assert work(run) == 0
    first, *_, last = (probe for _, probe in store.current().probes(run.id))
    guesses = last["predictions"]
    assert len(guesses["texts"]) == len(guesses["true"]) == len(guesses["probabilities"]) >= 6
    assert all(
        ("good" in text) == (label == "yes") for text, label in zip(guesses["texts"], guesses["true"], strict=True)
    )
    assert np.allclose(np.array(guesses["probabilities"]).sum(axis=1), 1, atol=1e-3)
    assert np.allclose(first["predictions"]["probabilities"], 0.5, atol=1e-3), "a head that starts at 0 cannot know"
    matrices = [name for name in last["change"] if "attention.w_q" in name]
    assert matrices and all(last["change"][name] > 0 for name in matrices)
    assert not any("lora" in name for name in last["change"]), "what counts is the matrix that it changes"


def test_a_lora_changes_the_matrix_by_its_product() -> None:
    run = submit(learns="lora", lr=0.02)
    assert work(run) == 0
    (_, last) = store.current().probes(run.id)[-1]
    folders = [settings.home() / "models" / "tiny", runs.folder(run.id) / "result" / "model"]
    before, after = (dict(load_pretrained(folder).model.named_parameters()) for folder in folders)
    best = json.loads((runs.folder(run.id) / "result" / "run.json").read_text())["best_step"]
    assert best == 12, "the last step was the best, so that result and last probe are the same weights"
    for name, change in last["change"].items():
        expected = float((after[name] - before[name]).norm() / before[name].norm())
        assert change == pytest.approx(expected, rel=1e-3) and change > 0, name
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in last["change"]} == {"w_q", "w_v"}


@pytest.mark.parametrize("sentence", ["", "😀", "x" * 300, "\u202e$x$ <b>"])
def test_odd_probe_sentences(sentence: str) -> None:
    run = submit(probe=sentence, n_steps=2)
    assert work(run) == 0 and now(run).status == "finished", now(run).reason
    for _, probe in store.current().probes(run.id):
        assert ("attention" in probe) == ("next" in probe) == bool(sentence)
        assert len(probe.get("attention", {}).get("tokens", [])) <= min(probing.MOST_TOKENS, 40)


def test_numbers_that_are_none_are_null() -> None:
    assert probing.rounded(torch.tensor([1.0, float("nan"), float("inf")])) == [1.0, None, None]


# --- disk -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(home: Path) -> Path:
    """The folder of runs on a file system of its own of 1 MiB."""
    place = home / "runs"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(place: Path, leave: int) -> Path:
    """Fill the disk but for some bytes."""
    filler = place / "filler"
    with open(filler, "wb") as file:
        file.write(b"\0" * max(0, shutil.disk_usage(place).free - leave))
    return filler


def test_a_disk_that_is_full_ends_a_run_cleanly_and_more_room_lets_it_go_on(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truly full: the system itself refuses the bytes of a save."""
    run = submit(n_steps=60, save_every=10, validate_every=1000)
    filled: list[Path] = []
    report = worker.Worker._report

    def fill_after_a_while(self: worker.Worker, record: FinetuneRecord) -> None:
        report(self, record)
        if record.step == 25 and not filled:
            filled.append(_fill(small_disk, leave=20_000))  # a state takes more, metrics.jsonl less

    monkeypatch.setattr(worker.Worker, "_report", fill_after_a_while)
    assert work(run) == 0
    failed, place = now(run), runs.folder(run.id)
    assert failed.status == "failed" and reasons.unpack(failed.reason)[0] == "disk_full", failed.reason
    assert list(place.glob("*.tmp")) == [], "what was half written is swept away"
    assert json.loads((place / "state" / "state.json").read_text())["step"] == 20
    load_file(place / "state" / "state.safetensors")
    filled[0].unlink()
    assert runs.ask(run.id, "local", "resume")
    assert work(run) == 0 and now(run).status == "finished" and steps(run) == list(range(61))


def test_a_disk_that_is_nearly_full_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each save it is asked how much is free; what must stay free stays free."""
    run = submit(n_steps=60, save_every=10, validate_every=1000)
    usage, asked = shutil.disk_usage, []

    def nearly_full(path: Path) -> object:
        asked.append(path)
        real = usage(path)
        return real._replace(free=real.free if len(asked) < 7 else 2**29)

    (settings.home() / "lab.toml").write_text("[runs]\nkeep_free_gb = 0.6\n")
    monkeypatch.setattr(limits.shutil, "disk_usage", nearly_full)
    assert work(run) == 0
    assert now(run).status == "failed" and reasons.unpack(now(run).reason) == (
        "disk_full", {"free_gb": 0.5, "keep_gb": 0.6}
    )  # fmt: skip
    assert json.loads((runs.folder(run.id) / "state" / "state.json").read_text())["step"] == 10


def test_a_quota_is_asked_before_each_save() -> None:
    run = submit(n_steps=60, save_every=10, validate_every=1000)
    (settings.home() / "lab.toml").write_text("[runs]\nkeep_free_gb = 0\nquota_gb = 1e-4\n")
    assert work(run) == 0
    assert now(run).status == "failed" and reasons.unpack(now(run).reason)[0] == "quota"
    assert limits.used_by("local", settings.home() / "runs") > 0 == limits.used_by("ben", settings.home() / "runs")


def test_folders_that_no_run_belongs_to_are_swept_away_once_they_are_old(home: Path) -> None:
    run = submit()
    for name in ("orphan", "fresh"):
        (home / "runs" / name / "data").mkdir(parents=True)
    os.utime(home / "runs" / "orphan", (0, 0))
    assert limits.sweep(home / "runs", store.current().all_ids()) == ["orphan"]
    assert {folder.name for folder in (home / "runs").iterdir()} == {"fresh", run.id}


@pytest.mark.parametrize(
    "error, reason",
    [(OSError(errno.ENOSPC, "full"), "disk_full"), (RuntimeError("I/O error: full (os error 28)"), "disk_full"),
     (MemoryError(), "out_of_memory"), (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
     (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "out_of_memory"),
     (ValueError("odd"), "data"), (KeyError("x"), "crashed"), (QuotaError("quota", used_gb=1, most_gb=1), "quota")],
)  # fmt: skip
def test_every_fall_has_its_reason_in_both_languages(error: Exception, reason: str) -> None:
    found, numbers = reasons.unpack(worker.reason_of(error))
    assert found == reason
    for language in LANGUAGES:
        assert placeholders(strings(language)[f"runs.{found}"]) <= numbers.keys()
    assert reasons.say(worker.reason_of(error)) != reasons.say('lost {"times": 3}')


# --- the database -----------------------------------------------------------------------------------------------------


def test_a_database_that_goes_away_is_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PostgreSQL that falls in the middle of a run and comes back: the run goes on meanwhile, and nothing is lost."""
    if postgres_server.binary("initdb") is None or postgres_server.binary("pg_ctl") is None:
        pytest.skip("no PostgreSQL on the PATH or under /usr/lib/postgresql")
    with postgres_server.running() as server:
        monkeypatch.setenv("DATABASE_URL", server.new_database())
        monkeypatch.setattr(reporter, "EVERY", 0.05)
        run = submit(n_steps=60, save_every=1000, validate_every=1000)
        report, trained = worker.Worker._report, threading.Event()

        def fall_once(self: worker.Worker, record: FinetuneRecord) -> None:
            if record.step == 10:
                server.stop()
            report(self, record)
            if record.step == 50:
                assert self.reporter.send() is False, "it is away, and the run has gone on"
                server.start()
                trained.set()

        monkeypatch.setattr(worker.Worker, "_report", fall_once)
        assert work(run) == 0
        assert trained.is_set() and now(run).status == "finished" and steps(run) == list(range(61))
        store.current().engine.dispose()


def test_a_worker_that_may_write_no_more_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run, there = submit(), store.current()
    old = there.claim("test")
    assert old is not None and there.retry(run.id, old.token, "lost", 2)
    new = there.claim("test")
    ended: list[str] = []
    line = reporter.Reporter(there, run.id, old.token, on_fence=lambda: ended.append("now"))
    line.record({"step": 1, "n_steps": 12})
    assert line.send() is False and ended == ["now"] and there.records(run.id) == []
    assert line.insist(lambda: there.end(run.id, old.token, "finished"), 1) is False and set(ended) == {"now"}
    assert new is not None and now(run).status == "starting"
    with pytest.raises(Fenced):
        there.end(run.id, old.token, "finished")
