"""The learner's own mask: its kind, its size, cells turned over by hand. It stands in the address, for all steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import streamlit as st

from lab import figures, masking
from lab.language import text
from lab.lessons import Markdown
from lab.masking import Bool, Kind
from lab.ui import components, panels, view
from lab.ui.reading import Reading

SLUG = "masking"
KEPT = (
    "kind", "size", "cells", "side", "rule", "second", "third", "row", "pair", "raise", "lower", "new", "at", "packing",
    "seed", "share", "whole", "gap", "after",
)  # fmt: skip
MOST_CELLS = 40  # turned over by hand: more do not fit in a link
Choice = TypeVar("Choice", bound=str)


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"{SLUG}.{key}", language=None, **values)


def entry(name: str) -> str:
    """The name in the address of one of this lesson's choices."""
    return f"{SLUG}_{name}"


def choice(name: str, options: Sequence[Choice], key: str | None = None) -> Choice:
    """A row of options that stands in the address; the first until one is chosen."""
    state = f"{entry(key or name)}_menu"
    asked = view.get(entry(name))
    st.session_state[state] = asked if asked in options else options[0]
    chosen = st.segmented_control(
        t(f"{name}_choice"), options, key=state, required=True, wrap=True,
        format_func=lambda option: t(f"{name}_{option}"),
        on_change=lambda: view.put(entry(name), st.session_state[state]),
    )  # fmt: skip
    view.put(entry(name), chosen if chosen != options[0] else None)
    return chosen or options[0]


def whole_number(name: str, low: int, high: int, usual: int) -> int:
    """A number from the address, `usual` where there is none or nonsense."""
    asked = str(view.get(entry(name)) or "")
    good = asked.isascii() and asked.isdecimal() and len(asked) < 6 and low <= int(asked) <= high
    return int(asked) if good else usual


def amount(name: str, low: int, high: int, usual: int, step: int = 1, key: str | None = None) -> int:
    """A slider that stands in the address."""
    state = f"{entry(key or name)}_slider_{low}_{high}"
    st.session_state[state] = whole_number(name, low, high, usual)
    if low == high:
        return low

    def changed() -> None:
        view.put(entry(name), str(st.session_state[state]))

    return int(st.slider(t(f"{name}_slider"), low, high, step=step, key=state, on_change=changed))


def words_box(name: str, usual: str, key: str | None = None) -> str:
    """A short text field that stands in the address."""
    state = f"{entry(key or name)}_box"
    kept = view.get(entry(name))
    st.session_state[state] = usual if kept is None else str(kept)[:80]
    st.text_input(
        t(f"{name}_box"), key=state, max_chars=80, on_change=lambda: view.put(entry(name), st.session_state[state])
    )
    return str(st.session_state[state])


def pair(name: str, rows: int, columns: int, usual: tuple[int, int]) -> tuple[int, int]:
    """A chosen cell from the address, both counted from 0 (from 1 there)."""
    found = _cells(str(view.get(entry(name)) or ""), rows, columns)
    return found[0] if found else (min(usual[0], rows - 1), min(usual[1], columns - 1))


def put_pair(name: str, cell: tuple[int, int]) -> None:
    """A click on a cell."""
    view.put(entry(name), f"{cell[0] + 1}.{cell[1] + 1}")


def _cells(written: str, rows: int, columns: int) -> list[tuple[int, int]]:
    """Cells as they stand in an address, `3.5_4.1`; what is none, or does not fit, is left out.

    >>> _cells("3.5_x_9.9_0.1", 5, 5)
    [(2, 4)]
    """
    found: list[tuple[int, int]] = []
    for part in written.split("_")[:MOST_CELLS]:
        i, _, j = part.partition(".")
        if all(n.isascii() and n.isdecimal() and len(n) < 5 for n in (i, j)):
            cell = int(i) - 1, int(j) - 1
            if 0 <= cell[0] < rows and 0 <= cell[1] < columns and cell not in found:
                found.append(cell)
    return found


# --- the board --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Board:
    """kind and size of the mask, the cells turned over by hand, and who may look at whom in the end, [T T]."""

    kind: Kind
    size: int
    cells: list[tuple[int, int]]
    allowed: Bool


