"""The fine-tunes that work at once: model, data, settings, what is watched. Everything else starts from one of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from lab import models
from lm_core.finetune_config import FinetuneConfig

DATA = Path(__file__).resolve().parents[1] / "assets" / "data"
Kind = Literal["text", "examples"]
TASKS: dict[Kind, str] = {"text": "causal", "examples": "classification"}
OWN = "own"  # what is no preset: a learner's own words
MOST_PROMPTS = 3  # of a text: each is continued at every probe, which takes time


@dataclass(frozen=True)
class Preset:
    """model: who learns. data: the files in assets/data. config: what differs from FinetuneConfig. probe: the sentence
    whose next token and attention are watched. layer, head: whose attention, from 0; None: the last layer's first head.
    """

    id: str
    model: str
    kind: Kind
    data: str
    probe: str
    config: dict[str, Any] = field(default_factory=dict)
    layer: int | None = None
    head: int | None = None


_STYLE = {"n_steps": 100, "n_tokens": 96, "batch_size": 8, "lr": 2e-4, "clip_norm": 3.0,
          "validate_every": 10, "save_every": 20}  # fmt: skip
_SENTIMENT = {
    "n_steps": 150, "n_tokens": 64, "batch_size": 16, "lr": 1e-4, "clip_norm": 5.0, "pooling": "mean",
    "validate_every": 10, "save_every": 20,
}  # fmt: skip

PRESETS = (
    Preset("ship_log", "bundled:storyteller", "text", "style.ship_log.en", "The old man went to the", _STYLE, 3, 0),
    Preset(
        "sentiment_en", "bundled:storyteller", "examples", "sentiment.en",
        "It is not a bad little bakery, not bad at all.", _SENTIMENT, 3, 0,
    ),
    Preset("verse", "bundled:shiren", "text", "style.free_verse.zh", "月亮", _STYLE | {"n_tokens": 64}),
    Preset(
        "sentiment_zh", "bundled:shiren", "examples", "sentiment.zh",
        "不能说不好吃，只能说我弟弟把盘子都舔了。", _SENTIMENT,
    ),
)  # fmt: skip
_ORDER = {"zh": ("verse", "sentiment_zh", "ship_log", "sentiment_en")}


def preset(id: str) -> Preset:
    """The preset called `id`. Raises KeyError."""
    for found in PRESETS:
        if found.id == id:
            return found
    raise KeyError(f"no preset {id!r}")


def ids(language: str) -> list[str]:
    """Every preset, those in the reader's language first.

    >>> ids("en")[0], ids("zh")[0]
    ('ship_log', 'verse')
    """
    return list(_ORDER.get(language, tuple(found.id for found in PRESETS)))


def usual_config(kind: Kind, model: str, id: str = OWN) -> FinetuneConfig:
    """The settings to begin with: the preset's, else those of the nearest preset that fit this model's window.

    Raises what `lab.models.shape` raises, but for an encoder.
    """
    if id != OWN:
        return FinetuneConfig(task=TASKS[kind], **preset(id).config)  # type: ignore[arg-type]
    context = models.context_length(model)
    config = (_STYLE if kind == "text" else _SENTIMENT) | {"n_tokens": min(64, context)}
    return FinetuneConfig(task=TASKS[kind], **config)  # type: ignore[arg-type]


def files(id: str) -> dict[str, bytes]:
    """The words of a preset, by the names that `lab.runs.submit` expects."""
    chosen = preset(id)
    if chosen.kind == "examples":
        return {"train.tsv": (DATA / f"{chosen.data}.tsv").read_bytes()}
    return {f"{part}.txt": (DATA / f"{chosen.data}.{part}.txt").read_bytes() for part in ("train", "validation")}


def prompts(id: str) -> list[str]:
    """What is continued, or judged, before and after: the texts of `assets/data/probes.toml`."""
    chosen = preset(id)
    texts = [entry["text"] for entry in _probes()[chosen.data]]
    return [texts[0], texts[-1]] if chosen.kind == "text" else texts  # in the new voice, and from the old world


@lru_cache(maxsize=1)
def _probes() -> dict[str, list[dict[str, str]]]:
    with (DATA / "probes.toml").open("rb") as file:
        return tomllib.load(file)
