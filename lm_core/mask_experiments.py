"""Experiments with masks on a whole model: another mask, places that begin again, one token changed, rows of NaN.

Notation:  B batch · H heads · T positions · D d_model · L n_layers · V vocab_size.  No model is changed.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core.attention import AttentionTrace, attend, mix_values, repeat_heads
from lm_core.block import over_heads
from lm_core.masks import causal_mask, document_mask, padding_mask, positions_in_documents
from lm_core.model import Decoder
from lm_core.ops import REFERENCE, Ops
from lm_core.positions import rotary_angles


@dataclass(frozen=True)
class Run:
    """streams [L + 1 B T D]: what enters the first layer, then what leaves each one. logits [B T V]."""

    streams: Tensor
    logits: Tensor


def run(
    model: Decoder, token_ids: Tensor, allowed: Tensor, position_ids: Tensor | None = None, ops: Ops = REFERENCE
) -> Run:
    """The model under any mask, and with any positions: `allowed` in every layer, in place of the causal mask.

    token_ids int [B T]; allowed bool [T T] or [B T T]; position_ids int [T] or [B T], by default 0 … T−1.
    With the causal mask and the usual positions this is `model.trace` (tested). Raises ValueError for a position that
    the model does not know.
    """
    c = model.config
    if position_ids is None:
        position_ids = torch.arange(token_ids.shape[-1], device=token_ids.device)
    if int(position_ids.max()) >= c.context_length:
        raise ValueError(f"position {int(position_ids.max())}, but this model knows 0 to {c.context_length - 1}")
    with torch.no_grad():
        resid, angles = model.embed_tokens(token_ids), None
        if model.embed_positions is not None:
            resid = resid + model.embed_positions(position_ids)
        else:
            angles = rotary_angles(position_ids, c.d_head, c.rope_theta, c.rope_scaling)
            angles = over_heads(angles)  # positions of each text: [B 1 T Dh/2]
        streams = [resid]
        for block in model.blocks:
            streams.append(block.trace(streams[-1], angles, over_heads(allowed), ops).resid_post)
        logits = model.unembed(model.final_norm.trace(streams[-1], ops))
    return Run(torch.stack(streams), logits)


def leak(model: Decoder, token_ids: Tensor, place: int, new_id: int, allowed: Tensor) -> Tensor:
    """The leak detector: exchange the token at `place` and see what moves, at every position after every layer.

    `moved[l, i] = max_d |stream'_l[i, d] − stream_l[i, d]|`.  token_ids int [T], allowed bool [T T] -> [L + 1 T].
    Under a causal mask everything before `place` is exactly 0: not small, 0. A masked weight is e^−∞ = 0, and
    x + 0 · v is x in floating point as well.
    """
    changed = token_ids.clone()
    changed[place] = new_id
    before, after = (run(model, ids[None], allowed).streams[:, 0] for ids in (token_ids, changed))
    return (after - before).abs().amax(dim=-1)


def packed(model: Decoder, documents: list[Tensor], apart: bool = True, restart: bool = True) -> Tensor:
    """Several texts in one row, one after the other: logits [sum of T, V].

    documents: int [T_d] each. `apart`: with `document_mask`, else merely causal; `restart`: positions begin at 0 in
    each document, else they run through.
    """
    sizes = torch.tensor([len(ids) for ids in documents])
    row = torch.cat(documents)
    numbers = torch.repeat_interleave(torch.arange(len(documents)), sizes).to(row.device)
    allowed = document_mask(numbers) if apart else causal_mask(len(row), device=row.device)
    places = positions_in_documents(numbers) if restart else None
    return run(model, row[None], allowed, places).logits[0]


@dataclass(frozen=True)
class Batch:
    """Texts of different length in one rectangle: token_ids [B T], lengths [B]; `left`: the padding stands in front."""

    token_ids: Tensor
    lengths: Tensor
    left: bool

    @property
    def real(self) -> Tensor:
        """Which places hold a token of the text, bool [B T]."""
        return padding_mask(self.lengths, self.token_ids.shape[-1], self.left)[:, 0]

    @property
    def position_ids(self) -> Tensor:
        """The place of each token in its own text, [B T]; 0 for padding."""
        return (self.real.cumsum(dim=-1) - 1).clamp(min=0)


def pad(documents: list[Tensor], pad_id: int, left: bool = False) -> Batch:
    """Fill the shorter texts up to the longest with `pad_id`, behind or (`left`) in front.

    >>> pad([torch.tensor([5, 6, 7]), torch.tensor([8])], 0, left=True).token_ids
    tensor([[5, 6, 7],
            [0, 0, 8]])
    """
    longest = max(len(ids) for ids in documents)
    sides = [(longest - len(ids), 0) if left else (0, longest - len(ids)) for ids in documents]
    rows = [F.pad(ids, side, value=pad_id) for ids, side in zip(documents, sides, strict=True)]
    return Batch(torch.stack(rows), torch.tensor([len(ids) for ids in documents], device=rows[0].device), left)


def attend_with_plain_softmax(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> AttentionTrace:
    """`attend` with the softmax of the textbook: a row with nothing allowed is 0/0, and that is NaN.

    Arguments and shapes as `attend`. NaN goes on from there: 0 · NaN is NaN too, so in the next layer a position that
    the mask hides spoils even those that may not look at it.

    >>> x, nobody = torch.eye(2), torch.tensor([[False, False], [True, True]])
    >>> attend_with_plain_softmax(x, x, x, nobody).weights[0]
    tensor([nan, nan])
    """
    steps = attend(q, k, v, allowed, bias, scale)
    weights = torch.softmax(steps.masked, dim=-1)
    n_heads = q.shape[-3] if q.dim() >= 3 else 1
    return replace(steps, weights=weights, head_out=mix_values(weights, repeat_heads(v, n_heads)))


def spoilt(model: Decoder, token_ids: Tensor, allowed: Tensor) -> Tensor:
    """Where the stream holds NaN when softmax does not care for empty rows: bool [L + 1 T], for one text [T]."""
    ops = replace(REFERENCE, attend=attend_with_plain_softmax)
    return run(model, token_ids[None], allowed, ops=ops).streams[:, 0].isnan().any(dim=-1)
