"""Guess the next token: a round for a class on one screen, scored in bits against the model.

Whoever plays states words with shares in percent ("bird 60, dog 20"); what is left is spread over all other tokens.
The score is −log₂ of the share that the true token got, so honest confidence pays best (`probability.guess_bits`).
Everything is kept in the session of this browser only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import streamlit as st

from lab import figures, models, scores, traces
from lab.language import current
from lab.lessons import escape_markdown
from lab.ui import components, panels
from lab.ui.chain_panels import t
from lab.ui.charts import chart
from lm_core.probability import guess_bits

# Written by us, so that no model has read them and nobody knows how they end.
HIDDEN = {
    "en": (
        "The fox put the lantern on the table and began to laugh.",
        "In the winter the children carried wood for the old baker.",
        "She opened the box very slowly, but there was nothing in it.",
    ),
    "zh": ("山中春雨夜，一人听水声。", "明月照江水，孤舟客未归。", "秋风吹落叶，白发望长安。"),
}
MOST_PLAYERS, LONGEST_NAME, LONGEST_GUESS = 6, 20, 60
STATE = "chain_game"
USUAL_SHARE = 0.5  # of a word stated without a number
MOST_SHARE = 0.99


@dataclass(frozen=True)
class Guess:
    """Shares for some tokens, as stated; `error` is the id of a text if it could not be read."""

    shares: dict[int, float]
    error: str | None = None


def parse_guess(words: str, token_of: dict[str, int]) -> Guess:
    """`bird 60, dog 20` -> shares. A word alone gets a half; shares beyond 99 % are scaled down to it.

    >>> parse_guess("bird 60, dog 20%", {"bird": 7, "dog": 9}).shares
    {7: 0.6, 9: 0.2}
    >>> parse_guess("bird", {"bird": 7}).shares, parse_guess("", {}).shares, parse_guess("bird x y", {}).error
    ({7: 0.5}, {}, 'guess_unread')
    """
    shares: dict[int, float] = {}
    for part in re.split(r"[,，;；]", words):
        if not part.strip():
            continue
        match = re.fullmatch(r"\s*(\S+?)(?:\s+(\d{1,3}(?:\.\d+)?)\s*%?)?\s*", part)
        if match is None or match[1] not in token_of:
            return Guess({}, "guess_unread")
        token = token_of[match[1]]
        shares[token] = shares.get(token, 0.0) + (float(match[2]) / 100 if match[2] else USUAL_SHARE)
    total = sum(shares.values())
    if total > MOST_SHARE:
        shares = {token: share * MOST_SHARE / total for token, share in shares.items()}
    return Guess(shares)


def _token_table(model: str, words: str, after_start: bool) -> dict[str, int]:
    """Each word of a guess -> the first token it would be written with here: after a space, or at the very start."""
    tokenizer = models.load(model).tokenizer
    assert tokenizer is not None
    found = {}
    for word in re.findall(r"[^\s,，;；]+", words):
        chinese = bool(re.match(r"[\u3000-\u9fff]", word))
        ids = tokenizer.encode(word if after_start or chinese or not word[0].isalnum() else f" {word}")
        if ids:
            found[word] = ids[0]
    return found


def _game() -> dict[str, object]:
    state: dict[str, object] = st.session_state.setdefault(STATE, {"number": 0, "own": "", "shown": 0, "paid": {}})
    return state


def _restart(number: int | None = None) -> None:
    state = _game()
    step = 1 if number is None else number
    state.update(number=int(str(state["number"])) + step, shown=0, paid={}, own=st.session_state.get("chain_own", ""))


def play(model: str) -> None:
    """The whole game; it needs no sentence of the reader's, so that nobody sees the answer above it."""
    state = _game()
    hidden = HIDDEN[current()]
    own = str(state["own"]).strip()
    sentence = own[:120] if own and not traces.is_blank(own) else hidden[int(str(state["number"])) % len(hidden)]
    trace = traces.trace(model, sentence)
    score = scores.score(model, trace)
    shown = min(int(str(state["shown"])), len(score.labels))
    _prefix(trace.labels, shown)
    if shown == len(score.labels):
        st.success(t("game_over"))
    else:
        _form(model, trace, score, shown)
    _scoreboard(score, shown)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(t("game_next"), on_click=_restart)
        st.text_input(t("game_own"), type="password", key="chain_own", max_chars=120, on_change=lambda: _restart(0))


