"""The figures of the lesson on masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from lab import figures, masking
from lab.masking import Array, Bool, Packed, Padded, Texts, Way
from lab.ui import components, panels, view
from lab.ui.charts import MOST_BARS, chart
from lab.ui.mask_board import entry, put_pair, t
from lab.ui.reading import Reading
from lab.ui.token_grid import Cell, token_grid


def pair_map(r: Reading, name: str, values: Array, allowed: Bool, *, title: str, weights: bool) -> None:
    """Scores or weights under the learner's mask; a click chooses a pair."""
    i, j = r.view.query, r.view.key
    finite = values[np.isfinite(values)]
    low, high = (0.0, 1.0) if weights else (float(r.head("scaled").min()), float(r.head("scaled").max()))
    panels.figure_head(title, figures.matrix_csv(values, r.labels, r.labels), f"own_{name}")
    components.matrix(
        values, r.labels, r.labels, selected=(i, j), faint=~allowed, vmin=low if finite.size else 0.0,
        vmax=max(high, low + 1e-6), decimals=2 if weights else 1, key=f"own_{name}", on_select=r.choose_pair,
        alt=t("pair_alt", name=title, query=r.labels[i], other=r.labels[j], value=f"{values[i, j]:.2f}"),
    )  # fmt: skip


def row_bars(labels: Sequence[str], rows: dict[str, Array], file: str, shown: Sequence[int]) -> None:
    """One row of weights once for each way of masking, on one axis."""
    for column, (title, row) in zip(st.columns(len(rows)), rows.items(), strict=True):
        with column:
            chart(
                figures.bars, [labels[s] for s in shown], np.asarray(row, dtype=float)[list(shown)],
                value_range=(0, 1.3), decimals=2, alt=t("row_alt", way=title), title=title,
                file=f"{file}_{list(rows).index(title) + 1}",
            )  # fmt: skip


def likeliest(*rows: Array) -> list[int]:
    """The places with the largest numbers in any of the rows, at most eight, in the order of the sentence."""
    top = np.max(np.stack(rows), axis=0)
    return sorted(np.argsort(-top, kind="stable")[:MOST_BARS].tolist())


def batch_grid(texts: Texts, found: Padded, row: int) -> None:
    """The batch as a rectangle; a click chooses a text."""
    n = found.real.shape[1]
    cells = []
    for real, labels in zip(found.real, texts.labels, strict=True):
        own = iter(labels)
        cells.append([Cell(next(own), 0.35) if r else Cell(masking.PAD_LABEL) for r in real])
    rows = [t("text_n", n=b + 1) for b in range(len(cells))]
    csv = figures.matrix_csv(found.real.astype(int), rows, [str(p + 1) for p in range(n)])
    panels.figure_head(t("batch"), csv, "batch")
    token_grid(
        cells, rows, [str(p + 1) for p in range(n)], key="batch", alt=t("batch_alt", n=len(rows), t=n),
        selected=(row, 0), least_px=30, on_select=lambda cell: view.put(entry("row"), str(cell[0] + 1)),
    )  # fmt: skip


def mask_map(allowed: Bool, labels: list[str], chosen: tuple[int, int], *, title: str, key: str) -> None:
    """A mask to look at; a click chooses a pair of it."""
    panels.figure_head(title, figures.matrix_csv(allowed.astype(int), labels, labels), key)
    components.matrix(
        allowed.astype(float), labels, labels, selected=chosen, faint=~allowed, vmin=0.0, vmax=1.6, decimals=0,
        role="neutral", key=f"map_{key}", on_select=lambda cell: put_pair("pair", cell),
        alt=t("board_alt", n=int(allowed.sum()), all=allowed.size, query=labels[chosen[0]], other=labels[chosen[1]],
              value=int(allowed[chosen])),
    )  # fmt: skip


def moved_bars(names: list[str], values: Array, chosen: int, *, title: str, file: str) -> None:
    """What part of the prediction goes elsewhere, 0 to 1."""
    chart(
        figures.bars, names, values, highlight=chosen, role="loss", value_range=(0, 1.15), decimals=3, title=title,
        alt=t("moved_alt", value=f"{values[chosen]:.3f}", name=names[chosen]), file=file,
    )  # fmt: skip


def packing_bars(found: Packed, document: int) -> None:
    """Four ways of packing, by how far the prediction after one document goes astray."""
    names = [t(f"packed_{'apart' if apart else 'open'}_{'restart' if restart else 'through'}")
             for apart, restart in masking.PACKINGS]  # fmt: skip
    values = np.array([found.moved[packing][document] for packing in masking.PACKINGS])
    moved_bars(names, values, 3, title=t("packed_title", n=document + 1), file="packings")


def nan_grid(r: Reading, spoilt: Bool) -> None:
    """Where NaN stands, a row a layer."""
    rows = [t("entry"), *(t("after_layer", n=layer) for layer in range(1, len(spoilt)))]
    panels.figure_head(t("nan_title"), figures.matrix_csv(spoilt.astype(int), rows, r.labels), "nan")
    token_grid(
        [[Cell("NaN", 1.0) if bad else Cell("·", 0.0) for bad in line] for line in spoilt], rows, r.labels,
        key="nan", role="loss", least_px=0, alt=t("nan_alt", counts=", ".join(str(int(n)) for n in spoilt.sum(axis=1))),
    )  # fmt: skip


def leak_map(r: Reading, moved: Array, place: int, at: tuple[int, int]) -> None:
    """How far each position moves, a row a layer. What did not move at all is faint."""
    rows = [t("entry"), *(t("after_layer", n=layer) for layer in range(1, len(moved)))]
    still = moved == 0
    paint = np.log10(np.where(still, 1e-4, moved))
    panels.figure_head(t("leak_title"), figures.matrix_csv(moved, rows, r.labels), "leak")
    components.matrix(
        moved, rows, r.labels, selected=at, faint=still, colour_values=paint, vmin=-4.0, vmax=2.0, role="loss",
        row_role="neutral", decimals=2, key="leak", on_select=lambda cell: put_pair("at", cell),
        alt=t("leak_alt", n=int((moved[-1, :place] > 0).sum()), all=place),
    )  # fmt: skip


def three_ways(r: Reading, ways: dict[Way, tuple[Array, Array]], file: str) -> None:
    """One row masked in three ways."""
    weights = {t(f"way_{way}"): found[1] for way, found in ways.items()}
    row_bars(r.labels, weights, file, likeliest(*weights.values()))


def experiment() -> None:
    """The way to training with a broken mask."""
    panels.lesson_link("finetune", t("experiment"), experiment="mask")
