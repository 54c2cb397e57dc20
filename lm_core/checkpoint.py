"""Models in folders: Hugging Face checkpoints of the GPT-2, Llama and BERT families, read and written.

    config.json          the shape                 -> checkpoint_config
    model.safetensors    the weights               -> model_folder, safetensors_file, checkpoint_names
    tokenizer.json       text to ids and back      -> tokenizer_files

A folder may come from a stranger. So only safetensors and JSON are read (a pickle can run code), and all sizes are
compared on the `meta` device, where a tensor has a shape but no memory, before the first number is read.
"""

import json
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lm_core.checkpoint_config import config_from_hugging_face, config_to_hugging_face
from lm_core.checkpoint_error import CheckpointError, with_a_reason
from lm_core.checkpoint_names import SHARED, check_names, cut_out, expected_shapes, place_of, to_hugging_face
from lm_core.config import DecoderConfig, EncoderConfig
from lm_core.encoder import Encoder
from lm_core.hub import download
from lm_core.meta_model import without_memory
from lm_core.model import Decoder
from lm_core.model_folder import inside, read_json, weight_entries
from lm_core.safetensors_file import Entry, read_tensor
from lm_core.tokenizer import BPETokenizer
from lm_core.tokenizer_files import FastTokenizer, Tokenizer, save_tokenizer_json

BUNDLED = Path(__file__).resolve().parents[1] / "assets" / "models"
MAX_PARAMETERS = 2_000_000_000
FLOAT16_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to compute, and where it came from. `tokenizer` is None when its folder has none."""

    model: Decoder | Encoder
    tokenizer: Tokenizer | None
    name: str
    folder: Path

    @property
    def start_id(self) -> int | None:
        """The document-start token that a causal model's texts begin with, or None."""
        return self.tokenizer.bos_id if self.tokenizer and isinstance(self.model, Decoder) else None

    def encode(self, text: str) -> list[int]:
        """Text -> token ids as this model was trained to see them: [start] + text, or BERT's [CLS] text [SEP].

        Special tokens in the text are plain text. Raises ValueError, with the numbers, when there is no tokenizer,
        when nothing is left to compute on, or when the text is longer than the context.
        """
        tokenizer, limit = self.tokenizer, self.model.config.context_length
        if tokenizer is None:
            raise ValueError(f"{self.name} has no tokenizer.json, so it cannot read text")
        body = tokenizer.encode(text)
        if not body:
            raise ValueError("the text is empty: there is nothing to compute on")
        if isinstance(self.model, Encoder) and isinstance(tokenizer, FastTokenizer):
            token_ids = tokenizer.encode(text, add_special_tokens=True)
        else:
            token_ids = [*([] if self.start_id is None else [self.start_id]), *body]
        if len(token_ids) > limit:
            raise ValueError(f"the text has {len(token_ids):,} tokens, but {self.name} sees at most {limit:,}")
        if (highest := max(token_ids)) >= self.model.config.vocab_size:
            raise ValueError(f"the tokenizer gives id {highest}, the model knows {self.model.config.vocab_size} tokens")
        return token_ids


# --- names ------------------------------------------------------------------------------------------------------------


def resolve(name: str, *, bare_path: bool = False) -> Path:
    """The folder that a model name means: `bundled:storyteller`, `folder:PATH`, `hub:owner/name@revision`.

    With bare_path (the command line) a plain path works too. Raises CheckpointError for what names no model here; it
    is a ConnectionError too when the hub is needed and away.

    >>> resolve("folder:no-such-folder")
    Traceback (most recent call last):
    lm_core.checkpoint_error.CheckpointError: there is no folder 'no-such-folder'
    """
    scheme, colon, rest = name.partition(":")
    if colon and scheme == "hub":
        return download(rest)
    if colon and scheme == "run":
        raise CheckpointError("models of training runs cannot be opened by id yet: use folder:PATH", "missing")
    if colon and scheme == "bundled":
        if not re.fullmatch(r"[a-z0-9-]+", rest):
            sentence = f"{rest!r} is not the name of a bundled model (lower-case letters, digits and hyphens)"
            raise CheckpointError(sentence, "missing")
        folder = BUNDLED / rest
        if not (folder / "config.json").is_file():
            there = sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))
            sentence = f"there is no bundled model {rest!r}; there is: {', '.join(there) or 'none'}"
            raise CheckpointError(sentence, "missing")
        return folder
    if colon and scheme == "folder":
        return _folder(rest)
    if bare_path:
        return _folder(name)
    sentence = f"{name!r} names no model: write bundled:NAME, folder:PATH or hub:owner/name@revision"
    raise CheckpointError(sentence, "missing")


