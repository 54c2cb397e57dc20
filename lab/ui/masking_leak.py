"""The leak detector: exchange one token, and see which positions notice, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from lab import masking
from lab.masking import Array
from lab.ui import components, mask_board, panels, view
from lab.ui import masking_panels as figure
from lab.ui.mask_board import SLUG, Board, t
from lab.ui.panels import prose
from lab.ui.reading import Reading


@dataclass(frozen=True)
class Leak:
    """Which token stands at `place` now, and how far each position moves after each layer, [L + 1 T]."""

    place: int
    new_id: int
    moved: Array

    @property
    def early(self) -> int:
        """How many positions before the place move by the last layer."""
        return int((self.moved[-1, : self.place] > 0).sum())

    @property
    def at(self) -> tuple[int, int]:
        """The chosen cell: a layer and a position."""
        rows, columns = self.moved.shape
        return mask_board.pair("at", rows, columns, (rows - 1, max(0, self.place - 1)))


def word_strip(r: Reading) -> None:
    """The tokens; a click chooses the one to exchange."""
    components.token_strip(
        r.labels, ids=r.trace.token_ids, selected_key=r.view.key, key="leak_tokens", caption=t("leak_strip"),
        on_select=lambda i: view.put("k", i),
    )  # fmt: skip


def new_token(r: Reading) -> int | None:
    """A field for the token to put there; None, and a note, where there is none or it is the old one."""
    old = r.labels[r.view.key]
    usual = next((label for label in reversed(r.labels[1:]) if label != old), "x")
    typed = mask_board.words_box("new", usual.replace("␣", ""))
    found = masking.token_of(r.model, typed, old)
    if found is None or found == r.trace.token_ids[r.view.key]:
        st.info(t("same_token"))
        return None
    return found


def detect(r: Reading, new_id: int, here: Board) -> Leak:
    """Run the model on both texts under the learner's mask."""
    place = r.view.key
    return Leak(place, new_id, masking.leak(r.model, r.trace.token_ids, place, new_id, here.allowed))


def ask(r: Reading, found: Leak, here: Board) -> bool:
    """How many of the earlier positions notice? And why, once it is answered."""
    place, early = found.place, found.early
    options = sorted({early, 0, min(1, place), place, place // 2})
    answered = panels.predict_first(
        SLUG, "leak", [str(o) for o in options], options.index(early), other=r.key, n=early, all=place,
        about=(r.model, tuple(r.labels), place, found.new_id, here.kind, here.size, here.cells),
        largest=f"{found.moved[:, :place].max(initial=0):.4f}",
    )  # fmt: skip
    if answered and place:
        prose(SLUG, "leak_open" if early else "leak_shut")
    return answered


def reach_note(found: Leak, here: Board) -> None:
    """How many positions moved, beside how many the mask lets the change reach."""
    reach = masking.reachable(here.allowed, len(found.moved) - 1)[:, :, found.place]
    moved, may = (found.moved > 0).sum(axis=1), reach.sum(axis=1)
    st.caption(t("reach", first=int(moved[1]), may_first=int(may[1]), last=int(moved[-1]), may_last=int(may[-1])))


def show(r: Reading, found: Leak, here: Board) -> None:
    """The map and its note."""
    figure.leak_map(r, found.moved, found.place, found.at)
    reach_note(found, here)
