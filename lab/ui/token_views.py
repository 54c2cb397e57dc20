"""Two widgets for tokens: a text in its coloured tokens with their ids, and cells over bytes (characters, merges).

They live in the browser as all in `lab.ui.components` do: hovering is instant, a choice reaches Python once, and text
is set as text. What is sent is checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lab.ui import components, payloads

GOLDEN_ANGLE = 137.508  # degrees: hues in this stride stay apart, however many there are

_token_text = components._register("token_text")
_span_grid = components._register("span_grid")

CellKind = Literal["character", "byte", "token", "symbol", "symbol fresh", "name", "note"]


def hues(token_ids: Sequence[int]) -> list[int]:
    """A hue (degrees) for each token, the same for the same id: by the order in which ids first appear.

    >>> hues([40, 7, 40, 9])
    [0, 138, 0, 275]
    """
    order = {token_id: place for place, token_id in enumerate(dict.fromkeys(token_ids))}
    return [round(order[token_id] * GOLDEN_ANGLE) % 360 for token_id in token_ids]


def hex_bytes(piece: bytes) -> str:
    """Bytes as they are written in the lesson.

    >>> hex_bytes("猫".encode())
    'E7 8C AB'
    """
    return piece.hex(" ").upper()


def token_text_payload(
    labels: Sequence[str],
    token_ids: Sequence[int],
    *,
    alt: str,
    pieces: Sequence[bytes | None] | None = None,
    selected: int | None = None,
    with_ids: bool = False,
    clickable: bool = False,
    plain: Sequence[int] = (),
) -> dict[str, Any]:
    """The message of `token_text`; see there. Raises ValueError where lengths or numbers do not fit."""
    if len(labels) != len(token_ids) or (pieces is not None and len(pieces) != len(labels)):
        raise ValueError(f"{len(labels)} labels, {len(token_ids)} ids: not as many")
    if not alt.strip():
        raise ValueError("alt is empty: a figure needs its description")
    shades = hues([token_id for i, token_id in enumerate(token_ids) if i not in plain])
    waiting = iter(shades)
    return {
        "tokens": [
            {
                "text": label,
                "id": int(token_id),
                "hue": None if i in plain else next(waiting),
                "bytes": hex_bytes(piece) if pieces is not None and (piece := pieces[i]) else None,
            }
            for i, (label, token_id) in enumerate(zip(labels, token_ids, strict=True))
        ],
        "selected": payloads._index("selected", selected, len(labels)),
        "ids": with_ids,
        "clickable": clickable,
        "alt": alt,
    }


def token_text(
    labels: Sequence[str],
    token_ids: Sequence[int],
    *,
    key: str,
    alt: str,
    pieces: Sequence[bytes | None] | None = None,
    selected: int | None = None,
    with_ids: bool = False,
    plain: Sequence[int] = (),
    on_select: Callable[[int], None] | None = None,
) -> int | None:
    """A text in its tokens, the same id in the same tint; hovering shows id and bytes, and marks all equal tokens.

    Args:
        labels: what each token says, whitespace made visible. token_ids: as many.
        pieces: the bytes behind each token, for hovering; None where a token stands for no bytes.
        with_ids: the ids stand below, linked by hover.
        plain: indices drawn without a tint (the document start is not of the text).

    Returns:
        The index clicked just now, else None. Without `on_select` a click does nothing.

    Raises:
        ValueError: lengths differ, an index is none, or `alt` is empty.
    """
    data = token_text_payload(
        labels, token_ids, alt=alt, pieces=pieces, selected=selected, with_ids=with_ids,
        clickable=on_select is not None, plain=plain,
    )  # fmt: skip
    return components._mount(
        _token_text, "token", key, data, lambda raw: payloads.answered_index(raw, len(labels)), on_select
    )


@dataclass(frozen=True)
class Cell:
    """One cell: its text, how many byte columns it is wide, what it is, and what hovering says."""

    text: str
    span: int
    kind: CellKind
    hue: int | None = None
    tip: str | None = None


@dataclass(frozen=True)
class Block:
    """Rows over `columns` bytes. headed: each row begins with a name; noted: each ends with a note (both beside)."""

    columns: int
    rows: Sequence[Sequence[Cell]]
    headed: bool = False
    noted: bool = False


@dataclass(frozen=True)
class CandidatePair:
    """Two neighbours that might merge: their text, what stands below, and whether no merge is known."""

    text: str
    rank: str
    unknown: bool


def span_grid_payload(
    blocks: Sequence[Block], *, alt: str, current: int | None = None, pairs: Sequence[CandidatePair] = ()
) -> dict[str, Any]:
    """The message of `span_grid`; see there. Raises ValueError where a row does not fill its columns."""
    if not blocks or not alt.strip():
        raise ValueError("a grid needs a block, and its description")
    for b, block in enumerate(blocks):
        for r, row in enumerate(block.rows):
            beside = sum(cell.kind in ("name", "note") for cell in row) if block.headed or block.noted else 0
            if (filled := sum(cell.span for cell in row) - beside) != block.columns:
                raise ValueError(f"row {r} of block {b} fills {filled} of {block.columns} columns")
    return {
        "blocks": [
            {
                "columns": block.columns,
                "headed": block.headed,
                "noted": block.noted,
                "names": all(cell.kind == "name" for row in block.rows for cell in row),
                "rows": [[vars(cell) for cell in row] for row in block.rows],
            }
            for block in blocks
        ],
        "current": payloads._index("current", current, len(blocks[0].rows)),
        "clickable": current is not None,
        "pairs": [vars(pair) for pair in pairs],
        "alt": alt,
    }


def span_grid(
    blocks: Sequence[Block],
    *,
    key: str,
    alt: str,
    current: int | None = None,
    pairs: Sequence[CandidatePair] = (),
    on_select: Callable[[int], None] | None = None,
) -> int | None:
    """Rows of cells over bytes, a cell as wide as its bytes; blocks flow like words.

    With `current` the rows of the first block are states in time: a click or an arrow key chooses one, later rows are
    not yet seen. `pairs` stand below.

    Returns:
        The row chosen just now, else None.

    Raises:
        ValueError: a row does not fill its columns, an index is none, or `alt` is empty.
    """
    data = span_grid_payload(blocks, alt=alt, current=current, pairs=pairs)
    count = len(blocks[0].rows)
    return components._mount(_span_grid, "row", key, data, lambda raw: payloads.answered_index(raw, count), on_select)
