"""A table of position vectors that begins as noise and is learned, small enough to watch.

Notation:  T positions · D width of a row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lm_core.attention import attention_scores, masked_softmax, scale_scores


@dataclass(frozen=True)
class TableRecord:
    """The table after `step` steps of training: table [T D], its loss in nats, and the weights [T T] it leads to."""

    step: int
    loss_nats: float
    table: Tensor
    weights: Tensor


def nearness(n_positions: int, reach: float) -> Tensor:
    """The weights to be learned: each position looks mostly at its neighbours, `w[i, j] ∝ exp(−|i − j| / reach)`.

    Returns float32 [T T], rows sum to 1.

    >>> nearness(3, reach=1.0)
    tensor([[0.6652, 0.2447, 0.0900],
            [0.2119, 0.5761, 0.2119],
            [0.0900, 0.2447, 0.6652]])
    """
    at = torch.arange(n_positions, dtype=torch.float32)
    return masked_softmax(-(at[:, None] - at[None, :]).abs() / reach)


def learn_position_table(
    n_positions: int = 32, width: int = 16, keep: Sequence[int] = (0, 5, 20, 60, 200), reach: float = 3.0,
    seed: int = 0,
) -> list[TableRecord]:  # fmt: skip
    """Train a table p [T D] from noise until softmax(p pᵀ / √D) looks mostly at the neighbours (see `nearness`).

    Nothing but the loss tells the rows apart at first: that row 7 stands between rows 6 and 8 is learned. The loss is
    the cross-entropy of `nearness` and these weights (nats, mean over rows); its floor is the entropy of `nearness`.
    Returns a record for each number of steps in `keep`, in rising order.  Raises ValueError for an empty `keep`.

    >>> before, after = learn_position_table(8, 4, keep=(0, 200))
    >>> before.loss_nats > after.loss_nats, after.table.shape
    (True, torch.Size([8, 4]))
    """
    if not keep:
        raise ValueError("keep names no step to record")
    generator = torch.Generator().manual_seed(seed)
    table = nn.Parameter(torch.randn(n_positions, width, generator=generator))
    target, optimizer = nearness(n_positions, reach), torch.optim.Adam([table], lr=0.03)
    records: list[TableRecord] = []
    for step in range(max(keep) + 1):
        weights = masked_softmax(scale_scores(attention_scores(table, table), width))
        loss = -(target * weights.clamp_min(math.exp(-80)).log()).sum(dim=-1).mean()
        if step in keep:
            records.append(TableRecord(step, loss.item(), table.detach().clone(), weights.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return records


def cosine_similarity(rows: Tensor) -> Tensor:
    """How alike any two rows point: `cos[i, j] = p_i · p_j / (‖p_i‖ ‖p_j‖)`, between −1 and 1; [T D] -> [T T].

    A row of zeros is like none: its cosines are 0.

    >>> cosine_similarity(torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]))
    tensor([[ 1.,  0., -1.],
            [ 0.,  1.,  0.],
            [-1.,  0.,  1.]])
    """
    lengths = rows.norm(dim=-1, keepdim=True)
    unit = rows / torch.where(lengths == 0, 1.0, lengths)
    return (unit @ unit.mT).clamp(-1, 1) + 0.0
