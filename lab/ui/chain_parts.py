"""More of the lesson on the chain rule: the toy language, and a probability taken apart into a dot product."""

from __future__ import annotations

import math

import streamlit as st

from lab import figures, scores
from lab.ui import components, panels, view
from lab.ui.chain_panels import FEW, SHOWN, candidates, power_of_ten, t
from lab.ui.charts import chart
from lab.ui.reading import Reading
from lm_core import toy_language

# --- the toy language -------------------------------------------------------------------------------------------------


def length_slider() -> int:
    """How long the strings are."""
    key, entry = "chain_length_slider", view.get("chain_length")
    asked = int(entry) if str(entry).isdecimal() and len(str(entry)) < 3 else 3
    st.session_state[key] = asked if 1 <= asked <= toy_language.LONGEST else 3
    return int(
        st.slider(
            t("length"), 1, toy_language.LONGEST, key=key,
            on_change=lambda: view.put("chain_length", str(st.session_state[key])),
        )
    )  # fmt: skip


def toy_bars(level: toy_language.Level) -> None:
    """The most likely strings of one length, and all others together."""
    shown = min(SHOWN, len(level.log_probs))
    best = level.log_probs.topk(shown)
    names = [" ".join(toy_language.WORDS[i] for i in level.token_ids[k].tolist()) for k in best.indices.tolist()]
    values = best.values.exp().tolist()
    rest = float(level.log_probs.exp().sum()) - sum(values)
    chart(
        figures.bars, [*names, t("other_strings", n=f"{len(level.log_probs) - shown:,}")], [*values, max(rest, 0.0)],
        value_range=(0, 1.12), decimals=4, alt=t("toy_alt"), title=t("toy_title"), file="toy",
    )  # fmt: skip


def mass_bars(mass: toy_language.EndedMass) -> None:
    """Where the probability lies: ended after 0, 1, 2 … words, or not yet."""
    names = [t("ended", n=k) for k in range(len(mass.ended))]
    chart(
        figures.bars, [*names, t("open")], [*mass.ended, mass.open], highlight=len(names), value_range=(0, 1.12),
        decimals=4, alt=t("mass_alt"), title=t("mass_title"), file="mass",
    )  # fmt: skip


# --- logits -----------------------------------------------------------------------------------------------------------


def candidate_map(r: Reading, at: int) -> tuple[list[int], int]:
    """Some tokens with their probabilities, to click; returns their ids and which one is chosen."""
    ids, found = candidates(r, at)
    actual = r.trace.token_ids[at]
    ids = list(dict.fromkeys([*ids[:FEW], actual]))
    names = scores.token_labels(r.model, ids)
    asked = view.get("chain_token")
    chosen = ids.index(int(asked)) if asked in map(str, ids) else ids.index(actual)
    values = found.probabilities[ids][:, None]
    panels.figure_head(t("candidates_title"), figures.matrix_csv(values, names, ["P"]), "candidates")
    components.matrix(
        values, panels.told_apart(names), ["P"], key="chain_candidates", alt=t("candidates_alt"), decimals=4,
        selected=(chosen, 0), vmin=0.0, vmax=1.0, row_role="q", col_role="weights",
        on_select=lambda cell: view.put("chain_token", str(ids[cell[0]])),
    )  # fmt: skip
    return ids, chosen


def logit_formula(found: scores.HiddenAndRow, name: str) -> list[str]:
    """z = W_U[w] · h with numbers, then softmax over the whole vocabulary."""
    products = list(zip(found.row.tolist(), found.hidden.tolist(), strict=True))
    p = math.exp(found.logit - found.log_total)
    return [
        rf"z_{{{name}}} = W_U[{name}] \cdot h_{{t-1}}",
        rf"= {panels.tex_sum(products)}",
        rf"= \mathbf{{{found.logit:.3f}}}",
        rf"P({name}) = \dfrac{{e^{{z_{{{name}}}}}}}{{\sum_j e^{{z_j}}}}",
        rf"= e^{{{found.logit:.3f} - {found.log_total:.3f}}} = \mathbf{{{power_of_ten(p)}}}",
    ]


def logit_strip(found: scores.HiddenAndRow) -> None:
    """h after the final norm, the token's row of W_U, and their products."""
    product = found.hidden * found.row
    components.operand_strip(
        [
            {"label": t("hidden", n=len(found.hidden)), "role": "neutral", "symbol": "h", "values": found.hidden},
            {"label": t("row"), "role": "q", "symbol": "W_U", "values": found.row},
            {"label": t("products", total=f"{product.sum():.3f}"), "role": "weights", "symbol": "·", "values": product},
        ],
        key="strip_logit",
    )  # fmt: skip
