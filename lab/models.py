"""Which models there are, and loading them once for everybody.

A model is named as in `lm_core.checkpoint`: `bundled:storyteller`, `folder:PATH`, `hub:owner/name@revision`. A folder
is offered in local mode only: on a shared server a learner must not make the server read its disk. Of the hub, only
what the teacher's settings name is ever loaded, whatever a link or a session says. `kept:NAME` is the folder of that
name in LM_LAB_HOME/models: whoever may write there decides what everybody may open.
"""

from __future__ import annotations

import math
import os
import re
import threading
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import streamlit as st

from lab import hub_downloads, settings
from lab.bounded_store import BoundedStore
from lm_core import device as devices
from lm_core.checkpoint import LoadedModel, load_pretrained, resolve
from lm_core.checkpoint_config import config_from_hugging_face
from lm_core.checkpoint_error import CheckpointError, with_a_reason
from lm_core.config import DecoderConfig, EncoderConfig
from lm_core.model_folder import read_json, weight_entries

MODELS = Path(__file__).resolve().parents[1] / "assets" / "models"
DEFAULT = "bundled:storyteller"
USUAL = {"zh": "bundled:shiren"}  # who reads when nobody has chosen, by language; elsewhere DEFAULT
KEPT_IN_MEMORY = 6  # models; the teacher's settings bound their bytes
BYTES_A_PARAMETER = 4  # float32
DEVICE_STATE = "model.device"  # the session's choice
SPARE_BYTES = 64 * 2**20  # of a download, for what is not weights
KEPT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
MOST_KEPT = 50

# A module's own and no `cache_resource`: when a learner saves a file, Streamlit imports our modules anew, and a model
# of the old classes would be no instance of the new ones. The store goes with its module; models are loaded again.
_STORE: BoundedStore[LoadedModel] = BoundedStore(KEPT_IN_MEMORY)


def is_shared() -> bool:
    """Whether the app runs as a shared lab server (`LM_LAB_MODE=shared`) and not on somebody's own computer."""
    return settings.is_shared()


def bundled() -> list[str]:
    """The names of the models that ship with the app, the default first."""
    names = sorted(f"bundled:{folder.parent.name}" for folder in MODELS.glob("*/config.json"))
    return sorted(names, key=lambda name: name != DEFAULT)


def usual(language: str) -> str:
    """The model to begin with in a language, among those that are there."""
    wanted = USUAL.get(language, DEFAULT)
    return wanted if wanted in bundled() else DEFAULT


def causal() -> list[str]:
    """Those of `bundled` that read from left to right: what a menu offers. An encoder is opened by lessons about it."""
    return [name for name in bundled() if not _is_encoder(MODELS / name.removeprefix("bundled:"))]


def _is_encoder(folder: Path) -> bool:
    try:
        return isinstance(config_from_hugging_face(read_json(folder, "config.json")), EncoderConfig)
    except (ValueError, OSError):
        return False  # broken: the menu offers it, and loading it says what is wrong


def on_hub() -> dict[str, str]:
    """The models of the hub that the teacher allows: name -> label. Raises SettingsError."""
    return {model.name: model.label for model in settings.current().hub}


def kept() -> list[str]:
    """The names of the models in LM_LAB_HOME/models: `kept:` and the name of a folder with a config.json."""
    try:
        folders = sorted((settings.home() / "models").iterdir())[: 10 * MOST_KEPT]
        there = [f.name for f in folders if KEPT_NAME.fullmatch(f.name) and (f / "config.json").is_file()]
    except OSError:  # no such folder, or none that we may look into
        return []
    return [f"kept:{name}" for name in there[:MOST_KEPT]]


def folders_allowed() -> bool:
    """Whether a folder of this computer may be opened. Raises SettingsError."""
    return not is_shared() and settings.current().folders


def is_allowed(name: str) -> bool:
    """Whether this app may load `name`: one that comes with the app or is kept, one that the teacher names, or a
    folder in local mode.
    """
    if name.startswith("folder:"):
        return folders_allowed()
    return name in (on_hub() if name.startswith("hub:") else [*bundled(), *kept()])


# --- devices ----------------------------------------------------------------------------------------------------------


def offered_devices() -> list[str]:
    """The devices that the teacher offers and this machine has, the usual one first; never empty.

    `auto` stands for the device that it means here, so that no device is listed twice.
    """
    return list(_there(settings.current().devices))


