"""Figures of the lesson on sampling: the whole vocabulary at every stage between the model and the draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st

from lab import figures
from lab.lessons import Markdown
from lab.ui import panels
from lab.ui import sampling_numbers as numbers
from lab.ui.charts import chart
from lab.ui.sampling_controls import follow, named, t
from lab.ui.sampling_numbers import Prompt, Stages
from lab.ui.stage_bars import Bar, State, stage_bars

SHOWN = 10
SLIVER = 0.002  # of the interval: about a pixel
MOST_CSV = 200_000  # rows of a table to take away: any vocabulary we load


def share(p: float) -> str:
    """A probability, short.

    >>> share(0.12345), share(0.00012), share(0.0)
    ('12.3%', '0.012%', '0')
    """
    if p >= 0.001:
        return f"{100 * p:.1f}%"
    return f"{100 * p:.2g}%" if p else "0"


def shown_tokens(found: Stages, wanted: Sequence[int], n: int = SHOWN) -> list[int]:
    """The n likeliest tokens by the model, then those that are `wanted` besides, in its order: that never moves."""
    base = found.of("model")
    top = numbers.by_likelihood(base)[:n].tolist()
    more = [token for token in dict.fromkeys(wanted) if token not in top]
    return top + sorted(more, key=lambda token: (-base[token], token))


def stage_name(stage: str) -> str:
    """What a stage is called above its column."""
    return t(f"stage.{stage}")


def bar(found: Stages, stage: str, token: int, scale: float, crossing: int | None) -> Bar:
    """One token after one stage."""
    p, z = float(found.of(stage)[token]), float(found.logits_of(stage)[token])
    tip = (stage_name(stage), f"logit {z:.4f}", f"p = {p:.6g}")
    if np.isfinite(z):
        state: State = "cross" if token == crossing and stage == "top_p" else "kept"
        return Bar(min(1.0, p / scale), share(p), state, tip)
    gone = stage != "model" and not np.isfinite(found.logits_of(found.before(stage))[token])
    return Bar(0.0, "−" if gone else t("cut"), "gone" if gone else "cut", tip[:1])


def rest(found: Stages, stage: str, tokens: Sequence[int]) -> Bar:
    """All tokens that have no row of their own, together."""
    others = np.ones(found.logits.shape[1], dtype=bool)
    others[list(tokens)] = False
    p = float(found.of(stage)[others].sum())
    n = int(np.isfinite(found.logits_of(stage)[others]).sum())
    words = t("rest_cell", share=share(p), n=f"{n:,}")
    return Bar(0.0, words, "kept" if n else "gone", (stage_name(stage), f"p = {p:.6g}"))


def vocabulary_csv(prompt: Prompt, found: Stages) -> str:
    """Every token of the vocabulary that can still be drawn somewhere, with its logit and probability at each stage."""
    order = numbers.by_likelihood(found.of("model"))[:MOST_CSV]
    columns = [f"{kind} {stage}" for stage in found.names for kind in ("logit", "p")]
    table = np.stack([row for pair in zip(found.logits, found.probabilities, strict=True) for row in pair])[:, order].T
    names = [f"{i} {numbers.label_after(prompt.model, (), int(i))}" for i in order]
    return figures.matrix_csv(table, names, columns)


def stage_figure(
    prompt: Prompt, found: Stages, stages: Sequence[str], pointed: int, *, title: str, file: str, selected: str,
    wanted: Sequence[int] = (), n_top: int = SHOWN,
    on_stage: Callable[[str], None] | None = None, scale: float | None = None,
    extra: Sequence[tuple[str, Callable[[int], Bar], Bar]] = (),
) -> None:  # fmt: skip
    """The likeliest tokens at some stages as bars on one scale; a click follows a token (and chooses a stage).

    extra: columns of another kind, each its name, a function token -> Bar, and what stands in the last row.
    """
    crossing = numbers.crossing(found)
    tokens = shown_tokens(found, [pointed, *wanted], n_top)
    top = scale or max(float(found.of(stage).max()) for stage in stages)
    rows = [numbers.label_after(prompt.model, prompt.token_ids, token) for token in tokens]
    cross = crossing.token if crossing else None
    cells = [
        [*(bar(found, s, token, top, cross) for s in stages), *(make(token) for _, make, _ in extra)]
        for token in tokens
    ]
    cells.append([*(rest(found, s, tokens) for s in stages), *(last for *_, last in extra)])
    cols = [*(stage_name(s) for s in stages), *(name for name, *_ in extra)]
    n_rest = found.logits.shape[1] - len(tokens)

    def choose(cell: tuple[int, int]) -> None:
        follow(tokens[cell[0]])
        if on_stage is not None and cell[1] < len(stages):
            on_stage(stages[cell[1]])

    panels.figure_head(title, lambda: vocabulary_csv(prompt, found), file)
    top_token, p = rows[0], share(float(found.of(stages[-1])[tokens[0]]))
    stage_bars(
        cells, [*rows, t("rest", n=f"{n_rest:,}")], cols, key=f"bars_{file}", n_tokens=len(tokens),
        selected=(tokens.index(pointed), list(stages).index(selected)), on_select=choose,
        alt=t("bars_alt", stages=", ".join(cols), top=top_token, p=p),
    )  # fmt: skip


# --- the whole vocabulary ---------------------------------------------------------------------------------------------

CUT_TO = 50  # what some demonstrations cut to before their softmax


def guess_figure(prompt: Prompt, found: Stages, pointed: int) -> None:
    """The model's own distribution, its running sum, and what a softmax over the first 50 only would say."""
    p = found.of("model").astype(np.float64)
    order = numbers.by_likelihood(p)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    sums, few = p[order].cumsum(), float(p[order[:CUT_TO]].sum())

    def running(token: int) -> Bar:
        total = min(1.0, float(sums[rank[token]]))
        return Bar(total, share(total), tip=(t("running"), f"Σp = {total:.6f}", t("rank", n=int(rank[token]) + 1)))

    def inflated(token: int) -> Bar:
        if rank[token] >= CUT_TO:
            return Bar(0.0, t("cut"), "cut")
        value = float(p[token]) / few
        return Bar(min(1.0, value / top), share(value), tip=(t("only_first", n=CUT_TO), f"p = {value:.6g}"))

    top = float(p.max()) / few
    last = Bar(0.0, t("rest_cell", share=share(0.0), n="0"), "gone")
    extra = [(t("running"), running, Bar(0.0, "100%"))]
    if len(order) > CUT_TO:
        extra.append((t("only_first", n=CUT_TO), inflated, last))
    stage_figure(
        prompt, found, ["model"], pointed, title=t("guess_title"), file="vocabulary", selected="model",
        scale=top, extra=extra,
    )  # fmt: skip


