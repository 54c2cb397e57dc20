"""The figures and controls of the multi-head lesson."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from lab import figures, heads, models
from lab.figures.paired import paired_bars
from lab.heads import Prediction, Specialities
from lab.language import text
from lab.lessons import Markdown
from lab.theme import Role
from lab.ui import components, panels, view
from lab.ui.attention_maps import chosen_column, colour_reach, say_outliers
from lab.ui.charts import chart
from lab.ui.reading import Reading
from lab.ui.small_multiples import pooling, small_multiples
from lm_core.attention import repeat_heads
from lm_core.head_measures import MEASURES
from lm_core.head_parts import group_of, kept_numbers

SLUG = "multi_head"
Head = tuple[int, int]
Array = NDArray[np.floating]
Choice = TypeVar("Choice", bound=str)


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"{SLUG}.{key}", language=None, **values)


def name_of(head: Head) -> str:
    """`layer 4, head 1`."""
    return t("head_name", layer=head[0] + 1, head=head[1] + 1)


def choose_head(head: Head) -> None:
    """A click on a small map or on a cell of a [layer, head] map."""
    view.put("layer", head[0])
    view.put("head", head[1])


def choice(name: str, options: Sequence[Choice]) -> Choice:
    """A row of options that stands in the address as `multi_head_<name>`; the first until one is chosen."""
    entry, key = f"{SLUG}_{name}", f"{SLUG}_{name}_menu"
    asked = view.get(entry)
    st.session_state[key] = asked if asked in options else options[0]
    chosen = st.segmented_control(
        t(f"{name}_choice"), options, key=key, required=True, wrap=True,
        format_func=lambda option: t(f"{name}_{option}"),
        on_change=lambda: view.put(entry, st.session_state[key]),
    )  # fmt: skip
    view.put(entry, chosen if chosen != options[0] else None)
    return chosen or options[0]


def averages(r: Reading) -> dict[str, NDArray[np.float32]]:
    """The measures of every head over the reader's text, [L H] each."""
    return heads.measures(r.trace.arrays["weights"], r.trace.token_ids)


def all_maps(r: Reading, key: str, *, other: Head | None = None) -> None:
    """Every head of the model, small. A click chooses the head, or the other one where there is an `other`."""
    weights = r.trace.arrays["weights"]
    n_layers, n_heads = weights.shape[:2]
    factor = pooling(n_layers * n_heads, r.n_tokens)

    def csv() -> str:
        return figures.matrix_csv(
            weights.reshape(n_layers * n_heads, -1),
            [name_of((i, j)) for i in range(n_layers) for j in range(n_heads)],
            [f"{a + 1}→{b + 1}" for a in range(r.n_tokens) for b in range(r.n_tokens)],
        )

    def choose_other(head: Head) -> None:
        view.put(f"{SLUG}_other", f"{head[0] + 1}.{head[1] + 1}")

    panels.figure_head(t("all_maps"), csv, f"all_heads_{key}")
    small_multiples(
        weights, key=f"maps_{key}", name=t("head_name", layer="{layer}", head="{head}"),
        alt=t("all_alt", layers=n_layers, heads=n_heads, count=n_layers * n_heads),
        selected=(r.view.layer, r.view.head), other=other,
        caption=t("pooled", factor=factor) if factor > 1 else None,
        on_select=choose_head if other is None else choose_other,
    )  # fmt: skip


def other_head(r: Reading) -> Head:
    """The head to compare with: from the address, or else the one that looks most at the word before."""
    asked = str(view.get(f"{SLUG}_other") or "")
    layer, _, head = asked.partition(".")
    if all(part.isascii() and part.isdecimal() and len(part) < 6 for part in (layer, head)):
        found = int(layer) - 1, int(head) - 1
        if 0 <= found[0] < r.shape.n_layers and 0 <= found[1] < r.shape.n_heads:
            return found
    view.put(f"{SLUG}_other", None)
    scores = averages(r)["previous"].copy()
    scores[r.view.layer, r.view.head] = -1
    return highest(scores) if np.isfinite(scores).any() else (0, 0)


def highest(scores: Array) -> Head:
    """Where the largest number of an [L H] table stands."""
    layer, head = np.unravel_index(int(np.nanargmax(scores)), scores.shape)
    return int(layer), int(head)


