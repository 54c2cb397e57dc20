"""What a head specialises in, measured: how much of its attention falls on a kind of pair.

Notation:  H heads · L layers · T positions. weights [.. T T]: row = the position that looks (query), column = the
position it looks at (key). A kind of pair is a table `pairs` [T T], True where the pair is of that kind.

The kinds: the word before (Vig & Belinkov 2019), the first token (Xiao et al. 2024, "attention sinks"), the same token
earlier (Wang et al. 2022, section 3, "duplicate token heads"), and what followed the same token earlier (Olsson et al.
2022, "prefix matching score": the looking half of an induction head).
"""

from collections.abc import Callable

import torch
from torch import Tensor


def previous_token(token_ids: Tensor) -> Tensor:
    """Each position with the one just before it; token_ids [T] -> bool [T T].

    >>> previous_token(torch.tensor([5, 5, 6])).int().tolist()
    [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    """
    here = torch.arange(len(token_ids), device=token_ids.device)
    return here[:, None] - here == 1


def first_token(token_ids: Tensor) -> Tensor:
    """Each position with the first one of the text; the first itself has no choice and is left out. [T] -> [T T].

    >>> first_token(torch.tensor([5, 5, 6])).int().tolist()
    [[0, 0, 0], [1, 0, 0], [1, 0, 0]]
    """
    here = torch.arange(len(token_ids), device=token_ids.device)
    return (here == 0) & (here[:, None] > 0)


def same_token(token_ids: Tensor) -> Tensor:
    """Each position with every earlier one that holds the same token; [T] -> bool [T T].

    >>> same_token(torch.tensor([5, 6, 5])).int().tolist()
    [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    """
    equal = token_ids[:, None] == token_ids
    return equal.tril(diagonal=-1)


def induction(token_ids: Tensor) -> Tensor:
    """Each position with what followed an earlier copy of its token: `… A B … A` looks at `B`; [T] -> bool [T T].

    A head that looks there and copies what it finds continues a pattern it has seen once.

    >>> induction(torch.tensor([5, 6, 7, 5])).int().tolist()
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    """
    after_same = torch.zeros(len(token_ids), len(token_ids), dtype=torch.bool, device=token_ids.device)
    after_same[:, 1:] = same_token(token_ids)[:, :-1]
    return after_same.tril(diagonal=-1)  # A A: the second A itself followed the first, but it is no look back


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "previous": previous_token,
    "first": first_token,
    "same": same_token,
    "induction": induction,
}


def share_on(weights: Tensor, pairs: Tensor) -> Tensor:
    """The part of its attention that a head spends on pairs of one kind, 0 to 1.

    Averaged over the positions that have such a pair at all; NaN when none has. weights [.. T T], pairs [T T] -> [..].

    >>> looks_back = torch.tensor([[1.0, 0.0, 0.0], [0.75, 0.25, 0.0], [0.0, 0.25, 0.75]])
    >>> share_on(looks_back, previous_token(torch.tensor([5, 6, 7])))
    tensor(0.5000)
    """
    on_pairs = (weights * pairs).sum(dim=-1)
    has_pair = pairs.any(dim=-1)
    return on_pairs[..., has_pair].mean(dim=-1)


def even_share(pairs: Tensor) -> float:
    """The same share for a head without any preference, which looks evenly at all it may see: what chance would give.

    >>> even_share(first_token(torch.tensor([5, 6, 7])))  # (1/2 + 1/3) / 2
    0.416...
    """
    n_tokens = len(pairs)
    even = torch.ones(n_tokens, n_tokens, dtype=torch.float64, device=pairs.device).tril()
    return float(share_on(even / even.sum(dim=-1, keepdim=True), pairs))


def disagreement(one: Tensor, other: Tensor) -> Tensor:
    """How differently two heads look: the part of each row's weight that lies elsewhere, averaged over the rows.

    Half of Σ|difference| (total variation): 0 for the same map, 1 when no word is looked at by both.
    weights [.. T T] twice -> [..].

    >>> disagreement(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor(0.2500)
    """
    return (one - other).abs().sum(dim=-1).mean(dim=-1) / 2


def twice(block: Tensor, start_id: int | None) -> Tensor:
    """A passage and then the same passage again, after the document start where there is one: [n] -> [2n (+ 1)].

    The second half can be foreseen, but only by looking back at the first.

    >>> twice(torch.tensor([7, 8]), start_id=0)
    tensor([0, 7, 8, 7, 8])
    """
    start = block[:0] if start_id is None else block.new_tensor([start_id])
    return torch.cat([start, block, block])


def random_block(n: int, allowed_ids: Tensor, generator: torch.Generator) -> Tensor:
    """n different tokens in random order: nothing in a language helps to guess the next one; [n].

    Raises ValueError when there are fewer than n to draw from.

    >>> sorted(random_block(3, torch.tensor([4, 5, 6]), torch.Generator().manual_seed(0)).tolist())
    [4, 5, 6]
    """
    if len(allowed_ids) < n:
        raise ValueError(f"{n} different tokens cannot be drawn from {len(allowed_ids)}")
    return allowed_ids[torch.randperm(len(allowed_ids), generator=generator)[:n]]
