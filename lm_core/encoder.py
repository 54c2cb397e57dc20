"""A bidirectional encoder: BERT, with its masked-language head (and the next-sentence head where it has one).

Notation:  B batch · T positions · D d_model · V vocab_size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lm_core.block import MLP, Block, LayerTrace, Norm, SelfAttention, over_heads
from lm_core.config import EncoderConfig
from lm_core.layers import ACTIVATIONS
from lm_core.ops import REFERENCE, Ops


@dataclass(frozen=True)
class EncoderTrace:
    """embedded [B T D], layers, logits [B T V] of the masked-language head, next_sentence [B 2] or None."""

    token_ids: Tensor
    embedded: Tensor
    layers: tuple[LayerTrace, ...]
    logits: Tensor
    next_sentence: Tensor | None


class Encoder(nn.Module):
    """Every position sees every other; normalisation comes AFTER each addition (post-norm). Devlin et al. 2019."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        c = self.config = config
        self.embed_tokens = nn.Embedding(c.vocab_size, c.d_model)
        self.embed_positions = nn.Embedding(c.context_length, c.d_model)
        self.embed_segments = nn.Embedding(c.n_segments, c.d_model)
        self.embed_norm = Norm("layer_norm", c.d_model, c.norm_eps)
        self.blocks = cast(Sequence[Block], nn.ModuleList(self._block() for _ in range(c.n_layers)))
        self.mlm_transform = nn.Linear(c.d_model, c.d_model)
        self.mlm_norm = Norm("layer_norm", c.d_model, c.norm_eps)
        self.unembed = nn.Linear(c.d_model, c.vocab_size)
        self.unembed.weight = self.embed_tokens.weight
        self.pooler = nn.Linear(c.d_model, c.d_model) if c.next_sentence_head else None
        self.next_sentence = nn.Linear(c.d_model, 2) if c.next_sentence_head else None

    def _block(self) -> Block:
        c = self.config
        return Block(
            SelfAttention(c.d_model, c.n_heads, c.n_heads, c.d_head, bias=True),
            MLP(c.d_model, c.d_mlp, c.activation, gated=False, bias=True),
            Norm("layer_norm", c.d_model, c.norm_eps),
            Norm("layer_norm", c.d_model, c.norm_eps),
            pre_norm=False,
        )

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> "Encoder":
        """Fresh weights: normal with deviation 0.02, biases 0, norms 1. Devlin et al. 2019's published code."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" not in name:
                parameter.normal_(0.0, 0.02, generator=generator)
        return self

    def _embed(self, token_ids: Tensor, segment_ids: Tensor | None) -> Tensor:
        n_tokens = token_ids.shape[-1]
        if n_tokens == 0:
            raise ValueError("no tokens: a model needs at least one")
        if n_tokens > self.config.context_length:
            raise ValueError(f"{n_tokens} tokens, but this model sees at most {self.config.context_length}")
        segments = torch.zeros_like(token_ids) if segment_ids is None else segment_ids
        positions = torch.arange(n_tokens, device=token_ids.device)
        return self.embed_tokens(token_ids) + self.embed_positions(positions) + self.embed_segments(segments)

    def hidden(self, token_ids: Tensor, allowed: Tensor | None = None, segment_ids: Tensor | None = None) -> Tensor:
        """The stream after the last block, [B T D]."""
        x = self.embed_norm(self._embed(token_ids, segment_ids))
        for block in self.blocks:
            x = block(x, None, over_heads(allowed), False, None)
        return x

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """The masked-language head on any positions: stream [... D] -> logits over the vocabulary [... V]."""
        transformed = ACTIVATIONS[self.config.activation](self.mlm_transform(hidden))
        return self.unembed(self.mlm_norm(transformed))

    def next_sentence_logits(self, hidden: Tensor) -> Tensor | None:
        """Does B follow A? Stream [B T D] -> [B 2]: 0 yes, 1 no. None for a model without that head."""
        if self.pooler is None or self.next_sentence is None:
            return None
        return self.next_sentence(torch.tanh(self.pooler(hidden[..., 0, :])))  # [CLS] speaks for the pair

    def forward(self, token_ids: Tensor, allowed: Tensor | None = None, segment_ids: Tensor | None = None) -> Tensor:
        """What stands at each position, as logits over the vocabulary, by the fast path.

        token_ids int [B T] -> [B T V]. allowed: `padding_mask` [B 1 T] or None; segment_ids int [B T] (0 or 1).
        """
        return self.mlm_logits(self.hidden(token_ids, allowed, segment_ids))

    def trace(
        self, token_ids: Tensor, allowed: Tensor | None = None, segment_ids: Tensor | None = None, ops: Ops = REFERENCE
    ) -> EncoderTrace:
        """The same by the readable functions in `ops`, with every intermediate."""
        embedded = self.embed_norm.trace(self._embed(token_ids, segment_ids), ops)
        layers: list[LayerTrace] = []
        for block in self.blocks:
            resid = layers[-1].resid_post if layers else embedded
            layers.append(block.trace(resid, None, over_heads(allowed), ops))
        final = layers[-1].resid_post
        transformed = ACTIVATIONS[self.config.activation](self.mlm_transform(final))
        logits = self.unembed(self.mlm_norm.trace(transformed, ops))
        return EncoderTrace(token_ids, embedded, tuple(layers), logits, self.next_sentence_logits(final))

    def n_parameters(self) -> int:
        """Trained numbers, the tied matrix counted once."""
        return sum(p.numel() for p in self.parameters())
