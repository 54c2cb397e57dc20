"""A trace as plain arrays, by name: what figures draw, files hold and a sandbox sends back.

Notation:  L n_layers · H heads · H_kv key/value heads · T positions · Dh d_head · D d_model · M d_mlp · V vocab_size.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lm_core.encoder import EncoderTrace
from lm_core.model import ModelTrace

OF_ATTENTION = ("q", "k", "v", "scores", "scaled", "masked", "weights", "head_out")
OF_LAYER = (
    "resid_pre", "attn_in", "q_proj", "k_proj", "attn_out", "resid_mid", "mlp_in", "mlp_hidden", "mlp_out",
    "resid_post",
)  # fmt: skip
Arrays = dict[str, NDArray[Any]]


def trace_arrays(trace: ModelTrace | EncoderTrace) -> Arrays:
    """The first text of a trace, without the batch dimension, the layers stacked, as float32 on the CPU.

        token_ids                                   int64 [T]
        q_proj q head_out                           [L H T Dh]
        k_proj k v                                  [L H_kv T Dh]: their own number of heads
        scores scaled masked weights                [L H T T]; masked holds −∞ where not allowed
        resid_pre attn_in attn_out resid_mid mlp_in mlp_out resid_post   [L T D]
        mlp_hidden                                  [L T M]: the neurons
        embedded                                    [T D]
        logits                                      [T V]

    >>> import torch
    >>> from lm_core.config import gpt2_config
    >>> from lm_core.model import Decoder
    >>> model = Decoder(gpt2_config(vocab_size=9, d_model=6, n_layers=2, n_heads=3, context_length=5)).init_weights()
    >>> trace_arrays(model.trace(torch.tensor([[1, 2, 3, 4]])))["q"].shape
    (2, 3, 4, 2)
    """
    arrays: Arrays = {
        "token_ids": trace.token_ids[0].cpu().numpy(),
        "embedded": _array(trace.embedded),
        "logits": _array(trace.logits),
    }
    for name in OF_ATTENTION:
        arrays[name] = np.stack([_array(getattr(layer.attention, name)) for layer in trace.layers])
    for name in OF_LAYER:
        arrays[name] = np.stack([_array(getattr(layer, name)) for layer in trace.layers])
    return arrays


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor[0].detach().float().cpu().numpy()


def trace_bytes(n_layers: int, n_heads: int, n_tokens: int, d_model: int, d_mlp: int, vocab_size: int) -> int:
    """About how many bytes a trace of one text takes, its attention maps foremost: they grow with T².

    >>> trace_bytes(n_layers=12, n_heads=12, n_tokens=1024, d_model=768, d_mlp=3072, vocab_size=50257) / 2**30 > 2
    True
    """
    per_layer = 4 * n_heads * n_tokens**2 + n_tokens * (13 * d_model + d_mlp)
    return 4 * (n_layers * per_layer + n_tokens * vocab_size)
