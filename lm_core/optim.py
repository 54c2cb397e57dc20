"""How large each step is, and in which direction.

The learning rate follows a plan over the whole run; the direction comes from SGD, Adam, AdamW or Muon. The steps stand
here twice: written out (`adamw_step` …), and as torch's fused ones (`build_optimizers`), which are what trains.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


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


# --- one step, written out --------------------------------------------------------------------------------------------
# θ param · g grad · η lr · λ weight_decay. Each returns NEW tensors; the training loops use torch's fused versions of
# the same formulas (tests/lm_core/test_optim.py holds the two together).


@dataclass(frozen=True)
class AdamState:
    """What Adam remembers of one parameter: `step` t, the running means `m` of g and `v` of g², both shaped as θ."""

    step: int
    m: Tensor
    v: Tensor


def adam_start(param: Tensor) -> AdamState:
    """Before the first step: t = 0, m = v = 0.

    >>> adam_start(torch.ones(2))
    AdamState(step=0, m=tensor([0., 0.]), v=tensor([0., 0.]))
    """
    return AdamState(0, torch.zeros_like(param), torch.zeros_like(param))


def sgd_step(param: Tensor, grad: Tensor, lr: float, weight_decay: float = 0.0) -> Tensor:
    """Downhill: `θ − η·(g + λ·θ)`. Robbins and Monro 1951.

    >>> sgd_step(torch.tensor([1.0]), torch.tensor([2.0]), lr=0.1)
    tensor([0.8000])
    """
    return param - lr * (grad + weight_decay * param)


def momentum_step(
    param: Tensor, grad: Tensor, velocity: Tensor, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> tuple[Tensor, Tensor]:
    """SGD that keeps rolling: `u ← μ·u + g + λ·θ`, then `θ − η·u`. Returns (θ, u); u starts at 0.

    A steady gradient ends up μ/(1 − μ) steps further: with μ 0.9 ten times the speed. Polyak 1964; Sutskever et al.
    2013, eq. 1–2, in torch's form (the learning rate outside the velocity).

    >>> momentum_step(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([1.0]), lr=0.1, momentum=0.5)
    (tensor([0.7500]), tensor([2.5000]))
    """
    velocity = momentum * velocity + grad + weight_decay * param
    return param - lr * velocity, velocity


def adam_step(
    param: Tensor,
    grad: Tensor,
    state: AdamState,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Tensor, AdamState]:
    """Each number at its own pace: `θ − η·m̂/(√v̂ + ε)`. Kingma and Ba 2015, algorithm 1.

        m ← β₁·m + (1 − β₁)·g      m̂ = m/(1 − β₁ᵗ)
        v ← β₂·v + (1 − β₂)·g²     v̂ = v/(1 − β₂ᵗ)

    The hats undo the start at zero. λ is added to the gradient here (L2), so √v̂ shrinks it too: AdamW does not.

    >>> adam_step(torch.tensor([1.0]), torch.tensor([5.0]), adam_start(torch.tensor([1.0])), lr=0.1)[0]
    tensor([0.9000])
    """
    grad = grad + weight_decay * param
    step = state.step + 1
    m = betas[0] * state.m + (1 - betas[0]) * grad
    v = betas[1] * state.v + (1 - betas[1]) * grad.square()
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    return param - lr * m_hat / (v_hat.sqrt() + eps), AdamState(step, m, v)


def adamw_step(
    param: Tensor,
    grad: Tensor,
    state: AdamState,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[Tensor, AdamState]:
    """Adam with the decay taken out of the gradient: first `θ ← θ·(1 − η·λ)`, then Adam's step without λ.

    Loshchilov and Hutter 2019, algorithm 2 (with their schedule multiplier inside η, as in torch).

    >>> one, five = torch.tensor([1.0]), torch.tensor([5.0])
    >>> adamw_step(one, five, adam_start(one), lr=0.1, weight_decay=0.5)[0]
    tensor([0.8500])
    """
    return adam_step(param * (1 - lr * weight_decay), grad, state, lr, betas, eps)


def clip_by_global_norm(grads: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    """Shorten the gradient of ALL parameters, taken as one long vector, to at most `max_norm`; its direction stays.

    `g · min(1, max_norm/(‖g‖ + 10⁻⁶))`. Returns (the gradients, the norm ‖g‖ before). Raises ValueError for no
    gradients or max_norm ≤ 0. Pascanu et al. 2013, algorithm 1.

    >>> clip_by_global_norm([torch.tensor([3.0]), torch.tensor([4.0])], max_norm=1.0)
    ([tensor([0.6000]), tensor([0.8000])], tensor(5.))
    """
    if not grads:
        raise ValueError("no gradients: there is nothing to clip")
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, not {max_norm}")
    norm = torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [grad * factor for grad in grads], norm


# --- the fast path ----------------------------------------------------------------------------------------------------

KINDS = ("sgd", "momentum", "adam", "adamw", "muon")


def is_matrix_inside(name: str, parameter: nn.Parameter) -> bool:
    """Whether this is one of the matrices between embedding and logits (or head): what Muon is meant for.

    >>> matrix = nn.Parameter(torch.ones(2, 2))
    >>> is_matrix_inside("blocks.0.mlp.w_in.weight", matrix), is_matrix_inside("body.embed_tokens.weight", matrix)
    (True, False)
    """
    outside = any(part.startswith(("embed_", "unembed", "head", "next_sentence")) for part in name.split("."))
    return parameter.dim() == 2 and not outside


def build_optimizers(
    model: nn.Module,
    *,
    kind: str,
    lr: float,
    muon_lr: float = 0.0,
    weight_decay: float,
    betas: tuple[float, float],
    momentum: float = 0.9,
) -> list[torch.optim.Optimizer]:
    """torch's fused optimizer of that kind for all that learns; muon: Muon for inner matrices, AdamW for the rest.

    Each group keeps its `peak_lr`. Weight decay touches matrices only, never biases, norms or embeddings. Raises
    ValueError for an unknown kind, or when nothing learns.
    Loshchilov and Hutter 2019 (AdamW); Jordan et al. 2024 (Muon).

    >>> len(build_optimizers(nn.Linear(2, 2), kind="adamw", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95)))
    1
    """
    if kind not in KINDS:
        raise ValueError(f"unknown optimizer {kind!r}: use one of {', '.join(KINDS)}")
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("no parameter of this model learns: there is nothing to optimize")
    inner = [p for n, p in named if is_matrix_inside(n, p)]
    rest = [p for n, p in named if not is_matrix_inside(n, p)]
    fused = all(p.device.type in ("cpu", "cuda", "mps") for _, p in named)
    both = [{"params": inner, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    groups = [group for group in both if group["params"]]
    optimizers: list[torch.optim.Optimizer]
    if kind == "muon":
        muon = torch.optim.Muon(inner, lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        optimizers = [muon, torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=0.0, fused=fused)]
    elif kind in ("sgd", "momentum"):
        optimizers = [torch.optim.SGD(groups, lr=lr, momentum=momentum if kind == "momentum" else 0.0, fused=fused)]
    else:
        adam = torch.optim.AdamW if kind == "adamw" else torch.optim.Adam
        optimizers = [adam(groups, lr=lr, betas=betas, fused=fused)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Give every group `share` of its peak learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
