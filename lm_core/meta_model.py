"""A model without memory: every shape of a config on the `meta` device, before a single number is read.

Counting the parameters of a config that asks for 50 million words takes milliseconds there, and no memory.
"""

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lm_core.checkpoint_error import CheckpointError
from lm_core.config import DecoderConfig, EncoderConfig
from lm_core.encoder import Encoder
from lm_core.model import Decoder


class _NoFirstWeights(TorchFunctionMode):
    """Leaves out the random numbers that new layers are filled with: on the meta device there is nothing to fill,
    and asking torch to do so there imports its whole compiler first (seconds).
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def without_memory(config: DecoderConfig | EncoderConfig, max_parameters: int) -> Decoder | Encoder:
    """The model on the meta device: every shape, not one number. CheckpointError above max_parameters."""
    try:
        with torch.device("meta"), _NoFirstWeights():
            model = Decoder(config) if isinstance(config, DecoderConfig) else Encoder(config)
    except RuntimeError as error:  # a product of sizes that does not fit 64 bits
        sentence = f"config.json asks for an impossible size: {str(error).splitlines()[0]}"
        raise CheckpointError(sentence, "too_large") from None
    if (n_parameters := model.n_parameters()) > max_parameters:
        sentence = f"config.json asks for {n_parameters:,} parameters; the limit is {max_parameters:,}"
        raise CheckpointError(sentence, "too_large")
    return model
