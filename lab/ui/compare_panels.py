"""Panels of the lesson on tokens: one text through several tokenizers, and what a script costs."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from lab import figures, models, vocabulary
from lab.lessons import escape_markdown
from lab.ui import panels, token_views
from lab.ui.charts import chart
from lab.ui.token_panels import Cut, t, token_count
from lab.vocabulary import TokenText
from lm_core.token_counts import TokenCounts, count_tokens

# One sentence, "The cat sleeps under the tree", in scripts of different width.
SAME_SENTENCE = {
    "english": "The cat sleeps under the tree.",
    "german": "Die Katze schläft unter dem Baum.",
    "chinese": "猫在树下睡觉。",
    "russian": "Кошка спит под деревом.",
    "arabic": "تنام القطة تحت الشجرة.",
    "hindi": "बिल्ली पेड़ के नीचे सोती है।",
    "emoji": "🐈💤🌳",
}


def model_name(model: str) -> str:
    """A model's short name: `storyteller`, or the last part of its folder."""
    return model.split(":", 1)[1].replace("\\", "/").rstrip("/").rsplit("/", 1)[-1][:40] or model


def tokenizers(cut: Cut) -> dict[str, TokenText]:
    """The text as the model's tokenizer, a tokenizer of single characters, and GPT-2's (where it is at hand) cut it."""
    own = cut.tokens
    first = int(own.has_start)
    bare = TokenText(own.labels[first:], own.token_ids[first:], own.pieces[first:], False, own.n_cut, None)
    found = {model_name(cut.model): bare, t("by_character"): vocabulary.characters(cut.text)}
    if (gpt2 := vocabulary.gpt2_tokens(cut.text)) is not None:
        found["GPT-2"] = gpt2
    return found


def compare_figure(cut: Cut, found: Mapping[str, TokenText]) -> None:
    """The same text cut several ways, one under the other."""
    counts = {name: count_tokens(cut.text, tokens.n_own) for name, tokens in found.items()}
    panels.figure_head(t("compare_title"), _counts_csv(counts), "tokenizers")
    for number, (name, tokens) in enumerate(found.items()):
        st.markdown(f"**{escape_markdown(name)}** &nbsp; :gray[{_averages(counts[name])}]")
        token_views.token_text(
            tokens.labels, tokens.token_ids, pieces=tokens.pieces, key=f"tokens_compare_{number}",
            alt=t("compare_alt", name=name, n=tokens.n_own),
        )  # fmt: skip
        if tokens.n_cut:
            st.caption(t("and_more", n=tokens.n_cut))
    if "GPT-2" not in found:
        st.caption(t("get_gpt2_shared" if models.is_shared() else "get_gpt2"))


def _averages(counts: TokenCounts) -> str:
    """Tokens, tokens a word, bytes a token."""
    each = t("per_token", bytes=f"{counts.bytes_per_token:.2f}")
    if counts.tokens_per_word is not None:
        each = f"{t('per_word', tokens=f'{counts.tokens_per_word:.2f}')} · {each}"
    return f"{t('n_tokens', n=counts.n_tokens)} · {each}"


def _counts_csv(counts: Mapping[str, TokenCounts]) -> str:
    rows = [[c.n_tokens, c.n_characters, c.n_bytes, c.n_words] for c in counts.values()]
    return figures.matrix_csv(rows, list(counts), ["tokens", "characters", "bytes", "words"])


def script_costs(model: str) -> dict[str, int]:
    """How many tokens the same sentence takes in each script; scripts that the tokenizer cannot write are left out."""
    counted = {script: token_count(model, sentence) for script, sentence in SAME_SENTENCE.items()}
    return {script: count for script, count in counted.items() if count}


def script_figure(model: str, costs: Mapping[str, int]) -> None:
    """The cost of one sentence by script."""
    if not costs:
        return
    names = [t(f"script_{script}") for script in costs]
    chart(
        figures.bars, names, list(costs.values()), role="neutral", decimals=0,
        value_range=(0, 1.15 * max(costs.values())), alt=t("scripts_alt"),
        title=t("scripts_title", model=escape_markdown(model_name(model))), file="scripts",
    )  # fmt: skip
