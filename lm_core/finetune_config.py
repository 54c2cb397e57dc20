"""How to fine-tune, as one frozen value that refuses impossible numbers and is written as TOML."""

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from lm_core.adapters import LoraConfig
from lm_core.optim import KINDS, SCHEDULES

Task = Literal["causal", "classification"]
Learns = Literal["whole", "head", "last_layers", "lora", "soft_prompt"]
Pooling = Literal["last", "mean", "first"]
Precision = Literal["auto", "float32", "bfloat16"]
MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides a run, but for model and data. One step learns from accumulate · batch_size rows.

    task       causal: continue a text;  classification: name the class of one
    learns     whole model, head only, the last n_last_layers (and the head), a LoRA, or n_virtual soft prompt tokens
    pooling    which position the head reads: the last token (causal), the mean, or the first ([CLS], encoders)
    n_tokens   the window of a causal task; the longest text of a classification
    from_scratch  random weights in place of the trained ones: what is pre-training worth?
    precision  auto: bfloat16 products where they are measured to be faster; float32 is exact to the last bit

    Raises ValueError, with the numbers.

    >>> FinetuneConfig(task="causal", n_steps=0)
    Traceback (most recent call last):
    ValueError: n_steps must be at least 1, not 0
    """

    task: Task
    n_steps: int = 300
    learns: Learns = "whole"
    n_last_layers: int = 2
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = ("w_q", "w_v")
    n_virtual: int = 16
    pooling: Pooling = "last"
    from_scratch: bool = False
    seed: int = 1
    batch_size: int = 16
    accumulate: int = 1
    n_tokens: int = 128
    optimizer: str = "adamw"
    lr: float = 5e-4
    muon_lr: float = 5e-3
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: int = 10
    final_lr_share: float = 0.1
    clip_norm: float = 1.0
    precision: Precision = "auto"
    validate_every: int = 50
    validation_batches: int = 0  # 0: the whole validation part
    save_every: int = 50
    sample_every: int = 0  # 0: before the first and after the last step only

    def __post_init__(self) -> None:
        self._check_kinds()
        for name in ("n_steps", "batch_size", "accumulate", "validate_every", "save_every"):
            _require_whole(self, name, 1)
        for name in ("n_last_layers", "warmup", "validation_batches", "sample_every", "seed"):
            _require_whole(self, name, 0)
        _require_whole(self, "n_tokens", 2)
        if self.n_steps > MAX_STEPS:
            raise ValueError(f"n_steps must be at most {MAX_STEPS:,}, not {self.n_steps:,}")
        for name in ("lr", "muon_lr", "clip_norm"):
            if not 0 < _number(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, not {getattr(self, name)}")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= _number(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        if not 0 <= _number(self, "weight_decay") < math.inf:
            raise ValueError(f"weight_decay must be 0 or a positive number, not {self.weight_decay}")
        if not 0 <= _number(self, "final_lr_share") <= 1:
            raise ValueError(f"final_lr_share must lie between 0 and 1, not {self.final_lr_share}")
        self._check_what_learns()

    def _check_kinds(self) -> None:
        choices = {
            "task": get_args(Task), "learns": get_args(Learns), "pooling": get_args(Pooling),
            "precision": get_args(Precision), "optimizer": KINDS, "schedule": tuple(SCHEDULES),
        }  # fmt: skip
        for name, known in choices.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"unknown {name} {value!r}: use one of {', '.join(known)}")

    def _check_what_learns(self) -> None:
        if self.learns == "head" and self.task == "causal":
            raise ValueError("learns = head is for classification: a causal model's head is its own vocabulary")
        if self.learns == "last_layers" and self.task == "causal" and self.n_last_layers < 1:
            raise ValueError("n_last_layers must be at least 1, not 0: otherwise nothing learns")
        if self.learns == "soft_prompt":
            _require_whole(self, "n_virtual", 1)
        if self.learns in ("soft_prompt", "head") and self.optimizer == "muon":
            raise ValueError(f"muon is for matrices inside the model; learns = {self.learns} has none: use adamw")
        if self.learns in ("lora", "soft_prompt", "head") and self.from_scratch:
            raise ValueError(f"from_scratch with learns = {self.learns} would leave the random weights as they are")
        if self.learns == "lora":
            self.lora()

    def lora(self) -> LoraConfig:
        """The LoRA part as the value `adapters.add_lora` takes."""
        return LoraConfig(self.lora_rank, self.lora_alpha, tuple(self.lora_targets))


def _require_whole(config: object, name: str, least: int) -> None:
    value = getattr(config, name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def _number(config: object, name: str) -> float:
    value = getattr(config, name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return float(value)


def config_from_dict(entries: dict[str, Any], where: str = "finetune") -> FinetuneConfig:
    """A config from a table of TOML or JSON. Raises ValueError naming an entry that there is not.

    >>> config_from_dict({"task": "causal", "learning_rate": 1.0})
    Traceback (most recent call last):
    ValueError: finetune: unknown entry 'learning_rate'
    """
    known = {field.name for field in fields(FinetuneConfig)}
    if unknown := sorted(entries.keys() - known):
        raise ValueError(f"{where}: unknown entry {unknown[0]!r}")
    if "task" not in entries:
        raise ValueError(f"{where}: missing entry 'task' (causal or classification)")
    entries = {key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()}
    return FinetuneConfig(**entries)


def config_to_toml(config: FinetuneConfig) -> str:
    """The config as TOML, every entry written out; `config_from_toml` reads it back.

    >>> config = FinetuneConfig(task="causal", lr=1e-5)
    >>> config_from_toml(config_to_toml(config)) == config
    True
    """
    return "".join(f"{field.name} = {_toml(getattr(config, field.name))}\n" for field in fields(config))


def config_from_toml(text: str) -> FinetuneConfig:
    """A config from TOML text. Raises ValueError for what is no TOML, and as `FinetuneConfig`."""
    return config_from_dict(tomllib.loads(text))


def read_config(path: Path) -> FinetuneConfig:
    """A config from a file, see `config_from_toml`."""
    return config_from_toml(path.read_text(encoding="utf-8"))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
