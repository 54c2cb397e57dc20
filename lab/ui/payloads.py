"""What our browser components are sent, and what they may answer: checked here, without Streamlit, so it can be tested.

Numbers travel short: a cell's text is written here with Python's rounding (the browser never rounds a second time), the
number shown on hovering has three more decimals, and a colour is a whole per cent of its range. JSON knows no infinity:
a masked score of minus infinity travels as None and is shown as a minus and a lemniscate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lab.theme import ROLES, Role

Scale = Literal["sequential", "diverging"]
MOST_NUMBERS = 12  # a matrix of at most 12 x 12 carries its numbers in its cells
MOST_SIDE = 512  # beyond this a row is less than a pixel
MOST_COLUMNS = 4096  # a vector lies across: several numbers may share a pixel, and pointing still finds each


def _matrix(name: str, values: ArrayLike, minus_infinity: bool = False) -> NDArray[np.float64]:
    """`values` as a float64 matrix [rows, columns]; ValueError unless it is one, not empty and finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be a matrix with rows and columns, not of shape {array.shape}")
    if array.shape[0] > MOST_SIDE or array.shape[1] > MOST_COLUMNS:
        raise ValueError(
            f"{name} of shape {array.shape} is larger than the {MOST_SIDE} x {MOST_COLUMNS} that can be drawn"
        )
    bad = np.isnan(array) | np.isposinf(array) | (np.isneginf(array) & (not minus_infinity))
    if bad.any():
        i, j = (int(k) for k in np.argwhere(bad)[0])
        raise ValueError(f"{name}[{i}, {j}] is {array[i, j]}")
    return array


def _index(name: str, index: int | None, count: int) -> int | None:
    if index is None:
        return None
    if isinstance(index, bool) or not 0 <= int(index) < count:
        raise ValueError(f"{name} {index} is not one of 0..{count - 1}")
    return int(index)


def _role(role: str) -> str:
    if role not in ROLES:
        raise ValueError(f"role {role!r} is not one of {', '.join(ROLES)}")
    return role


def _names(name: str, names: Sequence[str], count: int | None = None) -> list[str]:
    if isinstance(names, str) or not all(isinstance(one, str) for one in names):
        raise ValueError(f"{name} must be a sequence of strings")
    if not len(names) or (count is not None and len(names) != count):
        raise ValueError(f"{name} has {len(names)} entries" + (f", the values need {count}" if count else ""))
    return list(names)


def _short(array: NDArray[np.float64], decimals: int) -> list[list[float | None]]:
    return [[round(x, decimals) if math.isfinite(x) else None for x in row] for row in array.tolist()]


def colour_fills(
    values: NDArray[np.float64], scale: Scale = "sequential", vmin: float | None = None, vmax: float | None = None
) -> NDArray[np.int64]:
    """Each value as whole per cent of its colour range: 0..100 sequential, -100..100 diverging about zero.

    values: [m, n], minus infinity allowed (it gets the low end). Values outside the range are clipped to its ends.

    Args:
        vmin, vmax: the range; by default the least and greatest finite value. A diverging range is symmetric: its end
            is the larger magnitude of the two.

    Raises:
        ValueError: unknown scale, or vmin above vmax.

    Example:
        >>> colour_fills(np.array([[-2.0, 0.0, 1.0]]), "diverging").tolist()
        [[-100, 0, 50]]
    """
    if scale not in get_args(Scale):
        raise ValueError(f"scale {scale!r} is neither 'sequential' nor 'diverging'")
    finite = values[np.isfinite(values)]
    low = float(vmin) if vmin is not None else float(finite.min()) if finite.size else 0.0
    high = float(vmax) if vmax is not None else float(finite.max()) if finite.size else 0.0
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise ValueError(f"the colour range from {low} to {high} is not a range")
    if scale == "diverging":
        reach = max(abs(low), abs(high))
        part = np.clip(values / reach, -1, 1) if reach > 0 else np.zeros_like(values)
    else:
        part = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    return np.rint(100 * part).astype(np.int64)


def matrix_payload(
    values: ArrayLike,
    rows: Sequence[str],
    cols: Sequence[str],
    *,
    alt: str,
    selected: tuple[int, int] | None = None,
    faint: ArrayLike | None = None,
    colour_values: ArrayLike | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    scale: Scale = "sequential",
    role: Role = "weights",
    row_role: Role = "q",
    col_role: Role = "k",
    decimals: int = 1,
    caption: str | None = None,
) -> dict[str, Any]:
    """The message of `components.matrix`; see there. Raises ValueError where shapes, numbers or names do not fit."""
    array = _matrix("values", values, minus_infinity=True)
    m, n = array.shape
    paint = array if colour_values is None else _matrix("colour_values", colour_values, minus_infinity=True)
    dim = None if faint is None else np.asarray(faint, dtype=bool)
    for name, other in (("colour_values", paint), ("faint", dim)):
        if other is not None and other.shape != (m, n):
            raise ValueError(f"{name} is of shape {other.shape}, values of {(m, n)}")
    if not 0 <= decimals <= 6:
        raise ValueError(f"decimals {decimals} is not one of 0..6")
    if not alt.strip():
        raise ValueError("alt is empty: a figure needs its description")
    sign = "+" if bool((array < 0).any()) else ""
    texts = None
    if m <= MOST_NUMBERS and n <= MOST_NUMBERS:
        texts = [[f"{x:{sign}.{decimals}f}" if math.isfinite(x) else "−∞" for x in row] for row in array.tolist()]
    cell = None
    if selected is not None:
        cell = [_index("selected row", selected[0], m), _index("selected column", selected[1], n)]
    names = _names("cols", cols, n)
    return {
        "rows": _names("rows", rows, m),
        "cols": names,
        "numberedCols": all(name.isdecimal() for name in names),
        "values": _short(array, decimals + 3),
        "texts": texts,
        "hoverDecimals": decimals + 3,
        "fills": colour_fills(paint, scale, vmin, vmax).tolist(),
        "faint": None if dim is None else dim.astype(int).tolist(),
        "selected": cell,
        "role": _role(role),
        "rowRole": _role(row_role),
        "colRole": _role(col_role),
        "alt": alt,
        "caption": caption,
    }


