"""The texts that the lesson on masks asks for, and the figures of its steps on hidden words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from lab import figures, masked_word, masking
from lab.figures.paired import paired_bars
from lab.masked_word import MASK_LABEL, Probabilities
from lab.ui import masking_formulas as formulas
from lab.ui import panels, view
from lab.ui.charts import chart
from lab.ui.mask_board import SLUG, amount, choice, entry, gap_strip, t, whole_number, words_box
from lab.ui.panels import word
from lab.ui.reading import EXAMPLE
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


@dataclass(frozen=True)
class Gap:
    """A sentence with one token hidden, and what both readers expect there, before and after its right side changes.

    token_ids and labels are the encoder's; `place` counts from 0; `own_id` is the hidden token in the decoder's
    vocabulary. A reader that cannot answer has None.
    """

    token_ids: list[int]
    labels: list[str]
    place: int
    own_id: int | None
    encoder: tuple[Probabilities | None, Probabilities | None]
    decoder: tuple[Probabilities | None, Probabilities | None]

    @property
    def truth(self) -> int:
        """The hidden token."""
        return self.token_ids[self.place]


def read_gap(model: str, name: str | None) -> Gap | None:
    """The reader's sentence, its gap and another right side, read by both; None where nothing can be hidden."""
    own = str(view.get("text"))
    reader = name or model
    found = masked_word.gap_text(reader, own)
    if found is None:
        return None
    ids, labels, n = found.token_ids, found.labels, len(found.token_ids)
    place = whole_number("gap", 1, n, n // 3 + 1) - 1
    after = words_box("after", usual("after", own))
    own_id = masking.token_of(model, labels[place].replace("␣", ""), labels[place])
    decoder = tuple(masked_word.guess_next(model, reader, ids, place, right) for right in (None, after))
    encoder = tuple(masked_word.fill(name, ids, place, right) if name else None for right in (None, after))
    return Gap(ids, labels, place, own_id, encoder, decoder)  # type: ignore[arg-type]


def gap_formula(gap: Gap) -> list[str]:
    """What each reader gives the token that stood there."""
    enc, dec = gap.encoder[0], gap.decoder[0]
    seen = None if dec is None or gap.own_id is None else float(dec[gap.own_id])
    return formulas.two_guesses(gap.place, None if enc is None else float(enc[gap.truth]), seen)


def ask_gap(model: str, gap: Gap) -> bool:
    """Whose answer moves? Not asked where only one reader is there to answer."""
    (enc, enc2), (dec, dec2) = gap.encoder, gap.decoder
    if enc is None or enc2 is None or dec is None or dec2 is None:
        return True
    return panels.predict_first(
        SLUG, "encoder", [t("encoder_name"), t("decoder_name"), t("both_move")], 0,
        about=(model, tuple(gap.labels), gap.place, view.get(entry("after"))),
        change=f"{np.abs(enc - enc2).sum() / 2:.3f}", still=shown_gap(dec, dec2),
    )  # fmt: skip


def bytes_note(gap: Gap, name: str | None) -> None:
    """Chinese before an encoder that knows no Chinese characters: what it gets are bytes. And a way out."""
    own = str(view.get("text"))
    characters = sum(CJK[0] <= character <= CJK[1] for character in own)
    if name is None or not characters or len(gap.token_ids) < characters * 2:
        return

    def read_english() -> None:
        for entry_name in ("q", "k", entry("gap"), entry("after")):
            view.put(entry_name, None)
        view.put("text", EXAMPLE)

    st.info(t("bytes_note", characters=characters, tokens=len(gap.token_ids)))
    st.button(t("read_english"), key="read_english", on_click=read_english)


def decoder_answers(model: str, gap: Gap, answered: bool) -> None:
    """The decoder's prediction in the sentence as it is and, once answered, in the changed one."""
    before, after = gap.decoder
    if before is None or after is None:
        st.info(t("nothing_left"))
        return
    shown = after if answered else None
    guess_bars(model, before, shown, title=t("decoder_name"), file="decoder", truth=gap.own_id)
    if answered:
        st.caption(t("decoder_same", word=word(gap.labels[gap.place]), gap=shown_gap(before, after)))


def encoder_answers(name: str | None, gap: Gap, answered: bool) -> None:
    """The encoder's prediction for the gap in both sentences, or why there is none."""
    before, after = gap.encoder
    if name is None:
        st.info(t("no_encoder"))
    elif before is None or after is None:
        st.info(t("no_mask_in_encoder"))
    else:
        guess_bars(name, before, after if answered else None, title=t("encoder_name"), file="encoder", truth=gap.truth)


def show_gap(gap: Gap) -> None:
    """The sentence with its gap; a click hides another token."""
    shown = [MASK_LABEL if i == gap.place else label for i, label in enumerate(gap.labels)]
    gap_strip(shown, gap.place)


def hide(model: str) -> tuple[masked_word.Hidden | None, float]:
    """How much to hide, of what, which draw; and what became of the reader's text (None: nothing to hide)."""
    share = amount("share", 5, 60, 15, 5) / 100
    whole = choice("whole", ("words", "tokens")) == "words"
    seed = amount("seed", 1, 50, 1)
    return masked_word.hide(model, str(view.get("text")), share, whole, seed), share


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
        [top, below, asked], rows, columns, key="hidden", caption=t("hidden_note"), least_px=34,
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
    model: str, before: Probabilities, after: Probabilities | None, *, title: str, file: str, truth: int | None
) -> None:
    """The likeliest words in the gap, with the sentence as it is and (unless None) with another right side."""
    best = masked_word.top(model, before, 6)
    best += [] if after is None else [each for each in masked_word.top(model, after, 3) if each not in best]
    if truth is not None and truth not in [i for i, _ in best]:
        best.append((truth, masked_word.top_label(model, truth)))
    ids, labels = [i for i, _ in best], [label for _, label in best]
    names = [*labels, t("all_others", n=f"{len(before) - len(ids):,}")]
    one, two = ([*values[ids], 1 - values[ids].sum()] for values in (before, before if after is None else after))
    alt = t("guess_alt", name=title, top=labels[0], value=f"{before[ids[0]]:.3f}")
    if after is None:
        chart(figures.bars, names, one, value_range=(0, 1.2), decimals=3, title=title, alt=alt, file=file)
        return
    chart(
        paired_bars, names, one, two, names=(t("as_it_is"), t("other_right")), value_range=(0, 1.2), title=title,
        alt=alt, file=file,
    )  # fmt: skip
