"""After a fine-tune, and while it runs: one slider through the kept steps, and every view follows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import streamlit as st

from lab import answers, figures
from lab.language import text
from lab.lessons import escape_markdown
from lab.ui.charts import chart
from lab.ui.panels import figure_head

MOST_TOKENS, MOST_PARTS, MOST_LAYERS = 8, 14, 34
Probe = Mapping[str, Any]
Token = tuple[str, int]  # its label and its id


class HasId(Protocol):
    """What a view needs to know of a run."""

    @property
    def id(self) -> Any: ...
    @property
    def spec(self) -> dict[str, Any]: ...


def t(key: str, **values: object) -> str:
    """A text of these views."""
    return text(f"after.{key}", language=None, **values)


@st.fragment
def show(run: HasId, probes: Sequence[Probe], records: Sequence[Mapping[str, Any]]) -> None:
    """The slider and, at the step it stands on: samples, next tokens, attention, what moved; a classifier's answers.

    probes and records: as the store gives them, oldest first, without their ids. Nothing is drawn without a probe.
    """
    kept = sorted({int(probe["step"]): probe for probe in probes}.items())
    if not kept:
        st.caption(t("no_probe"))
        return
    steps = [step for step, _ in kept]
    step = scrubber(str(run.id), steps, best_step(records))
    now, first = dict(kept)[step], kept[0][1]
    probes = [probe for _, probe in kept]
    left, right = st.columns(2, gap="large")
    with left:
        samples(first, now)
        if now.get("predictions"):
            classified(str(run.id), first, now)
    with right:
        if now.get("next"):
            next_tokens(probes, now, str(run.spec.get("probe") or ""))
        if now.get("attention"):
            attention(first, now)
        if now.get("change"):
            change(probes, now, str(run.id))


def best_step(records: Sequence[Mapping[str, Any]]) -> int | None:
    """The step with the best validation so far.

    >>> best_step([{"step": 0, "best": True}, {"step": 50, "best": True}, {"step": 100, "best": False}])
    50
    """
    return next((int(record["step"]) for record in reversed(records) if record.get("best")), None)


def scrubber(run_id: str, steps: Sequence[int], best: int | None) -> int:
    """`drag through training`: which kept step is looked at; the newest until one is chosen."""
    chosen, key = f"after.step.{run_id}", f"after_step_{run_id}"
    asked = st.session_state.get(chosen)
    step = asked if isinstance(asked, int) and asked in steps else steps[-1]
    if len(steps) > 1:
        st.session_state[key] = step

        def changed() -> None:
            picked = st.session_state[key]
            st.session_state[chosen] = None if picked == steps[-1] else picked

        st.select_slider(t("drag"), steps, key=key, on_change=changed, format_func=lambda s: t("step", step=s))
    with st.container(horizontal=True, horizontal_alignment="distribute", key=f"after_ends_{run_id}"):
        st.caption(t("base"), width="content")
        if best is not None:
            st.caption(t("best", step=best), width="content")
    return step


def samples(first: Probe, now: Probe) -> None:
    """What it wrote before and writes now, after the same prompts with the same seeds."""
    before, after = first.get("samples") or [], now.get("samples") or []
    if not after:
        return
    rows = [(s["prompt"], s["text"]) for s in after]
    old = {s["prompt"]: s["text"] for s in before}
    table = [("prompt", "before", "now"), *((p, old.get(p, ""), new) for p, new in rows)]
    figure_head(t("same_seed"), figures.rows_csv(table), f"samples_step{now['step']}")
    with st.container(key="after_samples"):
        for prompt, new in rows:
            columns = st.columns(2)
            for column, title, whole, colour in (
                (columns[0], t("before"), old.get(prompt, ""), "gray"),
                (columns[1], t("step", step=now["step"]), new, "violet"),
            ):
                with column:
                    st.caption(title)
                    st.markdown(_sample(prompt, whole, colour))


def _sample(prompt: str, whole: str, colour: str) -> str:
    """The prompt in ink, what the model added in colour; both inert."""
    if whole.startswith(prompt):
        added = whole[len(prompt) :]
        return _inked(prompt, None) + _inked(added, colour)
    return f"{_inked(prompt, None)} → {_inked(whole, colour)}"


def _inked(words: str, colour: str | None) -> str:
    """Text as Markdown that shows it as it is, its line breaks kept, each line in the colour."""
    lines = [escape_markdown(line) for line in words.split("\n")]
    return "  \n".join(line if colour is None or not line.strip() else f":{colour}[{line}]" for line in lines)


def shown_tokens(probes: Sequence[Probe], most: int = MOST_TOKENS) -> list[Token]:
    """Which next tokens are drawn at every step alike: the `most` that were likeliest at any, by their last value.

    >>> one = {"step": 0, "next": {"tokens": ["king", "sea"], "ids": [1, 2], "probabilities": [0.4, 0.1]}}
    >>> two = {"step": 9, "next": {"tokens": ["sea", "ship"], "ids": [2, 3], "probabilities": [0.5, 0.2]}}
    >>> shown_tokens([one, two], 2)
    [('sea', 2), ('king', 1)]
    """
    highest: dict[Token, float] = {}
    for probe in probes:
        for token, p in next_of(probe).items():
            highest[token] = max(p, highest.get(token, 0.0))
    chosen = sorted(highest, key=lambda token: -highest[token])[:most]
    last = next_of(probes[-1])
    return sorted(chosen, key=lambda token: -last.get(token, 0.0))


def next_of(probe: Probe) -> dict[Token, float]:
    """(label, id) -> probability of one probe; two tokens may read the same."""
    found = probe.get("next") or {}
    labels = found.get("tokens", ())
    return dict(zip(zip(labels, found.get("ids") or [-1] * len(labels), strict=True),
                    found.get("probabilities", ()), strict=True))  # fmt: skip


def next_tokens(probes: Sequence[Probe], now: Probe, sentence: str) -> None:
    """The likeliest next tokens: a bar for this step, a tick for step 0, one axis for the whole run."""
    tokens = shown_tokens(probes)
    then, here = next_of(probes[0]), next_of(now)
    longest = max(next_of(probe).get(token, 0.0) for probe in probes for token in tokens)
    top = max(tokens, key=lambda token: here.get(token, 0.0))
    chart(
        figures.next_token_bars, [label for label, _ in tokens], [here.get(x) for x in tokens],
        [then.get(x) for x in tokens], value_max=max(longest, 0.02),
        bounds=(_smallest(here), _smallest(then)),
        alt=t("next_alt", step=now["step"], token=top[0], before=f"{then.get(top, 0):.3f}",
              now=f"{here.get(top, 0):.3f}"),
        title=t("next_title", probe=escape_markdown(sentence) if sentence else t("the_probe")),
        file=f"next_token_step{now['step']}",
    )  # fmt: skip


def _smallest(found: Mapping[Token, float]) -> float | None:
    """What is not among the likeliest twelve is at most as likely as the twelfth."""
    likeliest = sorted(found.values(), reverse=True)[:12]
    return likeliest[-1] if likeliest else None


def attention(first: Probe, now: Probe) -> None:
    """One head's weights on the probe sentence; its colours run from 0 to 1 at every step."""
    found = now["attention"]
    weights = np.clip(np.asarray(found["weights"], dtype=np.float64), 0, 1)
    then = np.asarray(first["attention"]["weights"], dtype=np.float64)
    moved = float(np.abs(weights - then).max()) if then.shape == weights.shape else 0.0
    chart(
        figures.attention_map, found["tokens"], weights,
        alt=t("attention_alt", layer=found["layer"] + 1, head=found["head"] + 1, moved=f"{moved:.3f}"),
        title=t("attention_title", layer=found["layer"] + 1, head=found["head"] + 1),
        file=f"attention_step{now['step']}",
    )  # fmt: skip
    st.caption(t("attention_moved", moved=f"{moved:.3f}"))


