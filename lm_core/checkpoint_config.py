"""`config.json` of Hugging Face models, to and from this package's configs: GPT-2, Llama and BERT.

What this package cannot compute exactly is refused with a sentence, never approximated: a model that runs but is
wrong is worse than one that does not load.
"""

import math
from collections.abc import Mapping
from typing import Any

from lm_core.checkpoint_error import CheckpointError, Reason
from lm_core.config import DecoderConfig, EncoderConfig, gpt2_config, llama_config
from lm_core.positions import RopeScaling

Json = Mapping[str, Any]
MAX_SIZE = 10**8  # of any one width, length or vocabulary: keeps products of two far inside 64 bits
MAX_LAYERS = 1000  # building even an empty block takes time
ACTIVATION_NAMES = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu", "swish": "silu", "relu": "relu",
}  # fmt: skip
THEIR_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu", "relu": "relu"}

# Switches that change the computation, with the only value that this package computes. Absent or null = that value.
ONLY: dict[str, dict[str, Any]] = {
    "gpt2": {
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
        "add_cross_attention": False,
    },
    "llama": {"sliding_window": None, "use_sliding_window": False, "add_cross_attention": False},
    "bert": {
        "is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
    },
}  # fmt: skip


# --- reading ----------------------------------------------------------------------------------------------------------


def config_from_hugging_face(config: Json) -> DecoderConfig | EncoderConfig:
    """The shape of a model from its parsed `config.json`.

    Raises CheckpointError for another family than GPT-2, Llama and BERT, for code in the folder (`auto_map`), for
    quantized weights, for a switch this package does not compute, and for impossible or missing numbers; plain
    ValueError for numbers that do not fit each other.

    >>> config_from_hugging_face({"model_type": "mamba"})
    Traceback (most recent call last):
    lm_core.checkpoint_error.CheckpointError: models of type 'mamba' are not supported, only gpt2, llama and bert
    """
    if config.get("auto_map"):
        raise CheckpointError(
            "config.json has an 'auto_map': the folder wants to run code of its own, which is refused", "unsafe"
        )
    family = config.get("model_type")
    if not isinstance(family, str) or family not in ONLY:
        raise CheckpointError(f"models of type {family!r} are not supported, only gpt2, llama and bert", "unsupported")
    if config.get("quantization_config"):
        raise CheckpointError("quantized weights are not supported, only plain float ones", "unsupported")
    for name, computed in ONLY[family].items():
        if (value := config.get(name)) is not None and value != computed:
            sentence = f"{name} = {value!r} is not supported for {family}, only {computed!r}"
            raise CheckpointError(sentence, "unsupported")
    if family == "bert":
        return _bert(config)
    return _gpt2(config) if family == "gpt2" else _llama(config)


def _size(config: Json, name: str, default: int | None = None, limit: int = MAX_SIZE) -> int:
    value = config.get(name)
    value = default if value is None else value
    if type(value) is not int or not 1 <= value <= limit:
        reason: Reason = "too_large" if type(value) is int and value > limit else "broken"
        raise CheckpointError(f"config.json: {name} must be a whole number from 1 to {limit:,}, not {value!r}", reason)
    return value


def _number(config: Json, name: str, default: float | None = None) -> float:
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise CheckpointError(f"config.json: {name} must be a positive number, not {value!r}", "broken")
    return float(value)


def _flag(config: Json, name: str, default: bool) -> bool:
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(f"config.json: {name} must be true or false, not {value!r}", "broken")
    return default if value is None else value


def _activation(config: Json, name: str, default: str) -> str:
    value = config.get(name) or default
    if not isinstance(value, str) or value not in ACTIVATION_NAMES:
        known = ", ".join(ACTIVATION_NAMES)
        raise CheckpointError(f"the activation {value!r} is not supported, only {known}", "unsupported")
    return ACTIVATION_NAMES[value]


def _gpt2(config: Json) -> DecoderConfig:
    d_model = _size(config, "n_embd")
    return gpt2_config(
        vocab_size=_size(config, "vocab_size"), d_model=d_model, n_layers=_size(config, "n_layer", limit=MAX_LAYERS),
        n_heads=_size(config, "n_head"), context_length=_size(config, "n_positions"),
        d_mlp=_size(config, "n_inner", 4 * d_model), norm_eps=_number(config, "layer_norm_epsilon", 1e-5),
        activation=_activation(config, "activation_function", "gelu_new"),
        tie_embeddings=_flag(config, "tie_word_embeddings", True),
    )  # fmt: skip


def _llama(config: Json) -> DecoderConfig:
    kinds = config.get("layer_types")
    if kinds and (not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds)):
        raise CheckpointError("layer_types other than 'full_attention' are not supported", "unsupported")
    n_heads, context_length = _size(config, "num_attention_heads"), _size(config, "max_position_embeddings")
    theta, scaling = _rope(config, context_length)
    return llama_config(
        vocab_size=_size(config, "vocab_size"), d_model=_size(config, "hidden_size"),
        n_layers=_size(config, "num_hidden_layers", limit=MAX_LAYERS), n_heads=n_heads,
        context_length=context_length, d_mlp=_size(config, "intermediate_size"),
        n_kv_heads=_size(config, "num_key_value_heads", n_heads),
        d_head=None if config.get("head_dim") is None else _size(config, "head_dim"),
        norm_eps=_number(config, "rms_norm_eps", 1e-6), activation=_activation(config, "hidden_act", "silu"),
        attention_bias=_flag(config, "attention_bias", False), mlp_bias=_flag(config, "mlp_bias", False),
        tie_embeddings=_flag(config, "tie_word_embeddings", False), rope_theta=theta, rope_scaling=scaling,
    )  # fmt: skip


