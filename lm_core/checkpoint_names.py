"""What the weights are called: this package's parameters and Hugging Face's tensors, both ways.

GPT-2's published code differs in two ways from the others: it multiplies x·W with W stored [in out], not [out in]
("Conv1D"), and keeps W_Q, W_K and W_V side by side in one matrix `c_attn`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lm_core.checkpoint_error import CheckpointError


@dataclass(frozen=True)
class Place:
    """Where a parameter lies: the tensor's name (without the family's prefix), stored transposed or not, and which
    third of the tensor's rows (after transposing) it is, if it shares the tensor with two others.
    """

    name: str
    transposed: bool = False
    third: int | None = None


# Our module -> theirs; `#` is the number of the layer. Each has a `weight` and perhaps a `bias`.
MODULES: dict[str, dict[str, str]] = {
    "gpt2": {
        "embed_tokens": "wte",
        "embed_positions": "wpe",
        "blocks.#.norm_1": "h.#.ln_1",
        "blocks.#.attention.w_q": "h.#.attn.c_attn",
        "blocks.#.attention.w_k": "h.#.attn.c_attn",
        "blocks.#.attention.w_v": "h.#.attn.c_attn",
        "blocks.#.attention.w_o": "h.#.attn.c_proj",
        "blocks.#.norm_2": "h.#.ln_2",
        "blocks.#.mlp.w_in": "h.#.mlp.c_fc",
        "blocks.#.mlp.w_out": "h.#.mlp.c_proj",
        "final_norm": "ln_f",
        "unembed": "lm_head",
    },
    "llama": {
        "embed_tokens": "embed_tokens",
        "blocks.#.norm_1": "layers.#.input_layernorm",
        "blocks.#.attention.w_q": "layers.#.self_attn.q_proj",
        "blocks.#.attention.w_k": "layers.#.self_attn.k_proj",
        "blocks.#.attention.w_v": "layers.#.self_attn.v_proj",
        "blocks.#.attention.w_o": "layers.#.self_attn.o_proj",
        "blocks.#.norm_2": "layers.#.post_attention_layernorm",
        "blocks.#.mlp.w_gate": "layers.#.mlp.gate_proj",
        "blocks.#.mlp.w_in": "layers.#.mlp.up_proj",
        "blocks.#.mlp.w_out": "layers.#.mlp.down_proj",
        "final_norm": "norm",
        "unembed": "lm_head",
    },
    "bert": {
        "embed_tokens": "embeddings.word_embeddings",
        "embed_positions": "embeddings.position_embeddings",
        "embed_segments": "embeddings.token_type_embeddings",
        "embed_norm": "embeddings.LayerNorm",
        "blocks.#.attention.w_q": "encoder.layer.#.attention.self.query",
        "blocks.#.attention.w_k": "encoder.layer.#.attention.self.key",
        "blocks.#.attention.w_v": "encoder.layer.#.attention.self.value",
        "blocks.#.attention.w_o": "encoder.layer.#.attention.output.dense",
        "blocks.#.norm_1": "encoder.layer.#.attention.output.LayerNorm",
        "blocks.#.mlp.w_in": "encoder.layer.#.intermediate.dense",
        "blocks.#.mlp.w_out": "encoder.layer.#.output.dense",
        "blocks.#.norm_2": "encoder.layer.#.output.LayerNorm",
        "mlm_transform": "cls.predictions.transform.dense",
        "mlm_norm": "cls.predictions.transform.LayerNorm",
        "unembed": "cls.predictions",  # only its bias: its weight is the embedding's
        "pooler": "pooler.dense",
        "next_sentence": "cls.seq_relationship",
    },
}
PREFIX = {"gpt2": "transformer.", "llama": "model.", "bert": "bert."}  # of everything but the heads
HEADS = ("lm_head.", "cls.")
# A tensor that may stand in a file a second time, under another name, because two modules share it.
SHARED = {
    "gpt2": {"lm_head.weight": "wte.weight"},
    "llama": {"lm_head.weight": "embed_tokens.weight"},
    "bert": {
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
}
# Tables that older files hold beside the weights: masks, numbers 0 … T−1, rotation frequencies.
NOT_WEIGHTS = re.compile(r"h\.\d+\.attn\.(masked_)?bias|.*rotary_emb\.inv_freq|embeddings\.position_ids")


def place_of(family: str, parameter: str) -> Place:
    """Where Hugging Face keeps one of our parameters.

    >>> place_of("gpt2", "blocks.3.attention.w_k.weight")
    Place(name='h.3.attn.c_attn.weight', transposed=True, third=1)
    >>> place_of("llama", "blocks.3.mlp.w_in.weight").name
    'layers.3.mlp.up_proj.weight'
    """
    module, kind = parameter.rsplit(".", 1)
    number = re.search(r"\d+", module)
    theirs = MODULES[family][re.sub(r"\d+", "#", module, count=1)].replace("#", number[0] if number else "#")
    matrix_in_block = family == "gpt2" and kind == "weight" and ".w_" in parameter
    fused = theirs.endswith(".c_attn")
    third = ("w_q", "w_k", "w_v").index(module.rsplit(".", 1)[1]) if fused else None
    return Place(f"{theirs}.{kind}", matrix_in_block, third)


def short_name(family: str, name: str) -> str | None:
    """A name in a file without the family's prefix, in today's spelling; None for what is no weight.

    >>> short_name("bert", "bert.embeddings.LayerNorm.gamma"), short_name("gpt2", "transformer.h.0.attn.bias")
    ('embeddings.LayerNorm.weight', None)
    """
    short = name.removeprefix(PREFIX[family])
    if family == "bert":  # Google's names, still in bert-base-uncased
        short = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", short))
    return None if NOT_WEIGHTS.fullmatch(short) else short


def expected_shapes(family: str, parameters: Iterable[tuple[str, Tensor]]) -> dict[str, tuple[int, ...]]:
    """The tensors a file must hold for these parameters (only their shapes are looked at), by short name.

    >>> expected_shapes("gpt2", [("blocks.0.attention.w_v.weight", torch.empty(4, 4, device="meta"))])
    {'h.0.attn.c_attn.weight': (4, 12)}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in parameters:
        place = place_of(family, name)
        rows, *rest = parameter.shape
        shape = (rows if place.third is None else 3 * rows, *rest)
        shapes[place.name] = shape[::-1] if place.transposed else shape
    return shapes