def by_layer(change: Mapping[str, float | None]) -> dict[str, float]:
    """The mean over the matrices of each layer; what belongs to no layer keeps its name. In the model's order.

    >>> by_layer({"embed_tokens.weight": 0.1, "blocks.0.attention.w_q.weight": 0.2, "blocks.0.mlp.w_in.weight": 0.4})
    {'embed_tokens': 0.1, '1': 0.30000000000000004}
    """
    groups: dict[str, list[float]] = {}
    for name, value in change.items():
        inside = re.match(r"blocks\.(\d+)\.", name)
        groups.setdefault(str(int(inside[1]) + 1) if inside else name.partition(".")[0], []).append(float(value or 0.0))
    return {name: sum(values) / len(values) for name, values in groups.items()}


def change(probes: Sequence[Probe], now: Probe, run_id: str) -> None:
    """How far each part of the model is from where it began: layer by layer, or the matrices that moved most."""
    whole = st.segmented_control(
        t("change_title"), (True, False), default=True, required=True, key=f"after_change_{run_id}",
        label_visibility="collapsed", format_func=lambda by: t("by_layer" if by else "by_matrix"),
    )  # fmt: skip
    every = [dict(probe.get("change") or {}) for probe in probes]
    rows = [by_layer(each) for each in every] if whole else every
    last = {part: float(value or 0.0) for part, value in rows[-1].items()}
    most = set(sorted(last, key=lambda part: -last[part])[: MOST_LAYERS if whole else MOST_PARTS])
    names = [part for part in last if part in most]
    if not names:
        return
    here = by_layer(now["change"]) if whole else now["change"]
    values = [float(here.get(part) or 0.0) for part in names]
    longest = max(float(row.get(part) or 0.0) for row in rows for part in names)
    shown = [t("layer", n=part) if part.isdecimal() else part for part in names]
    top = int(np.argmax(values))
    chart(
        figures.change_bars, shown, values, value_max=longest or 1.0, value_title="‖W − W₀‖ / ‖W₀‖",
        alt=t("change_alt", step=now["step"], part=shown[top], value=f"{values[top]:.4f}"),
        title=t("change_layers" if whole else "change_title"), file=f"change_step{now['step']}",
    )  # fmt: skip
    if len(last) > len(names):
        st.caption(t("change_more", shown=len(names), total=len(last)))


