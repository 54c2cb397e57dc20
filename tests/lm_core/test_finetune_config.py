"""The config of a fine-tune: impossible numbers are refused, and TOML keeps every entry."""

import math
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from lm_core.finetune_config import FinetuneConfig, config_from_dict, config_from_toml, config_to_toml, read_config

CAUSAL = FinetuneConfig(task="causal")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_steps": 0}, "n_steps must be at least 1, not 0"),
        ({"n_steps": 10**9}, "n_steps must be at most 1,000,000, not 1,000,000,000"),
        ({"n_steps": 2.5}, r"n_steps must be a whole number, not 2\.5"),
        ({"batch_size": True}, "batch_size must be a whole number, not True"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, not 0"),
        ({"n_tokens": 1}, "n_tokens must be at least 2, not 1"),
        ({"validate_every": 0}, "validate_every must be at least 1, not 0"),
        ({"save_every": -1}, "save_every must be at least 1, not -1"),
        ({"warmup": -1}, "warmup must be at least 0, not -1"),
        ({"lr": 0.0}, r"lr must be a positive number, not 0\.0"),
        ({"lr": -1e-3}, r"lr must be a positive number, not -0\.001"),
        ({"lr": math.nan}, "lr must be a positive number, not nan"),
        ({"lr": "fast"}, "lr must be a number, not 'fast'"),
        ({"clip_norm": math.inf}, "clip_norm must be a positive number, not inf"),
        ({"momentum": 1.0}, r"momentum must be at least 0 and below 1, not 1\.0"),
        ({"beta2": -0.1}, "beta2 must be at least 0 and below 1"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or a positive number"),
        ({"final_lr_share": 1.5}, "final_lr_share must lie between 0 and 1"),
        ({"task": "translation"}, "unknown task 'translation': use one of causal, classification"),
        ({"learns": "everything"}, "unknown learns 'everything': use one of whole, head"),
        ({"pooling": "max"}, "unknown pooling 'max'"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion': use one of sgd"),
        ({"schedule": "up"}, "unknown schedule 'up': use one of cosine"),
        ({"learns": "head"}, "learns = head is for classification"),
        ({"learns": "last_layers", "n_last_layers": 0}, "n_last_layers must be at least 1, not 0"),
        ({"learns": "lora", "lora_rank": 0}, "lora rank 0 must be at least 1"),
        ({"learns": "lora", "lora_targets": ("w_x",)}, "unknown lora targets w_x"),
        ({"learns": "soft_prompt", "n_virtual": 0}, "n_virtual must be at least 1, not 0"),
        ({"learns": "soft_prompt", "optimizer": "muon"}, "muon is for matrices inside the model"),
        ({"learns": "lora", "from_scratch": True}, "from_scratch with learns = lora"),
    ],
)
def test_impossible_settings_are_refused_with_their_numbers(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CAUSAL, **settings)


def test_what_is_not_used_is_not_judged() -> None:
    assert replace(CAUSAL, learns="whole", lora_rank=0, n_virtual=0).lora_rank == 0


def test_toml_keeps_every_entry(tmp_path: Path) -> None:
    config = FinetuneConfig(
        task="classification", n_steps=7, learns="lora", lora_rank=3, lora_alpha=1e-7, lora_targets=("w_o", "w_in"),
        pooling="mean", seed=5, lr=1e-30, momentum=0.0, schedule="linear", precision="bfloat16", from_scratch=False,
    )  # fmt: skip
    text = config_to_toml(config)
    assert config_from_toml(text) == config
    assert set(tomllib.loads(text)) == {field.name for field in fields(FinetuneConfig)}
    (tmp_path / "a.toml").write_text(text)
    assert read_config(tmp_path / "a.toml") == config


def test_entries_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"run.toml: unknown entry 'learning_rate'"):
        config_from_dict({"task": "causal", "learning_rate": 1}, "run.toml")
    with pytest.raises(ValueError, match="missing entry 'task'"):
        config_from_dict({"lr": 1})
    with pytest.raises(ValueError, match="Invalid value"):
        config_from_toml("task = ")