def board(r: Reading) -> Board:
    """The mask as the address says, fitted to this text."""
    asked = view.get(entry("kind"))
    kind = cast(Kind, asked) if asked in masking.KINDS else "causal"
    range_ = masking.sizes(kind, r.n_tokens)
    size = 0 if range_ is None else whole_number("size", *range_)
    cells = _cells(str(view.get(entry("cells")) or ""), r.n_tokens, r.n_tokens)
    rule = r.allowed if r.is_own and kind == "causal" else masking.mask(kind, size, r.n_tokens)
    return Board(kind, size, cells, masking.flipped(rule, cells))


def controls(r: Reading, key: str) -> None:
    """Kind and size of the mask, and a way back from what was turned over."""
    kind = choice("kind", masking.KINDS, key=f"kind_{key}")
    if (range_ := masking.sizes(kind, r.n_tokens)) is not None:
        amount("size", *range_, key=f"size_{key}_{kind}")


def ask_growth(r: Reading, here: Board) -> None:
    """How does the number of allowed pairs grow with the text? Of the rule; cells turned over by hand are no rule."""
    n = r.n_tokens
    now, then = (int(masking.mask(here.kind, here.size, length).sum()) for length in (n, 2 * n))
    options = sorted({then, 2 * now, 4 * now, 4 * n * n})
    panels.predict_section(
        SLUG, "kinds", [f"{o:,}" for o in options], options.index(then), about=(here.kind, here.size, n),
        n=n, double=2 * n, now=now, then=f"{then:,}", times=f"{then / now:.2f}", mask=t(f"kind_{here.kind}"),
    )  # fmt: skip


def turn(r: Reading, cell: tuple[int, int]) -> None:
    """Turn one cell over, and choose its pair."""
    cells = _cells(str(view.get(entry("cells")) or ""), r.n_tokens, r.n_tokens)
    cells = [other for other in cells if other != cell] if cell in cells else [*cells, cell][-MOST_CELLS:]
    view.put(entry("cells"), "_".join(f"{i + 1}.{j + 1}" for i, j in cells) or None)
    r.choose_pair(cell)


def board_map(r: Reading, here: Board, key: str) -> None:
    """Who may look at whom: 1 or 0 a cell; a click turns it over."""
    title = f"{t('board')} &nbsp; :blue[{text('self_attention.query_axis')}] :orange[{text('self_attention.key_axis')}]"

    def put_back() -> None:
        if here.cells:
            st.button(
                t("put_back", n=len(here.cells)), key=f"put_back_{key}", type="tertiary",
                on_click=lambda: view.put(entry("cells"), None),
            )  # fmt: skip

    i, j = r.view.query, r.view.key
    panels.figure_head(title, figures.matrix_csv(here.allowed.astype(int), r.labels, r.labels), f"mask_{key}", put_back)
    components.matrix(
        here.allowed.astype(float), r.labels, r.labels, selected=(i, j), faint=~here.allowed, vmin=0.0, vmax=1.6,
        decimals=0, role="neutral", key=f"board_{key}", on_select=lambda cell: turn(r, cell),
        alt=t("board_alt", n=int(here.allowed.sum()), all=here.allowed.size, query=r.labels[i], other=r.labels[j],
              value=int(here.allowed[i, j])),
    )  # fmt: skip
    st.caption(t("board_note", n=int(here.allowed.sum()), all=here.allowed.size))


def board_words(here: Board) -> Markdown:
    """The mask in words: its kind, its size, and how many cells were turned over."""
    words = t(f"kind_{here.kind}")
    if here.kind in ("window", "prefix", "documents"):
        words += f" ({here.size})"
    return Markdown(f"**{words}**" + (f" {t('turned', n=len(here.cells))}" if here.cells else ""))


def gap_strip(labels: Sequence[str], gap: int) -> None:
    """The tokens of the sentence with a gap; a click puts the gap elsewhere."""
    components.token_strip(
        list(labels), selected_query=gap, key="gap_tokens", on_select=lambda i: view.put(entry("gap"), str(i + 1)),
        caption=t("gap_note"),
    )  # fmt: skip
