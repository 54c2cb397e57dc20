"""`transformers` in float64 throughout, so that it can be compared to more digits than float32 has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from transformers.models.llama import modeling_llama


@contextmanager
def honest_float64() -> Iterator[None]:
    """transformers' Llama computes its softmax and its RMSNorm in float32 even in a float64 model. To compare to 1e-9
    they must keep float64: softmax loses its `dtype=float32`, the norm becomes torch's own.
    """
    softmax = F.softmax

    def keep_dtype(x: torch.Tensor, dim: int = -1, dtype: Any = None) -> torch.Tensor:
        return softmax(x, dim=dim)

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)

    with mock.patch.object(F, "softmax", keep_dtype), mock.patch.object(modeling_llama.LlamaRMSNorm, "forward", norm):
        yield
