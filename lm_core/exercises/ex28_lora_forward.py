"""28. Write `lora_forward`, `lora_merge`.

Check it:  python -m lm_core check lora_forward
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def lora_forward(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """A linear layer with a thin detour beside it: `x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ`.

    x [.. in], weight W [out in], a [r in], b [out r], bias [out] or None -> [.. out]; scale = alpha/r. W stays frozen:
    only A and B learn, r·(in + out) numbers in place of in·out. The detour is computed from right to left, never as the
    product B·A. Hu et al. 2022 (LoRA), eq. 3.

    >>> x, w, a, b = torch.tensor([[1.0, 2.0]]), torch.eye(2), torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0], [1.0]])
    >>> lora_forward(x, w, None, a, b, scale=0.5)
    tensor([[1.0000, 3.5000]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")


def lora_merge(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """The detour built into the road: `W + scale·B·A`, the same layer without extra work. [out in] -> [out in].

    >>> lora_merge(torch.eye(2), torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0], [1.0]]), scale=0.5)
    tensor([[1.0000, 0.0000],
            [0.5000, 1.5000]])
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
