"""Fine-tuning on a GPU without a GPU: every learner's step obeys the device rules (see test_fake_cuda.py)."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from lm_core.batches import Batch
from lm_core.config import EncoderConfig, llama_config
from lm_core.encoder import Encoder
from lm_core.finetune_config import FinetuneConfig
from lm_core.learner import Learner, make_learner
from lm_core.model import Decoder
from lm_core.optim import build_optimizers
from lm_core.training_step import accumulate, apply_step, clip

DEVICE = torch.device("lazy:0")
LLAMA = llama_config(vocab_size=11, d_model=12, n_layers=2, n_heads=3, d_mlp=17, context_length=16)
BERT = EncoderConfig(vocab_size=11, d_model=12, n_layers=2, n_heads=3, d_mlp=17, context_length=16)
CASES: list[dict[str, Any]] = [
    {"task": "causal"},
    {"task": "causal", "learns": "lora"},
    {"task": "causal", "learns": "soft_prompt", "n_virtual": 3},
    {"task": "classification"},
    {"task": "classification", "learns": "lora", "pooling": "mean"},
    {"task": "classification", "learns": "soft_prompt", "n_virtual": 3},
    {"task": "classification", "learns": "head"},
    {"task": "classification", "pooling": "first", "encoder": True},
    {"task": "classification", "pooling": "mean", "encoder": True},
]


def _fake(mode: FakeTensorMode, *shape: int, dtype: torch.dtype = torch.int64) -> FakeTensor:
    return FakeTensor(mode, torch.empty(*shape, dtype=dtype, device="meta"), DEVICE)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(str(v) for v in c.values()))
def test_a_step_of_every_learner_stays_on_the_device(case: dict[str, Any]) -> None:
    settings = dict(case)
    body = Encoder(BERT) if settings.pop("encoder", False) else Decoder(LLAMA)
    config = FinetuneConfig(**settings)
    causal = config.task == "causal"
    learner = make_learner(body, config, 0 if causal else 2, [1, 2, 3])
    with FakeTensorMode() as mode:
        _move(mode, learner)
        _two_steps(mode, learner, causal)


def _move(mode: FakeTensorMode, learner: Learner) -> None:
    """Every parameter, in its place, becomes a fake one on the device; tied ones stay tied."""
    moved: dict[int, torch.nn.Parameter] = {}
    for module in learner.modules():
        for name, old in list(module.named_parameters(recurse=False)):
            fake = torch.nn.Parameter(_fake(mode, *old.shape, dtype=torch.float32), requires_grad=old.requires_grad)
            setattr(module, name, moved.setdefault(id(old), fake))
    assert learner.device == DEVICE


def _two_steps(mode: FakeTensorMode, learner: Learner, causal: bool) -> None:
    optimizers = build_optimizers(learner, kind="adamw", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.99))
    batch = Batch(_fake(mode, 4, 7), _fake(mode, 4), _fake(mode, 4, 7) if causal else _fake(mode, 4), 28, 4)
    for _ in range(2):
        logits = learner(batch.token_ids, batch.lengths)
        assert logits.shape == ((4, 7, 11) if causal else (4, 2)) and logits.device == DEVICE

        def compute() -> torch.Tensor:
            there = batch.to(learner.device)
            return learner.loss(learner(there.token_ids, there.lengths), there.targets)

        loss = accumulate([compute, compute], [4, 3])
        assert loss.device == DEVICE
        assert clip(learner.parameters(), 1.0).device == DEVICE
        apply_step(optimizers)
