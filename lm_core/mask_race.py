"""What if the mask is broken? Two tiny models learn the same text, one with the causal mask and one without.

Notation:  B batch · T positions · V vocab_size. Losses are in nats a token.

The target at position t is the token at t+1. Without the mask that very token stands in the input, one place to the
right: to copy it is easier than to learn English, and that is what the model learns. Only the last position of a window
has nobody to copy from, and when the model writes, every new token is such a last position.

    for record in race(texts.train, texts.validation, RaceConfig(n_steps=100)):
        print(record.step, record.losses)
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core.batches import CausalData, causal_data
from lm_core.config import llama_config
from lm_core.generation import generate
from lm_core.masks import causal_mask, full_mask
from lm_core.model import Decoder
from lm_core.ops import REFERENCE
from lm_core.optim import build_optimizers
from lm_core.sampling import SamplingConfig
from lm_core.tokenizer import BPETokenizer, train_bpe
from lm_core.training_step import apply_step, clip, next_token_loss

START = "<|endoftext|>"
ARMS: dict[str, Callable[..., Tensor]] = {"causal": causal_mask, "open": full_mask}  # with the mask, and without


@dataclass(frozen=True)
class RaceConfig:
    """How both models learn; all but the mask is the same. `max_seconds` of wall clock end the race before n_steps.

    >>> RaceConfig(n_steps=0)
    Traceback (most recent call last):
    ValueError: n_steps must be at least 1, not 0
    """

    n_steps: int = 160
    seed: int = 1
    vocab_size: int = 320
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 2
    n_tokens: int = 32
    batch_size: int = 16
    optimizer: str = "muon"
    lr: float = 5e-3
    muon_lr: float = 1e-2
    validate_every: int = 10
    prompts: tuple[str, ...] = ("Day 1. At sea.\n", "0400. Wind")
    max_new: int = 70
    max_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_layers", "batch_size", "validate_every", "max_new"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.max_seconds <= 600:
            raise ValueError(f"max_seconds must lie above 0 and not above 600, not {self.max_seconds}")
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise ValueError("prompts: give at least one, and none without words")


@dataclass(frozen=True)
class RaceRecord:
    """One step of both models: losses by arm ("causal", "open"), each under its own mask.

    validation: the same on text that neither learned from, where it was measured. `samples` (each arm's text for every
    prompt) and `by_position` (validation loss at each of the T places of a window) stand in the last record.
    """

    step: int
    n_steps: int
    seconds: float
    losses: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    by_position: dict[str, list[float]] = field(default_factory=dict)
    last: bool = False


def two_models(config: RaceConfig) -> dict[str, Decoder]:
    """The same random weights twice (Llama in shape): what differs later comes from the mask alone."""
    shape = llama_config(
        vocab_size=config.vocab_size, d_model=config.d_model, n_layers=config.n_layers, n_heads=config.n_heads,
        d_mlp=2 * config.d_model,
        context_length=2 * config.n_tokens + config.max_new,
    )  # fmt: skip
    model = Decoder(shape).init_weights(torch.Generator().manual_seed(config.seed))
    return {"causal": model, "open": copy.deepcopy(model)}


def learn(
    model: Decoder, optimizers: list[torch.optim.Optimizer], inputs: Tensor, targets: Tensor, allowed: Tensor
) -> float:
    """One step of gradient descent under this mask; returns the loss before it.

    inputs, targets int [B T], allowed bool [T T].
    """
    loss = next_token_loss(model(inputs, allowed), targets)
    loss.backward()
    clip(model.parameters(), 1.0)
    apply_step(optimizers)
    return loss.item()


@torch.no_grad()
def position_losses(model: Decoder, data: CausalData, arm: str) -> Tensor:
    """Mean −log P(next token) at each place of a window of held-back text, under the mask of this arm: [T], in nats."""
    ids, n = torch.from_numpy(data.validation.token_ids.astype("int64")), data.n_tokens
    windows = ids[: (len(ids) - 1) // n * n + 1]
    inputs, targets = windows[:-1].reshape(-1, n), windows[1:].reshape(-1, n)
    logits = model(inputs, ARMS[arm](n))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").reshape(-1, n).mean(dim=0)


def write(model: Decoder, tokenizer: BPETokenizer, config: RaceConfig, arm: str) -> list[str]:
    """Each prompt continued from left to right, under the mask the model learned with: the cheat is not even hindered.

    Temperature 0.8, top-p 0.95; the same seed for both arms.
    """
    ops = replace(REFERENCE, causal_mask=lambda n, device=None: ARMS[arm](n, device=device))
    sampling, texts = SamplingConfig(temperature=0.8, top_p=0.95), []
    for prompt in config.prompts:
        ids = [tokenizer.bos_id or 0, *tokenizer.encode(prompt)]
        new = generate(
            model, torch.tensor(ids[-config.n_tokens :]), config.max_new, sampling, seed=config.seed, ops=ops
        )
        texts.append(prompt + tokenizer.decode(list(new)))
    return texts


def race(train: Sequence[str], validation: Sequence[str], config: RaceConfig = RaceConfig()) -> Iterator[RaceRecord]:
    """Train both models on the same batches, one record a step; the last one carries what they write.

    The tokenizer (byte-level BPE) is learned from `train` first. Ends after `n_steps` or `max_seconds`, whichever comes
    first; what comes after the last step (measuring, writing) takes a moment more. Raises ValueError for too little
    text.
    """
    began = time.perf_counter()
    tokenizer = train_bpe(train, config.vocab_size, [START])
    config = replace(config, vocab_size=tokenizer.vocab_size)
    data = causal_data(train, validation, tokenizer, config.n_tokens)
    if len(data.validation) <= config.n_tokens:
        raise ValueError(f"{len(data.validation)} validation tokens do not fill a window of {config.n_tokens}")
    models = two_models(config)
    optimizers = {
        arm: build_optimizers(
            model, kind=config.optimizer, lr=config.lr, muon_lr=config.muon_lr, weight_decay=0.01, betas=(0.9, 0.99)
        )
        for arm, model in models.items()
    }
    masks = {arm: mask(config.n_tokens) for arm, mask in ARMS.items()}
    for step in range(1, config.n_steps + 1):
        batch = data.batch(step - 1, config.seed, config.batch_size)
        losses = {arm: learn(models[arm], optimizers[arm], batch.token_ids, batch.targets, masks[arm]) for arm in ARMS}
        seconds = time.perf_counter() - began
        last = step == config.n_steps or seconds > config.max_seconds
        record = RaceRecord(step, config.n_steps, seconds, losses, last=last)
        if last or step % config.validate_every == 0:
            at = {arm: position_losses(models[arm], data, arm) for arm in ARMS}
            record = replace(record, validation={arm: values.mean().item() for arm, values in at.items()})
            if last:
                samples = {arm: write(models[arm], tokenizer, config, arm) for arm in ARMS}
                places = {arm: values.tolist() for arm, values in at.items()}
                record = replace(record, samples=samples, by_position=places)
        yield record
        if last:
            return
