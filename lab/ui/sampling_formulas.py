"""Formulas of the lesson on sampling, the last line ending in the number of the token that is followed."""

from __future__ import annotations

import numpy as np

from lab.ui.attention_formulas import number, signed
from lab.ui.sampling_numbers import Stages

STRUT = r"\rule[-2em]{0pt}{3em}"  # keeps two tall fractions apart


def softmax_lines(found: Stages, stage: str, token: int) -> list[str]:
    """A logit to its probability: minus the largest, to the power of e, divided by the sum over the vocabulary."""
    z = found.logits_of(stage).astype(np.float64)
    top = float(z.max())
    total = float(np.exp(z - top).sum())
    p = float(found.of(stage)[token])
    if not np.isfinite(z[token]):
        rule = r"p_i = \dfrac{e^{z_i - z_{\max}}}{\sum_j e^{z_j - z_{\max}}}"
        return [rule, rf"e^{{-\infty}} = 0, \quad p = {number(0, 0)}"]
    return [
        rf"p_i = \dfrac{{e^{{z_i - z_{{\max}}}}}}{{\sum_{{j=1}}^{{{len(z)}}} e^{{z_j - z_{{\max}}}}}}{STRUT}",
        rf"= \dfrac{{e^{{{z[token]:.3f} - {signed(top, 3)}}}}}{{{total:.4f}}} = {number(p, 5)}",
    ]


def penalty_lines(found: Stages, token: int, seen: bool) -> list[str]:
    """What the repetition penalty makes of one logit."""
    theta, z = found.config.repetition_penalty, float(found.logits_of("model")[token])
    after = float(found.logits_of("repetition")[token])
    rule = r"z' = z / \theta \;\; (z \ge 0), \quad z' = z \cdot \theta \;\; (z < 0)"
    if not seen:
        return [rule, rf"z' = z = {number(z, 3)}"]
    if z < 0:
        return [rule, rf"z' = {signed(z, 3)} \cdot {theta:g} = {number(after, 3)}"]
    return [rule, rf"z' = \dfrac{{{z:.3f}}}{{{theta:g}}} = {number(after, 3)}"]


def temperature_lines(found: Stages, token: int) -> list[str]:
    """Dividing by the temperature, then the softmax."""
    tau, z = found.config.temperature, float(found.logits_of("repetition")[token])
    if tau == 0:
        best = int(found.logits_of("repetition").argmax())
        rule = r"\tau = 0: \quad p_i = [\, i = \arg\max_j z_j \,]"
        return [rule, rf"p = {number(float(token == best), 0)}"]
    after = float(found.logits_of("temperature")[token])
    return [
        rf"z' = \dfrac{{z}}{{\tau}} = \dfrac{{{z:.3f}}}{{{tau:g}}} = {after:.3f}",
        *softmax_lines(found, "temperature", token),
    ]


def cut_lines(found: Stages, stage: str, token: int) -> list[str]:
    """The rule of one filter, with the numbers of the token."""
    before = found.before(stage)
    p = found.of(before).astype(np.float64)
    own, best, c = float(p[token]), float(p.max()), found.config
    if np.isneginf(found.logits_of(before)[token]):
        return [rf"p = {number(0, 0)}"]
    keeps = r"\checkmark" if np.isfinite(found.logits_of(stage)[token]) else r"\times"
    order = np.argsort(-p, kind="stable")
    rank = int(np.flatnonzero(order == token)[0])
    if stage == "top_k":
        limit = rf" \le k = {c.top_k}" if c.top_k else r" \le \infty"
        rule = rf"\mathrm{{rank}} = {rank + 1}{limit}"
    elif stage == "top_p":
        rule = rf"\textstyle\sum_{{\text{{before}}}} p = {p[order][:rank].sum():.4f} < {c.top_p:g}"
    else:
        rule = rf"{own:.5f} \ge {c.min_p:g} \cdot {best:.4f} = {c.min_p * best:.5f}"
    return [rf"{rule} \;?\;\; {keeps}", *_renormalised(found, stage, token, own)]


def _renormalised(found: Stages, stage: str, token: int, own: float) -> list[str]:
    kept = float(found.of(found.before(stage))[np.isfinite(found.logits_of(stage))].sum())
    after = float(found.of(stage)[token])
    return [rf"p' = \dfrac{{{own:.5f}}}{{{kept:.5f}}} = {number(after, 5)}"] if after else [rf"p' = {number(0, 0)}"]


def pipeline_lines(found: Stages, token: int, seen: bool) -> list[str]:
    """One token through all stages: logit, penalty, temperature, three filters, softmax."""
    c, z = found.config, [float(row[token]) for row in found.logits]
    theta = rf"\xrightarrow{{\theta = {c.repetition_penalty:g}}}" if seen else r"\xrightarrow{\text{new}}"
    tau = rf"\xrightarrow{{\tau = {c.temperature:g}}}"
    kept = [r"\checkmark" if np.isfinite(value) else r"\times" for value in z[3:]]
    p = float(found.probabilities[-1][token])
    return [
        rf"z = {z[0]:.3f} \;{theta}\; {z[1]:.3f} \;{tau}\; {signed(z[2], 3)}",
        rf"k: {kept[0]} \quad p: {kept[1]} \quad \min p: {kept[2]}",
        *softmax_lines(found, found.names[-1], token)[1:],
        rf"p_{{\text{{model}}}} = {float(found.of('model')[token]):.5f} \;\to\; p_{{\text{{final}}}} = {number(p, 5)}",
    ]