def candidates(r: Reading) -> tuple[list[Head], int]:
    """Four heads to choose from, the one that looks most at the word before among them, and its place there."""
    found = averages(r)
    order = np.argsort(-found["previous"], axis=None)
    places = [0, len(order) // 4, len(order) // 2, len(order) - 1]
    flat = {int(order[place]) for place in places}
    listed = sorted((i // r.shape.n_heads, i % r.shape.n_heads) for i in flat)
    return listed, listed.index(highest(found["previous"]))


def head_map(r: Reading, weights: Array, head: Head, title: str, key: str) -> None:
    """One head's weights, 0 pale to 1 full."""
    i, j = r.view.query, r.view.key
    panels.figure_head(title, figures.matrix_csv(weights, r.labels, r.labels), f"{key}_{head[0] + 1}_{head[1] + 1}")
    components.matrix(
        weights, r.labels, r.labels, selected=(i, j), faint=~r.allowed, vmin=0.0, vmax=1.0, decimals=2,
        alt=t("map_alt", head=name_of(head), query=r.labels[i], other=r.labels[j], value=f"{weights[i, j]:.2f}"),
        key=f"map_{key}", on_select=r.choose_pair,
    )  # fmt: skip


def difference_map(r: Reading, one: Array, other: Array) -> None:
    """The first head's weights minus the second's: white where they agree."""
    i, j = r.view.query, r.view.key
    values = one - other
    panels.figure_head(t("difference"), figures.matrix_csv(values, r.labels, r.labels), "difference")
    components.matrix(
        values, r.labels, r.labels, selected=(i, j), faint=~r.allowed, vmin=-1.0, vmax=1.0, scale="diverging",
        decimals=2, alt=t("difference_alt", query=r.labels[i], other=r.labels[j], value=f"{values[i, j]:+.2f}"),
        key="map_difference", on_select=r.choose_pair,
    )  # fmt: skip


def habits(r: Reading, head: Head) -> str:
    """A line of text: where this head's weight goes on average, beside what chance would give."""
    found, even = averages(r), heads.even_shares(r.trace.token_ids)
    parts = [
        t("habit", kind=t(f"measure_{name}"), share=f"{found[name][head]:.2f}", even=f"{even[name]:.2f}")
        for name in MEASURES
        if np.isfinite(found[name][head])
    ]
    return t("habits", parts=" · ".join(parts)) if parts else ""


def layer_head_map(r: Reading, values: Array, title: str, key: str, *, vmax: float, decimals: int, alt: str) -> None:
    """A number for each head: a row a layer, a column a head; a click chooses the head."""
    rows = [text("controls.layer", n=i + 1) for i in range(values.shape[0])]
    columns = [str(j + 1) for j in range(values.shape[1])]
    panels.figure_head(title, figures.matrix_csv(values, rows, columns), key)
    components.matrix(
        values, rows, columns, selected=(r.view.layer, r.view.head), vmin=0.0, vmax=vmax, decimals=decimals,
        row_role="neutral", col_role="neutral", key=f"map_{key}", alt=alt, on_select=choose_head,
    )  # fmt: skip


def cost_map(r: Reading, kind: heads.Kind) -> None:
    """What each head is worth for the prediction after the chosen word; for a large model only when asked."""
    ids = tuple(r.trace.token_ids[: r.view.query + 1])
    if not heads.is_quick(r.model, len(ids)):
        wanted = ("multi_head.costs", r.model, ids, kind)
        if st.session_state.get("multi_head.costs_wanted") != wanted:
            st.caption(t("costs_slow", count=r.shape.n_layers * r.shape.n_heads))
            if not st.button(t("costs_go"), key="costs_go"):
                return
            st.session_state["multi_head.costs_wanted"] = wanted
    with st.spinner(t("costs_title")):
        costs = heads.head_costs(r.model, ids, kind)
    top = highest(costs)
    layer_head_map(
        r, costs, t("costs_title"), "costs", vmax=max(float(costs.max()), 1e-9), decimals=2,
        alt=t("costs_alt", head=name_of(top), bits=f"{costs[top]:.3f}"),
    )  # fmt: skip


def token_name(model: str, token_id: int) -> str:
    """One token of the vocabulary, visible."""
    tokenizer = models.load(model).tokenizer
    return "?" if tokenizer is None else tokenizer.labels([token_id])[0]


def prediction_bars(r: Reading, found: Prediction) -> None:
    """The next-token distribution before and after: the favourites of both, and all the rest as one bar."""
    favourites = [*np.argsort(-found.before)[:6].tolist(), *np.argsort(-found.after)[:4].tolist()]
    shown = sorted(dict.fromkeys(favourites), key=lambda token: -found.before[token])
    labels = [_known(r.model, token) for token in shown]
    pairs = [[p[shown[k]] for k in range(len(shown))] for p in (found.before, found.after)]
    n_rest = len(found.before) - len(shown)
    if n_rest:
        labels.append(t("rest", count=f"{n_rest:,}"))
        pairs = [[*listed, max(0.0, 1 - sum(listed))] for listed in pairs]
    chart(
        paired_bars, labels, pairs[0], pairs[1], names=(t("before"), t("after")), value_range=(0, 1.12), decimals=3,
        alt=t("bars_alt", bits=f"{found.kl_bits:.3f}", query=r.labels[r.view.query]),
        title=t("bars_title"), file="prediction",
    )  # fmt: skip


def _known(model: str, token_id: int) -> str:
    """A token's text; an id that the tokenizer has no word for (a padded vocabulary) as a number."""
    try:
        return token_name(model, token_id)
    except (KeyError, IndexError, ValueError):
        return f"#{token_id}"


def _rows_of_heads(r: Reading, values: Array, rows: list[str], role: Role, title: str, key: str, alt: str) -> None:
    """A vector a head, one under the other; a click chooses the head."""
    columns = [str(c + 1) for c in range(values.shape[1])]
    reach = colour_reach(values)

    def choose(cell: tuple[int, int]) -> None:
        view.put("head", cell[0])
        view.put(f"column.{key}", cell[1])

    panels.figure_head(title, figures.matrix_csv(values, rows, columns), key)
    components.matrix(
        values, rows, columns, selected=(r.view.head, chosen_column(key, len(columns))), vmin=-reach, vmax=reach,
        scale="diverging", role=role, decimals=2, row_role="neutral", col_role="neutral", key=f"map_{key}", alt=alt,
        on_select=choose,
    )  # fmt: skip
    say_outliers(values, reach)


def concat_map(r: Reading) -> None:
    """What the heads of the layer found for the chosen word: a row a head, to be read one after the other."""
    i = r.view.query
    found = r.trace.arrays["head_out"][r.view.layer][:, i]
    rows = [t("head_n", n=h + 1) for h in range(r.shape.n_heads)]
    title = t("concat_title", query=panels.word(r.labels[i], "q"))
    _rows_of_heads(r, found, rows, "v", title, "found", t("concat_alt", heads=len(rows), numbers=found.shape[1]))


def keys_map(r: Reading) -> None:
    """The key of the chosen word as each query head of the layer reads it: heads of one group read the same row."""
    s, i = r.shape, r.view.query
    keys = repeat_heads(torch.tensor(r.trace.arrays["k"][r.view.layer]), s.n_heads)[:, i].numpy()
    rows = [t("reads", head=h + 1, group=group_of(h, s.n_heads, s.n_kv_heads) + 1) for h in range(s.n_heads)]
    title = t("keys_title", query=panels.word(r.labels[i], "k"))
    _rows_of_heads(r, keys, rows, "k", title, "keys", t("keys_alt", heads=s.n_heads, groups=s.n_kv_heads))


def cache_bars(r: Reading) -> None:
    """How many numbers a position costs for every number of key/value heads that divides the heads evenly."""
    s = r.shape
    options = [g for g in range(s.n_heads, 0, -1) if s.n_heads % g == 0]
    kept = [kept_numbers(s.n_layers, g, s.d_head) for g in options]
    chart(
        figures.bars, [t("kv_heads", count=g) for g in options], kept, highlight=options.index(s.n_kv_heads), role="k",
        value_range=(0, 1.2 * max(kept)), decimals=0, title=t("cache_title"), file="cache",
        alt=t("cache_alt", count=s.n_kv_heads, kept=kept[options.index(s.n_kv_heads)]),
    )  # fmt: skip


def speciality_map(r: Reading, found: Specialities, kind: str) -> None:
    """The score of every head on one measure, and the chosen head's map with the pairs that count in full."""
    scores = found.scores[kind]
    top = highest(scores)
    layer_head_map(
        r, scores, t("scores_title", kind=t(f"measure_{kind}")), "specialists", vmax=1.0, decimals=2,
        alt=t("scores_alt", kind=t(f"measure_{kind}"), head=name_of(top), value=f"{scores[top]:.2f}"),
    )  # fmt: skip
    weights, here = found.weights[r.view.layer, r.view.head], (r.view.layer, r.view.head)
    panels.figure_head(
        t("passage_title", head=name_of(here)), figures.matrix_csv(weights, found.labels, found.labels), "passage"
    )
    components.matrix(
        weights, found.labels, found.labels, faint=~found.pairs[kind], vmin=0.0, vmax=1.0, decimals=2,
        key="map_passage", alt=t("passage_alt", head=name_of(here), kind=t(f"measure_{kind}")),
        caption=t("passage_note"),
    )  # fmt: skip


def bold(words: str) -> Markdown:
    """Our own words in a sentence, bold."""
    return Markdown(f"**{words}**")
