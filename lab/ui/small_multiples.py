"""All attention maps of a model at once, small, on one canvas: a browser component of ours (see `components`)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lab.ui import components, payloads

MOST_BYTES = 150_000  # of all maps together, before base64; more positions are drawn together
FULL = 255  # the byte of a weight of 1

_small_multiples = components._register("small_multiples")


def pooling(n_maps: int, n_tokens: int) -> int:
    """How many positions a side one dot stands for, so that all maps fit in `MOST_BYTES`.

    >>> pooling(6 * 8, 64), pooling(12 * 12, 64), pooling(30 * 9, 128)
    (1, 2, 4)
    """
    factor = 1
    while n_maps * (side := -(-n_tokens // factor)) * (side + 1) // 2 > MOST_BYTES and side > 1:
        factor += 1
    return factor


def pooled(maps: NDArray[np.floating], factor: int) -> NDArray[np.floating]:
    """[.. T T] -> [.. s s], s = ⌈T / factor⌉: the largest weight of each square of positions, so that no peak is lost.

    >>> pooled(np.array([[[1.0, 0.0, 0.0], [0.2, 0.8, 0.0], [0.3, 0.3, 0.4]]]), 2).tolist()
    [[[1.0, 0.0], [0.3, 0.4]]]
    """
    rest = -maps.shape[-1] % factor
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + [(0, rest), (0, rest)])
    side = padded.shape[-1] // factor
    squares = padded.reshape(*maps.shape[:-2], side, factor, side, factor)
    largest: NDArray[np.floating] = squares.max(axis=(-3, -1))
    return largest


def small_multiples_payload(
    weights: ArrayLike,
    *,
    alt: str,
    name: str,
    selected: tuple[int, int] | None = None,
    other: tuple[int, int] | None = None,
    caption: str | None = None,
) -> dict[str, Any]:
    """The message of `small_multiples`; see there. Raises ValueError where shapes, numbers or indices do not fit."""
    maps = np.asarray(weights)
    if maps.ndim != 4 or 0 in maps.shape or maps.shape[2] != maps.shape[3]:
        raise ValueError(f"weights must be maps [L H T T], not of shape {maps.shape}")
    if not np.isfinite(maps).all() or maps.min() < 0 or maps.max() > 1 + 1e-4:
        raise ValueError("a weight is not within 0..1")
    if not alt.strip():
        raise ValueError("alt is empty: a figure needs its description")
    n_layers, n_heads, n_tokens, _ = maps.shape
    small = pooled(maps, pooling(n_layers * n_heads, n_tokens))
    side = small.shape[-1]
    rows, cols = np.tril_indices(side)
    quantised = np.rint(FULL * np.clip(small[:, :, rows, cols], 0, 1)).astype(np.uint8)

    def head(label: str, pair: tuple[int, int] | None) -> list[int] | None:
        if pair is None:
            return None
        if payloads.answered_cell(list(pair), n_layers, n_heads) is None:
            raise ValueError(f"{label} {pair} is no head of {n_layers} layers with {n_heads} heads")
        return list(pair)

    return {
        "layers": n_layers,
        "heads": n_heads,
        "side": side,
        "maps": base64.b64encode(quantised.tobytes()).decode("ascii"),
        "selected": head("selected", selected),
        "other": head("other", other),
        "name": name,
        "alt": alt,
        "caption": caption,
    }


def small_multiples(
    weights: ArrayLike,
    *,
    key: str,
    alt: str,
    name: str,
    selected: tuple[int, int] | None = None,
    other: tuple[int, int] | None = None,
    caption: str | None = None,
    on_select: Callable[[tuple[int, int]], None] | None = None,
) -> tuple[int, int] | None:
    """Every head's map, a row a layer, a column a head: point to see one larger, click (or arrows and Enter) to pick.

    weights: [L H T T] within 0..1, causal; the corner above the diagonal is not sent. Where all maps together would be
    too large a message, a dot is the largest weight of several positions (`pooling`): say so in `caption`.

    Args:
        name: what a head is called, with `{layer}` and `{head}`, which count from 1.
        selected, other: (layer, head) outlined in ink, and in orange; the truth, drawn as given.

    Returns:
        (layer, head) clicked just now, else None. See `components` for who holds the selection.

    Raises:
        ValueError: shapes, numbers or indices do not fit.
    """
    data = small_multiples_payload(weights, alt=alt, name=name, selected=selected, other=other, caption=caption)
    return components._mount(
        _small_multiples,
        "cell",
        key,
        data,
        lambda raw: payloads.answered_cell(raw, data["layers"], data["heads"]),
        on_select,
    )