def _folder(path: str) -> Path:
    """The folder of that path, `~` filled in. CheckpointError where there is none, or none that we may look into."""
    folder, why = Path(path), ""
    try:
        folder = folder if "\0" in path else folder.expanduser()  # RuntimeError: ~somebody who is not known here
        there = folder.is_dir()
    except (OSError, RuntimeError) as error:  # among them: a name too long, no permission
        there, why = False, f": {error.strerror}" if isinstance(error, OSError) else ""
    if not there:
        raise CheckpointError(f"there is no folder {str(folder)!r}{why}", "missing")
    return folder


# --- reading ----------------------------------------------------------------------------------------------------------


def load_pretrained(
    name_or_folder: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    max_parameters: int = MAX_PARAMETERS,
    trainable: bool = False,
) -> LoadedModel:
    """A model and its tokenizer from a name (see `resolve`) or a folder, in evaluation mode.

    Weights are converted to `dtype` whatever the file holds; they take gradients only if `trainable`.
    Raises CheckpointError, in one sentence and with a reason, for a folder that is missing, broken, unsafe, too large
    or of another family.
    """
    folder = name_or_folder if isinstance(name_or_folder, Path) else resolve(name_or_folder)
    if not dtype.is_floating_point:
        raise ValueError(f"dtype {dtype} is no floating-point type")
    with with_a_reason():
        model = _load_model(folder, torch.device(device), dtype, max_parameters)
        model.requires_grad_(trainable).eval()
        return LoadedModel(model, _load_tokenizer(folder), str(name_or_folder), folder)


def _load_model(folder: Path, device: torch.device, dtype: torch.dtype, max_parameters: int) -> Decoder | Encoder:
    content = read_json(folder, "config.json")
    config = config_from_hugging_face(content)
    entries = weight_entries(folder, config.family)
    if _is_classifier(folder, content):  # its head is no part of the language model: `learner_files` reads it
        entries = {name: entry for name, entry in entries.items() if not name.startswith(("score.", "classifier."))}
    if isinstance(config, EncoderConfig) and "cls.seq_relationship.weight" in entries:
        config = replace(config, next_sentence_head=True)
    elif isinstance(config, EncoderConfig):  # a pooler without the head that reads it computes nothing
        entries = {name: entry for name, entry in entries.items() if not name.startswith("pooler.")}
    model = without_memory(config, max_parameters)
    entries, copies = _without_copies(entries, model)
    check_names({n: e.shape for n, e in entries.items()}, expected_shapes(config.family, model.named_parameters()))
    _fill(model, entries, copies, device, dtype)
    return model


def _is_classifier(folder: Path, config: dict[str, Any]) -> bool:
    names = config.get("architectures")
    theirs = isinstance(names, list) and any(str(name).endswith("ForSequenceClassification") for name in names)
    return theirs or inside(folder, "classifier.json") is not None


def _without_copies(entries: dict[str, Entry], model: nn.Module) -> tuple[dict[str, Entry], list[tuple[str, Entry]]]:
    """Set aside second copies of shared tensors, to be compared; one that stands alone takes the shared name."""
    entries, copies = dict(entries), []
    config = cast(DecoderConfig | EncoderConfig, model.config)
    if isinstance(config, EncoderConfig) or config.tie_embeddings:
        for copy, original in SHARED[config.family].items():
            if copy in entries:
                entry = entries.pop(copy)
                if original in entries:
                    copies.append((original, entry))
                else:
                    entries[original] = entry
    return entries, copies


