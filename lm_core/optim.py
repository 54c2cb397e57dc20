"""How large each step is, and in which direction.

The learning rate follows a plan over the whole run; the direction comes from AdamW or from Muon.
"""

import math
from collections.abc import Iterable

import torch
from torch import nn


def warmup_cosine(step: int, n_steps: int, warmup: int, floor: float) -> float:
    """The share of the peak learning rate to use at `step`: a line up, then half a cosine down to `floor`.

    Loshchilov and Hutter 2017 (SGDR), eq. 5, with linear warm-up (Goyal et al. 2017).

    >>> [round(warmup_cosine(s, 10, 2, 0.1), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, n_steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(step: int, n_steps: int, warmup: int, floor: float, decay_share: float = 0.4) -> float:
    """A line up, a plateau, then a line down to `floor` over the last `decay_share` of the run.

    The plateau can be lengthened without starting again.  Hägele et al. 2024 (WSD), section 3.

    >>> [round(warmup_stable_decay(s, 10, 2, 0.0), 3) for s in (0, 2, 6, 8, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    decay_steps = max(1, round(decay_share * n_steps))
    left = (n_steps - step) / decay_steps
    return floor + (1 - floor) * min(1.0, max(0.0, left))


def warmup_constant(step: int, n_steps: int, warmup: int, floor: float) -> float:
    """A line up, then the whole learning rate to the end: the plateau of a run that another one will finish.

    >>> [warmup_constant(s, 10, 2, 0.0) for s in (0, 1, 9)]
    [0.5, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def linear_decay(step: int, n_steps: int, warmup: int, floor: float) -> float:
    """A line up, then a line down to `floor` at the end of the run.

    >>> [linear_decay(s, 10, 2, 0.0) for s in (0, 2, 6, 10)]
    [0.5, 1.0, 0.5, 0.0]
    """
    return warmup_stable_decay(step, n_steps, warmup, floor, decay_share=(n_steps - warmup) / n_steps)


SCHEDULES = {
    "cosine": warmup_cosine,
    "wsd": warmup_stable_decay,
    "constant": warmup_constant,
    "linear": linear_decay,
}


def is_matrix_inside(name: str, parameter: nn.Parameter) -> bool:
    """Whether this is one of the matrices between embedding and logits: what Muon is meant for."""
    return parameter.dim() == 2 and not name.startswith(("embed_", "unembed", "next_sentence"))


def build_optimizers(
    model: nn.Module, *, kind: str, lr: float, muon_lr: float, weight_decay: float, betas: tuple[float, float]
) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the inner matrices and AdamW for the rest; each group keeps its `peak_lr`.

    Weight decay touches matrices only, never biases, norms or embeddings. Raises ValueError for an unknown kind.
    Loshchilov and Hutter 2019 (AdamW); Jordan et al. 2024 (Muon).

    >>> len(build_optimizers(nn.Linear(2, 2), kind="adamw", lr=1e-3, muon_lr=0, weight_decay=0.1, betas=(0.9, 0.95)))
    1
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    inner = [p for n, p in named if is_matrix_inside(n, p)]
    rest = [p for n, p in named if not is_matrix_inside(n, p)]
    fused = all(p.device.type in ("cpu", "cuda", "mps") for _, p in named)
    optimizers: list[torch.optim.Optimizer]
    if kind == "adamw":
        groups = [{"params": inner, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
        optimizers = [torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, fused=fused)]
    elif kind == "muon":
        muon = torch.optim.Muon(inner, lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        optimizers = [muon, torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=0.0, fused=fused)]
    else:
        raise ValueError(f"unknown optimizer {kind!r}: use adamw or muon")
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Give every group `share` of its peak learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
