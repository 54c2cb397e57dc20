"""Which models there are, and loading them once for everybody.

A model is named as in `lm_core.checkpoint`: `bundled:storyteller`, `folder:PATH`. A folder is offered in local mode
only: on a shared server a learner must not make the server read its disk.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import streamlit as st

from lm_core import device
from lm_core.checkpoint import LoadedModel, load_pretrained, resolve
from lm_core.checkpoint_error import CheckpointError, with_a_reason
from lm_core.config import DecoderConfig

MODELS = Path(__file__).resolve().parents[1] / "assets" / "models"
DEFAULT = "bundled:storyteller"
MOST_PARAMETERS = 1_000_000_000  # what this app will load at all
KEPT_IN_MEMORY = 3


def is_shared() -> bool:
    """Whether the app runs as a shared lab server (`LM_LAB_MODE=shared`) and not on somebody's own computer."""
    return os.environ.get("LM_LAB_MODE", "local") == "shared"


def bundled() -> list[str]:
    """The names of the models that ship with the app, the default first."""
    names = sorted(f"bundled:{folder.parent.name}" for folder in MODELS.glob("*/config.json"))
    return sorted(names, key=lambda name: name != DEFAULT)


def is_allowed(name: str) -> bool:
    """Whether this app may load `name`: a bundled model, or a folder in local mode."""
    return name in bundled() or (name.startswith("folder:") and not is_shared())


def fingerprint(name: str) -> str:
    """Changes when the model's files do, so that caches never serve an old model under its name.

    Raises CheckpointError for a model that this app may not load, or a folder that is gone or cannot be looked into.
    """
    if not is_allowed(name):
        raise CheckpointError(f"{name!r} is not one of this app's models", "missing")
    with with_a_reason():
        files = sorted(f for f in resolve(name).iterdir() if f.suffix in (".json", ".safetensors"))
        states = [f.stat() if f.exists() else f.lstat() for f in files]  # a link may lead nowhere
    return "|".join(f"{f.name}:{s.st_size}:{s.st_mtime_ns}:{s.st_ino}" for f, s in zip(files, states, strict=True))


@st.cache_resource(max_entries=KEPT_IN_MEMORY, show_spinner=False)
def _load(name: str, files: str) -> LoadedModel:
    return load_pretrained(name, device=device.pick(), max_parameters=MOST_PARAMETERS)


def load(name: str) -> LoadedModel:
    """The model called `name`, shared by all users and never changed by any.

    Raises `lm_core.checkpoint_error.CheckpointError`, whose `reason` says why, when it may not or cannot be loaded,
    and NoTokenizerError when it cannot read a text.
    """
    loaded = _load(name, fingerprint(name))
    _check_tokenizer(loaded)
    return loaded


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
    loaded = _load(name, fingerprint(name))
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
