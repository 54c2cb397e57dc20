"""The formulas of the lesson on positions, with the numbers of the chosen cell in them. Positions count from 0."""

from __future__ import annotations

import numpy as np

from lab.language import text
from lab.ui import position_data as data
from lab.ui.attention_formulas import names, number, signed
from lab.ui.panels import tex
from lab.ui.position_data import Array, Shuffled, Way
from lab.ui.reading import Reading


def _words(key: str) -> str:
    return rf"\text{{{text(f'positions.{key}')}}}"


def _places(r: Reading, found: Shuffled) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where the chosen query and key stand, in order and shuffled."""
    place = np.argsort(found.order)
    return (r.view.query, r.view.key), (int(place[r.view.query]), int(place[r.view.key]))


def shuffled_weight(r: Reading, found: Shuffled, way: Way) -> list[str]:
    """The weight of the chosen pair in both orders."""
    i, j = names(r)
    cell = r.view.head, r.view.query, r.view.key
    before, after = _places(r, found)
    w = tex("weights", "w")
    return [
        rf"{w}_{{{i},{j}}} = \mathrm{{softmax}}_{{{j}}}\!\left({tex('q', 'q')}_{{{i}}} \cdot {tex('k', 'k')}"
        rf" / \sqrt{{d_{{head}}}}\right)",
        rf"{_words('in_order')}\ {before}\!: \ {number(float(found.straight[way][cell]), 6)}",
        rf"{_words('mixed')}\ {after}\!: \ {number(float(found.back[way][cell]), 6)}",
    ]


def seen(r: Reading, found: Shuffled) -> list[str]:
    """Score, number of words that may be seen, and weight of the chosen pair, in both orders, under the mask alone."""
    i, j = names(r)
    cell = r.view.head, r.view.query, r.view.key
    before, after = _places(r, found)
    lines = [
        rf"{tex('weights', 'w')}_{{{i},{j}}} = \dfrac{{e^{{s_{{{j}}}}}}}{{\sum_{{k \le {tex('q', 'i')}}} e^{{s_k}}}}"
    ]
    both = (
        ("in_order", before, found.scores_straight, found.straight),
        ("mixed", after, found.scores_back, found.back),
    )
    for name, (i_at, j_at), scores, weights in both:
        d = np.sqrt(r.shape.d_head)
        score = rf"s = {signed(float(scores['mask'][cell]) / d, 3)}" if j_at <= i_at else r"s = -\infty"
        terms = rf"{text('positions.seen', n=i_at + 1)}"
        lines.append(rf"{_words(name)}\!: \ {score},\ \text{{{terms}}},\ w = {number(float(weights['mask'][cell]), 4)}")
    return lines


def sinusoid(t: int, column: int, width: int, value: float) -> list[str]:
    """One number of the paper's table."""
    pair, wave = column // 2, r"\sin" if column % 2 == 0 else r"\cos"
    return [
        rf"p_{{t,{column}}} = {wave}\!\left( t \,/\, 10000^{{2i/D}} \right), \qquad i = {pair}",
        rf"= {wave}\!\left( {t} \,/\, 10000^{{{2 * pair}/{width}}} \right)"
        rf" = {wave}({t / 10000 ** (2 * pair / width):.4f}) = {number(value, 4)}",
    ]


def added(r: Reading, column: int) -> list[str]:
    """Token vector plus position vector, one number of it; for a model with a table."""
    name, t = names(r)[0], r.view.query
    word, place = data.summands(r, column)
    total = float(r.trace.arrays["embedded"][t, column])
    return [
        rf"x_{{{name},{column + 1}}} = e_{{{name},{column + 1}}} + p_{{{t},{column + 1}}}",
        rf"= {signed(word, 4)} + {signed(place, 4)} = {number(total, 4)}",
    ]


def likeness(rows: Array, cell: tuple[int, int]) -> list[str]:
    """How alike two rows of a table are."""
    i, j = cell
    p, other = rows[i].astype(np.float64), rows[j].astype(np.float64)
    sizes = float(np.linalg.norm(p)), float(np.linalg.norm(other))
    cosine = float(p @ other) / (sizes[0] * sizes[1]) if all(sizes) else 0.0
    return [
        r"\cos(p_s,\, p_t) = \dfrac{p_s \cdot p_t}{\lVert p_s \rVert\, \lVert p_t \rVert}",
        rf"\cos(p_{{{i}}},\, p_{{{j}}}) = \dfrac{{{float(p @ other):.3f}}}{{{sizes[0]:.3f} \cdot {sizes[1]:.3f}}}"
        rf" = {number(cosine, 3)}",
    ]


def mean_likeness(by_distance: Array, distance: int) -> list[str]:
    """How alike two rows of a table are on average, at one distance."""
    return [
        r"\mathrm{alike}(d) = \mathrm{mean}_s \cos(p_s,\, p_{s+d})",
        rf"\mathrm{{alike}}({distance}) = {number(float(by_distance[distance]), 4)}",
    ]


def dial(t: int, pair: int, width: int, theta: float, angle: float) -> list[str]:
    """The angle of one dial."""
    return [
        rf"\mathrm{{angle}}_{{t,i}} = t \cdot {theta:.0f}^{{-2(i-1)/d_{{head}}}}, \qquad i = {pair + 1}",
        rf"= {t} \cdot {theta:.0f}^{{-{2 * pair}/{width}}} = {number(angle, 4)} \ \text{{rad}}",
    ]


def moved(r: Reading, scores: Array, here: tuple[int, int]) -> list[str]:
    """The score of the chosen pair at two places of the same distance."""
    m, n = here
    home = max(m - n, 0), max(n - m, 0)
    q, k = tex("q", "q"), tex("k", "k")
    top = (
        rf"(R_m\,{q}) \cdot (R_n\,{k}) = {q} \cdot R_{{n-m}}\,{k}"
        if r.shape.has_rope
        else r"((e + p_m)\,W_Q) \cdot ((e' + p_n)\,W_K)"
    )
    return [
        rf"\mathrm{{score}}_{{m,n}} = {top}",
        rf"\mathrm{{score}}_{{{home[0]},{home[1]}}} = {number(float(scores[home]), 4)}",
        rf"\mathrm{{score}}_{{{m},{n}}} = {number(float(scores[here]), 4)}",
    ]


def penalty(r: Reading, slope: float) -> list[str]:
    """ALiBi's number for the chosen pair."""
    i, j = r.view.query, r.view.key
    return [
        rf"\mathrm{{bias}}_{{i,j}} = -m_h \cdot |i - j|, \qquad m_{{{r.view.head + 1}}} = {slope:.6g}",
        rf"= -{slope:.6g} \cdot |{i} - {j}| = {number(-slope * abs(i - j) + 0.0, 4)}",
    ]


def wave_sum(parts: Array, distance: int) -> list[str]:
    """The score at one distance as a sum of waves."""
    row = parts[distance]
    terms = [signed(float(x)) for x in row]
    shown = terms if len(terms) <= 3 else [*terms[:2], r"\dots", terms[-1]]
    q, k = tex("q", "q_i"), tex("k", "k_i")
    return [
        rf"\mathrm{{score}}(d) = \textstyle\sum_i \lVert {q} \rVert\, \lVert {k} \rVert \cos(\varphi_i + d\,\theta_i)",
        rf"\mathrm{{score}}({distance}) = {' + '.join(shown)} = {number(float(row.sum()))}",
    ]
