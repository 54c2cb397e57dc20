"""What a teacher decides about the app: which models of the hub, how much memory, which devices.

The file `lab.toml` stands where the environment variable LM_LAB_CONFIG says, else in `home()`; without one the defaults
below hold. A shared server (LM_LAB_MODE=shared) offers no model of the hub that its teacher did not name.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_core import hub

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,2})?")
MOST_BYTES = 2**20  # of a lab.toml
LONGEST_LABEL = 60


class SettingsError(ValueError):
    """A lab.toml that cannot be followed. The message names the key, what it says and what it may say."""

    reason = "settings"


@dataclass(frozen=True)
class HubModel:
    """One model of the hub that may be loaded, at one revision: a commit id or a tag."""

    repo: str
    revision: str
    label: str

    @property
    def name(self) -> str:
        """The model's name in the whole app: `hub:owner/name@revision`."""
        return f"hub:{self.repo}@{self.revision}"


USUAL_HUB = (
    HubModel("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e", "GPT-2"),
    HubModel("HuggingFaceTB/SmolLM2-135M", "93efa2f097d58c2a74874c7e644dbc9b0cee75a2", "SmolLM2 135M"),
)


@dataclass(frozen=True)
class RunLimits:
    """What fine-tunes may cost. at_once: runs worked on together. a_user: runs of one user that wait or are worked on.

    minutes and steps: of one run. text_mb: of the text to learn from. keep_free_gb: of the disk, always. quota_gb: of
    all run folders of a user. MB are 10^6 bytes, GiB 2^30.
    """

    at_once: int = max(1, (os.cpu_count() or 2) // 2)
    a_user: int = 4
    minutes: int = 120
    steps: int = 20_000
    text_mb: float = 8.0
    keep_free_gb: float = 1.0
    quota_gb: float = 20.0


@dataclass(frozen=True)
class Settings:
    """hub: the models of the hub that may be loaded. max_parameters: of one model. memory_gb: of all loaded models
    together, in GiB. folders: whether a folder of this computer may be opened. devices: what the menu may offer.
    runs: what fine-tunes may cost.
    """

    hub: tuple[HubModel, ...]
    max_parameters: int = 1_000_000_000
    memory_gb: float = 6.0
    folders: bool = True
    devices: tuple[str, ...] = ("auto", "cpu")
    runs: RunLimits = RunLimits()


def is_shared() -> bool:
    """Whether the app runs as a shared lab server and not on somebody's own computer.

    Anything but `local` in LM_LAB_MODE counts as shared: a slip of the pen must not open the server's disk.
    """
    return (os.environ.get("LM_LAB_MODE") or "local") != "local"


def home() -> Path:
    """The folder of everything this app keeps: LM_LAB_HOME, else the platform's place for an application's data."""
    if given := os.environ.get("LM_LAB_HOME"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "lm-lab"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "lm-lab"
    base = Path(os.environ.get("XDG_DATA_HOME") or "")  # a relative one is to be ignored, says the XDG standard
    return (base if base.is_absolute() else Path.home() / ".local" / "share") / "lm-lab"


def current() -> Settings:
    """The settings that hold now; the file is read again when it has changed. Raises SettingsError."""
    given = os.environ.get("LM_LAB_CONFIG")
    path = Path(given).expanduser() if given else home() / "lab.toml"
    try:
        state = path.stat()
    except FileNotFoundError:
        if given:
            raise SettingsError("LM_LAB_CONFIG names a file that is not there") from None
        return _usual(is_shared())
    except OSError as error:
        if not given:  # a home that may not be looked into holds nothing for us
            return _usual(is_shared())
        raise SettingsError(f"lab.toml cannot be read: {error.strerror}") from None
    return _read(path, state.st_mtime_ns, state.st_size, is_shared())


@lru_cache(maxsize=2)
def _usual(shared: bool) -> Settings:
    return Settings(() if shared else USUAL_HUB, folders=not shared)


@lru_cache(maxsize=8)
def _read(path: Path, _mtime_ns: int, size: int, shared: bool) -> Settings:
    if size > MOST_BYTES:
        raise SettingsError(f"lab.toml has {size:,} bytes; the limit is {MOST_BYTES:,}")
    try:
        return parse(path.read_text(encoding="utf-8"), shared)
    except UnicodeDecodeError:
        raise SettingsError("lab.toml is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f"lab.toml cannot be read: {error.strerror}") from None


def parse(content: str, shared: bool = False) -> Settings:
    """The settings that a lab.toml states; what it leaves out keeps its default. Raises SettingsError.

    >>> parse("[models]\\nmemory_gb = 2").memory_gb
    2.0
    >>> parse("[models]\\nmemory = 2")
    Traceback (most recent call last):
    lab.settings.SettingsError: [models] does not know 'memory'; it knows folders, hub, max_parameters, memory_gb
    """
    try:
        content_table = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"lab.toml is not TOML: {error}") from None
    _known("lab.toml", content_table, {"models", "device", "runs"})
    models, device, runs = (_table(content_table, name) for name in ("models", "device", "runs"))
    _known("[models]", models, {"hub", "max_parameters", "memory_gb", "folders"})
    _known("[device]", device, {"offered"})
    usual = _usual(shared)
    return Settings(
        hub=_hub(models["hub"]) if "hub" in models else usual.hub,
        max_parameters=_count(models.get("max_parameters", usual.max_parameters)),
        memory_gb=_gigabytes(models.get("memory_gb", usual.memory_gb)),
        folders=_folders(models.get("folders", usual.folders)) and not shared,
        devices=_devices(device.get("offered", list(usual.devices))),
        runs=_runs(runs),
    )


def _runs(table: Mapping[str, Any]) -> RunLimits:
    """Whole numbers from 1 where the default is one, else numbers above 0 (a disk may be filled to its end: 0)."""
    usual = {field.name: field.default for field in fields(RunLimits)}
    _known("[runs]", table, set(usual))
    for name, value in table.items():
        whole = isinstance(usual[name], int)
        good = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        least = 1 if whole else 0
        if not good or not least <= value <= 1e9:
            raise SettingsError(f"runs.{name} is {value!r}: write a {'whole ' if whole else ''}number from {least}")
    return RunLimits(**{name: value if isinstance(usual[name], int) else float(value) for name, value in table.items()})


def _known(where: str, table: Mapping[str, Any], names: set[str]) -> None:
    """Refuse keys that mean nothing: a misspelt limit would be no limit."""
    if strange := sorted(set(table) - names):
        unknown, known = ", ".join(map(repr, strange)), ", ".join(sorted(names))
        raise SettingsError(f"{where} does not know {unknown}; it knows {known}")


def _table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{name} is not a table: write [{name}] on a line of its own")
    return table


def _hub(entries: Any) -> tuple[HubModel, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SettingsError('models.hub is not a list of entries such as {repo = "owner/name", revision = "..."}')
    models = tuple(_hub_model(f"models.hub, entry {i}", entry) for i, entry in enumerate(entries, 1))
    for what in ("name", "label"):
        values = [getattr(model, what) for model in models]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise SettingsError(f"models.hub names {twice[0]!r} twice")
    return models


def _hub_model(where: str, entry: Mapping[str, Any]) -> HubModel:
    _known(where, entry, {"repo", "revision", "label"})
    for key in ("repo", "revision"):
        if not isinstance(entry.get(key), str):
            raise SettingsError(f"{where}: {key} is missing or is not a text")
    repo, revision = entry["repo"], entry["revision"]
    try:
        split = hub.parse_repo(f"{repo}@{revision}")
    except ValueError:
        split = None
    if split != (repo, revision):  # an @ inside the repo would move the border
        raise SettingsError(f"{where}: {repo!r} at {revision!r} is not owner/name and a commit id or a tag")
    label = entry.get("label", repo.rpartition("/")[2])
    if not isinstance(label, str) or not label.strip() or not label.isprintable() or len(label) > LONGEST_LABEL:
        raise SettingsError(f"{where}: label is not a text of 1 to {LONGEST_LABEL} visible characters")
    return HubModel(repo, revision, label)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SettingsError(f"models.max_parameters is {value!r}: write a whole number from 1")
    return value


def _gigabytes(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1e6:
        raise SettingsError(f"models.memory_gb is {value!r}: write a number of GiB above 0")
    return float(value)


def _folders(value: Any) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"models.folders is {value!r}: write true or false")
    return value


def _devices(value: Any) -> tuple[str, ...]:
    good = isinstance(value, list) and value and all(isinstance(v, str) and DEVICE.fullmatch(v) for v in value)
    if not good:
        raise SettingsError(f'device.offered is {value!r}: write a list of "auto", "cpu", "cuda", "cuda:0" or "mps"')
    return tuple(dict.fromkeys(value))
