"""Self-attention, step by step, on the reader's own sentence and a trained model."""

import numpy as np
import streamlit as st

from lab import course, figures, traces
from lab.language import text
from lab.ui import attention_formulas as formulas
from lab.ui import attention_maps as maps
from lab.ui import components, model_choice, panels, toy, view, whose_code
from lab.ui.charts import chart, row_of_weights
from lab.ui.panels import formula, prose, source, word
from lab.ui.reading import Reading, token_bar
from lab.ui.walk import sides, walk
from lm_core import attention, block, layers, masks, positions

LESSON = course.lesson("self_attention")
SLUG = LESSON.slug
DEFAULT_LAYER, DEFAULT_HEAD = 1, 7  # in storyteller a head in which nouns look for their article


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"{SLUG}.{key}", language=None, **values)


def question(r: Reading) -> None:
    """Which earlier words does each word look at?"""
    weights = r.head("weights")
    row, labels = weights[r.view.query], r.labels
    top = int(row.argmax())
    facts = {"layer": r.view.layer + 1, "head": r.view.head + 1, "top": labels[top], "weight": f"{row[top]:.2f}"}
    left, right = sides()
    with left:
        prose(SLUG, "question", query=r.query)
        candidates = sorted({top, *range(max(0, r.view.query - 3), r.view.query + 1)})
        panels.predict_section(
            SLUG, "question", [labels[c] for c in candidates], candidates.index(top), about=(r.view, tuple(labels)),
            query=r.query, **facts | {"top": word(labels[top], "k")},
        )  # fmt: skip
    with right:
        panels.figure_head(t("weights_of_all"), figures.matrix_csv(weights, labels, labels), "weights")
        components.arcs(
            labels, weights, selected=r.view.query, key="arcs", on_select=r.choose_query,
            alt=t("arcs_alt", query=labels[r.view.query], **facts),
        )  # fmt: skip
        source(attention.attend, "weights = masked_softmax(masked)")


def x(r: Reading) -> None:
    """Every word as a row of numbers, brought to a common size."""
    column, label = maps.chosen_column("x", r.shape.d_model), r.labels[r.view.query]
    before, after = r.layer("resid_pre")[r.view.query], r.layer("attn_in")[r.view.query]
    left, right = sides()
    with left:
        prose(SLUG, "x", d_model=r.shape.d_model)
        formula(formulas.normalised(r, column))
        components.operand_strip(
            [
                {"label": t("norm_made", token=label), "role": "neutral", "symbol": "r", "values": before},
                {"label": t("norm_after", token=label), "role": "q", "symbol": "x", "values": after},
            ],
            key="strip_x",
        )
    with right:
        maps.vector_map(r, "x", r.layer("attn_in"), "x", "neutral", (r.view.query, column))
        norm = layers.rms_norm if r.shape.norm == "rms_norm" else layers.layer_norm
        source(norm, "return x / torch.sqrt" if r.shape.norm == "rms_norm" else "normal = centred / torch.sqrt")


def qkv(r: Reading) -> None:
    """Query, key, value: three readings of one word."""
    left, right = sides()
    with right:
        part, is_turned = maps.choose_part(r)
        shown = r.head(part if is_turned or part == "v" else f"{part}_proj")
        column = maps.chosen_column(part, r.shape.d_head)
        maps.vector_map(r, part, shown, maps.part_title(part), part, (r.view.query, column))
        if is_turned:
            source(positions.rotate, "return torch.cat")
        else:
            source(block.SelfAttention.project, f"split_heads(self.w_{part}(x)")
    with left:
        prose(SLUG, "qkv", d_model=r.shape.d_model, d_head=r.shape.d_head)
        prose(SLUG, "qkv_rope" if r.shape.has_rope else "qkv_learned")
        if is_turned:
            before = r.head(f"{part}_proj")[r.view.query]
            angle = traces.turning_angle(r.model, r.view.query, column)
            formula(formulas.turned(r, part, column, before, angle))
        else:
            maps.product_strip(r, part, column)


def scores(r: Reading) -> None:
    """How well does each query match each key?"""
    i = r.view.query
    row = np.where(r.allowed[i], r.head("scores")[i], -np.inf)
    top = int(row.argmax())
    left, right = sides()
    with left:
        prose(SLUG, "scores", query=r.query)
        formula(formulas.score(r))
        maps.score_strip(r)
        candidates = sorted({top, *range(max(0, i - 2), i + 1)})
        panels.predict_section(
            SLUG, "scores", [r.labels[c] for c in candidates], candidates.index(top), about=(r.view, tuple(r.labels)),
            query=r.query, top=word(r.labels[top], "k"), score=f"{row[top]:.2f}",
        )  # fmt: skip
    with right:
        maps.pair_map(r, "scores", r.head("scores"), t("step.scores"))
        st.caption(t("faint"))
        source(attention.attention_scores, "return q @ k.mT")