# --- a classifier's answers -------------------------------------------------------------------------------------------


def classified(run_id: str, first: Probe, now: Probe) -> None:
    """Right and wrong on the kept validation sentences, at a threshold, and which answers turned over since step 0."""
    found, before = answers.read(now["predictions"]), answers.read(first["predictions"])
    threshold = _threshold(run_id, found) if len(found.labels) == 2 else None
    here = answers.judge(found, threshold)
    then = answers.judge(before, threshold)
    right = int(np.trace(here.confusion))
    chart(
        figures.confusion_map, found.labels, here.confusion, axes=(t("is"), t("says")),
        alt=t("confusion_alt", right=right, total=len(found.texts)), title=t("confusion_title", n=len(found.texts)),
        file=f"confusion_step{now['step']}",
    )  # fmt: skip
    measures = [(label, p, r, f) for label, p, r, f in zip(
        found.labels, here.precision, here.recall, here.f1, strict=True)]  # fmt: skip
    figure_head(
        t("measures", right=right, total=len(found.texts), share=f"{100 * here.accuracy:.0f}"),
        figures.rows_csv([("label", "precision", "recall", "f1"), *measures]),
        f"measures_step{now['step']}",
    )
    st.table(
        {t("label"): [escape_markdown(label) for label, *_ in measures]}
        | {t(name): [f"{row[k]:.3f}" for row in measures] for k, name in enumerate(("precision", "recall", "f1"), 1)}
    )
    st.caption(t("standard_error", n=len(found.texts), error=f"{100 * here.standard_error:.0f}"))
    turned(found, then, here, now["step"])


def _threshold(run_id: str, found: answers.Answers) -> float:
    """Above which probability the second class is the answer; at 0.5 it is the likelier one."""
    return float(st.slider(
        t("threshold", label=escape_markdown(found.labels[1])), 0.05, 0.95, 0.5, 0.05, key=f"after_threshold_{run_id}",
        help=t("threshold_help", one=escape_markdown(found.labels[1]), other=escape_markdown(found.labels[0])),
    ))  # fmt: skip


def turned(found: answers.Answers, then: answers.Judged, here: answers.Judged, step: int) -> None:
    """The sentences whose answer is another than at step 0: first those that are right now, then those gone wrong."""
    flips = answers.flipped(found, then, here)
    rows = [(f.text, f.true, f.before, f.now, f.probability) for f in flips]
    figure_head(
        t("flipped", n=len(flips), better=sum(f.now == f.true for f in flips),
          worse=sum(f.before == f.true for f in flips)),
        figures.rows_csv([("text", "true", "before", "now", "probability"), *rows]), f"flipped_step{step}",
    )  # fmt: skip
    for f in flips[:12]:
        colour = "green" if f.now == f.true else "red"
        st.markdown(
            f"{escape_markdown(f.text)}  \n:gray[{escape_markdown(f.before)}] → "
            f":{colour}[**{escape_markdown(f.now)}** {100 * f.probability:.0f} %] · "
            f"{t('right' if f.now == f.true else 'wrong')}"
        )
    if len(flips) > 12:
        st.caption(t("more_flips", n=len(flips) - 12))