def _rope(config: Json, context_length: int) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotation: `rope_parameters` (transformers 5), or `rope_theta` + `rope_scaling` before."""
    rope: dict[str, Any] = {"rope_theta": config.get("rope_theta")}
    for name in ("rope_scaling", "rope_parameters"):
        part = config.get(name) or {}
        if not isinstance(part, dict):
            raise CheckpointError(f"config.json: {name} must be an object, not {part!r}", "broken")
        rope |= {key: value for key, value in part.items() if value is not None}
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if partial not in (None, 1):
        raise CheckpointError(f"partial_rotary_factor = {partial!r} is not supported, only 1", "unsupported")
    theta = _number(rope, "rope_theta", 10000.0)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        sentence = f"the rope type {kind!r} is not supported, only 'default' and 'llama3'"
        raise CheckpointError(sentence, "unsupported")
    low, high = _number(rope, "low_freq_factor"), _number(rope, "high_freq_factor")
    if not low < high:
        sentence = f"config.json: low_freq_factor {low} must be below high_freq_factor {high}"
        raise CheckpointError(sentence, "broken")
    original = _size(rope, "original_max_position_embeddings", context_length)
    return theta, RopeScaling(_number(rope, "factor"), low, high, original)


def _bert(config: Json) -> EncoderConfig:
    return EncoderConfig(
        vocab_size=_size(config, "vocab_size"), d_model=_size(config, "hidden_size"),
        n_layers=_size(config, "num_hidden_layers", limit=MAX_LAYERS), n_heads=_size(config, "num_attention_heads"),
        d_mlp=_size(config, "intermediate_size"), context_length=_size(config, "max_position_embeddings"),
        n_segments=_size(config, "type_vocab_size", 2), norm_eps=_number(config, "layer_norm_eps", 1e-12),
        activation=_activation(config, "hidden_act", "gelu"),
    )  # fmt: skip


# --- writing ----------------------------------------------------------------------------------------------------------


def config_to_hugging_face(config: DecoderConfig | EncoderConfig, bos_id: int | None, eos_id: int | None) -> Json:
    """What `config.json` says about a model of this shape: `config_from_hugging_face` backwards.

    `dtype` is float32 whatever the file holds, so that `transformers` computes as this package does.
    Raises ValueError for a mixture of switches that no published family has.

    >>> shape = gpt2_config(vocab_size=96, d_model=32, n_layers=2, n_heads=4, context_length=16)
    >>> config_from_hugging_face(config_to_hugging_face(shape, None, None)) == shape
    True
    """
    writer = {"gpt2": _write_gpt2, "llama": _write_llama, "bert": _write_bert}[config.family]
    common = {
        "model_type": config.family, "dtype": "float32", "vocab_size": config.vocab_size,
        "bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": None,
    }  # fmt: skip
    return {**common, **writer(config)}


def _write_gpt2(c: Any) -> Json:
    return {
        "architectures": ["GPT2LMHeadModel"], "n_positions": c.context_length, "n_embd": c.d_model,
        "n_layer": c.n_layers, "n_head": c.n_heads, "n_inner": c.d_mlp, "layer_norm_epsilon": c.norm_eps,
        "activation_function": THEIR_ACTIVATION[c.activation], "tie_word_embeddings": c.tie_embeddings,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    }  # fmt: skip


def _write_llama(c: Any) -> Json:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": c.rope_theta}
    if c.rope_scaling is not None:
        s = c.rope_scaling
        rope |= {
            "rope_type": "llama3", "factor": s.factor, "low_freq_factor": s.low_freq_factor,
            "high_freq_factor": s.high_freq_factor, "original_max_position_embeddings": s.original_context_length,
        }  # fmt: skip
    return {
        "architectures": ["LlamaForCausalLM"], "max_position_embeddings": c.context_length, "hidden_size": c.d_model,
        "num_hidden_layers": c.n_layers, "num_attention_heads": c.n_heads, "num_key_value_heads": c.n_kv_heads,
        "head_dim": c.d_head, "intermediate_size": c.d_mlp, "rms_norm_eps": c.norm_eps,
        "hidden_act": "gelu_pytorch_tanh" if c.activation == "gelu_tanh" else c.activation, "rope_parameters": rope,
        "attention_bias": c.attention_bias, "mlp_bias": c.mlp_bias, "tie_word_embeddings": c.tie_embeddings,
    }  # fmt: skip


def _write_bert(c: Any) -> Json:
    return {
        "architectures": ["BertForPreTraining" if c.next_sentence_head else "BertForMaskedLM"],
        "max_position_embeddings": c.context_length, "hidden_size": c.d_model, "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads, "intermediate_size": c.d_mlp, "type_vocab_size": c.n_segments,
        "layer_norm_eps": c.norm_eps, "hidden_act": THEIR_ACTIVATION[c.activation],
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 0,
    }  # fmt: skip
