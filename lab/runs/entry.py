"""The way into the queue: every limit is checked, the run's folder is written, then the row.

The spec of a run:

    model         a name that this user may open, see `lab.models`
    config        the fields of `lm_core.finetune_config.FinetuneConfig`
    data          {"kind": "text" or "examples", "preset": a name or None}; the words come as files
    prompts       continued, or classified, before and after and at every probe
    probe         the sentence whose next token and attention are looked at, see `lab.runs.probing`
    max_seconds   of training, pauses not counted
    probe_every, layer, head, max_new, device      may be left out
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import models, settings, store
from lab.runs import folder as run_folder
from lab.runs import limits
from lab.store import QuotaError
from lm_core.data import decode_text, parse_examples
from lm_core.finetune_config import FinetuneConfig, config_from_dict, config_to_toml

FILE_NAME = re.compile(r"(train|validation)\.(txt|csv|tsv|jsonl)")
KINDS = {"text": "causal", "examples": "classification"}
MOST_PROMPTS, LONGEST_PROMPT, LONGEST_PROBE = 8, 1000, 300
NUMBERS = {"probe_every", "layer", "head", "max_new"}
KNOWN = {"model", "config", "data", "prompts", "probe", "max_seconds", "device"} | NUMBERS


class RefusedError(ValueError):
    """A run that cannot be: `reason` is the id of a text in `[runs]`, `numbers` are its values."""

    def __init__(self, reason: str, why: str = "", **numbers: float | str) -> None:
        super().__init__(why or reason)
        self.reason, self.numbers = reason, numbers | ({"why": why} if why else {})


def submit(
    owner: str, key: str, title: str, spec: Mapping[str, Any], files: Mapping[str, bytes], race: str | None = None
) -> store.Run:
    """Check a run against every limit, write its folder, and put it in the queue.

    files: the words to learn from, `train.txt` or `train.csv` (.tsv, .jsonl), and perhaps `validation.…`. The same
    owner and key again give the run that is there, whatever the rest says. Raises QuotaError for a limit of the
    teacher, RefusedError for what cannot work, CheckpointError for a model that may not be opened.
    """
    there = store.current()
    if (run := there.find(owner, key)) is not None:
        return run
    bounds = settings.current().runs
    config = _config(spec, bounds)
    _check_words(spec, files, config, bounds)
    model = models.folder(str(spec["model"]))
    home = settings.home() / "runs"
    home.mkdir(parents=True, exist_ok=True)
    limits.check_disk(owner, home, _bytes_needed(str(spec["model"]), config), bounds)
    run_id = uuid.uuid4().hex
    place = run_folder(run_id)
    try:
        _write(place, spec, config, files, model)
        run = there.submit(owner, key, title, dict(spec), race, run_id=run_id, most_active=bounds.a_user)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    if run.id != run_id:  # somebody was faster with the same key: a double click, a second tab
        shutil.rmtree(place, ignore_errors=True)
    return run


def _config(spec: Mapping[str, Any], bounds: settings.RunLimits) -> FinetuneConfig:
    """The config of a spec whose other entries are in order too."""
    if strange := sorted(set(spec) - KNOWN):
        raise RefusedError("config", f"a run has no {strange[0]!r}")
    try:
        config = config_from_dict(dict(spec["config"]), "config")
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError("config", str(error)) from None
    if config.n_steps > bounds.steps:
        raise QuotaError("too_many_steps", steps=config.n_steps, most=bounds.steps)
    seconds = spec.get("max_seconds")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 1:
        raise RefusedError("config", f"max_seconds must be a whole number from 1, not {seconds!r}")
    if seconds > bounds.minutes * 60:
        raise QuotaError("too_long", minutes=round(seconds / 60, 1), most=bounds.minutes)
    for name in NUMBERS & set(spec):
        if not isinstance(spec[name], int) or spec[name] < 0:
            raise RefusedError("config", f"{name} must be a whole number from 0, not {spec[name]!r}")
    prompts = spec.get("prompts") or []
    good = isinstance(prompts, list | tuple) and all(isinstance(prompt, str) for prompt in prompts)
    if not good or len(prompts) > MOST_PROMPTS or any(len(prompt) > LONGEST_PROMPT for prompt in prompts):
        raise RefusedError("prompts", most=MOST_PROMPTS, longest=LONGEST_PROMPT)
    if not isinstance(spec.get("probe", ""), str) or len(spec.get("probe", "")) > LONGEST_PROBE:
        raise RefusedError("probe", longest=LONGEST_PROBE)
    return config


def _check_words(
    spec: Mapping[str, Any], files: Mapping[str, bytes], config: FinetuneConfig, bounds: settings.RunLimits
) -> None:
    """Whether the files are what this task reads, and not too many bytes."""
    kind = (spec.get("data") or {}).get("kind")
    if KINDS.get(str(kind)) != config.task:
        raise RefusedError("config", f"data of kind {kind!r} does not fit the task {config.task}")
    if (size := sum(map(len, files.values()))) > bounds.text_mb * 1e6:
        raise QuotaError("too_much_text", mb=round(size / 1e6, 2), most_mb=bounds.text_mb)
    stems = [name.partition(".")[0] for name in files]
    if strange := [name for name in files if not FILE_NAME.fullmatch(name)]:
        raise RefusedError("config", f"the words come as train or validation .txt, .csv, .tsv, .jsonl: {strange[0]!r}")
    if "train" not in stems or len(set(stems)) < len(stems):
        raise RefusedError("no_text")
    for name, content in files.items():
        try:
            if config.task == "causal":
                if not decode_text(content, name).strip():
                    raise RefusedError("no_text")
            else:
                parse_examples(content, name)
        except RefusedError:
            raise
        except ValueError as error:
            raise RefusedError("data", str(error)) from None


def _bytes_needed(model: str, config: FinetuneConfig) -> int:
    """About how much a run will write: two states with their moments, two bests, the result, all as float32."""
    n = models.n_parameters(model)
    learn = n if config.learns in ("whole", "last_layers") else n // 20
    return 4 * (2 * 3 * learn + 2 * learn + n)


def _write(
    place: Path, spec: Mapping[str, Any], config: FinetuneConfig, files: Mapping[str, bytes], model: Path | None
) -> None:
    """The folder of a run: run.toml and data/."""
    (place / "data").mkdir(parents=True)
    for name, content in files.items():
        (place / "data" / name).write_bytes(content)
    named = {name.partition(".")[0]: f"data/{name}" for name in files}
    lines = ["[model]", f"name = {quoted(str(spec['model']) if model is None else f'folder:{model}')}", "", "[data]"]
    lines += [f"file = {quoted(named['train'])}"]
    lines += [f"validation = {quoted(named['validation'])}"] if "validation" in named else []
    lines += ["", "[finetune]", config_to_toml(config).rstrip(), "", "[samples]"]
    lines += [f"prompts = [{', '.join(map(quoted, spec.get('prompts') or []))}]"]
    lines += [f"max_new = {spec['max_new']}"] if "max_new" in spec else []
    (place / "run.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def quoted(text: str) -> str:
    r"""A text as TOML writes it.

    >>> quoted('say "hi"\n')
    '"say \\"hi\\"\\n"'
    """
    whole = text.encode("utf-8", "ignore").decode("utf-8")  # no half of a surrogate pair
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")