@lru_cache(maxsize=8)
def _there(asked: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for name in asked:
        try:
            found.append(str(devices.pick(name)).removesuffix(":0"))
        except ValueError:
            continue  # not on this machine
    return tuple(dict.fromkeys(found)) or ("cpu",)


def chosen_device() -> str:
    """The device that this session computes on: its choice where that is offered, else the usual one."""
    offered = offered_devices()
    chosen = st.session_state.get(DEVICE_STATE)
    return chosen if chosen in offered else offered[0]


# --- loading ----------------------------------------------------------------------------------------------------------


def most_parameters() -> int:
    """How large one model may be: by the teacher's limit, and because it must fit into the memory for all."""
    now = settings.current()
    return min(now.max_parameters, int(now.memory_gb * 2**30) // BYTES_A_PARAMETER)


def start_download(name: str) -> hub_downloads.Download:
    """Begin to fetch a model of the hub, or join who does already. Raises CheckpointError for one not allowed."""
    if name not in on_hub():
        raise CheckpointError(f"{name!r} is not one of this app's models", "missing")
    return hub_downloads.start(name, most_parameters() * BYTES_A_PARAMETER + SPARE_BYTES)


def _folder(name: str) -> Path:
    if not is_allowed(name):
        raise CheckpointError(f"{name!r} is not one of this app's models", "missing")
    if name.startswith("hub:"):
        return hub_downloads.folder(name, most_parameters() * BYTES_A_PARAMETER + SPARE_BYTES)
    if name.startswith("kept:"):
        return settings.home() / "models" / name.removeprefix("kept:")
    return resolve(name)


def folder(name: str) -> Path | None:
    """The folder of a model on this machine, or None for one of the hub, which whoever needs it fetches by its name.

    Raises CheckpointError for a model that this app may not load.
    """
    if name.startswith("hub:") and is_allowed(name):
        return None
    return _folder(name).absolute()


def n_parameters(name: str) -> int:
    """How many numbers the weights of model `name` are, from the headers of its files; a hub model is fetched first.

    Raises CheckpointError.
    """
    return _n_parameters(_folder(name))


def fingerprint(name: str) -> str:
    """Changes when the model's files or the session's device do: caches never serve another model under its name.

    A model of the hub is fetched first. Raises CheckpointError for a model that this app may not load, or a folder
    that is gone or cannot be looked into.
    """
    return f"{chosen_device()}|{_files(_folder(name))}"


def _files(folder: Path) -> str:
    with with_a_reason():
        files = sorted(f for f in folder.iterdir() if f.suffix in (".json", ".safetensors"))
        states = [f.stat() if f.exists() else f.lstat() for f in files]  # a link may lead nowhere
    return "|".join(f"{f.name}:{s.st_size}:{s.st_mtime_ns}:{s.st_ino}" for f, s in zip(files, states, strict=True))


def _load(name: str) -> LoadedModel:
    """The model, with or without a tokenizer that fits: from memory, else from its files."""
    device, most, folder = chosen_device(), most_parameters(), _folder(name)

    def size() -> int:
        return min(_n_parameters(folder), most) * BYTES_A_PARAMETER  # a larger one is refused by its config.json

    def make() -> LoadedModel:
        loaded = load_pretrained(folder, device=devices.pick(device), max_parameters=most)
        return replace(loaded, name=name)

    key = (name, device, most, _files(folder))
    return _STORE.get(key, size, make, most_bytes=int(settings.current().memory_gb * 2**30))


def _n_parameters(folder: Path) -> int:
    """How many numbers the weight files hold, from their headers."""
    with with_a_reason():
        family = config_from_hugging_face(read_json(folder, "config.json")).family
        sizes = [math.prod(entry.shape) for entry in weight_entries(folder, family).values()]
    return max(1, sum(sizes))


def load(name: str) -> LoadedModel:
    """The model called `name` on the session's device, shared by all users and never changed by any.

    Raises `lm_core.checkpoint_error.CheckpointError`, whose `reason` says why, when it may not or cannot be loaded,
    NoTokenizerError when it cannot read a text, and SettingsError where the teacher's file is wrong.
    """
    loaded = _load(name)
    _check_tokenizer(loaded)
    return loaded


def forget_all() -> None:
    """Drop every model from memory; whoever computes with one keeps it until done."""
    _STORE.clear()


@dataclass(frozen=True)
class About:
    """What the sidebar says of a loaded model."""

    n_parameters: int
    device: str


def about(name: str) -> About:
    """Size and place of model `name`, which is loaded if need be. Raises what `load` raises, tokenizers aside."""
    model = _load(name).model
    return About(model.n_parameters(), next(model.parameters()).device.type)


def _check_tokenizer(loaded: LoadedModel) -> None:
    """A tokenizer must be there and give no id without a row in the embedding: that would end a GPU's process."""
    tokenizer, known = loaded.tokenizer, loaded.model.config.vocab_size
    if tokenizer is None:
        raise NoTokenizerError(f"{loaded.name} has no tokenizer.json, so it cannot read text")
    # Special names stand for themselves in a text here: of their ids only the document start is ever used.
    ordinary, special = tokenizer.vocab_size - 1, set(tokenizer.special_tokens.values())
    while ordinary in special:
        ordinary -= 1
    if (highest := max(ordinary, tokenizer.bos_id or 0)) >= known:
        raise CheckpointError(f"the tokenizer gives ids up to {highest}, the model knows {known} tokens", "broken")


@cache
def compute_slots() -> threading.BoundedSemaphore:
    """How many forward passes may run at once: a class that presses a button together waits in line, briefly."""
    return threading.BoundedSemaphore(max(1, (os.cpu_count() or 2) - 1))


class NoTokenizerError(ValueError):
    """A folder with weights and no tokenizer.json: the model computes, but cannot read."""

    reason = "no_tokenizer"


class NotCausalError(ValueError):
    """The model reads in both directions, where a lesson needs one that reads from left to right."""

    reason = "not_causal"


@dataclass(frozen=True)
class Shape:
    """The numbers of a model that a page needs, without the model."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    context_length: int
    n_parameters: int
    norm: str
    norm_eps: float
    has_rope: bool


def shape(name: str) -> Shape:
    """The shape of model `name`. Raises NotCausalError for an encoder, and what `load` raises."""
    loaded = _load(name)
    model, c = loaded.model, loaded.model.config
    if not isinstance(c, DecoderConfig):  # said first: no tokenizer would make an encoder fit
        raise NotCausalError(f"{name} is an encoder: every word sees every other")
    _check_tokenizer(loaded)
    return Shape(
        n_layers=c.n_layers,
        n_heads=c.n_heads,
        n_kv_heads=c.n_kv_heads,
        d_model=c.d_model,
        d_head=c.d_head,
        context_length=c.context_length,
        n_parameters=model.n_parameters(),
        norm=c.norm,
        norm_eps=c.norm_eps,
        has_rope=c.positions == "rope",
    )
