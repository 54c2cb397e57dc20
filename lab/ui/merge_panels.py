"""Panels of the lesson on tokens: a word's characters over their bytes, and its merges, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import streamlit as st

from lab import figures, vocabulary
from lab.ui import panels, token_views, view
from lab.ui.token_panels import Cut, t, tokens_csv
from lab.ui.token_views import Block, CandidatePair, Cell
from lm_core.token_spans import show
from lm_core.tokenizer import MergeTrace, pretokenize

MOST_BYTES = 160  # of the text, drawn as cells


def bytes_figure(cut: Cut) -> None:
    """Each word as characters over their bytes over its tokens."""
    words: list[tuple[int, str]] = []
    used = 0
    for number, word in enumerate(pretokenize(cut.text)):
        used += len(word.encode())
        if words and used > MOST_BYTES:
            break
        words.append((number, word[:MOST_BYTES]))
    names = Block(
        1, [[Cell(t(row), 1, "name")] for row in ("characters", "bytes", "tokens")[: 3 if cut.tokens.words else 2]]
    )
    panels.figure_head(t("bytes_title"), tokens_csv(cut.tokens), "bytes")
    token_views.span_grid(
        [names, *(_word_block(cut, number, word) for number, word in words)], key="tokens_bytes", alt=t("bytes_alt")
    )
    if used > MOST_BYTES:
        st.caption(t("bytes_cut", shown=len(words)))


def _word_block(cut: Cut, number: int, word: str) -> Block:
    """One word: characters, bytes and, where they are known, tokens."""
    raw = word.encode()
    rows = [
        [Cell(show(c), len(c.encode()), "character", tip=f"U+{ord(c):04X}") for c in word],
        [Cell(f"{byte:02X}", 1, "byte", tip=f"0x{byte:02X} = {byte}") for byte in raw],
    ]
    if cut.tokens.words is not None:
        rows.append(_word_tokens(cut, number, len(raw)))
    return Block(len(raw), rows)


def _word_tokens(cut: Cut, number: int, n_bytes: int) -> list[Cell]:
    """The tokens of one word, in their tints; `…` for bytes whose tokens are left out."""
    tokens, first = cut.tokens, int(cut.tokens.has_start)
    ids = tokens.token_ids[first:]
    shades = dict(zip(ids, token_views.hues(ids), strict=True))
    cells: list[Cell] = []
    for i, (of_word, _) in enumerate(tokens.words or []):
        width = len(tokens.pieces[i] or b"")
        if of_word == number and width <= n_bytes - sum(cell.span for cell in cells):
            token_id = tokens.token_ids[i]
            cells.append(Cell(tokens.labels[i], width, "token", shades[token_id], f"id {token_id}"))
    missing = n_bytes - sum(cell.span for cell in cells)
    return [*cells, Cell("…", missing, "token")] if missing else cells


def utf8_formula(character: str) -> list[str]:
    r"""How the bytes of one character make its Unicode number, with the numbers in it.

    >>> utf8_formula("b")
    ['\\text{U+0062}: \\quad \\mathrm{62}_{16} = 6 \\cdot 16 + 2 = \\mathbf{98}']
    >>> utf8_formula("猫")[1]
    '= (231 - 224) \\cdot 64^2 + (140 - 128) \\cdot 64 + (171 - 128) = \\mathbf{29483}'
    """
    raw, point = character.encode(), ord(character)
    name = rf"\text{{U+{point:04X}}}: \quad "
    if len(raw) == 1:
        high, low = divmod(point, 16)
        return [rf"{name}\mathrm{{{point:02X}}}_{{16}} = {high} \cdot 16 + {low} = \mathbf{{{point}}}"]
    lead = {2: 192, 3: 224, 4: 240}[len(raw)]
    powers = ["", r" \cdot 64", r" \cdot 64^2", r" \cdot 64^3"]
    terms = [f"({byte} - {lead if i == 0 else 128}){powers[len(raw) - 1 - i]}" for i, byte in enumerate(raw)]
    first = name + r"\ ".join(rf"\mathrm{{{byte:02X}}}" for byte in raw)
    return [first, f"= {' + '.join(terms)} = \\mathbf{{{point}}}"]


# --- merges -------------------------------------------------------------------------------------------------------


def why_no_merges(cut: Cut) -> str | None:
    """Why the merges of the chosen word are not shown; None where they are."""
    if cut.tokens.words is None:
        return t("no_merges")
    if cut.word is None:
        return t("no_word")
    if len(cut.word.encode()) > vocabulary.LONGEST_WORD:
        return t("long_word", longest=vocabulary.LONGEST_WORD)
    return None


def symbol_label(symbol: bytes) -> str:
    """What some bytes say: their characters, or, where they are not whole characters, the bytes.

    >>> symbol_label(b" the"), symbol_label("猫".encode()[:2])
    ('␣the', 'E7 8C')
    """
    try:
        return show(symbol.decode())
    except UnicodeDecodeError:
        return token_views.hex_bytes(symbol)


@dataclass(frozen=True)
class MergeState:
    """One word after `done` of its merges: its symbols, and each neighbouring pair with its rank (None: no merge)."""

    trace: MergeTrace
    done: int
    symbols: tuple[bytes, ...]
    pairs: list[tuple[bytes, bytes, int | None]]

    @property
    def known(self) -> list[tuple[bytes, bytes, int]]:
        """The pairs that may merge, each once, in the order of the word."""
        found = {(left, right): rank for left, right, rank in self.pairs if rank is not None}
        return [(left, right, rank) for (left, right), rank in found.items()]


def merge_state(cut: Cut) -> MergeState | None:
    """Where the reader stands in the merges of the chosen word; None where there are none to show."""
    trace = vocabulary.merges(cut.model, cut.word) if cut.word is not None else None
    if trace is None:
        return None
    asked = str(view.get("tokens_merge") or "0")
    done = min(int(asked), len(trace.steps)) if asked.isascii() and asked.isdecimal() and len(asked) < 4 else 0
    view.put("tokens_merge", str(done) if done else None)
    symbols = trace.steps[done - 1].symbols if done else trace.start
    pairs = [(left, right, vocabulary.rank(cut.model, left, right)) for left, right in pairwise(symbols)]
    return MergeState(trace, done, symbols, pairs)


def _pair(left: bytes, right: bytes) -> str:
    return f"{symbol_label(left)} + {symbol_label(right)}"


def say(message: str | None) -> None:
    """A quiet sentence in place of a control."""
    if message:
        st.markdown(message)


def merge_slider(state: MergeState) -> None:
    """Scrub through the merges of the word."""
    if not state.trace.steps:
        return
    st.session_state["tokens_merge_slider"] = state.done

    def moved() -> None:
        view.put("tokens_merge", str(st.session_state["tokens_merge_slider"]))

    st.slider(t("merge_slider"), 0, len(state.trace.steps), key="tokens_merge_slider", on_change=moved)


def merge_ladder(state: MergeState) -> None:
    """The word after each merge, a symbol as wide as its bytes; below, the pairs of the chosen line."""
    trace = state.trace
    lines = [(trace.start, None), *((step.symbols, step) for step in trace.steps)]
    rows: list[list[Cell]] = []
    for number, (symbols, step) in enumerate(lines):
        made = None if step is None else step.pair[0] + step.pair[1]
        cells = [
            Cell(symbol_label(s), len(s), "symbol fresh" if s == made else "symbol", tip=token_views.hex_bytes(s))
            for s in symbols
        ]
        note = "" if step is None else f"{_pair(*step.pair)}   {t('rank', rank=step.rank)}"
        rows.append([Cell(str(number), 1, "name"), *cells, Cell(note, 1, "note")])
    pairs = [
        CandidatePair(_pair(a, b), t("no_rank") if rank is None else t("rank", rank=rank), rank is None)
        for a, b, rank in state.pairs
    ]
    names = [f"{step.rank}: {_pair(*step.pair)}" for step in trace.steps]
    csv = (
        figures.matrix_csv([[step.rank, len(step.symbols)] for step in trace.steps], names, ["rank", "symbols"])
        if names
        else ""
    )
    panels.figure_head(t("merges_title", word=panels.word(show(trace.pretoken))), csv, "merges")
    token_views.span_grid(
        [Block(len(trace.pretoken.encode()), rows, headed=True, noted=True)], key="tokens_merges", current=state.done,
        alt=t("merges_alt", done=state.done, all=len(trace.steps), symbols=len(state.symbols)), pairs=pairs,
        on_select=lambda row: view.put("tokens_merge", str(row)),
    )  # fmt: skip


def merge_formula(state: MergeState) -> list[str]:
    """The rule, and the ranks of this moment in it."""
    rule = r"\text{next} = \arg\min_{(a,\,b)} \; \mathrm{rank}(a, b)"
    ranks = [rank for _, _, rank in state.known]
    if not ranks:
        return [rule]
    shown = [str(rank) for rank in ranks] if len(ranks) < 7 else [*map(str, ranks[:5]), r"\dots", str(ranks[-1])]
    return [rule, rf"\min({{}}{', '.join(shown)}) = \mathbf{{{min(ranks)}}}"]
