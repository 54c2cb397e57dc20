"""Where does the norm belong, before a sublayer or after the sum? Two small stacks, alike but for that, really trained.

Notation:  B batch · T positions · D d_model · L n_layers.

    pre-norm   x + F(norm(x))          the stream itself is never divided; one norm more at the very end
    post-norm  norm(x + F(x))          as in Vaswani et al. 2017 and BERT

Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture": at initialisation (Xavier) the gradient of
a post-norm stack grows from the first layer to the last, so that the last ones force a small learning rate or a
warm-up; that of a pre-norm stack is about the same in all layers. They look at W_out of every feed-forward network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm_core.block import MLP, Block, Norm, SelfAttention

BYTES = 256


@dataclass(frozen=True)
class StackConfig:
    """The sizes of both stacks and of their training."""

    d_model: int = 48
    n_heads: int = 4
    d_mlp: int = 96
    n_layers: int = 8
    context_length: int = 32
    batch: int = 8
    steps: int = 40
    learning_rate: float = 3e-3
    warmup: int = 0
    seed: int = 1


class Stack(nn.Module):
    """A byte-level language model of L blocks, pre-norm or post-norm."""

    def __init__(self, c: StackConfig, pre_norm: bool) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(BYTES, c.d_model)
        self.embed_positions = nn.Embedding(c.context_length, c.d_model)
        self.blocks = cast(Sequence[Block], nn.ModuleList(self._block(c, pre_norm) for _ in range(c.n_layers)))
        self.final_norm = Norm("layer_norm", c.d_model, 1e-5) if pre_norm else None
        self.unembed = nn.Linear(c.d_model, BYTES, bias=False)

    @staticmethod
    def _block(c: StackConfig, pre_norm: bool) -> Block:
        return Block(
            SelfAttention(c.d_model, c.n_heads, c.n_heads, c.d_model // c.n_heads, bias=True),
            MLP(c.d_model, c.d_mlp, "relu", gated=False, bias=True),
            Norm("layer_norm", c.d_model, 1e-5),
            Norm("layer_norm", c.d_model, 1e-5),
            pre_norm=pre_norm,
        )

    def forward(self, token_ids: Tensor) -> Tensor:
        """Bytes int [B T] -> logits [B T 256]."""
        x = self.embed_tokens(token_ids) + self.embed_positions.weight[: token_ids.shape[1]]
        for block in self.blocks:
            x = block(x, None, None, True, None)
        return self.unembed(x if self.final_norm is None else self.final_norm(x))


@torch.no_grad()
def build_stack(c: StackConfig, pre_norm: bool) -> Stack:
    """A fresh stack, Xavier-initialised from the seed: both placements get the same numbers.

    Matrices normal with variance 2 / (in + out); token and position vectors with variance ½ each, so that the stream
    begins with variance 1, as the paper assumes; biases 0, norms 1.

    >>> pre, post = (build_stack(StackConfig(n_layers=2), pre_norm) for pre_norm in (True, False))
    >>> torch.equal(pre.blocks[1].mlp.w_in.weight, post.blocks[1].mlp.w_in.weight)
    True
    """
    generator = torch.Generator().manual_seed(c.seed)
    stack = Stack(c, pre_norm)
    for name, parameter in stack.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif name.startswith("embed"):
            parameter.normal_(0.0, 0.5**0.5, generator=generator)
        elif "norm" not in name:
            nn.init.xavier_normal_(parameter, generator=generator)
    return stack


def gradient_norms(stack: Stack, windows: Tensor) -> tuple[float, Tensor]:
    """The loss (nats a byte) on some windows, and ‖∂loss/∂W_out‖ of the feed-forward network of every layer, [L].

    windows int [B T+1]: inputs are all but the last byte, targets all but the first. The gradients stay on the stack.
    """
    stack.zero_grad()
    loss = F.cross_entropy(stack(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    norms = [cast(Tensor, block.mlp.w_out.weight.grad).norm() for block in stack.blocks]
    return float(loss.detach()), torch.stack(norms)


@dataclass(frozen=True)
class PlacementRun:
    """losses [steps+1] in nats a byte before each step and after the last; gradient norms [L] before and after."""

    losses: Tensor
    before: Tensor
    after: Tensor


def run_placement(text: bytes, c: StackConfig, pre_norm: bool) -> PlacementRun:
    """Train one stack with Adam on windows of a text; both placements see the same windows in the same order.

    Raises ValueError for a text that does not fill a window.
    """
    if len(text) <= c.context_length:
        raise ValueError(f"a text of {len(text)} bytes does not fill a window of {c.context_length + 1}")
    data = torch.tensor(list(text))
    generator = torch.Generator().manual_seed(c.seed)
    starts = torch.randint(len(text) - c.context_length, (c.steps + 1, c.batch), generator=generator)
    windows = data[starts[..., None] + torch.arange(c.context_length + 1)]  # [steps+1 B T+1]
    stack = build_stack(c, pre_norm)
    optimizer = torch.optim.Adam(stack.parameters(), lr=c.learning_rate, fused=True)
    losses, norms = [], []
    for step in range(c.steps + 1):
        loss, sizes = gradient_norms(stack, windows[step])
        losses.append(loss)
        norms.append(sizes)
        for group in optimizer.param_groups:  # a linear warm-up: from nothing to the full learning rate
            group["lr"] = c.learning_rate * min(1.0, (step + 1) / max(1, c.warmup))
        optimizer.step()
    return PlacementRun(torch.tensor(losses), norms[0], norms[-1])
