"""Two sentences side by side: which one is more probable, and at which tokens the difference arises."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from lab import figures, scores, traces
from lab.scores import TextScore
from lab.ui import components, panels, view
from lab.ui.chain_panels import t
from lab.ui.charts import chart
from lab.ui.reading import Reading

PUNCTUATION = "，。！？、；：,.!?;:"


@dataclass(frozen=True)
class Comparison:
    """Two scored texts, token by token: names of the places, and the bits of each text there (0 where it has none)."""

    first: TextScore
    second: TextScore
    second_labels: list[str]
    names: list[str]
    bits: NDArray[np.float64]  # [2 places]

    @property
    def difference(self) -> NDArray[np.float64]:
        """How many bits more the second text costs at each place."""
        return self.bits[1] - self.bits[0]


def reordered(sentence: str) -> str:
    """The sentence with its last two words exchanged; without spaces, the last two characters of its first clause.

    >>> reordered("the little bird sings."), reordered("床前明月光，疑是地上霜"), reordered("cat")
    ('the little sings bird.', '床前明光月，疑是地上霜', 'cat')
    """
    words = sentence.split()
    if len(words) > 1:
        end = re.search(rf"[{re.escape(PUNCTUATION)}]*$", words[-1])
        mark = end[0] if end else ""
        last = words[-1].removesuffix(mark)
        return " ".join([*words[:-2], last, words[-2]]) + mark
    clause = re.match(rf"[^{re.escape(PUNCTUATION)}]+", sentence)
    if clause is None or len(clause[0]) < 2 or clause[0].isascii():
        return sentence
    at = clause.end()
    return sentence[: at - 2] + sentence[at - 1] + sentence[at - 2] + sentence[at:]


def other_box(r: Reading, sentence: str) -> str:
    """The field of the second sentence; returns what stands in it."""
    key = "chain_other_box"
    asked = view.get("chain_other")
    st.session_state[key] = (asked if isinstance(asked, str) and asked.strip() else reordered(sentence))[
        : view.LONGEST_TEXT
    ]
    return str(
        st.text_input(
            t("other"), key=key, max_chars=view.LONGEST_TEXT,
            on_change=lambda: view.put("chain_other", st.session_state[key] or None),
        )
    )  # fmt: skip


def compare(r: Reading, first: TextScore, sentence: str) -> Comparison | None:
    """Score the second sentence by the same model and lay both side by side; None where it cannot be."""
    if traces.is_blank(sentence):
        return None
    try:
        other = traces.trace(r.model, sentence)
        second = scores.score(r.model, other)
    except ValueError:
        return None
    pairs = scores.aligned(first, second)
    names: list[str] = []
    bits = np.zeros((2, len(pairs)))
    for i, pair in enumerate(pairs):
        one = None if pair.first is None else first.labels[pair.first]
        two = None if pair.second is None else second.labels[pair.second]
        names.append(str(one if two is None or one == two else two if one is None else f"{one} → {two}"))
        bits[0, i] = 0.0 if pair.first is None else first.bits[pair.first]
        bits[1, i] = 0.0 if pair.second is None else second.bits[pair.second]
    return Comparison(first, second, other.labels, names, bits)


def show(r: Reading, found: Comparison) -> None:
    """The second sentence in its tokens, and where it costs more or less than the first."""
    changed = np.abs(found.difference)
    top = max(4.0, float(changed.max()))
    rows = np.vstack([found.bits, found.difference]).T
    panels.figure_head(t("pairs_title"), figures.matrix_csv(rows, found.names, ["first", "second", "more"]), "pairs")
    components.token_strip(
        found.second_labels, key="chain_second", caption=t("second_alt"), colour_role="loss",
        colours=[None, *np.clip(found.second.bits / 16, 0, 1).tolist()],
    )  # fmt: skip
    shown = np.sort(np.argsort(-changed, kind="stable")[:20])
    chart(
        figures.bars, [found.names[i] for i in shown], found.difference[shown], role="loss", decimals=2,
        value_range=(-1.25 * top, 1.25 * top), alt=t("difference_alt"), title=t("difference_title"),
        file="difference",
    )  # fmt: skip


def difference_formula(found: Comparison) -> list[str]:
    """The bits of both, and how many times more probable the cheaper one is."""
    one, two = float(found.first.bits.sum()), float(found.second.bits.sum())
    times = 2 ** min(abs(two - one), 60)
    return [
        rf"\sum_t \Delta_t = {two:.2f} - {one:.2f} = \mathbf{{{two - one:.2f}}}\ \text{{bits}}",
        rf"2^{{{abs(two - one):.2f}}} = \mathbf{{{times:,.1f}}}".replace(",", r"\,"),
    ]
