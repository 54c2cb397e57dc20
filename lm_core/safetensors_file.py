"""The safetensors file format: eight bytes, a JSON header, then plain numbers. Reading one can run no code.

    8 bytes         length N of the header, little-endian
    N bytes         JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}
    all the rest    the numbers; offsets count from here

The header is checked whole before a single number is read, so that a file which lies about its sizes costs
nothing. The numbers are read, not memory-mapped: a file that shrinks later must not crash who uses the model.

Source:  https://huggingface.co/docs/safetensors, "Format".
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm_core.checkpoint_error import CheckpointError

MAX_HEADER_BYTES = 4 * 2**20  # about 40,000 tensors; a model of 70 layers takes 0.1 MiB
MAX_DIMENSION = 2**40
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
INTEGER_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its dtype as the file spells it, its shape, and where its bytes lie in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of a file by name, from its header alone: a few kilobytes are read, however large the file is.

    Raises CheckpointError, naming the file, when it is empty, cut short, not safetensors, or when its header and its
    size do not agree byte for byte (overlaps and holes included).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        if len(first) < 8:
            raise CheckpointError(f"{path.name} has {size} bytes: it is empty or cut short", "broken")
        length = int.from_bytes(first, "little")
        if length > MAX_HEADER_BYTES or 8 + length > size:
            raise CheckpointError(
                f"{path.name} announces a header of {length:,} bytes in a file of {size:,} (limit "
                f"{MAX_HEADER_BYTES:,}): it is cut short or no safetensors file",
                "broken",
            )
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path.name} is no safetensors file: its header is not JSON", "broken") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path.name} is no safetensors file: its header is not a JSON object", "broken")
    start = 8 + length
    entries = {name: _entry(path, name, about, start) for name, about in header.items() if name != "__metadata__"}
    _check_layout(path, entries, start, size)
    return entries


def _entry(path: Path, name: str, about: Any, start: int) -> Entry:
    """One header line, believed only as far as its own numbers agree."""
    about = about if isinstance(about, dict) else {}
    dtype, shape, offsets = about.get("dtype"), about.get("shape"), about.get("data_offsets")
    good = isinstance(dtype, str) and _are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2
    if not good:
        raise CheckpointError(f"{path.name}: the header says nothing usable about {name!r}", "broken")
    begin, end = offsets
    width = DTYPES[dtype].itemsize if dtype in DTYPES else INTEGER_BYTES.get(dtype)
    if width is None:
        sentence = f"{path.name}: {name!r} holds numbers of type {dtype!r}, which is not supported"
        raise CheckpointError(sentence, "unsupported")
    if len(shape) > 8 or end - begin != math.prod(shape) * width:
        sentence = f"{path.name}: {name!r} of shape {shape} and type {dtype} does not fill its {end - begin:,} bytes"
        raise CheckpointError(sentence, "broken")
    return Entry(path, dtype, tuple(shape), start + begin, start + end)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= MAX_DIMENSION for n in value)


def _check_layout(path: Path, entries: dict[str, Entry], start: int, size: int) -> None:
    """Tensors must follow each other without overlap or hole and end where the file ends."""
    place = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != place:
            raise CheckpointError(f"{path.name}: {name!r} overlaps its neighbour or leaves a hole", "broken")
        place = entry.end
    if place != size:
        sentence = f"{path.name} has {size:,} bytes, its header describes {place:,}: it is cut short or too long"
        raise CheckpointError(sentence, "broken")


def read_tensor(entry: Entry) -> Tensor:
    """The numbers of one tensor, in the file's own dtype, on the CPU.

    Raises CheckpointError when the file has been cut since its header was read, or the numbers are no floats.
    """
    if entry.dtype not in DTYPES:
        sentence = f"{entry.file.name}: weights of type {entry.dtype} are not supported, only {', '.join(DTYPES)}"
        raise CheckpointError(sentence, "unsupported")
    data = bytearray(entry.end - entry.begin)
    if not data:  # torch.frombuffer refuses an empty buffer
        return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    with entry.file.open("rb") as file:
        file.seek(entry.begin)
        if file.readinto(data) != len(data):
            raise CheckpointError(f"{entry.file.name} was cut short while it was being read", "broken")
    return torch.frombuffer(data, dtype=DTYPES[entry.dtype]).view(entry.shape)