# --- one stage --------------------------------------------------------------------------------------------------------


def seen_tokens(prompt: Prompt, found: Stages, n: int = 8) -> list[int]:
    """The tokens that stand in the text already, the likeliest to come again first."""
    seen = np.array(sorted(set(prompt.token_ids)))
    return seen[np.argsort(-found.of("model")[seen], kind="stable")][:n].tolist()


def penalty_figure(prompt: Prompt, found: Stages, pointed: int) -> None:
    """Logits and probabilities before and after the repetition penalty."""
    seen = set(prompt.token_ids)

    def logit(stage: str) -> Callable[[int], Bar]:
        def make(token: int) -> Bar:
            z = float(found.logits_of(stage)[token])
            marked: State = "cross" if token in seen and stage == "repetition" else "kept"
            return Bar(0.0, f"{z:.2f}", marked, (stage_name(stage), f"logit {z:.4f}"))

        return make

    blank = Bar(0.0, "", "kept")
    extra = [(t("logit_before"), logit("model"), blank), (t("logit_after"), logit("repetition"), blank)]
    stage_figure(
        prompt, found, ["model", "repetition"], pointed, title=t("penalty_title"), file="penalty",
        selected="repetition", n_top=5, wanted=seen_tokens(prompt, found), extra=extra,
    )  # fmt: skip
    st.caption(t("penalty_note"))


def temperature_chart(prompt: Prompt, found: Stages) -> None:
    """How the shares of the favourite, of the first ten and of all others move with the temperature; fixed axes."""
    logits = found.logits_of("repetition").astype(np.float64)
    temperatures = np.linspace(0.05, 2.0, 40)
    order = numbers.by_likelihood(logits)
    z = (logits - logits.max())[None] / temperatures[:, None]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    top = names_of(prompt, int(order[0]))
    series = {f"“{top}”": p[:, order[0]], t("first_ten"): p[:, order[:10]].sum(1), t("others"): p[:, order[10:]].sum(1)}
    chart(
        figures.line, temperatures, series, x_title=t("temperature_axis"), y_title=t("share_axis"),
        y_range=(0.0, 1.02), alt=t("temperature_alt", top=top), title=t("temperature_chart"), file="temperatures",
    )  # fmt: skip


# --- cutting ----------------------------------------------------------------------------------------------------------


