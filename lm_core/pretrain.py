"""Learning from text, from nothing: to predict the next token, or whatever else the loss asks for.

Notation:  B batch · T positions · V vocab_size. Losses are in nats a token.

The loop every language model is trained with:  batch → forward → loss → backward → clip → step → record.
Two arguments decide what is learned: `train.batch(…)` gives a tuple of tensors, `loss_of(model, *batch)` one number.
`pretrain` is a generator: whoever calls it decides what to do with each record (print, plot, save, stop).
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lm_core import device as devices
from lm_core.encoder import Encoder
from lm_core.model import Decoder
from lm_core.optim import SCHEDULES, build_optimizers, set_learning_rate
from lm_core.training_state import find_state, load_state, save_state
from lm_core.training_step import accumulate, apply_step, clip, next_token_loss


@dataclass(frozen=True)
class PretrainConfig:
    """How to train. Batches are batch_size windows of n_tokens.

    >>> PretrainConfig(n_steps=0)
    Traceback (most recent call last):
    ValueError: n_steps must be at least 1, not 0
    """

    n_steps: int
    batch_size: int = 16
    n_tokens: int = 256
    seed: int = 1
    optimizer: str = "muon"
    lr: float = 3e-3
    muon_lr: float = 1e-2
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    warmup: int = 100
    schedule: str = "wsd"
    final_lr_share: float = 0.02
    clip_norm: float = 1.0
    validate_every: int = 250
    validation_batches: int = 20
    save_every: int = 250

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_size", "n_tokens", "validate_every", "save_every", "validation_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "muon_lr", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, not {getattr(self, name)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {self.schedule!r}: use one of {', '.join(SCHEDULES)}")


@dataclass(frozen=True)
class Record:
    """What is known after one step: loss in nats a token over this batch, validation_loss where it was measured."""

    step: int
    loss: float
    grad_norm: float
    lr_share: float
    tokens_per_second: float
    seconds: float
    validation_loss: float | None = None


class Batches(Protocol):
    """Where batches come from: the same (step, seed) gives the same one, so nothing is remembered between steps."""

    def batch(self, step: int, seed: int, batch_size: int, n_tokens: int) -> tuple[Tensor, ...]: ...


LossOf = Callable[..., Tensor]  # (model, *batch) -> the mean loss in nats, a scalar with a gradient


def causal_loss(model: Decoder, inputs: Tensor, targets: Tensor) -> Tensor:
    """`next_token_loss` of a causal model on one batch of `TokenStream`: inputs, targets int [B T]."""
    with devices.autocast(inputs.device):
        logits = model(inputs)
    return next_token_loss(logits, targets)


@torch.no_grad()
def validation_loss(
    model: Decoder | Encoder, stream: Batches, config: PretrainConfig, loss_of: LossOf = causal_loss
) -> float:
    """Mean loss over the same `validation_batches` batches every time, in nats a token."""
    device = model.embed_tokens.weight.device
    total = 0.0
    for step in range(config.validation_batches):
        batch = stream.batch(step, 0, config.batch_size, config.n_tokens)
        total += loss_of(model, *(tensor.to(device) for tensor in batch)).item()
    return total / config.validation_batches


def train_step(
    model: Decoder | Encoder,
    optimizers: list[torch.optim.Optimizer],
    *batch: Tensor,
    clip_norm: float,
    loss_of: LossOf = causal_loss,
) -> tuple[Tensor, Tensor]:
    """One step of gradient descent: returns the loss before it and the gradient norm before clipping, both scalars."""

    def compute() -> Tensor:
        return loss_of(model, *batch)

    loss = accumulate([compute], [1])
    grad_norm = clip(model.parameters(), clip_norm)
    apply_step(optimizers)
    return loss, grad_norm


def pretrain(
    model: Decoder | Encoder,
    train: Batches,
    validation: Batches,
    config: PretrainConfig,
    folder: Path | None = None,
    facts: dict[str, Any] | None = None,
    loss_of: LossOf = causal_loss,
) -> Iterator[Record]:
    """Train `model` in place, one record a step; with `folder`, save a state every `save_every` steps and resume there.

    The same config and seed give the same batches, also after a resume. Raises FloatingPointError when loss or gradient
    are no longer numbers: the last saved state is then still good.
    """
    device = model.embed_tokens.weight.device
    optimizers = build_optimizers(
        model, kind=config.optimizer, lr=config.lr, muon_lr=config.muon_lr,
        weight_decay=config.weight_decay, betas=(config.beta1, config.beta2),
    )  # fmt: skip
    first, before = 0, 0.0
    if folder is not None and find_state(folder) is not None:
        saved = load_state(folder, model, optimizers)
        first, before = saved["step"], saved["seconds"]
    share_at, start = SCHEDULES[config.schedule], time.perf_counter()
    for step in range(first, config.n_steps):
        share = share_at(step, config.n_steps, config.warmup, config.final_lr_share)
        set_learning_rate(optimizers, share)
        tick = time.perf_counter()
        batch = [tensor.to(device) for tensor in train.batch(step, config.seed, config.batch_size, config.n_tokens)]
        loss, norm = train_step(model, optimizers, *batch, clip_norm=config.clip_norm, loss_of=loss_of)
        value, grad_norm = loss.item(), norm.item()
        if not (math.isfinite(value) and math.isfinite(grad_norm)):  # a finite loss can have an infinite gradient
            raise FloatingPointError(
                f"the loss is {value} and the gradient norm {grad_norm} at step {step}: lower the learning rate"
            )
        now = time.perf_counter()
        speed = config.batch_size * config.n_tokens / (now - tick)
        record = Record(step + 1, value, grad_norm, share, speed, before + now - start)
        last = step + 1 == config.n_steps
        if last or (step + 1) % config.validate_every == 0:
            record = replace(record, validation_loss=validation_loss(model, validation, config, loss_of))
        if folder is not None and (last or (step + 1) % config.save_every == 0):
            save_state(folder, model, optimizers, {**(facts or {}), "step": step + 1, "seconds": record.seconds})
        yield record
