"""The shape of a model, as frozen dataclasses that refuse impossible numbers."""

from dataclasses import dataclass
from typing import Literal

from lm_core.layers import ACTIVATIONS
from lm_core.positions import RopeScaling


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive whole number, not {value!r}")


def _require_known_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}: use one of {', '.join(ACTIVATIONS)}")


@dataclass(frozen=True)
class DecoderConfig:
    """A causal language model: GPT-2 or Llama, by its switches.

    d_model is the width of the residual stream, d_head that of one head, d_mlp that of the feed-forward network.
    With fewer key/value heads than query heads (n_kv_heads < n_heads) attention is grouped-query.
    Raises ValueError, with the numbers in it, for shapes that cannot work.

    >>> gpt2_config(vocab_size=96, d_model=30, n_layers=2, n_heads=4, context_length=16)
    Traceback (most recent call last):
    ValueError: d_model 30 is not divisible by n_heads 4
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    context_length: int
    positions: Literal["learned", "rope"]
    norm: Literal["layer_norm", "rms_norm"]
    norm_eps: float
    activation: str
    gated_mlp: bool
    attention_bias: bool
    mlp_bias: bool
    tie_embeddings: bool
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        _require_positive(self, "vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads")
        _require_positive(self, "d_head", "d_mlp", "context_length")
        _require_known_activation(self.activation)
        if self.positions not in ("learned", "rope"):
            raise ValueError(f"unknown positions {self.positions!r}: use learned or rope")
        if self.norm not in ("layer_norm", "rms_norm"):
            raise ValueError(f"unknown norm {self.norm!r}: use layer_norm or rms_norm")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not divisible by n_kv_heads {self.n_kv_heads}")
        if self.positions == "rope" and self.d_head % 2:
            raise ValueError(f"d_head {self.d_head} is odd, but RoPE turns pairs of components")

    @property
    def family(self) -> Literal["gpt2", "llama"]:
        """Which published architecture this is; ValueError for a mixture that neither knows."""
        gpt2 = (self.positions, self.norm, self.gated_mlp) == ("learned", "layer_norm", False)
        llama = (self.positions, self.norm, self.gated_mlp) == ("rope", "rms_norm", True)
        if gpt2 and self.attention_bias and self.mlp_bias and self.n_kv_heads == self.n_heads:
            return "gpt2"
        if llama:
            return "llama"
        raise ValueError("this mixture of switches is neither GPT-2 nor Llama in shape")


def _divide(d_model: int, n_heads: int) -> int:
    if n_heads < 1 or d_model % n_heads:
        raise ValueError(f"d_model {d_model} is not divisible by n_heads {n_heads}")
    return d_model // n_heads


def gpt2_config(
    *, vocab_size: int, d_model: int, n_layers: int, n_heads: int, context_length: int, d_mlp: int | None = None,
    norm_eps: float = 1e-5, activation: str = "gelu_tanh", tie_embeddings: bool = True,
) -> DecoderConfig:  # fmt: skip
    """A model exactly GPT-2 in shape. Radford et al. 2019.

    >>> gpt2_config(vocab_size=96, d_model=32, n_layers=2, n_heads=4, context_length=16).d_head
    8
    """
    return DecoderConfig(
        vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_heads,
        d_head=_divide(d_model, n_heads), d_mlp=4 * d_model if d_mlp is None else d_mlp, context_length=context_length,
        positions="learned", norm="layer_norm", norm_eps=norm_eps, activation=activation, gated_mlp=False,
        attention_bias=True, mlp_bias=True, tie_embeddings=tie_embeddings,
    )  # fmt: skip


def llama_config(
    *, vocab_size: int, d_model: int, n_layers: int, n_heads: int, context_length: int, d_mlp: int,
    n_kv_heads: int | None = None, d_head: int | None = None, norm_eps: float = 1e-5, activation: str = "silu",
    attention_bias: bool = False, mlp_bias: bool = False, tie_embeddings: bool = True,
    rope_theta: float = 10000.0, rope_scaling: RopeScaling | None = None,
) -> DecoderConfig:  # fmt: skip
    """A model exactly Llama in shape. Touvron et al. 2023.

    >>> llama_config(vocab_size=96, d_model=32, n_layers=2, n_heads=4, context_length=16, d_mlp=48).family
    'llama'
    """
    return DecoderConfig(
        vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, n_heads=n_heads,
        n_kv_heads=n_heads if n_kv_heads is None else n_kv_heads,
        d_head=_divide(d_model, n_heads) if d_head is None else d_head, d_mlp=d_mlp, context_length=context_length,
        positions="rope", norm="rms_norm", norm_eps=norm_eps, activation=activation, gated_mlp=True,
        attention_bias=attention_bias, mlp_bias=mlp_bias, tie_embeddings=tie_embeddings,
        rope_theta=rope_theta, rope_scaling=rope_scaling,
    )  # fmt: skip


@dataclass(frozen=True)
class EncoderConfig:
    """A bidirectional encoder exactly BERT in shape. Devlin et al. 2019. Raises ValueError as `DecoderConfig`.

    >>> EncoderConfig(vocab_size=96, d_model=32, n_layers=2, n_heads=4, d_mlp=64, context_length=16).d_head
    8
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    d_mlp: int
    context_length: int
    n_segments: int = 2
    norm_eps: float = 1e-12
    activation: str = "gelu"
    next_sentence_head: bool = False

    def __post_init__(self) -> None:
        _require_positive(self, "vocab_size", "d_model", "n_layers", "n_heads", "d_mlp", "context_length", "n_segments")
        _require_known_activation(self.activation)
        _divide(self.d_model, self.n_heads)

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    family: Literal["bert"] = "bert"
