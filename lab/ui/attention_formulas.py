"""The formulas of self-attention with the numbers of the chosen cell in them, and the operands behind each number.

Each function returns the lines of one formula; the last line ends in the number that stands in the cell.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lab import traces
from lab.ui.panels import tex, tex_name, tex_sum
from lab.ui.reading import Reading

Array = NDArray[np.floating]


def signed(value: float, decimals: int = 2) -> str:
    r"""A number for a formula; −∞ as a symbol, a negative one in brackets.

    >>> signed(-1.5), signed(2, 0), signed(-math.inf)
    ('(-1.50)', '2', '-\\infty')
    """
    if math.isinf(value):
        return r"-\infty" if value < 0 else r"\infty"
    return f"({value:.{decimals}f})" if value < 0 else f"{value:.{decimals}f}"


def number(value: float, decimals: int = 2) -> str:
    """A result: bold, never in brackets."""
    return rf"\mathbf{{{'-' if value < 0 else ''}\infty}}" if math.isinf(value) else rf"\mathbf{{{value:.{decimals}f}}}"


def names(reading: Reading) -> tuple[str, str]:
    """The chosen query and key as subscripts."""
    i, j = reading.view.query, reading.view.key
    return tex_name(reading.labels[i], i), tex_name(reading.labels[j], j)


def normalised(reading: Reading, column: int) -> list[str]:
    """One number of x: the residual stream's number, brought to common size, times a learned scale."""
    i = reading.view.query
    row = reading.layer("resid_pre")[i].astype(np.float64)
    learned = traces.norm_weights(reading.model, reading.view.layer)
    name, c, eps = names(reading)[0], column + 1, reading.shape.norm_eps
    result = number(float(reading.layer("attn_in")[i, column]), 3)
    g = signed(float(learned.weight[column]))
    if reading.shape.norm == "rms_norm":
        size = math.sqrt(float((row**2).mean()) + eps)
        return [
            rf"x_{{{name},{c}}} = \dfrac{{r_{{{name},{c}}}}}"
            rf"{{\sqrt{{\mathrm{{mean}}(r^2) + \varepsilon}}}} \cdot g_{{{c}}}",
            rf"= \dfrac{{{row[column]:.3f}}}{{{size:.3f}}} \cdot {g} = {result}",
        ]
    mean, deviation, b = row.mean(), math.sqrt(float(row.var()) + eps), signed(float(learned.bias[column]))
    return [
        rf"x_{{{name},{c}}} = \dfrac{{r_{{{name},{c}}} - \mathrm{{mean}}(r)}}"
        rf"{{\sqrt{{\mathrm{{var}}(r) + \varepsilon}}}} \cdot g_{{{c}}} + b_{{{c}}}",
        rf"= \dfrac{{{row[column]:.3f} - {signed(mean, 3)}}}{{{deviation:.3f}}} \cdot {g} + {b} = {result}",
    ]


def projected(reading: Reading, part: str, column: int, x: Array, w: Array, bias: float) -> list[str]:
    """One number of q, k or v before turning: a row of x times a column of W."""
    symbol = tex(part, part)  # type: ignore[arg-type]  # part is "q", "k" or "v": all roles
    name, c = names(reading)[0], column + 1
    stack = "v" if part == "v" else f"{part}_proj"
    total = number(float(reading.head(stack)[reading.view.query, column]), 3)
    added = f" + b_{{{c}}}" if bias else ""
    with_bias = f" + {signed(bias, 3)}" if bias else ""
    return [
        rf"{symbol}_{{{name},{c}}} = x_{{{name}}} \cdot W_{{{part.upper()},{c}}}{added}",
        rf"= {tex_sum(list(zip(x.tolist(), w.tolist(), strict=True)))}{with_bias}",
        rf"= {total}",
    ]


def turned(reading: Reading, part: str, column: int, before: Array, angle: float) -> list[str]:
    """One number of q or k after turning: a pair of numbers, by the angle of this position."""
    symbol, half = tex(part, part), len(before) // 2  # type: ignore[arg-type]
    name, c = names(reading)[0], column + 1
    rate = angle / reading.view.query if reading.view.query else 0.0
    first = column < half
    other = column + half if first else column - half
    sign = "-" if first else "+"
    value = before[column] * math.cos(angle) + (-1 if first else 1) * before[other] * math.sin(angle)
    return [
        rf"\theta = {reading.view.query} \cdot {rate:.4f} = {angle:.4f}",
        rf"{symbol}_{{{name},{c}}} = {symbol}'_{{{c}}} \cos\theta {sign} {symbol}'_{{{other + 1}}} \sin\theta",
        rf"= {signed(before[column])} \cdot {signed(math.cos(angle))} {sign} "
        rf"{signed(before[other])} \cdot {signed(math.sin(angle))}",
        rf"= {number(value, 3)}",
    ]


