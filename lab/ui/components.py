"""Our own widgets, for what must answer at once: tokens, matrices, attention arcs, operand bars, the step bar.

Each is a Streamlit component (HTML, CSS and JavaScript under `assets/components`, nothing fetched), registered once,
when this module is imported. Hovering and the keyboard cursor live in the browser; only a choice reaches Python.

**Who holds the selection.** Python does. `selected` (and `current`, `selected_query` ...) is the truth and is drawn as
given on every run; the browser keeps no selection of its own (the arcs' hold is the one exception, see there). What a
call returns is the reader's *new* choice, once: in the one run that the click caused, None in every other. Under the
hood these are trigger values, like `st.button`, and the instance is identified by its `key` alone, so new data changes
the drawing in place: no flicker, the focus stays.

Two ways to use it:

    # 1. `on_select` runs before the page does: one run a click, the whole page agrees. The way for a lesson.
    def choose(cell):
        st.session_state["cell"] = cell
    matrix(scores, tokens, tokens, selected=st.session_state["cell"], key="scores", alt=..., on_select=choose)

    # 2. The returned value, with a run of its own.
    clicked = matrix(..., selected=st.session_state["cell"], key="scores")
    if clicked:
        st.session_state["cell"] = clicked
        st.rerun()

A click that Python does not answer with new data is taken back in the browser after 1.5 s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st
from numpy.typing import ArrayLike
from streamlit.components.v2.types import ComponentRenderer

from lab.source import Source
from lab.theme import DARK, LIGHT, Role, css_variables
from lab.ui import payloads
from lab.ui.code_colours import source_payload
from lab.ui.payloads import Scale

RELEASED = -1  # what `arcs` returns when the reader lets go of the held token

_ASSETS = Path(__file__).resolve().parents[2] / "assets" / "components"
_COLOURS = f'.lab {{\n{css_variables(LIGHT)}\n}}\n.lab[data-theme="dark"] {{\n{css_variables(DARK)}\n}}\n'

Answer = TypeVar("Answer")


def _register(name: str) -> ComponentRenderer:
    """The component whose code is `assets/components/<name>.js` and `.css`, with our shared helpers and colours."""

    def read(file: str) -> str:
        return (_ASSETS / file).read_text(encoding="utf-8")

    return st.components.v2.component(
        f"lm_lab.{name}",
        html='<div class="lab"></div>',
        css=_COLOURS + read("shared.css") + read(f"{name}.css"),
        js=read("shared.js") + "\n" + read(f"{name}.js"),
    )


_token_strip = _register("token_strip")
_matrix = _register("matrix")
_arcs = _register("arcs")
_operand_strip = _register("operand_strip")
_step_bar = _register("step_bar")
_source = _register("source")


def _mount(
    renderer: ComponentRenderer,
    event: str,
    key: str,
    data: dict[str, Any],
    parse: Callable[[object], Answer | None],
    on_select: Callable[[Answer], None] | None,
) -> Answer | None:
    """Draw the component; return the parsed new choice of this run, after `on_select` has had it."""

    def changed() -> None:
        state = st.session_state.get(key)
        answer = parse(state.get(event) if isinstance(state, Mapping) else None)
        if answer is not None and on_select is not None:
            on_select(answer)

    callbacks: dict[str, Any] = {f"on_{event}_change": changed}
    return parse(renderer(key=key, data=data, **callbacks).get(event))


def token_strip(
    tokens: Sequence[str],
    *,
    key: str,
    ids: Sequence[int] | None = None,
    selected_query: int | None = None,
    selected_key: int | None = None,
    colours: Sequence[float | None] | None = None,
    colour_role: Role = "weights",
    caption: str | None = None,
    on_select: Callable[[int], None] | None = None,
) -> int | None:
    """The tokens of a text as chips: the query outlined blue, the key orange. Hovering shows the id.

    Args:
        tokens: what stands on the chips, whitespace already made visible.
        colours: a tint per token, 0 (none) to 1 (full), in the colour of `colour_role`.
        on_select: called with the clicked index before the page runs.

    Returns:
        The index clicked just now, else None. See the module's text for who holds the selection.

    Raises:
        ValueError: lengths differ, an index or a tint is out of range.
    """
    data = payloads.token_strip_payload(
        tokens,
        ids=ids,
        selected_query=selected_query,
        selected_key=selected_key,
        colours=colours,
        colour_role=colour_role,
        caption=caption,
    )
    return _mount(
        _token_strip, "token", key, data, lambda raw: payloads.answered_index(raw, len(data["tokens"])), on_select
    )


def matrix(
    values: ArrayLike,
    rows: Sequence[str],
    cols: Sequence[str],
    *,
    key: str,
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
    on_select: Callable[[tuple[int, int]], None] | None = None,
) -> tuple[int, int] | None:
    """A matrix of coloured cells: hover for the number, click (or arrows and Enter) to choose a cell.

    values: [m, n] float, finite or minus infinity (shown as a masked cell). rows: m names, cols: n names.
    Up to 12 x 12 the numbers stand in the cells while these are wide enough; beyond, and on a phone, the number of the
    chosen cell stands there and hovering shows any, with three more decimals.

    Args:
        selected: (row, column) to outline; the truth, drawn as given.
        faint: [m, n] bool; True draws the cell faint (a pair that the mask will remove).
        colour_values: [m, n]; what is coloured, if not `values` (e.g. score minus the row's largest allowed score).
        vmin, vmax: the colour range, fixed by the caller so that a figure does not jump; by default that of the values.
        scale: "sequential", or "diverging" about zero (symmetric range).
        role: whose colour the cells take; `row_role` and `col_role` colour the selected names.
        decimals: of the number in a cell; rounding is Python's.
        alt: what the figure shows, for a screen reader.

    Returns:
        (row, column) clicked just now, else None. See the module's text for who holds the selection.

    Raises:
        ValueError: shapes differ, a value is NaN or plus infinity, an index or a name does not fit.
    """
    data = payloads.matrix_payload(
        values,
        rows,
        cols,
        alt=alt,
        selected=selected,
        faint=faint,
        colour_values=colour_values,
        vmin=vmin,
        vmax=vmax,
        scale=scale,
        role=role,
        row_role=row_role,
        col_role=col_role,
        decimals=decimals,
        caption=caption,
    )
    m, n = len(data["rows"]), len(data["cols"])
    return _mount(_matrix, "cell", key, data, lambda raw: payloads.answered_cell(raw, m, n), on_select)


def arcs(
    tokens: Sequence[str],
    weights: ArrayLike,
    *,
    key: str,
    alt: str,
    selected: int | None = None,
    role: Role = "weights",
    on_select: Callable[[int], None] | None = None,
) -> int | None:
    """Attention as arcs: point at a token to see whom it looks at; click to hold it, click again or Escape to let go.

    weights: [T, T] float within 0..1, row = query, column = key; an exact zero is a pair that was not allowed.
    The hold is shown at once and stays across runs of the page; a *changed* `selected` replaces it.

    Returns:
        The index held just now, `RELEASED` (-1) when the hold was let go just now, else None.

    Raises:
        ValueError: shapes differ, or a weight is not within 0..1.
    """
    data = payloads.arcs_payload(tokens, weights, alt=alt, selected=selected, role=role)
    return _mount(
        _arcs, "token", key, data, lambda raw: payloads.answered_index(raw, len(data["tokens"]), RELEASED), on_select
    )


def operand_strip(rows: Sequence[Mapping[str, Any]], *, key: str, decimals: int = 3) -> None:
    """Vectors as bars about zero, one under the other; pointing at component i shows its number in every row at once.

    Args:
        rows: each with `label` (text above), `role` (its colour), `values` (as many as in the first row), and
            optionally `scale` (the magnitude that fills the height, by default the largest; give q and k the same to
            compare them) and `symbol` (the name in the read-out, "q" in "q[3] = 1.041"; by default the role).

    Raises:
        ValueError: no rows, lengths differ, or a value is not finite.
    """
    _operand_strip(key=key, data=payloads.operand_strip_payload(rows, decimals=decimals))


def step_bar(
    titles: Sequence[str],
    current: int,
    *,
    key: str,
    label: str,
    done: Sequence[int] = (),
    on_select: Callable[[int], None] | None = None,
) -> int | None:
    """The walk as a bar a step: `current` (from 0) in the accent colour, those in `done` paler; bars alone on a phone.

    Args:
        label: what the bar is, for a screen reader ("Steps of the lesson").

    Returns:
        The step clicked just now (from 0), else None. See the module's text for who holds the selection.

    Raises:
        ValueError: an index that is no step.
    """
    data = payloads.step_bar_payload(titles, current, done=done, label=label)
    return _mount(
        _step_bar, "step", key, data, lambda raw: payloads.answered_index(raw, len(data["titles"])), on_select
    )


def source(found: Source, marked: str, *, key: str, label: str, more: str, less: str) -> None:
    """The code of one function with the line that holds `marked` picked out; the docstring's details fold.

    Args:
        label: what it is, for a screen reader. more, less: what the fold's button says.

    Raises:
        ValueError: no line of the function holds `marked`.
    """
    _source(key=key, data=source_payload(found, marked, label=label, more=more, less=less))
