"""What makes a neuron fire: the strongest activations of every neuron over a small corpus.

Notation:  B texts in a batch · T positions · L n_layers · M d_mlp · C how many are kept.

A neuron is one of the M hidden numbers of a feed-forward network, after the activation (and the gate).
Geva et al. 2021, "Transformer Feed-Forward Layers Are Key-Value Memories", read them in this way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_core.model import Decoder


@dataclass(frozen=True)
class Strongest:
    """For every neuron its C strongest activations, the strongest first: values, and where they were.

    values float [L C M], texts and positions int [L C M] (which text, and which of its tokens).
    """

    values: Tensor
    texts: Tensor
    positions: Tensor


@torch.no_grad()
def strongest_activations(
    model: Decoder, texts: Sequence[Sequence[int]], count: int = 8, skip: int = 0, batch: int = 16
) -> tuple[Strongest, Strongest]:
    """(the highest, the lowest) activations of every neuron of every layer over some texts.

    texts: token ids, each at most context_length long and longer than `skip`, the number of leading tokens that are
    not counted (a document start, on which activations are like nowhere else). A gated neuron (SwiGLU) can be as
    strong below zero as above, hence both ends. Fewer than `count` are kept where the corpus is smaller.

    >>> from lm_core.config import gpt2_config
    >>> config = gpt2_config(vocab_size=9, d_model=6, n_layers=2, n_heads=3, context_length=5, d_mlp=7)
    >>> high, low = strongest_activations(Decoder(config).init_weights(), [[1, 2, 3], [4, 5]], count=2)
    >>> high.values.shape, bool((high.values[:, 0] >= high.values[:, 1]).all())
    (torch.Size([2, 2, 7]), True)
    """
    device = model.embed_tokens.weight.device
    ends: list[Strongest | None] = [None, None]
    for first in range(0, len(texts), batch):
        group = texts[first : first + batch]
        longest = max(map(len, group))
        # Padding stands at the end: the causal mask keeps it from every real token.
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in group], device=device)
        where = [(b, t) for b, text in enumerate(group) for t in range(skip, len(text))]
        rows, columns = torch.tensor(where, device=device).T
        hidden = torch.stack([layer.mlp_hidden[rows, columns] for layer in model.trace(ids).layers])  # [L N M]
        new = Strongest(
            hidden, (first + rows)[None, :, None].expand(hidden.shape), columns[None, :, None].expand(hidden.shape)
        )
        ends = [_keep(end, new, count, largest=k == 0) for k, end in enumerate(ends)]
    high, low = ends
    if high is None or low is None:
        raise ValueError("no texts")
    return high, low


def _keep(best: Strongest | None, new: Strongest, count: int, largest: bool) -> Strongest:
    """The `count` strongest of those kept so far and the new ones."""
    both = [new] if best is None else [best, new]
    values = torch.cat([part.values for part in both], dim=1)
    kept, order = values.topk(min(count, values.shape[1]), dim=1, largest=largest)
    texts = torch.cat([part.texts for part in both], dim=1).gather(1, order)
    return Strongest(kept, texts, torch.cat([part.positions for part in both], dim=1).gather(1, order))