def score(reading: Reading) -> list[str]:
    """The dot product of the chosen pair."""
    q, k = reading.head("q")[reading.view.query], reading.head("k")[reading.view.key]
    i, j = names(reading)
    value = float(reading.head("scores")[reading.view.query, reading.view.key])
    return [
        rf"\mathrm{{score}}_{{{i},{j}}} = {tex('q', 'q')}_{{{i}}} \cdot {tex('k', 'k')}_{{{j}}}"
        rf" = \textstyle\sum_c {tex('q', 'q_c')}\,{tex('k', 'k_c')}",
        rf"= {tex_sum(list(zip(q.tolist(), k.tolist(), strict=True)))}",
        rf"= {number(value)}",
    ]


def scaled(reading: Reading) -> list[str]:
    """The score of the chosen pair divided by √d_head."""
    i, j = names(reading)
    cell = reading.view.query, reading.view.key
    raw, value = float(reading.head("scores")[cell]), float(reading.head("scaled")[cell])
    return [
        rf"\mathrm{{scaled}}_{{{i},{j}}} = \dfrac{{\mathrm{{score}}_{{{i},{j}}}}}{{\sqrt{{d_{{head}}}}}}",
        rf"= \dfrac{{{raw:.2f}}}{{\sqrt{{{reading.shape.d_head}}}}} = {number(value)}",
    ]


def masked(reading: Reading) -> list[str]:
    """What the mask makes of the chosen pair."""
    i, j = names(reading)
    cell = reading.view.query, reading.view.key
    rule = r"\le" if reading.view.key <= reading.view.query else ">"
    return [
        rf"\mathrm{{masked}}_{{{i},{j}}} = {number(float(reading.head('masked')[cell]))}"
        rf", \qquad {tex('k', str(reading.view.key + 1))} {rule} {tex('q', str(reading.view.query + 1))}"
    ]


def weight(reading: Reading, row: Array, value: float, temperature: float) -> list[str]:
    """The chosen pair's share: e to its score (less the row's largest), over the sum of the row."""
    i, j = names(reading)
    s = row[reading.view.key] / temperature
    top = float(np.max(row)) / temperature
    total = float(np.exp(row / temperature - top).sum())
    tau = r" / \tau" if temperature != 1 else ""
    exponent = "-\\infty" if math.isinf(s) else f"{s:.2f} - {signed(top)}"
    return [
        rf"{tex('weights', 'w')}_{{{i},{j}}} = \dfrac{{e^{{s_{{{j}}}{tau} - \max s{tau}}}}}"
        rf"{{\sum_k e^{{s_k{tau} - \max s{tau}}}}}",
        rf"= \dfrac{{e^{{{exponent}}}}}{{{total:.4f}}} = {number(value, 4)}",
    ]


def mixed(reading: Reading, column: int) -> list[str]:
    """One number of the head's output: the weights of the row times one column of the values."""
    i = reading.view.query
    w, v = reading.head("weights")[i, : i + 1], reading.head("v")[: i + 1, column]
    name = names(reading)[0]
    return [
        rf"\mathrm{{out}}_{{{name},{column + 1}}} = \textstyle\sum_j {tex('weights', 'w_j')}\,"
        rf"{tex('v', rf'v_{{j,{column + 1}}}')}",
        rf"= {tex_sum(list(zip(w.tolist(), v.tolist(), strict=True)))}",
        rf"= {number(float(reading.head('head_out')[i, column]), 3)}",
    ]


def written(reading: Reading, column: int) -> list[str]:
    """One number of the stream after attention: what was there plus what the heads wrote."""
    i, name = reading.view.query, names(reading)[0]
    before, added, after = (float(reading.layer(n)[i, column]) for n in ("resid_pre", "attn_out", "resid_mid"))
    c = column + 1
    return [
        rf"r'_{{{name},{c}}} = r_{{{name},{c}}} + (\mathrm{{concat}}(\mathrm{{out}}) \, W_O)_{{{c}}}",
        rf"= {signed(before, 3)} + {signed(added, 3)} = {number(after, 3)}",
    ]
