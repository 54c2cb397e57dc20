"""The sentence in hand: which model reads it, what it computed, where the reader looks. Every lesson opens so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from lab import models, traces
from lab.language import text
from lab.lessons import Markdown
from lab.traces import TextTrace
from lab.ui import components, model_choice, panels, trouble, view
from lab.ui.view import View

EXAMPLE = "The old king looked at the little bird"
EXAMPLES = {"bundled:shiren": "床前明月光，疑是地上"}  # where the model reads another language
_SHOWN_EXAMPLE = "reading.example"  # the example that stands in the box because nobody has typed


@dataclass(frozen=True)
class Reading:
    """What every step of a lesson needs: the model's numbers for this text, and the chosen layer, head and words."""

    model: str
    shape: models.Shape
    trace: TextTrace
    view: View
    is_own: bool = False  # computed by the learner's functions

    @property
    def labels(self) -> list[str]:
        """One visible label a token."""
        return self.trace.labels

    @property
    def n_tokens(self) -> int:
        """T, the document start included."""
        return len(self.labels)

    @property
    def query(self) -> Markdown:
        """The chosen query word, for a sentence."""
        return panels.word(self.labels[self.view.query], "q")

    @property
    def key(self) -> Markdown:
        """The chosen key word, for a sentence."""
        return panels.word(self.labels[self.view.key], "k")

    def layer(self, name: str) -> NDArray[np.float32]:
        """One array of the chosen layer."""
        return self.trace.layer(name, self.view.layer)

    def head(self, name: str) -> NDArray[np.float32]:
        """One array of the chosen head."""
        return self.trace.head(name, self.view.layer, self.view.head)

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Which pairs the mask lets through, [T T]."""
        return np.isfinite(self.head("masked"))

    def choose_pair(self, cell: tuple[int, int]) -> None:
        """A click on a cell of a [query, key] map."""
        view.put("q", cell[0])
        view.put("k", cell[1])

    def choose_query(self, index: int) -> None:
        """A click on a token."""
        if index != components.RELEASED:
            view.put("q", index)


def _submit() -> None:
    st.session_state.pop(_SHOWN_EXAMPLE, None)
    view.put("text", st.session_state["sentence_box"])
    for name in ("q", "k"):
        view.put(name, None)


def sentence_box(model: str) -> str:
    """The text field with the sentence; returns the sentence. Until somebody types, it is an example for the model."""
    example, shown = EXAMPLES.get(model, EXAMPLE), st.session_state.get(_SHOWN_EXAMPLE)
    if view.get("text") is None or (view.get("text") == shown and shown != example):
        if view.get("text") is not None:  # the places in the old example mean nothing in the new one
            view.put("q", None)
            view.put("k", None)
        view.put("text", example)
        st.session_state[_SHOWN_EXAMPLE] = example
    st.session_state["sentence_box"] = view.get("text")[: view.LONGEST_TEXT]
    st.text_input(
        text("controls.sentence"),
        key="sentence_box",
        max_chars=view.LONGEST_TEXT,
        on_change=_submit,
        label_visibility="collapsed",
        placeholder=text("controls.sentence_empty"),
    )
    return str(view.get("text"))


def readable_sentence(model: str) -> str:
    """The sentence box; a clear message and a stop while there is nothing to read, or no folder to read it with."""
    sentence = sentence_box(model)
    if traces.is_blank(sentence):
        st.info(text("trouble.blank"))
        st.stop()
    if model == model_choice.NO_FOLDER:
        st.info(text("trouble.no_path"))
        st.stop()
    return sentence


def open_reading(model: str, default_layer: int, default_head: int) -> Reading:
    """Read the sentence with the model and settle where the reader looks; a clear message and a stop where it can't."""
    sentence = readable_sentence(model)
    try:
        shape = models.shape(model)
        trace = traces.trace(model, sentence)
    except (ValueError, OSError, MemoryError) as error:
        trouble.show(error)
        st.stop()
    if trace.n_cut:
        full = "cut_context" if len(trace.labels) == shape.context_length else "cut"
        st.caption(text(f"trouble.{full}", kept=len(trace.labels), cut=trace.n_cut))
    elif len(sentence) > view.LONGEST_TEXT:
        st.caption(text("trouble.long_link", longest=view.LONGEST_TEXT))
    here = view.settle(shape.n_layers, shape.n_heads, len(trace.labels), default_layer, default_head)
    return Reading(model, shape, trace, here)


def token_bar(reading: Reading) -> None:
    """The tokens as chips, and beside them the layer and the head."""
    tokens, menus = st.columns([10, 4], vertical_alignment="center")
    with tokens:
        components.token_strip(
            reading.labels,
            ids=reading.trace.token_ids,
            selected_query=reading.view.query,
            selected_key=reading.view.key,
            key="tokens",
            on_select=reading.choose_query,
        )
    with menus.container(horizontal=True, horizontal_alignment="right"):
        _choice("layer", reading.shape.n_layers, reading.view.layer)
        _choice("head", reading.shape.n_heads, reading.view.head)


def _choice(name: str, count: int, chosen: int) -> None:
    """A small menu that counts from 1 on the screen and from 0 in the view."""
    key = f"{name}_menu"
    st.session_state[key] = chosen

    def changed() -> None:
        view.put(name, st.session_state[key])

    names = [text(f"controls.{name}", n=i + 1) for i in range(count)]
    st.selectbox(
        text(f"controls.{name}", n=""),
        range(count),
        format_func=names.__getitem__,
        key=key,
        on_change=changed,
        label_visibility="collapsed",
        width=124,
    )
