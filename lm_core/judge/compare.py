"""Two results: are they the same, and where do they first differ?"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lm_core.judge import worker

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 0.03, torch.float16: 0.01}


def plain(value: object) -> Any:
    """A value as it would come back from the student's process: dataclasses as `Fields`."""
    tensors: list[Tensor] = []
    return worker.unpack(worker.pack(value, tensors), tensors)


def flatten(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """A result as (name, leaf) pairs in order. A list of plain values is one leaf.

    >>> flatten({"a": 1, "b": (torch.ones(1), 2)})
    [('a', 1), ('b[0]', tensor([1.])), ('b[1]', 2)]
    """
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in flatten(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, tuple) or (isinstance(value, list) and worker.leaves(value)):
        return [pair for i, item in enumerate(value) for pair in flatten(item, f"{path}[{i}]")]
    return [(path, value)]


@dataclass(frozen=True)
class Difference:
    """The first leaf that differs. kind: type, shape, dtype or value; `agreed` names the leaves before it."""

    kind: str
    path: str
    expected: str
    got: str
    agreed: tuple[str, ...] = ()


def close(expected: Any, got: Any, tolerance: float | None = None) -> bool:
    """Whether two leaves hold the same numbers, NaN and infinities included, whatever their dtypes.

    >>> close(torch.tensor([0.1, math.inf]), torch.tensor([0.1, math.inf])), close([b"a"], [b"b"])
    (True, False)
    """
    if isinstance(expected, Tensor) and isinstance(got, Tensor):
        return expected.shape == got.shape and bool(_close_cells(expected, got, tolerance).all())
    if isinstance(expected, float) and isinstance(got, float | int | Tensor):
        if isinstance(got, Tensor) and got.numel() != 1:
            return False
        number = float(got)
        both_nan = math.isnan(expected) and math.isnan(number)
        return both_nan or math.isclose(expected, number, rel_tol=1e-5, abs_tol=1e-6)
    if isinstance(expected, list | tuple) and isinstance(got, list | tuple):
        return len(expected) == len(got) and all(close(e, g) for e, g in zip(expected, got, strict=True))
    return type(expected) is type(got) and bool(expected == got)


def _close_cells(expected: Tensor, got: Tensor, tolerance: float | None) -> Tensor:
    """Cell by cell. The tolerance is relative to the cell and to the largest finite number of all."""
    if not expected.is_floating_point() and not got.is_floating_point():
        return expected == got
    relative = TOLERANCE.get(expected.dtype, 2e-5) if tolerance is None else tolerance
    e, g = expected.double(), got.double()
    finite = e[e.isfinite()].abs()
    scale = max(1e-3, float(finite.max())) if finite.numel() else 1.0
    same = torch.isclose(g, e, rtol=relative, atol=relative * min(scale, 1.0), equal_nan=True)
    return same | ((g - e).abs() <= relative * scale * 0.1)


def difference(
    expected: Any, got: Any, axes: dict[str, str] | None = None, tolerance: float | None = None
) -> Difference | None:
    """Where `got` first departs from `expected`; None when it does not. axes: names for the axes of each leaf."""
    named, mine = flatten(expected), flatten(got)
    if [path for path, _ in named] != [path for path, _ in mine]:
        return Difference("type", "", _structure(expected), _structure(got))
    agreed: list[str] = []
    for (path, e), (_, g) in zip(named, mine, strict=True):
        names = (axes or {}).get(path, "")
        found = _leaf_difference(path, e, g, names, tolerance)
        if found is not None:
            return Difference(*found, agreed=tuple(agreed))
        agreed.append(path)
    return None


def _leaf_difference(
    path: str, e: Any, g: Any, names: str, tolerance: float | None
) -> tuple[str, str, str, str] | None:
    if isinstance(e, Tensor) and isinstance(g, Tensor):
        if e.shape != g.shape:
            return "shape", path, shape_text(e, names), shape_text(g, "")
        if e.dtype != g.dtype:
            return "dtype", path, str(e.dtype), str(g.dtype)
        wrong = ~_close_cells(e, g, tolerance)
        if not wrong.any():
            return None
        gap = torch.where(wrong, (e.double() - g.double()).abs().nan_to_num(nan=math.inf), -1.0)
        index = tuple(int(i) for i in torch.unravel_index(gap.argmax(), e.shape)) if e.dim() else ()
        place = f" [{index_text(index, names)}]" if index else ""
        return "value", path, f"{number(e[index])}{place}", f"{number(g[index])}{place}"
    if close(e, g, tolerance):
        return None
    number_like = isinstance(e, int | float) and isinstance(g, int | float)
    if type(e) is not type(g) and not number_like:
        return "type", path, _structure(e), _structure(g)
    return "value", path, short(e), short(g)


def number(x: Tensor) -> str:
    """One cell, in few digits.

    >>> number(torch.tensor(0.123456)), number(torch.tensor(True)), number(torch.tensor(1e-9))
    ('0.1235', 'True', '1e-09')
    """
    return f"{float(x):.4g}" if x.is_floating_point() else str(x.item())


def short(value: Any) -> str:
    """A value on one line, cut when it is long."""
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 160 else text[:157] + "..."


def index_text(index: tuple[int, ...], names: str) -> str:
    """An index with its axes' names.

    >>> index_text((0, 2), "B T"), index_text((0, 2), "")
    ('B=0, T=2', '0, 2')
    """
    parts = names.split()
    if len(parts) != len(index):
        return ", ".join(map(str, index))
    return ", ".join(f"{name}={i}" for name, i in zip(parts, index, strict=True))


def shape_text(x: Tensor, names: str) -> str:
    """A shape with its axes' names.

    >>> shape_text(torch.ones(2, 5), "B T"), shape_text(torch.ones(()), "")
    ('[B 2, T 5]', '[]')
    """
    parts = names.split()
    sizes = [str(n) for n in x.shape]
    if len(parts) == len(sizes):
        sizes = [f"{name} {n}" for name, n in zip(parts, sizes, strict=True)]
    return "[" + ", ".join(sizes) + "]"


def _structure(value: Any) -> str:
    """What kind of thing a result is."""
    if isinstance(value, worker.Other):
        return value.type_name
    if isinstance(value, dict):
        return "(" + ", ".join(str(key) for key in value) + ")"
    if isinstance(value, Tensor):
        return "Tensor"
    if isinstance(value, tuple):
        return f"tuple({', '.join(_structure(item) for item in value)})"
    return type(value).__name__