def _fill(
    model: Decoder | Encoder,
    entries: dict[str, Entry],
    copies: list[tuple[str, Entry]],
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Give a model on the meta device its numbers, one file tensor in memory at a time."""
    family = model.config.family
    users: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        users.setdefault(place_of(family, name).name, []).append(name)
    duplicates = dict(copies)
    state: dict[str, Tensor] = {}
    for short, names in users.items():
        stored = read_tensor(entries[short])
        if short in duplicates and not torch.equal(read_tensor(duplicates[short]), stored):
            sentence = f"config.json says that {short} is shared, but the file holds two different ones"
            raise CheckpointError(sentence, "broken")
        for name in names:
            # A copy in any case: what the model keeps must not hold on to the whole file tensor.
            ours = cut_out(stored, place_of(family, name)).to(device, dtype, copy=True).contiguous()
            if not torch.isfinite(ours).all():
                sentence = f"{short} holds numbers that are not finite (NaN, or too large for {dtype})"
                raise CheckpointError(sentence, "broken")
            state[name] = ours
    tied = model.unembed.weight is model.embed_tokens.weight
    model.load_state_dict({**state, **({"unembed.weight": state["embed_tokens.weight"]} if tied else {})}, assign=True)
    if tied:  # `assign` made two parameters of it
        model.unembed.weight = model.embed_tokens.weight


def _load_tokenizer(folder: Path) -> FastTokenizer | None:
    inside(folder, "tokenizer_config.json")  # for its refusal of links
    path = inside(folder, "tokenizer.json")
    return None if path is None else FastTokenizer.from_file(path)


# --- writing ----------------------------------------------------------------------------------------------------------


def save_pretrained(
    model: Decoder | Encoder, tokenizer: BPETokenizer | Path | None, folder: Path | str, half: bool = True
) -> None:
    """Write a folder that `load_pretrained` and plain `transformers` load: config, weights, tokenizer.

    tokenizer: a readable tokenizer, or a folder whose tokenizer files are copied, or None. Weights are stored as
    float16 if `half`, else float32. Files are replaced one by one, each whole; others in the folder stay. Raises
    ValueError for weights that are not finite or, with `half`, do not fit float16 (±65,504).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as temporary_name:
        temporary = Path(temporary_name)
        bos_id, eos_id = _save_tokenizer(tokenizer, temporary)
        config = config_to_hugging_face(model.config, bos_id, eos_id)
        if isinstance(model, Encoder) and (pad_id := _pad_id(temporary)) is not None:
            config = {**config, "pad_token_id": pad_id}
        (temporary / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        tensors = {name: _storable(name, t, half) for name, t in to_hugging_face(model.config.family, model).items()}
        save_file(tensors, temporary / "model.safetensors", metadata={"format": "pt"})
        shutil.copymode(temporary / "config.json", temporary / "model.safetensors")  # the library lets only us read it
        for file in temporary.iterdir():
            file.replace(folder / file.name)


def _save_tokenizer(tokenizer: BPETokenizer | Path | None, folder: Path) -> tuple[int | None, int | None]:
    """Write the tokenizer's files and return its document-start and document-end ids."""
    if tokenizer is None:
        return None, None
    if isinstance(tokenizer, BPETokenizer):
        save_tokenizer_json(tokenizer, folder)
        return tokenizer.bos_id, tokenizer.eos_id
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (path := inside(tokenizer, name)) is not None:
            (folder / name).write_bytes(path.read_bytes())
    fast = FastTokenizer.from_file(folder)
    return fast.bos_id, fast.eos_id


def _pad_id(folder: Path) -> int | None:
    """The id of [PAD] in the tokenizer that was just written."""
    tokenizer = _load_tokenizer(folder)
    return None if tokenizer is None else tokenizer.special_tokens.get("[PAD]")


def _storable(name: str, tensor: Tensor, half: bool) -> Tensor:
    """One tensor as it goes into the file. ValueError for what would not come back as it was."""
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} holds numbers that are not finite: this model is broken and is not saved")
    if half and tensor.abs().max() > FLOAT16_MAX:
        raise ValueError(f"{name} holds numbers beyond ±{FLOAT16_MAX:,.0f}, too large for float16: use half=False")
    return tensor.to("cpu", torch.float16 if half else torch.float32).contiguous()