def _prefix(labels: list[str], shown: int) -> None:
    """What is known so far, and the place of the token in question."""
    known = [*labels[: 1 + shown], *(["?"] if shown + 1 < len(labels) else [])]
    components.token_strip(known, key="chain_known", caption=t("game_known"), selected_query=len(known) - 1)


def _form(model: str, trace: traces.TextTrace, score: scores.TextScore, shown: int) -> None:
    """A row a player: name and guess; one button reveals."""
    state = _game()
    with st.form("chain_form", border=False):
        n = int(st.session_state.get("chain_players", 2))
        for i in range(n):
            name, guess = st.columns([2, 5])
            name.text_input(
                t("player", n=i + 1), key=f"chain_name_{i}", max_chars=LONGEST_NAME, persist_state="session",
                placeholder=t("player", n=i + 1), label_visibility="collapsed" if i else "visible",
            )  # fmt: skip
            guess.text_input(
                t("guess"), key=f"chain_guess_{i}_{shown}_{state['number']}", max_chars=LONGEST_GUESS,
                placeholder=t("guess_hint"), label_visibility="collapsed" if i else "visible",
            )  # fmt: skip
        if st.form_submit_button(t("reveal"), type="primary"):
            _reveal(model, trace, score, shown, n)
    st.number_input(t("players"), 1, MOST_PLAYERS, value=2, key="chain_players", persist_state="session", width=160)


def _reveal(model: str, trace: traces.TextTrace, score: scores.TextScore, shown: int, n: int) -> None:
    state = _game()
    vocab = trace.arrays["logits"].shape[1]
    paid: dict[str, list[float]] = dict(state["paid"])  # type: ignore[call-overload]
    before = int(str(state["number"]))
    costs: dict[str, float] = {}
    for i in range(n):
        words = str(st.session_state.get(f"chain_guess_{i}_{shown}_{before}", ""))
        guess = parse_guess(words, _token_table(model, words, shown == 0))
        if guess.error:
            st.warning(t(guess.error, n=i + 1))
            return
        name = str(st.session_state.get(f"chain_name_{i}", "")).strip() or t("player", n=i + 1)
        name = name if name not in (*costs, t("the_model")) else f"{name} ({i + 1})"
        costs[name] = guess_bits(guess.shares, score.token_ids[shown], vocab)
    for name, bits in costs.items():
        paid[name] = [*paid.get(name, []), bits]
    paid[t("the_model")] = score.bits[: shown + 1].tolist()
    state.update(shown=shown + 1, paid=paid)
    st.rerun()


def _scoreboard(score: scores.TextScore, shown: int) -> None:
    """Everybody's bits so far, fewest first, with the perplexity that they amount to."""
    paid: dict[str, list[float]] = _game()["paid"]  # type: ignore[assignment]
    if not paid or not shown:
        st.caption(t("game_rule"))
        return
    order = sorted(paid, key=lambda name: float(np.mean(paid[name])))
    last = {name: paid[name][-1] for name in order}
    st.markdown(
        t("game_last", token=escape_markdown(score.labels[shown - 1]), rank=int(score.ranks[shown - 1]))
        + " " + " · ".join(f"{escape_markdown(name)} {bits:.1f}" for name, bits in last.items())
    )  # fmt: skip
    means = [float(np.mean(paid[name])) for name in order]
    chart(
        figures.bars, [f"{name}  ({2**mean:,.0f})" for name, mean in zip(order, means, strict=True)], means,
        role="loss", decimals=2, value_range=(0, 1.2 * max(14.0, *means)), alt=t("board_alt"), title=t("board_title"),
        file="scoreboard",
    )  # fmt: skip
    panels.prose("chain_rule", "board")