def token_strip_payload(
    tokens: Sequence[str],
    *,
    ids: Sequence[int] | None = None,
    selected_query: int | None = None,
    selected_key: int | None = None,
    colours: Sequence[float | None] | None = None,
    colour_role: Role = "weights",
    caption: str | None = None,
) -> dict[str, Any]:
    """The message of `components.token_strip`; see there. Raises ValueError where lengths or numbers do not fit."""
    names = _names("tokens", tokens)
    for name, given in (("ids", ids), ("colours", colours)):
        if given is not None and len(given) != len(names):
            raise ValueError(f"{name} has {len(given)} entries, tokens has {len(names)}")
    for i, tint in enumerate(colours or ()):
        if tint is not None and not 0 <= tint <= 1:
            raise ValueError(f"colours[{i}] is {tint}, not within 0..1")
    return {
        "tokens": names,
        "ids": None if ids is None else [int(i) for i in ids],
        "query": _index("selected_query", selected_query, len(names)),
        "key": _index("selected_key", selected_key, len(names)),
        "tints": None if colours is None else [None if t is None else round(100 * t) for t in colours],
        "role": _role(colour_role),
        "caption": caption,
    }


def arcs_payload(
    tokens: Sequence[str], weights: ArrayLike, *, alt: str, selected: int | None = None, role: Role = "weights"
) -> dict[str, Any]:
    """The message of `components.arcs`; see there. Raises ValueError where shapes or numbers do not fit."""
    names = _names("tokens", tokens)
    array = _matrix("weights", weights)
    if array.shape != (len(names), len(names)):
        raise ValueError(f"weights is of shape {array.shape}, {len(names)} tokens need {(len(names), len(names))}")
    if (array < 0).any() or (array > 1 + 1e-4).any():
        raise ValueError(f"weights run from {array.min()} to {array.max()}, not within 0..1")
    if not alt.strip():
        raise ValueError("alt is empty: a figure needs its description")
    # An exact zero is a pair that was not allowed: it gets no arc and no number.
    shown = [[None if x == 0 else round(x, 4) for x in row] for row in array.tolist()]
    selected = _index("selected", selected, len(names))
    return {"tokens": names, "weights": shown, "selected": selected, "role": _role(role), "alt": alt}


def operand_strip_payload(rows: Sequence[Mapping[str, Any]], *, decimals: int = 3) -> dict[str, Any]:
    """The message of `components.operand_strip`; see there. Raises ValueError where lengths or numbers do not fit."""
    if not rows:
        raise ValueError("rows is empty")
    count = len(rows[0]["values"])
    sent = []
    for r, row in enumerate(rows):
        values = _matrix(f"rows[{r}]['values']", [row["values"]])[0]
        if len(values) != count:
            raise ValueError(f"rows[{r}] has {len(values)} values, rows[0] has {count}")
        reach = row.get("scale")
        scale = float(np.abs(values).max()) if reach is None else float(reach)
        if not math.isfinite(scale) or scale < 0:
            raise ValueError(f"rows[{r}]['scale'] is {scale}")
        heights = np.clip(values / scale, -1, 1) if scale > 0 else np.zeros_like(values)
        sent.append(
            {
                "label": str(row["label"]),
                "role": _role(row["role"]),
                "symbol": str(row.get("symbol") or row["role"]),
                "values": [round(x, decimals) for x in values.tolist()],
                "heights": np.round(100 * heights, 1).tolist(),
            }
        )
    return {"rows": sent, "count": count, "decimals": decimals}


def step_bar_payload(titles: Sequence[str], current: int, *, done: Sequence[int] = (), label: str) -> dict[str, Any]:
    """The message of `components.step_bar`; see there. Raises ValueError where an index does not fit."""
    names = _names("titles", titles)
    passed = sorted({i for i in (_index("done", i, len(names)) for i in done) if i is not None})
    return {"titles": names, "current": _index("current", current, len(names)), "done": passed, "label": label}


def answered_index(raw: object, count: int, least: int = 0) -> int | None:
    """A click as the browser reports it, or None: whatever else arrives is not trusted."""
    if isinstance(raw, bool) or not isinstance(raw, int):
        return None
    return raw if least <= raw < count else None


def answered_cell(raw: object, rows: int, cols: int) -> tuple[int, int] | None:
    """A clicked cell as the browser reports it, or None: whatever else arrives is not trusted."""
    if not isinstance(raw, list) or len(raw) != 2:
        return None
    i, j = answered_index(raw[0], rows), answered_index(raw[1], cols)
    return None if i is None or j is None else (i, j)