def cut_out(tensor: Tensor, place: Place) -> Tensor:
    """One parameter out of the tensor that holds it; a view."""
    tensor = tensor.mT if place.transposed else tensor
    return tensor if place.third is None else tensor.chunk(3)[place.third]


def to_hugging_face(family: str, model: nn.Module) -> dict[str, Tensor]:
    """All parameters of a model as the tensors a file holds, by full name; a shared matrix stands there once."""
    groups: dict[str, list[tuple[Place, Tensor]]] = {}
    for name, parameter in model.named_parameters():
        place = place_of(family, name)
        groups.setdefault(place.name, []).append((place, parameter.detach()))
    return {
        (short if short.startswith(HEADS) else PREFIX[family] + short): _join(parts) for short, parts in groups.items()
    }


def _join(parts: list[tuple[Place, Tensor]]) -> Tensor:
    ordered = [tensor for _, tensor in sorted(parts, key=lambda part: part[0].third or 0)]
    whole = torch.cat(ordered) if len(ordered) > 1 else ordered[0]
    return whole.mT if parts[0][0].transposed else whole


def name_some(names: Iterable[str], at_most: int = 4) -> str:
    """Some names for an error message: the first few, and how many more.

    >>> name_some(["a", "b", "c"], at_most=2)
    'a, b and 1 more'
    """
    found = sorted(names)
    more = f" and {len(found) - at_most} more" if len(found) > at_most else ""
    return ", ".join(found[:at_most]) + more


def check_names(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Every tensor used, every parameter filled, every shape as the config says; else CheckpointError."""
    for name in expected.keys() & found.keys():
        if found[name] != expected[name]:
            sentence = f"{name} should be {expected[name]} by config.json, the file holds {found[name]}"
            raise CheckpointError(sentence, "broken")
    if missing := expected.keys() - found.keys():
        raise CheckpointError(f"the file lacks {name_some(missing)}", "broken")
    if extra := found.keys() - expected.keys():
        sentence = f"the file holds tensors that this model has no place for: {name_some(extra)}"
        raise CheckpointError(sentence, "unsupported")
