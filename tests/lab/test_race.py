"""A race: the same words, seed and steps, only another part learns; and what the table says of a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from lab import race, runs, store
from lm_core.adapters import n_learned
from lm_core.finetune_config import FinetuneConfig, config_to_toml
from lm_core.finetune_run import prepare_run, read_run, train_run
from tests import tiny_models

TEXT = "\n".join(f"The old king looked at {n} little birds." for n in range(60))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path / "home"


def spec(**changes: Any) -> dict[str, Any]:
    config = asdict(FinetuneConfig(**({"task": "causal", "learns": "lora", "lr": 2e-3, "n_steps": 4} | changes)))
    config["lora_targets"] = list(config["lora_targets"])
    kind = "text" if config["task"] == "causal" else "examples"
    return {"model": "bundled:storyteller", "config": config, "data": {"kind": kind, "preset": None},
            "prompts": [], "probe": "The king", "max_seconds": 60}  # fmt: skip


def test_who_may_race_is_what_the_task_permits() -> None:
    assert race.contestants(spec(), False) == ["whole", "lora", "soft_prompt", "scratch"]
    judges = spec(task="classification")
    assert race.contestants(judges, False) == ["whole", "head", "lora", "soft_prompt", "scratch"]
    assert race.contestants(judges, True) == ["whole", "head", "lora", "scratch"]


@pytest.mark.parametrize("kind", ["whole", "head", "lora", "soft_prompt", "scratch"])
def test_only_what_learns_and_how_fast_differs(kind: str) -> None:
    base = FinetuneConfig(task="classification", learns="whole", lr=1e-4, seed=7, optimizer="muon", n_steps=9)
    other = race.config_of(base, kind)
    config = FinetuneConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in other.items()})
    assert race.kind_of(other) == kind
    changed = {name for name, value in asdict(config).items() if asdict(base)[name] != value}
    assert changed <= {"learns", "lr", "from_scratch", "optimizer"}
    back = race.config_of(config, "whole")
    assert back["lr"] == pytest.approx(base.lr) and race.kind_of(back) == "whole"


def test_a_race_is_submitted_once_with_the_same_words(home: Path) -> None:
    base = runs.submit("local", "base", "Birds", spec(), {"train.txt": TEXT.encode()})
    for _ in range(2):
        started = race.start(base, ["whole", "soft_prompt"], {"whole": "w", "soft_prompt": "s"})
    assert [race.kind_of(run.spec["config"]) for run in started] == ["whole", "soft_prompt"]
    assert {run.race for run in started} == {base.id}
    for run in started:
        assert (runs.folder(run.id) / "data" / "train.txt").read_text(encoding="utf-8") == TEXT
        assert run.spec["config"]["seed"] == base.spec["config"]["seed"]
    stranger = runs.submit("other", "x", "Other", spec(), {"train.txt": TEXT.encode()})
    for member in (base, *started):
        assert [run.id for run in race.members(member)] == [base.id, *(run.id for run in started)]
    assert race.members(stranger) == [stranger]
    with pytest.raises(store.QuotaError):
        race.start(base, ["scratch", "lora"], {"scratch": "a", "lora": "b"})
    assert len(race.members(base)) == 4  # what was submitted before the limit stays


@pytest.mark.parametrize("learns", ["whole", "lora", "soft_prompt"])
def test_the_table_says_what_the_run_did(tmp_path: Path, learns: str) -> None:
    start = tiny_models.save(tmp_path / "start", tiny_models.llama())
    config = FinetuneConfig(task="causal", learns=learns, n_steps=4, batch_size=2, n_tokens=12, validate_every=2,
                            n_virtual=3, warmup=0, precision="float32")  # type: ignore[arg-type]  # fmt: skip
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "train.txt").write_text(TEXT, encoding="utf-8")
    (folder / "run.toml").write_text(
        f'[model]\nname = "folder:{start}"\n[data]\nfile = "train.txt"\n[finetune]\n{config_to_toml(config)}'
    )
    prepared = prepare_run(read_run(folder / "run.toml"), folder, torch.device("cpu"))
    records = [record.to_json() for record in train_run(prepared, folder, False)]
    entry = race.entry_of(folder, records)
    assert entry.learned == n_learned(prepared.learner)
    losses = {record["step"]: record["validation"]["loss"] for record in records if "validation" in record}
    assert entry.quality == min(losses.values()) == losses[entry.step or 0]
    assert entry.seconds == records[-1]["seconds"] and (entry.memory or 0) > 2**20
    assert race.curve(records) == ([0.0, 2.0, 4.0], [losses[0], losses[2], losses[4]])
    assert entry.disk is None
    (folder / "result" / "model").mkdir(parents=True)
    (folder / "result" / "model" / "x").write_bytes(bytes(1000))
    assert race.entry_of(folder, records).disk == 1000
    (folder / "result" / "adapter").mkdir()
    (folder / "result" / "adapter" / "x").write_bytes(bytes(10))
    assert race.entry_of(folder, records).disk == 10


def test_a_run_without_anything_says_nothing(tmp_path: Path) -> None:
    entry = race.entry_of(tmp_path, [])
    assert entry == race.Entry(None, None, None, None, None, None)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "state.safetensors").write_bytes(b"\xff" * 20)
    assert race.learned_numbers(tmp_path) is None
    judged = {"step": 3, "best": True, "validation": {"loss": 0.5, "report": {"accuracy": 0.75}}}
    assert race.entry_of(tmp_path, [judged]).quality == 0.75
