"""LoRA and soft prompts in `peft`'s file format: what is saved here loads there, and the other way round.

    adapter_config.json          which kind, which matrices, rank, alpha
    adapter_model.safetensors    A and B of each matrix, or the k virtual tokens; a head beside them

GPT-2 keeps W_Q, W_K and W_V in one matrix. Our LoRAs of n of the three, each of rank r, are there ONE LoRA of rank n·r:
the A's below each other, each B in the rows of its own third and 0 elsewhere.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lm_core.adapters import LORA_TARGETS, LoraLinear, PromptEmbedding, lora_layers, lora_places, soft_prompt
from lm_core.checkpoint_names import PREFIX, Place, place_of
from lm_core.encoder import Encoder
from lm_core.model import Decoder

FRONT = "base_model.model."


def _module(family: str, path: str) -> tuple[str, Place]:
    """peft's name of one of our matrices, and its place in the tensor there."""
    place = place_of(family, f"{path}.weight")
    return PREFIX[family] + place.name.removesuffix(".weight"), place


def _lora_tensors(model: Decoder | Encoder) -> tuple[dict[str, Tensor], dict[str, tuple[int, float]]]:
    """(A and B by peft's names, (rank, alpha) by module)."""
    groups: dict[str, list[tuple[int | None, LoraLinear]]] = {}
    for path, layer in lora_layers(model).items():
        name, place = _module(model.config.family, path)
        groups.setdefault(name, []).append((place.third, layer))
    tensors: dict[str, Tensor] = {}
    sizes: dict[str, tuple[int, float]] = {}
    for name, parts in groups.items():
        a = torch.cat([layer.lora_a for _, layer in parts])
        b: Tensor = parts[0][1].lora_b
        if parts[0][0] is not None:
            rows = [layer.out_features for _, layer in parts]
            b, column = a.new_zeros(3 * rows[0], len(a)), 0
            for third, layer in parts:
                b[(third or 0) * rows[0] :][: rows[0], column : column + layer.rank] = layer.lora_b
                column += layer.rank
        tensors |= {f"{FRONT}{name}.lora_A.weight": a, f"{FRONT}{name}.lora_B.weight": b}
        sizes[name] = (len(a), sum(layer.alpha for _, layer in parts))
    return tensors, sizes


def _suffix(module: str) -> str:
    """The end of a module's name that tells it from the others in its block: `self_attn.q_proj`."""
    return ".".join(module.split(".")[-2:])


@torch.no_grad()
def save_adapter(model: Decoder | Encoder, folder: Path, base_name: str, heads: Mapping[str, nn.Module]) -> None:
    """Write the model's LoRA or soft prompt to `folder`, for `PeftModel.from_pretrained(base, folder)`.

    base_name: where peft shall look for the base model when it is not given one. heads: modules of a classifier that
    learn beside the adapter, by the name that `transformers` gives them (`score`). Raises ValueError without adapter.
    """
    prompt, loras = soft_prompt(model), lora_layers(model)
    common = {
        "base_model_name_or_path": base_name, "inference_mode": True, "peft_version": "0.21.2",
        "task_type": "SEQ_CLS" if heads else "CAUSAL_LM", "modules_to_save": [n.split(".")[-1] for n in heads] or None,
    }  # fmt: skip
    if prompt is not None:
        c = model.config
        tensors: dict[str, Tensor] = {"prompt_embeddings": prompt.prompt}
        front, config = FRONT.removesuffix("model."), {
            **common, "peft_type": "PROMPT_TUNING", "num_virtual_tokens": len(prompt.prompt), "token_dim": c.d_model,
            "num_layers": c.n_layers, "num_attention_heads": c.n_heads, "num_transformer_submodules": 1,
            "prompt_tuning_init": "RANDOM", "prompt_tuning_init_text": None, "tokenizer_name_or_path": None,
        }  # fmt: skip
    elif loras:
        tensors, sizes = _lora_tensors(model)
        first = next(iter(loras.values()))
        other = {_suffix(name): size for name, size in sizes.items() if size != (first.rank, first.alpha)}
        front, config = FRONT, {
            **common, "peft_type": "LORA", "r": first.rank, "lora_alpha": first.alpha, "bias": "none",
            "target_modules": sorted({_suffix(name) for name in sizes}), "lora_dropout": 0.0,
            "fan_in_fan_out": model.config.family == "gpt2", "init_lora_weights": True,
            "rank_pattern": {name: rank for name, (rank, _) in other.items()},
            "alpha_pattern": {name: alpha for name, (_, alpha) in other.items()},
        }  # fmt: skip
    else:
        raise ValueError("this model has neither a LoRA nor a soft prompt: there is no adapter to save")
    for name, module in heads.items():
        tensors |= {f"{front}{name}.{key}": value for key, value in module.state_dict().items()}
    stored = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    if broken := [name for name, tensor in stored.items() if not torch.isfinite(tensor).all()]:
        raise ValueError(f"{broken[0]} holds numbers that are not finite: this adapter is broken and is not saved")
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "adapter_model.safetensors", lambda path: save_file(stored, path, metadata={"format": "pt"}))
    text = json.dumps(config, indent=1) + "\n"
    _replace(folder / "adapter_config.json", lambda path: path.write_text(text, encoding="utf-8"))


