"""The other parts of a transformer: normalisation and the feed-forward network, as plain functions.

Notation:  B batch · T positions · D d_model · M d_mlp. Every function works on each position by itself.
Weights follow `nn.Linear`: [out in], so that y = x Wᵀ + b.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Shift and stretch each position to mean 0 and variance 1, then give it a learned scale and offset.

    `(x − mean) / √(variance + eps) · weight + bias`; the variance divides by D, not by D − 1, and eps is
    inside the root. x [B T D], weight, bias [D] -> [B T D].  Ba et al. 2016, eq. 3-4.

    >>> layer_norm(torch.tensor([[1.0, 3.0]]), torch.ones(2), torch.zeros(2), eps=0.0)
    tensor([[-1.,  1.]])
    """
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    normal = centred / torch.sqrt(variance + eps) * weight
    return normal if bias is None else normal + bias


def rms_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Divide each position by its root mean square: a LayerNorm that leaves the mean alone.

    `x / √(mean(x²) + eps) · weight`; `bias` must be None (the argument is there so that both norms are
    called alike). x [B T D], weight [D] -> [B T D].  Zhang and Sennrich 2019, eq. 4.

    >>> rms_norm(torch.tensor([[3.0, 4.0]]), torch.ones(2), None, eps=0.0)
    tensor([[0.8485, 1.1314]])
    """
    if bias is not None:
        raise ValueError("RMSNorm has no bias")
    return x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight


def gelu(x: Tensor) -> Tensor:
    """`x · Φ(x)`, Φ the normal distribution function: a ReLU with a soft corner. Hendrycks and Gimpel 2016.

    >>> gelu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.0000,  0.8413])
    """
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """GPT-2's GELU: Φ approximated with tanh (off by up to 5e-4). Hendrycks and Gimpel 2016, section 2.

    >>> gelu_tanh(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1588,  0.0000,  0.8412])
    """
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Tensor) -> Tensor:
    """`x · sigmoid(x)`, also called swish. Ramachandran et al. 2017.

    >>> silu(torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7311])
    """
    return x * torch.sigmoid(x)


ACTIVATIONS: dict[str, Activation] = {"gelu": gelu, "gelu_tanh": gelu_tanh, "silu": silu, "relu": torch.relu}


def feed_forward(
    x: Tensor,
    w_in: Tensor,
    b_in: Tensor | None,
    w_out: Tensor,
    b_out: Tensor | None,
    activation: Activation,
    w_gate: Tensor | None = None,
    b_gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Widen, bend, narrow: `act(x W_inᵀ + b_in) W_outᵀ + b_out`, on each position alone.

    With a gate (SwiGLU) the widened vector is multiplied by a second one: `act(x W_gateᵀ) ⊙ (x W_inᵀ)`.
    x [B T D]; w_in, w_gate [M D]; w_out [D M]. Returns (hidden [B T M], out [B T D]): the neurons, and what they add.
    Vaswani et al. 2017, eq. 2; Shazeer 2020 (GLU variants), eq. 6.

    >>> x, eye = torch.tensor([[1.0, -2.0]]), torch.eye(2)
    >>> feed_forward(x, eye, None, eye, None, torch.relu)[1]
    tensor([[1., 0.]])
    """
    wide = F.linear(x, w_in, b_in)
    hidden = activation(wide) if w_gate is None else activation(F.linear(x, w_gate, b_gate)) * wide
    return hidden, F.linear(hidden, w_out, b_out)
