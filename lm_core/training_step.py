"""One step of gradient descent, the same for pre-training and fine-tuning.

Notation:  B batch · T positions · V vocab_size. Losses are in nats.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[], Tensor]


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats: −log P(target) averaged over all positions. logits [B T V], targets int [B T].

    Positions whose target is −100 do not count.

    >>> round(next_token_loss(torch.zeros(1, 2, 8), torch.tensor([[3, 5]])).item(), 4)  # ln 8
    2.0794
    """
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def accumulate(losses: Sequence[Loss], counts: Sequence[int]) -> Tensor:
    """Add up the gradients of several small batches as if they were one large one; returns that one's loss, a scalar.

    Each of `losses` computes the MEAN over its `counts[i]` targets; it enters with the weight counts[i]/Σ counts, so
    that every target counts the same. The plain mean of the means, which many loops show and descend, would count a
    target in a small batch more than one in a large one.

    >>> w = torch.tensor(1.0, requires_grad=True)
    >>> accumulate([lambda: 2 * w, lambda: 6 * w], [3, 1]), w.grad
    (tensor(3.), tensor(3.))
    """
    total, value = sum(counts), None
    for compute, count in zip(losses, counts, strict=True):
        loss = compute() * (count / total)
        loss.backward()
        value = loss.detach() if value is None else value + loss.detach()
    if value is None:
        raise ValueError("no batch: there is nothing to learn from")
    return value


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clip the gradients by their global norm (see `optim.clip_by_global_norm`); returns the norm before."""
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm).detach()


def apply_step(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Let every optimizer take its step and forget the gradients."""
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
