"""What may be read from a model folder that a stranger may have made, and how much of it.

Only safetensors and JSON, only files that lie inside the folder, only up to a size: looked at before it is read.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_core.checkpoint_error import CheckpointError, Reason
from lm_core.checkpoint_names import name_some, short_name
from lm_core.fast_tokenizer import read_json_object
from lm_core.safetensors_file import Entry, read_header

MAX_CONFIG_BYTES = 2**20
MAX_INDEX_BYTES = 4 * 2**20
OTHER_FORMATS = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx")


def inside(folder: Path, name: str) -> Path | None:
    """The file of that name, or None. A link may not lead out of the folder: what it names was not given to us.

    In the hub's cache `snapshots/REVISION/` holds links to `blobs/` beside it: those stay inside the repository.
    """
    path = folder / name
    if not path.is_file():
        return None
    real = folder.resolve()
    root = real.parents[1] if real.parent.name == "snapshots" else real
    if not path.resolve().is_relative_to(root):
        raise CheckpointError(f"{name} leads out of its folder", "unsafe")
    return path


def read_json(folder: Path, name: str, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object from a file of the folder; CheckpointError when it is absent, too large, or no such."""
    path = inside(folder, name)
    if path is None:
        raise CheckpointError(f"there is no file {name} in the folder {folder.name}", "missing")
    if (size := path.stat().st_size) > limit:
        raise CheckpointError(f"{name} has {size:,} bytes; the limit is {limit:,}", "too_large")
    try:
        return read_json_object(path)
    except ValueError as error:
        # Among them a whole number of thousands of digits, which json.loads refuses with a ValueError of its own.
        raise CheckpointError(str(error) if name in str(error) else f"{name} is not JSON: {error}", "broken") from None


def _weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that model.safetensors.index.json names."""
    if (single := inside(folder, "model.safetensors")) is not None:
        return [single]
    if inside(folder, "model.safetensors.index.json") is None:
        others = sorted(path.name for path in folder.iterdir() if path.suffix in OTHER_FORMATS)
        why = f"; {name_some(others)} is refused: a pickle can run code when it is read" if others else ""
        reason: Reason = "pickle" if others else "missing"
        raise CheckpointError(f"there is no model.safetensors in the folder {folder.name}{why}", reason)
    weight_map = read_json(folder, "model.safetensors.index.json", MAX_INDEX_BYTES).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) and _all_names(weight_map) else set()
    if not names:
        raise CheckpointError("model.safetensors.index.json names no files", "broken")
    paths = {name: inside(folder, name) for name in names}
    if absent := [name for name, path in paths.items() if path is None]:
        sentence = f"model.safetensors.index.json names files that are not there: {name_some(absent)}"
        raise CheckpointError(sentence, "broken")
    return [path for _, path in sorted(paths.items()) if path is not None]


def _all_names(weight_map: Mapping[str, Any]) -> bool:
    """Plain file names only: no folder, no `..`, nothing that another system reads as a path."""
    for name in weight_map.values():
        if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", name):
            sentence = f"model.safetensors.index.json names {name!r}, which is no file of this folder"
            raise CheckpointError(sentence, "unsafe")
    return True


def weight_entries(folder: Path, family: str) -> dict[str, Entry]:
    """All tensors of a folder by short name, from the headers of its safetensors files.

    Raises CheckpointError when there is none (naming the pickles there are), when an index leads elsewhere, when a
    header lies, or when a tensor stands twice.
    """
    entries: dict[str, Entry] = {}
    for path in _weight_files(folder):
        for name, entry in read_header(path).items():
            short = short_name(family, name)
            if short in entries:
                raise CheckpointError(f"{short} stands twice in the files of {folder.name}", "broken")
            if short is not None:
                entries[short] = entry
    return entries
