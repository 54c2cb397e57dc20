"""What the reader looks at: sentence, layer, head, two words, step. It travels with them and stands in the URL.

The values are plain entries of the session, not widgets' own: so they outlive a page switch, and a click in a figure
can change them. Each run mirrors them to the query parameters `text, layer, head, q, k, step, mode` (layers, heads and
positions count from 1 there, as on the screen); a query that is not the mirror of the last run is a link or a reload,
and is taken over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

LONGEST_TEXT = 300  # characters in an address
_MIRROR = "view.mirror"
_SETTLED = "view.settled"  # name -> (what the reader asked for, or None; what was settled for instead)
_DRAWING = "view.drawing"  # between `adopt_address` and `mirror_address`
_CHOSEN = "view.chosen"  # a click has changed the view since the last run
SAMPLING = tuple(
    f"sampling_{name}"
    for name in (
        "repetition", "temperature", "top_k", "top_p", "min_p", "seed", "token", "filter", "stage", "order", "path",
        "beams", "beam_new", "beam_length", "beam_step", "cache_length",
    )
)  # fmt: skip
CHAIN = ("chain_times", "chain_by", "chain_cuts", "chain_other", "chain_length", "chain_token")
_KEYS = (
    "text", "layer", "head", "q", "k", "step", "mode", "model", "run", "code", "ops",
    "multi_head_other", "multi_head_off", "multi_head_kind", "multi_head_measure", "multi_head_on",
    "positions_shuffle", "positions_pair", "positions_places", "positions_distance",
    "block_neuron", "block_token", "block_scope", "block_when", "block_rate", "block_length",
    "tokens_merge", "tokens_near", "tokens_id", "tokens_find",
    *SAMPLING,
    *CHAIN,
    "masking_kind", "masking_size", "masking_cells", "masking_side", "masking_rule", "masking_second", "masking_third",
    "masking_row", "masking_pair", "masking_raise", "masking_lower", "masking_new", "masking_at", "masking_packing",
    "masking_seed", "masking_share", "masking_whole", "masking_gap", "masking_after",
    "exercise",
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """layer, head, query and key count from 0 and fit the model and the text at hand."""

    layer: int
    head: int
    query: int
    key: int


def get(name: str, default: Any = None) -> Any:
    """One value of the view, or `default` while it has none."""
    return st.session_state.get(f"view.{name}", default)


def put(name: str, value: Any) -> None:
    """Set one value of the view; None forgets it."""
    st.session_state[f"view.{name}"] = value
    settled = st.session_state.get(_SETTLED, {})
    for other in ("q", "k") if name in ("q", "k") else (name,):  # who chose one word has seen the other, and kept it
        settled.pop(other, None)
    if not st.session_state.get(_DRAWING):
        st.session_state[_CHOSEN] = True


def adopt_address() -> None:
    """Take over what a link says; call it before anything reads the view. Nonsense in it is ignored.

    A link is taken over once. After a click the address is not asked: a quick click still comes with the address of
    the view before, which the browser has not been told to change yet.
    """
    query = {name: st.query_params[name] for name in _KEYS if name in st.query_params}
    st.session_state[_DRAWING] = True
    if not st.session_state.pop(_CHOSEN, False) and query and query != st.session_state.get(_MIRROR):
        st.session_state[_MIRROR] = query
        for name, value in query.items():
            if name in ("layer", "head", "q", "k"):
                put(name, int(value) - 1 if value.isascii() and value.isdecimal() and len(value) < 6 else None)
            else:
                put(name, value)


def mirror_address(*names: str) -> None:
    """Write the named values to the query parameters (and drop the others of the view); call it last."""
    wanted: dict[str, str] = {}
    for name in names:
        value = get(name)
        if value is not None and not (name == "text" and len(value) > LONGEST_TEXT):
            wanted[name] = str(value + 1) if name in ("layer", "head", "q", "k") else str(value)
    others = {name: st.query_params[name] for name in st.query_params if name not in _KEYS}
    before = {name: st.query_params[name] for name in st.query_params if name in _KEYS}
    if before != wanted:
        st.query_params.from_dict(others | wanted)  # at once: one entry in the browser's history
    st.session_state[_MIRROR] = wanted
    st.session_state[_DRAWING] = False


def settle(n_layers: int, n_heads: int, n_tokens: int, layer: int, head: int) -> View:
    """The view as it fits this model and text; `layer` and `head` stand in where none was chosen.

    The query is by default the last word, the key the word before it. A choice that does not fit here is not
    forgotten: it holds again with the next model or text that it fits.
    """
    settled: dict[str, tuple[int | None, int]] = st.session_state.setdefault(_SETTLED, {})

    def within(name: str, default: int, count: int) -> int:
        asked, shown = settled.get(name, (None, None))
        if (value := get(name)) != shown:  # not what we put there ourselves: the reader's, or a link's
            asked = value if isinstance(value, int) else None
        fitting = asked if asked is not None and 0 <= asked < count else min(max(default, 0), count - 1)
        if asked is None and name in ("layer", "head"):
            asked = default  # travels to the next lesson, whose own default may be another
        st.session_state[f"view.{name}"] = fitting
        settled[name] = asked, fitting
        return fitting

    query = within("q", n_tokens - 1, n_tokens)
    return View(
        within("layer", layer, n_layers), within("head", head, n_heads), query, within("k", query - 1, n_tokens)
    )
