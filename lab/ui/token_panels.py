"""Panels of the lesson on tokens: the text in its tokens, and their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from lab import figures, traces, vocabulary
from lab.language import text
from lab.lessons import Markdown
from lab.ui import components, panels, reading, token_views, trouble, view
from lab.ui.token_views import Block, Cell
from lab.vocabulary import TokenText
from lm_core.token_counts import count_tokens
from lm_core.token_spans import show
from lm_core.tokenizer import well_formed

SLUG = "tokens"
# One of each kind that tokenizers treat differently; what they cost is counted when they are read.
EXAMPLES = {
    "english": "The old king looked at the little bird",
    "chinese": "老国王看着那只小鸟。",
    "emoji": "The bird 🐦 is happy 😀😀",
    "code": "for i in range(10): print(i * 2)",
    "rare": "The birdkeeper's unbirdlike antibirdishness",
}


@dataclass(frozen=True)
class Cut:
    """The text in hand as the model's tokenizer cuts it, and the token that the reader looks at."""

    model: str
    text: str
    tokens: TokenText
    at: int

    @property
    def token_id(self) -> int:
        """The id of the chosen token."""
        return self.tokens.token_ids[self.at]

    @property
    def label(self) -> str:
        """What the chosen token says."""
        return self.tokens.labels[self.at]

    @property
    def named(self) -> Markdown:
        """The chosen token, for a sentence."""
        return panels.word(self.label, "q")

    @property
    def word(self) -> str | None:
        """The word (pretoken) that the chosen token is part of; None for the document start, or where none is known."""
        number, word = self.tokens.words[self.at] if self.tokens.words is not None else (-1, "")
        return word if number >= 0 else None

    @property
    def plain(self) -> list[int]:
        """Which tokens are not of the text."""
        return [0] if self.tokens.has_start else []

    def choose(self, index: int) -> None:
        """A click on a token."""
        if index != components.RELEASED:
            view.put("q", index)
            view.put("tokens_merge", None)
            view.put("tokens_near", None)


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"{SLUG}.{key}", language=None, **values)


def open_text(model: str) -> Cut:
    """The text field, and the text in its tokens; a clear message and a stop where it cannot be."""
    sentence = reading.readable_sentence(model)
    try:
        tokens = vocabulary.read(model, sentence)
    except (ValueError, OSError, MemoryError) as error:
        trouble.show(error)
        st.stop()
    if tokens.n_cut:
        st.caption(text("trouble.cut", kept=len(tokens.labels), cut=tokens.n_cut))
    elif len(sentence) > view.LONGEST_TEXT:
        st.caption(text("trouble.long_link", longest=view.LONGEST_TEXT))
    at, last = view.get("q"), len(tokens.labels) - 1
    at = at if isinstance(at, int) and 0 <= at <= last else last
    view.put("q", at)
    return Cut(model, well_formed(sentence[: traces.MOST_CHARACTERS]), tokens, at)


def token_bar(cut: Cut) -> None:
    """The tokens in their tints above every step; a click chooses one."""
    tokens = cut.tokens
    token_views.token_text(
        tokens.labels, tokens.token_ids, pieces=tokens.pieces, selected=cut.at, plain=cut.plain, key="tokens_bar",
        alt=t("bar_alt"), on_select=cut.choose,
    )  # fmt: skip


def tokens_csv(tokens: TokenText) -> str:
    """One row a token: what it says, its id, its bytes in hexadecimal."""
    names = [f"{i + 1} {label}" for i, label in enumerate(tokens.labels)]
    sizes = [[token_id, len(piece or b"")] for token_id, piece in zip(tokens.token_ids, tokens.pieces, strict=True)]
    return figures.matrix_csv(sizes, names, ["id", "bytes"])


def ids_figure(cut: Cut) -> None:
    """The text and its ids, linked by hover; and how many there are of everything."""
    tokens = cut.tokens
    panels.figure_head(t("ids_title"), tokens_csv(tokens), "token_ids")
    token_views.token_text(
        tokens.labels, tokens.token_ids, pieces=tokens.pieces, selected=cut.at, with_ids=True, plain=cut.plain,
        key="tokens_ids", alt=t("ids_alt", n=len(tokens.labels)), on_select=cut.choose,
    )  # fmt: skip
    st.caption(counts_line(cut.text, tokens))


def counts_line(sentence: str, tokens: TokenText) -> str:
    """Characters, bytes, words and tokens of a text, in one line."""
    counts = count_tokens(sentence, tokens.n_own)
    return t(
        "counts", characters=counts.n_characters, bytes=counts.n_bytes, words=counts.n_words, tokens=counts.n_tokens
    )


def examples() -> None:
    """Texts to try, one click each."""

    def take() -> None:
        chosen = st.session_state.get("tokens_example")
        if chosen is not None:
            view.put("text", EXAMPLES[chosen])
            view.put("q", None)
            view.put("tokens_merge", None)
            view.put("tokens_near", None)
            st.session_state["tokens_example"] = None

    st.pills(t("try"), list(EXAMPLES), key="tokens_example", on_change=take, format_func=lambda e: t(f"example_{e}"))


