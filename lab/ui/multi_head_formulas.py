"""The formulas of the multi-head lesson with the numbers of what the reader has chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lab.heads import Prediction, Written
from lab.ui.attention_formulas import names, number, signed, weight
from lab.ui.panels import tex, tex_name
from lab.ui.reading import Reading
from lm_core.head_parts import group_of, kept_numbers

Array = NDArray[np.floating]


def one_head(reading: Reading) -> list[str]:
    """What one head computes, and its weight for the chosen pair."""
    h, i, j = reading.view.head + 1, reading.view.query, reading.view.key
    q, k, v = (tex(role, rf"{role.upper()}_{{{h}}}") for role in ("q", "k", "v"))
    return [
        rf"\mathrm{{head}}_{{{h}}} = \mathrm{{softmax}}\!\left(\dfrac{{{q} {k}^{{\top}}}}"
        rf"{{\sqrt{{d_{{head}}}}}}\right) {v}",
        *weight(reading, reading.head("masked")[i].astype(np.float64), float(reading.head("weights")[i, j]), 1.0),
    ]


def disagreement(one: Array, other: Array, query: int, label: str, total: float) -> list[str]:
    """How differently two heads look: the chosen row written out, then the mean over all rows."""
    name = tex_name(label, query)
    pairs = list(zip(one[query, : query + 1].tolist(), other[query, : query + 1].tolist(), strict=True))
    terms = [rf"|{a:.2f} - {b:.2f}|" for a, b in pairs]
    if len(terms) > 2:
        terms = [terms[0], r"\dots", terms[-1]]
    row = sum(abs(a - b) for a, b in pairs) / 2
    return [
        r"d = \frac{1}{T} \sum_i d_i, \qquad d_i = \frac{1}{2} \sum_j |A_{ij} - B_{ij}|",
        rf"d_{{{name}}} = \tfrac{{1}}{{2}} \left({' + '.join(terms)}\right) = {row:.2f}",
        rf"d = {number(total, 3)}",
    ]


def divergence(found: Prediction) -> list[str]:
    """KL between the two predictions, its largest terms written out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.nan_to_num(found.before * np.log2(found.before / found.after))
    largest = np.argsort(-np.abs(terms))[:2]
    shown = [rf"{found.before[t]:.3f} \log_2 \tfrac{{{found.before[t]:.3f}}}{{{found.after[t]:.3f}}}" for t in largest]
    return [
        r"\mathrm{KL}(p \,\|\, p') = \textstyle\sum_t p_t \log_2 \dfrac{p_t}{p'_t}",
        rf"= {' + '.join(shown)} + \dots",
        rf"= {number(found.kl_bits, 3)}\ \mathrm{{bit}}",
    ]


def _sum(values: Sequence[float], decimals: int = 3) -> str:
    terms = [signed(value, decimals) for value in values]
    if len(terms) > 5:
        terms = [*terms[:3], r"\dots", terms[-1]]
    return " + ".join(terms)


def concat(reading: Reading, found: Written, column: int) -> list[str]:
    """One number that attention writes: concat · W_O, as the sum of what each head brings to it."""
    name, c = names(reading)[0], column + 1
    n = reading.shape.n_heads
    heads = rf"[\mathrm{{head}}_1, \dots, \mathrm{{head}}_{{{n}}}]" if n > 1 else r"[\mathrm{head}_1]"
    bias = " + b" if found.has_bias else ""
    return [
        rf"\mathrm{{out}} = {heads} \, W_O{bias}",
        rf"\mathrm{{out}}_{{{name},{c}}} = {_sum(found.parts[:, column].tolist())}",
        rf"= {number(float(found.attn_out[column]), 3)}",
    ]


def share(reading: Reading, found: Written) -> list[str]:
    """The chosen head's share of what attention writes."""
    h = reading.view.head
    whole = found.parts.sum(axis=0, dtype=np.float64)
    dot, square = float(found.parts[h] @ whole), float(whole @ whole)
    return [
        r"\mathrm{share}_h = \dfrac{\mathrm{part}_h \cdot \mathrm{out}}{\mathrm{out} \cdot \mathrm{out}}"
        r", \qquad \textstyle\sum_h \mathrm{share}_h = 1",
        rf"\mathrm{{share}}_{{{h + 1}}} = \dfrac{{{dot:.3f}}}{{{square:.3f}}} = {number(float(found.shares[h]), 3)}",
    ]


def measure(score: float, weights: Array, pairs: NDArray[np.bool_]) -> list[str]:
    """A head's score: the weight on the pairs of one kind, averaged over the rows that have any."""
    rows = (weights * pairs).sum(axis=1)[pairs.any(axis=1)]
    terms = [f"{value:.2f}" for value in rows.tolist()]
    if len(terms) > 4:
        terms = [*terms[:3], r"\dots", terms[-1]]
    return [
        rf"\mathrm{{score}} = \frac{{1}}{{n}} \sum_i \sum_{{j \in P_i}} {tex('weights', 'w')}_{{ij}}",
        rf"= \tfrac{{1}}{{{len(rows)}}} \left({' + '.join(terms)}\right) = {number(score, 3)}",
    ]


def groups(reading: Reading) -> list[str]:
    """Which keys and values the chosen head reads, counted from 1; how much is kept a position."""
    s, h = reading.shape, reading.view.head
    group = group_of(h, s.n_heads, s.n_kv_heads)
    kept = kept_numbers(s.n_layers, s.n_kv_heads, s.d_head)
    return [
        rf"g(h) = 1 + \left\lfloor \dfrac{{(h - 1)\, H_{{kv}}}}{{H}} \right\rfloor, \qquad "
        rf"g({h + 1}) = 1 + \left\lfloor \tfrac{{{h} \cdot {s.n_kv_heads}}}{{{s.n_heads}}} \right\rfloor = {group + 1}",
        r"\mathrm{kept} = 2 \cdot L \cdot H_{kv} \cdot d_{head}",
        rf"= 2 \cdot {s.n_layers} \cdot {s.n_kv_heads} \cdot {s.d_head} = \mathbf{{{kept}}}",
    ]
