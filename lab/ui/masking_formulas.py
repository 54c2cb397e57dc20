"""The formulas of the lesson on masks with the numbers of the chosen cell in them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lab.masking import PENALTY, Way
from lab.ui.attention_formulas import names, number, signed
from lab.ui.mask_board import Board
from lab.ui.panels import tex
from lab.ui.reading import Reading

Array = NDArray[np.floating]


def rule(r: Reading, here: Board) -> list[str]:
    """The mask's rule for the chosen pair; places count from 1."""
    i, j, size = r.view.query + 1, r.view.key + 1, here.size
    q, k = tex("q", "i"), tex("k", "j")
    qn, kn = tex("q", str(i)), tex("k", str(j))
    general, numbers = {
        "none": ("1", "1"),
        "causal": (rf"[\,{k} \le {q}\,]", rf"[\,{kn} \le {qn}\,]"),
        "window": (rf"[\,{q} - w < {k} \le {q}\,]", rf"[\,{qn} - {size} < {kn} \le {qn}\,]"),
        "prefix": (rf"[\,{k} \le {q}\,] \vee [\,{k} \le p\,]", rf"[\,{kn} \le {qn}\,] \vee [\,{kn} \le {size}\,]"),
        "documents": (
            rf"[\,{k} \le {q}\,] \wedge [\,d_{k} = d_{q}\,]",
            rf"[\,{kn} \le {qn}\,] \wedge [\,{1 + (j > size)} = {1 + (i > size)}\,]",
        ),
    }[here.kind]
    value = bool(here.allowed[i - 1, j - 1])
    by_hand = (i - 1, j - 1) in here.cells
    end = rf"{int(value != by_hand)}" + (rf" \;\;\rightsquigarrow\;\; {number(int(value), 0)}" if by_hand else "")
    lines = [rf"\mathrm{{allowed}}_{{{q},{k}}} = {general}"]
    return [*lines, rf"= {numbers} = {end if by_hand else number(int(value), 0)}"]


def weight(r: Reading, masked: Array, weights: Array) -> list[str]:
    """The chosen pair's weight under the learner's mask: what is forbidden adds nothing to the sum."""
    i, j = names(r)
    row = masked[r.view.query]
    first = (
        rf"{tex('weights', 'w')}_{{{i},{j}}} = \dfrac{{e^{{s_{{{j}}} - \max s}}}}"
        rf"{{\sum_{{k\,\mathrm{{allowed}}}} e^{{s_k - \max s}}}}"
    )
    value = number(float(weights[r.view.query, r.view.key]), 4)
    if not np.isfinite(row).any():
        return [first, rf"= \dfrac{{0}}{{0}} \;\rightarrow\; {value}"]
    top = float(row.max())
    s, total = float(row[r.view.key]), float(np.exp(row.astype(np.float64) - top).sum())
    exponent = r"-\infty" if math.isinf(s) else rf"{s:.2f} - {signed(top)}"
    return [first, rf"= \dfrac{{e^{{{exponent}}}}}{{{total:.4f}}} = {value}"]


def both(real: bool, i: int, j: int, b: int, length: int, place: int, allowed: bool) -> list[str]:
    """Causal and padding for one pair (from 0) of text b; `place` is the key's in its own text, from 1."""
    q, k = tex("q", "i"), tex("k", "j")
    inside = rf"1 \le {place} \le {length}" if real else r"\mathrm{pad}"
    return [
        rf"\mathrm{{allowed}}_{{b,{q},{k}}} = [\,{k} \le {q}\,] \wedge [\,{k}\ \mathrm{{real}}\ \mathrm{{in}}\ b\,]",
        rf"\mathrm{{allowed}}_{{{b + 1},{tex('q', str(i + 1))},{tex('k', str(j + 1))}}} = "
        rf"[\,{tex('k', str(j + 1))} \le {tex('q', str(i + 1))}\,] \wedge [\,{inside}\,] = {number(int(allowed), 0)}",
    ]


def three_ways(forbidden: float, best: float, found: dict[Way, Array] | None, key: int) -> list[str]:
    """What softmax gets for the forbidden pair in each way, beside the best allowed score, and what comes out of it.

    Without `found` the outcome is left open: there is a question to answer first.
    """
    w = tex("weights", "w")
    rows: dict[Way, tuple[float, str]] = {
        "infinity": (-math.inf, r"-\infty"),
        "filled": (PENALTY, f"{PENALTY:.0f}"),
        "added": (forbidden + PENALTY, f"{_short(forbidden)} - {-PENALTY:.0f}"),
    }
    lines = [rf"{w} = \dfrac{{e^{{s}}}}{{\sum e^{{s}}}}, \qquad \max_{{\mathrm{{allowed}}}} s = {_short(best)}"]
    for way, (value, written) in rows.items():
        if found is None:
            lines.append(rf"s \to {written}: \quad {w} = \;?")
        else:
            sign = "<" if value < best else ">"
            share = number(float(found[way][key]), 4)
            lines.append(rf"s \to {written} {sign} {_short(best)} \;\Rightarrow\; {w} = {share}")
    return lines


def _short(value: float) -> str:
    """One decimal, none where the number is long."""
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"


def empty(n_tokens: int) -> list[str]:
    """A row with nothing allowed."""
    return [
        rf"{tex('weights', 'w')}_{{j}} = \dfrac{{e^{{-\infty}}}}{{\sum_k e^{{-\infty}}}} = \dfrac{{0}}{{0}}"
        r" = \mathrm{NaN}",
        rf"\mathrm{{LM\ Lab}}: \quad \sum_k = 0 \;\Rightarrow\; \dfrac{{0}}{{1}} = {number(0, 0)}"
        rf"\quad ({n_tokens}\times)",
    ]


def moved(layer: int, place: int, value: float | None) -> list[str]:
    """How far one position has moved after one layer; without a value only what it is."""
    general = r"\mathrm{moved}_{l,i} = \max_c \left| r'_{l,i,c} - r_{l,i,c} \right|"
    if value is None:
        return [general]
    return [
        general,
        rf"\mathrm{{moved}}_{{{layer},{place + 1}}} = {number(value, 5) if value else number(0, 0)}",
    ]


def selected(share: float, n_words: int) -> list[str]:
    """How many words are selected, and what becomes of them."""
    return [
        r"\mathbb{E}[\mathrm{selected}] = p \cdot n, \qquad p \cdot (0.8,\; 0.1,\; 0.1)",
        rf"= {share:.2f} \cdot {n_words} = {number(share * n_words)}, \qquad "
        rf"({0.8 * share:.3f},\; {0.1 * share:.3f},\; {0.1 * share:.3f})",
    ]


def two_guesses(place: int, encoder: float | None, decoder: float | None) -> list[str]:
    """What each gives the word that stood there."""

    def shown(value: float | None) -> str:
        return r"\text{–}" if value is None else number(value, 4)

    i = place + 1
    return [
        rf"p_{{\mathrm{{enc}}}}(w_{{{i}}} \mid w_1 \dots w_{{{i - 1}}},\, w_{{{i + 1}}} \dots w_n) = {shown(encoder)}",
        rf"p_{{\mathrm{{dec}}}}(w_{{{i}}} \mid w_1 \dots w_{{{i - 1}}}) = {shown(decoder)}",
    ]