# --- ids ----------------------------------------------------------------------------------------------------------


def variants(word: str) -> list[str]:
    """A word as it may be spelt: bare, after a space, with a capital, in capitals; each once.

    >>> variants(" bird")
    ['bird', ' bird', 'Bird', ' Bird', 'BIRD']
    """
    bare = word.strip() or word
    capital = bare[:1].upper() + bare[1:]
    return list(dict.fromkeys([bare, f" {bare}", capital, f" {capital}", bare.upper()]))


def variants_figure(cut: Cut, words: Sequence[str]) -> None:
    """Each spelling over its tokens over their ids; the same id has the same tint."""
    read = [(word, cut_word) for word in words if (cut_word := _without_start(cut.model, word)) is not None]
    shades = iter(token_views.hues([i for _, (_, ids) in read for i in ids]))
    if not read:
        return
    blocks = [
        Block(
            len(ids),
            [
                [Cell(show(word), len(ids), "character")],
                [Cell(label, 1, "token", next(shades)) for label in labels],
                [Cell(str(i), 1, "byte") for i in ids],
            ],
        )
        for word, (labels, ids) in read
    ]
    names = [show(word) for word, _ in read]
    panels.figure_head(
        t("variants_title"), figures.matrix_csv([[len(ids)] for _, (_, ids) in read], names, ["tokens"]), "variants"
    )
    token_views.span_grid(blocks, key="tokens_variants", alt=t("variants_alt", n=len(blocks)))


def _without_start(model: str, word: str) -> tuple[list[str], list[int]] | None:
    """The labels and ids of a word alone; None where it has no token."""
    if traces.is_blank(word):
        return None
    try:
        tokens = vocabulary.read(model, word)
    except ValueError:
        return None
    first = int(tokens.has_start)
    return tokens.labels[first:], tokens.token_ids[first:]


def ids_of(model: str, word: str) -> list[int]:
    """The ids of a word alone; none where it has no token."""
    cut_word = _without_start(model, word)
    return [] if cut_word is None else cut_word[1]


def listed(token_ids: Sequence[int]) -> str:
    """Ids in a sentence, the first few.

    >>> listed([7]), listed([7, 8]), listed([])
    ('7', '7, 8', '–')
    """
    shown = ", ".join(map(str, token_ids[:6]))
    return f"{shown}, …" if len(token_ids) > 6 else shown or "–"


def token_count(model: str, sentence: str) -> int:
    """How many tokens a text takes, the document start not counted; 0 for a text without any."""
    if traces.is_blank(sentence):
        return 0
    try:
        return vocabulary.read(model, sentence).n_own
    except ValueError:
        return 0


def vocabulary_page(cut: Cut, around: int = 7) -> None:
    """A stretch of the vocabulary about one id, which can be typed: from id to token."""
    size, _ = vocabulary.size(cut.model)
    asked = view.get("tokens_id")
    asked = int(asked) if isinstance(asked, str) and asked.isascii() and asked.isdecimal() and len(asked) < 8 else None
    centre = asked if asked is not None and asked < size else cut.token_id
    st.session_state["tokens_id_box"] = centre

    def typed() -> None:
        view.put("tokens_id", str(st.session_state["tokens_id_box"]))

    st.number_input(
        t("id_box", last=f"{size - 1:,}"), 0, size - 1, step=1, key="tokens_id_box", on_change=typed, width=260
    )
    first = max(0, min(centre - around, size - 2 * around - 1))
    ids = list(range(first, min(size, first + 2 * around + 1)))
    token_views.token_text(
        [vocabulary.label_of(cut.model, i) for i in ids], ids, selected=ids.index(centre), with_ids=True,
        key="tokens_page", alt=t("page_alt", first=ids[0], last=ids[-1]),
        on_select=lambda index: view.put("tokens_id", str(ids[index])),
    )  # fmt: skip


def id_formula(cut: Cut) -> list[str] | None:
    """How the chosen id follows from the rank of its merge, where it does: ids are dealt out in the order learned."""
    piece = cut.tokens.pieces[cut.at]
    trace = vocabulary.merges(cut.model, piece.decode("utf-8", "replace")) if piece else None
    if trace is None or not trace.steps or len(trace.token_ids) != 1:
        return None
    rank, before = trace.steps[-1].rank, vocabulary.specials_below(cut.model, cut.token_id)
    if before + 256 + rank != cut.token_id:
        return None  # this vocabulary numbers its tokens in another order
    return [
        rf"\text{{id}} = {t_tex('specials')} + {t_tex('bytes')} + \mathrm{{rank}}",
        rf"= {before} + 256 + {rank} = \mathbf{{{cut.token_id}}}",
    ]


def t_tex(name: str) -> str:
    """A word inside a formula."""
    return rf"\text{{{t(f'tex_{name}')}}}"
