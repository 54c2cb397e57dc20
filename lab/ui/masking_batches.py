"""Several texts at once: padded into a rectangle, or packed into one row, each beside the text alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from lab import masking
from lab.masking import Packed, Padded, Rule, Texts
from lab.ui import mask_board, panels
from lab.ui import masking_formulas as formulas
from lab.ui import masking_panels as figure
from lab.ui.mask_board import SLUG, t
from lab.ui.masking_gap import several
from lab.ui.reading import Reading

ROUNDING = {"share": 1e-4, "logit": 1e-2}  # what float32 may differ by, in parts of the prediction and in any logit


@dataclass(frozen=True)
class PaddedView:
    """The batch, on which side its padding stands, the rule to look at, the text chosen (from 0)."""

    texts: Texts
    found: Padded
    side: str
    rule: Rule
    row: int

    @property
    def n(self) -> int:
        """T of the rectangle."""
        return self.found.real.shape[1]

    @property
    def length(self) -> int:
        """How many tokens the chosen text has."""
        return len(self.texts.ids[self.row])

    @property
    def is_left(self) -> bool:
        """Whether the padding stands in front."""
        return self.side == "left"

    @property
    def labels(self) -> list[str]:
        """The chosen text in its row of the rectangle, [T]."""
        own, gaps = list(self.texts.labels[self.row]), [masking.PAD_LABEL] * (self.n - self.length)
        return gaps + own if self.is_left else own + gaps

    @property
    def pair(self) -> tuple[int, int]:
        """The chosen cell of the mask."""
        usual = (self.n - 1, 0) if self.is_left else (self.length - 1, self.n - 1)
        return mask_board.pair("pair", self.n, self.n, usual)


def padded(r: Reading) -> PaddedView:
    """Two more sentences, the side of the padding, the rule."""
    texts = several(r.model, "padding")
    side = mask_board.choice("side", ("right", "left"))
    rule = mask_board.choice("rule", masking.OFFERED)
    found = masking.padded(r.model, texts, side == "left")
    return PaddedView(texts, found, side, rule, mask_board.whole_number("row", 1, len(texts.ids), len(texts.ids)) - 1)


def padded_formula(p: PaddedView) -> list[str]:
    """Causal and padding, for the chosen cell."""
    (i, j), b = p.pair, p.row
    place = j - (p.n - p.length) + 1 if p.is_left else j + 1
    allowed = bool(p.found.allowed["both"][b, i, j])
    return formulas.both(bool(p.found.real[b, j]), i, j, b, p.length, place, allowed)


def ask_padded(r: Reading, p: PaddedView) -> bool:
    """Does the causal mask do without a padding mask?"""
    gone, n = p.found.moved, p.row
    return panels.predict_first(
        SLUG, "padding", [t("yes"), t("no")], int(gone["causal"][n] < ROUNDING["share"]),
        about=(r.model, str(p.texts.ids), p.side, n), n=n + 1, side=t(f"side_{p.side}"),
        causal=f"{gone['causal'][n]:.4f}", both=f"{gone['both'][n]:.4f}",
    )  # fmt: skip


def padded_mask(p: PaddedView) -> None:
    """The mask of the chosen text under the chosen rule."""
    allowed = p.found.allowed[p.rule][p.row]
    figure.mask_map(allowed, p.labels, p.pair, title=t("mask_of", n=p.row + 1), key="padded")
    st.caption(t("empty_rows", n=int((~allowed.any(axis=1)).sum())))


def padded_bars(p: PaddedView) -> None:
    """How far the prediction after the chosen text goes astray, under each rule."""
    names = [t(f"rule_{name}") for name in masking.RULES]
    values = np.array([p.found.moved[name][p.row] for name in masking.RULES])
    chosen = masking.RULES.index(p.rule)
    figure.moved_bars(names, values, chosen, title=t("alone_title", n=p.row + 1), file="padding")


# --- packed -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackedView:
    """The texts in one row, and which of them is chosen (from 0)."""

    texts: Texts
    found: Packed
    row: int


def packed(r: Reading) -> PackedView:
    """Two more sentences for the row."""
    texts = several(r.model, "documents")
    row = mask_board.whole_number("row", 1, len(texts.ids), len(texts.ids)) - 1
    return PackedView(texts, masking.packed(r.model, texts), row)


def ask_packed(r: Reading, p: PackedView) -> bool:
    """Does packing with care change anything?"""
    gap = p.found.gap
    return panels.predict_first(
        SLUG, "documents", [t("yes"), t("no")], int(gap[True, True] <= ROUNDING["logit"]),
        about=(r.model, str(p.texts.ids)), apart=f"{gap[True, True]:.1e}", open=f"{gap[False, False]:.2f}",
        through=f"{gap[True, False]:.1e}",
    )  # fmt: skip


def packed_mask(p: PackedView) -> None:
    """The mask of the whole row, blocks along its diagonal."""
    labels = [label for each in p.texts.labels for label in each]
    chosen = mask_board.pair("pair", len(labels), len(labels), (len(labels) - 1, 0))
    figure.mask_map(p.found.allowed, labels, chosen, title=t("packed_map"), key="packed")
    st.caption(t("places_note", places=" ".join(str(place) for place in p.found.places.tolist())))
