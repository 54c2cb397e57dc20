"""A whole causal language model: GPT-2 or Llama, by its config.

Notation:  B batch · T positions · D d_model · L n_layers · V vocab_size.

`model(token_ids)` is the fast path, for training and generation; `model.trace(token_ids)` is the readable one, which
returns every intermediate by name. Both give the same logits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lm_core.block import MLP, Block, LayerCache, LayerTrace, Norm, SelfAttention, over_heads
from lm_core.config import DecoderConfig
from lm_core.ops import REFERENCE, Ops
from lm_core.positions import rotary_angles


@dataclass(frozen=True)
class ModelTrace:
    """Every intermediate of a whole model.

    embedded [B T D] (token vectors, plus learned position vectors where the model has them), layers (L times
    `LayerTrace`), final [B T D] (the stream after the last normalisation), logits [B T V].
    """

    token_ids: Tensor
    embedded: Tensor
    layers: tuple[LayerTrace, ...]
    final: Tensor
    logits: Tensor


class KVCache:
    """The keys and values of every layer. `length` positions are in it."""

    def __init__(self, layers: list[LayerCache]) -> None:
        self.layers = layers

    @property
    def length(self) -> int:
        """How many positions have been seen."""
        return self.layers[0].length


class Decoder(nn.Module):
    """Tokens in, one logit a vocabulary entry out, at every position; no position sees what comes after it."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        learned = config.positions == "learned"
        self.embed_positions = nn.Embedding(config.context_length, config.d_model) if learned else None
        self.blocks = cast(Sequence[Block], nn.ModuleList(self._block() for _ in range(config.n_layers)))
        self.final_norm = Norm(config.norm, config.d_model, config.norm_eps)
        self.unembed = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:  # one matrix reads tokens in and writes them out
            self.unembed.weight = self.embed_tokens.weight

    def _block(self) -> Block:
        c = self.config
        return Block(
            SelfAttention(c.d_model, c.n_heads, c.n_kv_heads, c.d_head, c.attention_bias),
            MLP(c.d_model, c.d_mlp, c.activation, c.gated_mlp, c.mlp_bias),
            Norm(c.norm, c.d_model, c.norm_eps),
            Norm(c.norm, c.d_model, c.norm_eps),
            pre_norm=True,
        )

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> "Decoder":
        """Fresh weights: normal with deviation 0.02, and less for what writes to the stream.

        2L parts add to the residual stream, so W_O and W_out start smaller by √(2L): the stream's variance then does
        not grow with depth. Biases 0, norms 1.  Radford et al. 2019, section 2.3.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" not in name:
                writes = name.endswith(("w_o.weight", "w_out.weight"))
                parameter.normal_(
                    0.0, 0.02 / math.sqrt(2 * self.config.n_layers) if writes else 0.02, generator=generator
                )
        return self

    def new_cache(self, batch: int, n_positions: int) -> KVCache:
        """An empty KV cache with room for n_positions, on the model's device and in its dtype."""
        c, like = self.config, self.embed_tokens.weight
        return KVCache([LayerCache(batch, c.n_kv_heads, n_positions, c.d_head, like) for _ in range(c.n_layers)])

    def _embed(self, token_ids: Tensor, start: int) -> tuple[Tensor, Tensor | None]:
        """Token vectors [B T D] with positions start … start+T−1 in them, or the angles that will carry those."""
        n_tokens, c = token_ids.shape[-1], self.config
        if n_tokens == 0:
            raise ValueError("no tokens: a model needs at least one")
        if start + n_tokens > c.context_length:
            raise ValueError(f"{start + n_tokens} tokens, but this model sees at most {c.context_length}")
        position_ids = torch.arange(start, start + n_tokens, device=token_ids.device)
        x = self.embed_tokens(token_ids)
        if self.embed_positions is not None:
            return x + self.embed_positions(position_ids), None
        return x, rotary_angles(position_ids, c.d_head, c.rope_theta, c.rope_scaling)

    def hidden(self, token_ids: Tensor, allowed: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """The stream after the last normalisation, [B T D]: what a classification head reads."""
        start = cache.length if cache else 0
        x, angles = self._embed(token_ids, start)
        n_tokens = token_ids.shape[-1]
        causal = allowed is None and start == 0 and n_tokens > 1
        if allowed is None and start > 0 and n_tokens > 1:  # a lone new token may see everything: no mask
            allowed = REFERENCE.causal_mask(n_tokens, start + n_tokens, device=x.device)
        allowed = over_heads(allowed)
        for i, block in enumerate(self.blocks):
            x = block(x, angles, allowed, causal, cache.layers[i] if cache else None)
        return self.final_norm(x)

    def forward(self, token_ids: Tensor, allowed: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Logits of the next token at every position, by the fast path.

        token_ids int [B T] -> [B T V]. `allowed` bool, [T T] or [B T T], REPLACES the causal mask (padding,
        packed documents, experiments). With `cache`, token_ids are only the new tokens.
        Raises ValueError for no tokens and for more than `context_length`.
        """
        return self.unembed(self.hidden(token_ids, allowed, cache))

    def trace(self, token_ids: Tensor, allowed: Tensor | None = None, ops: Ops = REFERENCE) -> ModelTrace:
        """The same computation by the readable functions in `ops`, with every intermediate; arguments as `forward`."""
        embedded, angles = self._embed(token_ids, 0)
        if allowed is None:
            allowed = ops.causal_mask(token_ids.shape[-1], device=token_ids.device)
        layers: list[LayerTrace] = []
        for block in self.blocks:
            resid = layers[-1].resid_post if layers else embedded
            layers.append(block.trace(resid, angles, over_heads(allowed), ops))
        final = self.final_norm.trace(layers[-1].resid_post, ops)
        return ModelTrace(token_ids, embedded, tuple(layers), final, self.unembed(final))

    def n_parameters(self) -> int:
        """Trained numbers, a tied matrix counted once."""
        return sum(p.numel() for p in self.parameters())