def _replace(path: Path, write: Any) -> None:
    """Write a file beside its place and move it there whole."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    partial.chmod(0o644)
    with open(partial, "rb+") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)


@torch.no_grad()
def load_adapter(model: Decoder | Encoder, folder: Path) -> dict[str, Tensor]:
    """Put an adapter from `folder` into its base model, frozen; returns the tensors of the heads saved beside it.

    Raises ValueError where the folder holds no adapter, one of another kind, or one that does not fit this model.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
    except FileNotFoundError as error:
        raise ValueError(f"{folder.name} holds no adapter: there is no {Path(error.filename or '?').name}") from None
    kind, model_width = config.get("peft_type"), model.config.d_model
    model.requires_grad_(False)
    if kind == "PROMPT_TUNING":
        prompt = tensors.pop("prompt_embeddings")
        if prompt.shape[1] != model_width or not isinstance(model, Decoder):
            raise ValueError(
                f"the soft prompt is for vectors of {prompt.shape[1]} numbers, the model's have {model_width}"
            )
        model.embed_tokens = PromptEmbedding(model.embed_tokens, prompt.to(model.embed_tokens.weight))
        return {name.removeprefix("base_model."): tensor for name, tensor in tensors.items()}
    if kind != "LORA":
        raise ValueError(f"adapters of the kind {kind} cannot be read: LORA and PROMPT_TUNING can")
    _load_lora(model, config, tensors)
    if left := [name for name in tensors if ".lora_" in name]:
        raise ValueError(f"this model has no place for {left[0].removeprefix(FRONT)}")
    return {name.removeprefix(FRONT): tensor for name, tensor in tensors.items()}


def _load_lora(model: Decoder | Encoder, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    used = set()
    for path, part, target, layer in list(lora_places(model, LORA_TARGETS)):
        name, place = _module(model.config.family, path)
        keys = [f"{FRONT}{name}.lora_{which}.weight" for which in "AB"]
        if not all(key in tensors for key in keys):
            continue
        used.update(keys)
        a, b = (tensors[key] for key in keys)
        b = b if place.third is None else b.chunk(3)[place.third]
        if a.shape[1] != layer.in_features or b.shape[0] != layer.out_features:
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}, {path} is {tuple(layer.weight.shape)}"
            raise ValueError(f"the LoRA of {name} does not fit: {shapes}")
        alphas = {end: alpha for end, alpha in (config.get("alpha_pattern") or {}).items() if name.endswith(end)}
        alpha = next(iter(alphas.values()), config["lora_alpha"])
        lora = LoraLinear(layer, len(a), alpha)
        lora.lora_a.copy_(a)
        lora.lora_b.copy_(b)
        setattr(part, target, lora)
    for key in used:
        del tensors[key]
