"""A component of tokens that grow from left to right: a tree of what was tried, or beams that live and die."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lab.ui import components, payloads

_token_tree = components._register("token_tree")

State = Literal["path", "now", "tried", "offer", "cut", "lives", "ends", "dropped", "hidden"]
MOST_NODES = 1200  # what a browser draws without a wait


@dataclass(frozen=True)
class Node:
    """One token: where it stands, the index of the node before it (-1: none), what it says and how it is drawn.

    fill: 0 to 1, a line under the chip. state: `path` and `now` are the text in hand, `tried` is another branch,
    `offer` and `cut` were not taken; `lives`, `ends` and `dropped` are beams; `hidden` keeps a place free.
    """

    col: int
    row: int
    parent: int
    label: str
    note: str = ""
    state: State = "tried"
    fill: float = 0.0
    tip: tuple[str, ...] = ()


def token_tree_payload(
    nodes: Sequence[Node], *, alt: str, selected: int | None = None, caption: str | None = None, at: str = ""
) -> dict[str, Any]:
    """The message of `token_tree`; see there. Raises ValueError where it cannot be drawn."""
    if not 0 < len(nodes) <= MOST_NODES:
        raise ValueError(f"{len(nodes)} nodes: between 1 and {MOST_NODES} can be drawn")
    for i, node in enumerate(nodes):
        if not -1 <= node.parent < i or (node.parent >= 0 and nodes[node.parent].col >= node.col):
            raise ValueError(f"node {i} has the parent {node.parent}, which does not stand before it")
        if node.col < 0 or node.row < 0 or not 0 <= node.fill <= 1 or node.state not in get_args(State):
            raise ValueError(f"node {i} cannot be drawn: {node}")
    if len({(node.col, node.row) for node in nodes}) != len(nodes):
        raise ValueError("two nodes stand in one place")
    if not alt.strip():
        raise ValueError("alt is empty: a figure needs its description")
    return {
        "nodes": [
            {"col": n.col, "row": n.row, "parent": n.parent, "label": n.label, "note": n.note, "state": n.state,
             "fill": round(100 * n.fill, 1), "tip": list(n.tip)}
            for n in nodes
        ],
        "cols": 1 + max(n.col for n in nodes), "rows": 1 + max(n.row for n in nodes),
        "selected": payloads._index("selected", selected, len(nodes)), "alt": alt, "caption": caption, "at": at,
    }  # fmt: skip


def token_tree(
    nodes: Sequence[Node],
    *,
    key: str,
    alt: str,
    selected: int | None = None,
    caption: str | None = None,
    at: str = "",
    on_select: Callable[[int], None] | None = None,
) -> int | None:
    """Chips joined by lines; hovering shows a node's `tip`, a click (or arrows and Enter) chooses it.

    at: when it changes, the chosen node is brought into view.

    Returns:
        The index clicked just now, else None. `lab.ui.components` says who holds the selection.

    Raises:
        ValueError: no nodes or too many, two in one place, or a parent that does not stand before its child.
    """
    data = token_tree_payload(nodes, alt=alt, selected=selected, caption=caption, at=at)
    parse = lambda raw: payloads.answered_index(raw, len(nodes))  # noqa: E731
    return components._mount(_token_tree, "node", key, data, parse, on_select)