def cut_figure(prompt: Prompt, found: Stages, stage: str, pointed: int) -> None:
    """Before and after one filter, and between them the number that it decides by."""
    before = found.before(stage)
    p = found.of(before).astype(np.float64)
    order = numbers.by_likelihood(p)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    sums, best = p[order].cumsum(), float(p.max())

    def measure(token: int) -> Bar:
        if stage == "top_k":
            return Bar(0.0, t("rank", n=int(rank[token]) + 1))
        value = float(sums[rank[token]]) if stage == "top_p" else float(p[token]) / best
        return Bar(min(1.0, value), f"{value:.3f}", tip=(t(f"measure_{stage}"), f"{value:.6f}"))

    crossed = numbers.crossing(found) if stage == "top_p" else None
    kept = found.logits_of(stage)
    edge = int(np.where(np.isfinite(kept), p, np.inf).argmin())  # the least likely that is kept
    blank = Bar(0.0, "", "kept")
    stage_figure(
        prompt, found, [before, stage], pointed, title=t("cut_title", stage=stage_name(stage)), file=f"cut_{stage}",
        selected=stage, wanted=[crossed.token if crossed else edge],
        extra=[(t(f"measure_{stage}"), measure, blank)],
    )  # fmt: skip


def cut_sentence(prompt: Prompt, found: Stages, stage: str) -> None:
    """What this filter did, with its numbers: how many are left, how much was cut, which token crossed p."""
    before = found.before(stage)
    removed = np.isfinite(found.logits_of(before)) & ~np.isfinite(found.logits_of(stage))
    facts = {
        "kept": f"{found.n_kept(stage):,}", "arrived": f"{found.n_kept(before):,}",
        "mass": share(float(found.of(before)[removed].sum())),
    }  # fmt: skip
    st.markdown(t("cut_said", **facts))
    if stage == "top_p" and (c := numbers.crossing(found)) is not None:
        st.markdown(
            t("crossing", token=named(prompt, c.token), before=f"{c.before:.4f}", after=f"{c.after:.4f}",
              p=f"{found.config.top_p:g}", n=c.n_kept)
        )  # fmt: skip


# --- the draw ---------------------------------------------------------------------------------------------------------


def intervals(prompt: Prompt, found: Stages, u: float) -> tuple[int, float, float]:
    """(token, where its interval begins, where it ends) for the number u."""
    p = found.probabilities[-1].astype(np.float64)
    token = numbers.draw(prompt.model, prompt.token_ids, found.config, u)
    low = float(p[:token].sum())
    return token, low, low + float(p[token])


def interval_figure(prompt: Prompt, found: Stages, u: float, token: int) -> None:
    """The unit interval, a piece for every token that can be drawn, and the number that fell into it."""
    p = found.probabilities[-1].astype(np.float64)
    kept = np.flatnonzero(p > 0)
    # Thousands of slivers cannot be drawn: neighbours narrower than a pixel are drawn as one piece without a name.
    names, widths, highlight = ["…"], [0.0], None
    for i in kept.tolist():
        if i == token:
            highlight = len(names)
        if p[i] < SLIVER and i != token:
            if names[-1] != "…":
                names, widths = [*names, "…"], [*widths, 0.0]
            widths[-1] += float(p[i])
        else:
            names.append(names_of(prompt, i))
            widths.append(float(p[i]))
    chart(
        figures.pieces, names, widths, at=u, highlight=highlight, file="interval",
        alt=t("interval_alt", u=f"{u:.4f}", token=names_of(prompt, token)),
        title=t("interval_title", n=f"{len(kept):,}"),
    )  # fmt: skip


def names_of(prompt: Prompt, token: int) -> str:
    """A token as plain text."""
    return numbers.label_after(prompt.model, prompt.token_ids, token)


def counts_figure(prompt: Prompt, found: Stages, counts: numbers.NDArray[np.int64]) -> None:
    """Expected and counted, for the tokens most often expected."""
    p, n = found.probabilities[-1].astype(np.float64), int(counts.sum())
    tokens = [int(i) for i in numbers.by_likelihood(p)[:8] if p[i] > 0]
    names = [names_of(prompt, token) for token in tokens]
    chart(
        figures.paired_bars, names, n * p[tokens], counts[tokens].astype(np.float64), decimals=0,
        names=(t("expected"), t("counted")), value_range=(0.0, 1.15 * n * float(p.max())),
        alt=t("counts_alt", n=n, top=names[0]), title=t("counts_title", n=f"{n:,}"), file="draws",
    )  # fmt: skip


def said_ids(prompt: Prompt, new: Sequence[int]) -> Markdown:
    """New tokens as inert text, spaces as spaces; the end of a text by its name."""
    labels = numbers.labels(prompt.model, (*prompt.token_ids, *new))[len(prompt.token_ids) :]
    pieces = [" " + label[1:] if label.startswith("␣") else label for label in labels]
    return Markdown(panels.escape_markdown("".join(pieces).replace("␣", " ").replace("⏎", " ⏎ ").strip() or "∅"))