def scale(r: Reading) -> None:
    """Longer vectors must not shout."""
    d_head, i = r.shape.d_head, r.view.query
    unscaled = traces.attend_arrays(r.head("q"), r.head("k"), r.head("v"), r.allowed, scale=1.0)["weights"][i]
    scaled = r.head("weights")[i]
    larger, smaller = unscaled.max() > scaled.max() + 5e-7, unscaled.max() < scaled.max() - 5e-7
    left, right = sides()
    with left:
        prose(SLUG, "scale", d_head=d_head, root=f"{d_head**0.5:.2f}")
        formula(formulas.scaled(r))
        panels.predict_section(
            SLUG, "scale", [t("larger"), t("smaller"), t("same")], 0 if larger else 1 if smaller else 2,
            about=(r.view, tuple(r.labels)), query=r.query, with_scale=f"{scaled.max():.4f}",
            without_scale=f"{unscaled.max():.4f}",
        )  # fmt: skip
        row_of_weights(r, {t("softmax_scaled"): scaled, t("softmax_raw"): unscaled}, "scale")
    with right:
        maps.pair_map(r, "scaled", r.head("scaled"), t("scaled_name"))
        raw = r.head("scores")[r.allowed]
        chart(
            figures.histogram,
            {t("raw_name"): raw, t("scaled_name"): r.head("scaled")[r.allowed]},
            alt=t("histogram_alt"), title=t("histogram"), count_title=t("pairs"), file="histogram",
        )  # fmt: skip
        source(attention.scale_scores, "return scores / math.sqrt(d_head)")


def mask(r: Reading) -> None:
    """No reading ahead."""
    i, j = r.view.query, r.view.key
    left, right = sides()
    with left:
        prose(SLUG, "mask")
        formula(formulas.masked(r))
        st.markdown(t("mask_open" if r.allowed[i, j] else "mask_closed", query=r.query, other=r.key, i=i + 1, j=j + 1))
        source(masks.causal_mask, "return key <= query")
    with right:
        maps.pair_map(r, "masked", r.head("masked"), t("step.mask"))
        source(attention.apply_mask, "masked_fill(~allowed")


def softmax(r: Reading) -> None:
    """From scores to shares."""
    i, j = r.view.query, r.view.key
    left, right = sides()
    with left:
        prose(SLUG, "softmax")
        tau = st.slider(text("controls.temperature"), 0.1, 5.0, 1.0, 0.1, format="%.1f", key="temperature")
        weights = r.head("weights") if tau == 1 else maps.tempered(r, tau)
        formula(formulas.weight(r, r.head("masked")[i].astype(np.float64), float(weights[i, j]), tau))
        maps.softmax_strip(r, tau)
        row_of_weights(r, {t("weights_of", query=r.query): weights[i]}, "softmax")
        change = maps.change_by_shift(r, 1000.0)
        panels.predict_section(
            SLUG, "softmax", [t("change_all"), t("change_none"), t("change_top")], 1, about=(r.view, tuple(r.labels)),
            query=r.query, change=f"{change:.1e}",
        )  # fmt: skip
    with right:
        maps.weight_map(r, weights, t("weights_name"))
        low, high = weights.sum(axis=1).min(), weights.sum(axis=1).max()
        st.caption(t("row_sums", low=f"{low:.6f}", high=f"{high:.6f}"))
        source(attention.masked_softmax, "return exponentials / torch.where")


def mix(r: Reading) -> None:
    """Take what the words hand over."""
    i, column = r.view.query, maps.chosen_column("mix", r.shape.d_head)
    left, right = sides()
    with left:
        prose(SLUG, "mix", query=r.query)
        formula(formulas.mixed(r, column))
        maps.mix_strip(r, column)
    with right:
        parts = r.head("weights")[i, : i + 1, None] * r.head("v")[: i + 1]
        names = [t("contribution", weight=f"{r.head('weights')[i, j]:.2f}", other=r.labels[j]) for j in range(i + 1)]
        rows = np.vstack([parts, r.head("head_out")[i]])
        maps.vector_map(r, "mix", rows, t("mix_title"), "v", (i + 1, column), rows=[*names, t("sum_row")])
        source(attention.mix_values, "return weights @ v")


def output(r: Reading) -> None:
    """Back into the residual stream."""
    i, column = r.view.query, maps.chosen_column("output", r.shape.d_model)
    lengths = traces.head_contributions(r.model, r.trace, r.view.layer, i)
    left, right = sides()
    with left:
        prose(
            SLUG, "output", query=r.query, n_heads=r.shape.n_heads, d_head=r.shape.d_head, d_model=r.shape.d_model,
            head=r.view.head + 1,
        )  # fmt: skip
        formula(formulas.written(r, column))
        maps.output_strip(r, column)
        chart(
            figures.bars, [t("head_n", n=h + 1) for h in range(r.shape.n_heads)], lengths, highlight=r.view.head,
            alt=t("heads_alt", query=r.labels[i]), title=t("written"),
            value_range=(0, 1.15 * float(lengths.max())), decimals=2, file="heads",
        )  # fmt: skip
    with right:
        stream = np.vstack([r.layer(name)[i] for name in ("resid_pre", "attn_out", "resid_mid")])
        rows = [t("stream_before"), t("stream_added"), t("stream_after")]
        maps.vector_map(r, "output", stream, t("stream"), "neutral", (2, column), rows=rows)
        source(block.Block.trace, "resid_mid = resid_pre + attn_out")


STEPS = (question, x, qkv, scores, scale, mask, softmax, mix, output)

view.adopt_address()
model = model_choice.choose()
mode, whole_page = panels.page_tools(LESSON)
if mode == "toy":
    toy.show()
else:
    reading = whose_code.open_reading(LESSON, model, DEFAULT_LAYER, DEFAULT_HEAD)
    steps = {step.__name__: lambda step=step: step(reading) for step in STEPS}
    walk(LESSON, steps, lambda: token_bar(reading), whole_page=whole_page)
view.mirror_address("text", "layer", "head", "q", "k", "step", "mode", "model", "code", "ops")
