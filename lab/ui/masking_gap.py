"""The texts that the lesson on masks asks for, and the figures of its steps on hidden words."""

from __future__ import annotations

import numpy as np
import streamlit as st

from lab import figures, masked_word, masking
from lab.figures.paired import paired_bars
from lab.masked_word import MASK_LABEL, Probabilities
from lab.ui import panels, view
from lab.ui.charts import chart
from lab.ui.mask_board import t, words_box
from lab.ui.panels import word
from lab.ui.token_grid import Cell, token_grid

CJK = ("\u3400", "\u9fff")
# Sentences for a model to read, so they follow the language of the reader's sentence, not that of the page.
USUAL = {
    "second": ("A dog ran home.", "床前明月光。"),
    "third": ("Hello", "春风"),
    "after": ("sat on her eggs in the nest.", "飞上青天。"),
}


def is_chinese(text: str) -> bool:
    """Whether a text is written in Chinese characters, at least in part."""
    return any(CJK[0] <= character <= CJK[1] for character in text)


def usual(name: str, text: str) -> str:
    """What stands in a text field until the reader writes there: in the language of the sentence, not of the page.

    >>> usual("third", "A dog"), usual("third", "月光")
    ('Hello', '春风')
    """
    return USUAL[name][is_chinese(text)]


def several(model: str, step: str) -> masking.Texts:
    """The reader's sentence and two more, which a step asks for."""
    own = str(view.get("text"))
    second, third = (words_box(name, usual(name, own), f"{name}_{step}") for name in ("second", "third"))
    return masking.read_texts(model, [own, second, third])


def became(name: str) -> str:
    """What became of a token, in words; [MASK] is a token and says itself."""
    return MASK_LABEL if name == "masked" else t(f"became_{name}")


def shown_gap(before: Probabilities, after: Probabilities) -> str:
    """The largest difference between two predictions; 0 only where it is 0.

    >>> shown_gap(np.array([0.5, 0.5]), np.array([0.5, 0.5])), shown_gap(np.array([0.75]), np.array([0.5]))
    ('0', '2.5e-01')
    """
    gap = float(np.abs(before - after).max())
    return f"{gap:.1e}" if gap else "0"


def decoder_answers(
    model: str, before: Probabilities | None, after: Probabilities | None, truth: int | None, label: str
) -> None:
    """The decoder's prediction in the sentence as it is and in the changed one, and how far they lie apart."""
    if before is None or after is None:
        st.info(t("nothing_left"))
        return
    guess_bars(model, before, after, title=t("decoder_name"), file="decoder", truth=truth)
    st.caption(t("decoder_same", word=word(label), gap=shown_gap(before, after)))


def encoder_answers(name: str | None, before: Probabilities | None, after: Probabilities | None, truth: int) -> None:
    """The encoder's prediction for the gap in both sentences, or why there is none."""
    if name is None:
        st.info(t("no_encoder"))
    elif before is None or after is None:
        st.info(t("no_mask_in_encoder"))
    else:
        guess_bars(name, before, after, title=t("encoder_name"), file="encoder", truth=truth)


def hidden_grid(hidden: masked_word.Hidden) -> None:
    """A text over what became of it, token by token."""
    names = ("untouched", "masked", "replaced", "kept")
    roles = [None, -1.0, -0.45, 0.45]
    top = [Cell(label) for label in hidden.labels]
    below = [
        Cell(label, roles[kind], (became(names[kind]),), bool(kind))
        for label, kind in zip(hidden.inputs, hidden.kind.tolist(), strict=True)
    ]
    asked = [Cell(label if kind else "·") for label, kind in zip(hidden.labels, hidden.kind.tolist(), strict=True)]
    columns = [str(w + 1) for w in hidden.words.tolist()]
    rows = [t("row_text"), t("row_input"), t("row_label")]
    csv = figures.matrix_csv(hidden.kind[None], [t("row_input")], hidden.labels)
    panels.figure_head(t("hidden_title"), csv, "hidden")
    token_grid(
        [top, below, asked], rows, columns, key="hidden", caption=t("hidden_note"),
        alt=t("hidden_alt", n=int((hidden.kind > 0).sum()), all=len(hidden.labels)),
    )  # fmt: skip


def hidden_shares(hidden: masked_word.Hidden, share: float) -> None:
    """The shares asked for beside those drawn."""
    drawn = masked_word.hide_often(hidden, share)
    asked = np.array([1 - share, 0.8 * share, 0.1 * share, 0.1 * share])
    names = [became(name) for name in ("untouched", "masked", "replaced", "kept")]
    chart(
        paired_bars, names, asked, drawn, names=(t("asked"), t("drawn")), role="neutral", value_range=(0, 1.15),
        title=t("shares_title"), alt=t("shares_alt", masked=f"{drawn[1]:.3f}"), file="hidden_shares",
    )  # fmt: skip


def guess_bars(
    model: str, before: Probabilities, after: Probabilities, *, title: str, file: str, truth: int | None
) -> None:
    """The likeliest words in the gap, with the sentence as it is and with another right side."""
    best = masked_word.top(model, before, 6)
    best += [each for each in masked_word.top(model, after, 3) if each not in best]
    if truth is not None and truth not in [i for i, _ in best]:
        best.append((truth, masked_word.top_label(model, truth)))
    ids, labels = [i for i, _ in best], [label for _, label in best]
    rest = t("all_others", n=len(before) - len(ids))
    one, two = ([*values[ids], 1 - values[ids].sum()] for values in (before, after))
    chart(
        paired_bars, [*labels, rest], one, two, names=(t("as_it_is"), t("other_right")), value_range=(0, 1.2),
        title=title, alt=t("guess_alt", name=title, top=labels[0], value=f"{before[ids[0]]:.3f}"), file=file,
    )  # fmt: skip
