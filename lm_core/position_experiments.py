"""Experiments with positions on a whole model: taken away, moved along, and run past the length that was trained.

Notation:  B batch · H heads · T positions · Dh d_head · D d_model.  Models are used as they are; none is changed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lm_core.attention import AttentionTrace
from lm_core.evaluate import windows
from lm_core.masks import causal_mask
from lm_core.model import Decoder
from lm_core.ops import REFERENCE
from lm_core.positions import RopeScaling, rotary_angles, rotate

CHUNK = 128  # positions whose logits exist at the same time


def placed(model: Decoder, token_ids: Tensor, positions: bool = True) -> tuple[Tensor, Tensor | None]:
    """What enters the first block: the stream [B T D], and the angles [T Dh/2] by which q and k will be turned.

    A model with a table adds a row of it and has no angles. Without `positions` neither happens: a bag of words.
    There is no limit for angles. Raises ValueError where a table has no row for the last position.
    """
    x, c = model.embed_tokens(token_ids), model.config
    if not positions:
        return x, None
    position_ids = torch.arange(token_ids.shape[-1], device=token_ids.device)
    if model.embed_positions is None:
        return x, rotary_angles(position_ids, c.d_head, c.rope_theta, c.rope_scaling)
    if len(position_ids) > c.context_length:
        raise ValueError(f"position {c.context_length} has no row: the table ends with row {c.context_length - 1}")
    return x + model.embed_positions(position_ids), None


def attention_of_layer(
    model: Decoder, token_ids: Tensor, layer: int, *, positions: bool = True, causal: bool = True
) -> AttentionTrace:
    """Attention of one layer (from 0), with positions and the causal mask left out of it and of all layers below.

    token_ids int [B T]. Without both, a shuffled text gives the same weights, shuffled: each layer treats all
    positions alike.  Vaswani et al. 2017, section 3.5: "the model contains no recurrence and no convolution".
    """
    allowed = causal_mask(token_ids.shape[-1], device=token_ids.device) if causal else None
    with torch.no_grad():
        resid, angles = placed(model, token_ids, positions)
        for block in model.blocks[: layer + 1]:
            trace = block.trace(resid, angles, allowed, REFERENCE)
            resid = trace.resid_post
    return trace.attention


def shuffled_order(n_tokens: int, n_fixed: int, seed: int) -> Tensor:
    """A random order of T tokens whose first `n_fixed` stay in place: new place a holds old token `order[a]`.

    int64 [T]. It is never the old order where two tokens can move.

    >>> shuffled_order(5, 1, seed=0)
    tensor([0, 1, 2, 4, 3])
    """
    order = torch.arange(n_tokens)
    movable = n_tokens - n_fixed
    if movable < 2:
        return order
    generator = torch.Generator().manual_seed(seed)
    moved = torch.randperm(movable, generator=generator)
    while torch.equal(moved, torch.arange(movable)):
        moved = torch.randperm(movable, generator=generator)
    order[n_fixed:] = n_fixed + moved
    return order


def put_back(weights: Tensor, order: Tensor) -> Tensor:
    """The weights [.. T T] of a shuffled text with rows and columns back in the old order: [.. T T].

    >>> put_back(torch.tensor([[1, 2], [3, 4]]), torch.tensor([1, 0]))
    tensor([[4, 3],
            [2, 1]])
    """
    place = torch.argsort(order)  # where each old token stands now
    return weights[..., place, :][..., place]


def rope_scores(
    q: Tensor, k: Tensor, positions: Tensor, theta: float = 10000.0, scaling: RopeScaling | None = None
) -> Tensor:
    """The score of ONE query and ONE key, were they at other places: `scores[m, n] = rotate(q, m) · rotate(k, n)`.

    q, k [Dh] before rotation, positions int [P] -> [P P]. Equal along each diagonal: only m − n matters.
    Su et al. 2021 (RoFormer), eq. 16.

    >>> rope_scores(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]), torch.arange(3))
    tensor([[ 1.0000,  0.5403, -0.4161],
            [ 0.5403,  1.0000,  0.5403],
            [-0.4161,  0.5403,  1.0000]])
    """
    angles = rotary_angles(positions, q.shape[-1], theta, scaling).to(q.dtype)
    return rotate(q, angles) @ rotate(k, angles).mT


def rope_pairs_by_distance(
    q: Tensor, k: Tensor, distances: Tensor, theta: float = 10000.0, scaling: RopeScaling | None = None
) -> Tensor:
    """What each turning pair adds to the score of one query and one key, by how far the key lies behind the query.

    q, k [Dh] before rotation, distances int [N] -> [N Dh/2]; a row's sum is the score. Pair i, at distance d, adds
    ‖q_i‖ ‖k_i‖ cos(φ_i + d · θ_i): a wave of its own frequency.  Su et al. 2021, section 3.4.3.

    >>> rope_pairs_by_distance(torch.tensor([2.0, 0.0]), torch.tensor([3.0, 0.0]), torch.tensor([0, 1])).flatten()
    tensor([6.0000, 3.2418])
    """
    angles = rotary_angles(distances, q.shape[-1], theta, scaling).to(q.dtype)
    products = rotate(q, angles) * k  # the key stays at position 0
    first, second = products.chunk(2, dim=-1)
    return first + second


def table_scores(model: Decoder, query_id: int, key_id: int, n_positions: int, head: int) -> Tensor:
    """Scores of layer 1 of ONE word as query at position m, and one as key at n, in a model with a position table.

    Returns [P P]. Nothing makes its diagonals equal. Raises ValueError for a model without a table.
    """
    if model.embed_positions is None:
        raise ValueError("this model has no table of positions")
    rows, block = model.embed_positions.weight[:n_positions], model.blocks[0]
    with torch.no_grad():
        everywhere = torch.stack([model.embed_tokens.weight[word] + rows for word in (query_id, key_id)])
        q, k, _ = block.attention.project(block.norm_1(everywhere))
    return q[0, head] @ k[1, head * k.shape[1] // q.shape[1]].mT


def _losses(model: Decoder, final: Tensor, targets: Tensor) -> Tensor:
    """−log P of each target, nats; final [N D], targets [N] -> float32 [N]."""
    pieces = zip(final.split(CHUNK), targets.split(CHUNK), strict=True)
    return torch.cat([F.cross_entropy(model.unembed(x).float(), t, reduction="none") for x, t in pieces])


def losses_in_one_run(model: Decoder, token_ids: Tensor) -> Tensor:
    """The surprisal (nats) of each token after the first, the whole text in one run however long it is.

    token_ids int [T] -> float32 [T − 1]. Positions past `context_length` were never trained.
    Raises ValueError where a table of positions has no row for them.
    """
    with torch.no_grad():
        x, angles = placed(model, token_ids[None])
        for block in model.blocks:
            x = block(x, angles, None, True, None)
        return _losses(model, model.final_norm(x)[0, :-1], token_ids[1:])


def losses_in_windows(model: Decoder, token_ids: Tensor) -> Tensor:
    """The same tokens judged inside the trained length: the text in overlapping windows, each beginning at position 0.

    int [T] -> float32 [T − 1]. A window moves by half of `context_length`, so that a token is judged on at least that
    much text before it (the first window excepted).
    """
    context, pieces = model.config.context_length, []
    with torch.no_grad():
        for start, end, scored in windows(len(token_ids), context + 1, max(1, context // 2)):
            final = model.hidden(token_ids[None, start : end - 1])[0]
            pieces.append(_losses(model, final[scored - 1 - start :], token_ids[scored:end]))
    return torch.cat(pieces)
