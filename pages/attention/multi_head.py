"""Multi-head attention: all heads of the reader's model on the reader's sentence, and what each is good for."""

import numpy as np
import streamlit as st

from lab import course, figures, heads
from lab.ui import attention_maps as maps
from lab.ui import model_choice, panels, view, whose_code
from lab.ui import multi_head_formulas as formulas
from lab.ui import multi_head_panels as figure
from lab.ui.charts import chart
from lab.ui.multi_head_panels import bold, name_of, t
from lab.ui.panels import formula, prose, source
from lab.ui.reading import Reading, token_bar
from lab.ui.walk import sides, walk
from lm_core import ablation, attention, head_measures, head_parts

LESSON = course.lesson("multi_head")
SLUG = LESSON.slug
DEFAULT_LAYER, DEFAULT_HEAD = 3, 0


def all_heads(r: Reading) -> None:
    """Many heads look at the same words at once."""
    s = r.shape
    left, right = sides()
    with left:
        prose(SLUG, "all_heads", layers=s.n_layers, heads=s.n_heads, count=s.n_layers * s.n_heads, query=r.query)
        if r.n_tokens > 1:
            scores = figure.averages(r)["previous"]
            asked, right_one = figure.candidates(r)
            best = asked[right_one]
            panels.predict_section(
                SLUG, "all_heads", [name_of(head) for head in asked], right_one, about=(r.model, tuple(r.labels)),
                head=bold(name_of(best)), share=f"{scores[best]:.2f}", least=f"{np.nanmin(scores):.2f}",
            )  # fmt: skip
    with right:
        figure.all_maps(r, "all")
        source(attention.split_heads, "return x.unflatten")


def one_head(r: Reading) -> None:
    """One head, larger: a map of its own."""
    here = r.view.layer, r.view.head
    left, right = sides()
    with left:
        prose(SLUG, "one_head", d_head=r.shape.d_head, head=bold(name_of(here)))
        formula(formulas.one_head(r))
        figure.all_maps(r, "one")
    with right:
        figure.head_map(r, r.head("weights"), here, t("weights_of", head=name_of(here)), "one")
        st.caption(figure.habits(r, here))
        source(attention.attend, "weights = masked_softmax(masked)")


def compare(r: Reading) -> None:
    """Two heads side by side."""
    here, other = (r.view.layer, r.view.head), figure.other_head(r)
    one, two = r.head("weights"), r.trace.head("weights", *other)
    total = heads.disagreement(one, two)
    left, right = sides()
    with left:
        prose(SLUG, "compare", a=bold(name_of(here)), b=bold(name_of(other)), part=f"{total:.2f}")
        formula(formulas.disagreement(one, two, r.view.query, r.labels[r.view.query], total))
        figure.all_maps(r, "compare", other=other)
    with right:
        for column, head, weights in zip(st.columns(2), (here, other), (one, two), strict=True):
            with column:
                figure.head_map(r, weights, head, name_of(head), "first" if weights is one else "second")
        figure.difference_map(r, one, two)
        source(head_measures.disagreement, "return (one - other).abs()")


def switch_off(r: Reading) -> None:
    """Take a head away and see what the model expects now."""
    here, i = (r.view.layer, r.view.head), r.view.query
    left, right = sides()
    with left:
        prose(SLUG, "switch_off", query=r.query, head=bold(name_of(here)))
        off = figure.choice("off", heads.OFF)
        kind = figure.choice("kind", heads.KINDS)
        prose(SLUG, f"switch_off_{kind}")
        ids = tuple(r.trace.token_ids[: i + 1])
        found = heads.prediction_without(r.model, ids, *here, off, kind)
        bits = {each: heads.prediction_without(r.model, ids, *here, each, kind).kl_bits for each in ("one", "others")}
        panels.predict_section(
            SLUG, "switch_off", [t("off_one"), t("off_others")], int(bits["others"] > bits["one"]),
            about=(r.model, r.view, kind, tuple(r.labels)), query=r.query,
            head=bold(name_of(here)), one=f"{bits['one']:.3f}", others=f"{bits['others']:.3f}",
        )  # fmt: skip
        formula(formulas.divergence(found))
    with right:
        figure.prediction_bars(r, found)
        figure.cost_map(r, kind)
        source(ablation.attend_without, "return replace(steps, head_out")


def concat(r: Reading) -> None:
    """Side by side, then W_O."""
    s, i = r.shape, r.view.query
    column = maps.chosen_column("concat", s.d_model)
    found = heads.written(r.model, r.trace, r.view.layer, i)
    left, right = sides()
    with left:
        prose(SLUG, "concat", heads=s.n_heads, d_head=s.d_head, width=s.n_heads * s.d_head, d_model=s.d_model)
        formula(formulas.concat(r, found, column))
        maps.output_strip(r, column)
    with right:
        figure.concat_map(r)
        maps.vector_map(r, "concat", found.attn_out[None], t("out_title"), "neutral", (0, column), rows=[t("out_row")])
        source(attention.merge_heads, "return x.transpose")


def shares(r: Reading) -> None:
    """Each head's share of what is written."""
    s, i = r.shape, r.view.query
    column = maps.chosen_column("parts", s.d_model)
    found = heads.written(r.model, r.trace, r.view.layer, i)
    labels = [t("head_n", n=h + 1) for h in range(s.n_heads)] + [t("bias")] * found.has_bias
    left, right = sides()
    with left:
        prose(SLUG, "shares", query=r.query, layer=r.view.layer + 1)
        formula(formulas.share(r, found))
        reach = float(np.abs(found.shares).max())
        chart(
            figures.bars, labels, found.shares, highlight=r.view.head, decimals=3, title=t("shares_title"),
            value_range=(min(0.0, 1.3 * float(found.shares.min())), 1.25 * reach), file="shares",
            alt=t("shares_alt", query=r.labels[i], head=int(found.shares.argmax()) + 1),
        )  # fmt: skip
        st.caption(t("conserved", total=f"{found.shares.sum():.6f}", missed=f"{found.missed:.1e}"))
    with right:
        rows = np.vstack([found.parts, found.attn_out])
        maps.vector_map(
            r, "parts", rows, t("parts_title"), "neutral", (len(rows) - 1, column), rows=[*labels, t("sum_row")]
        )
        st.caption(t("column_sum", column=column + 1, parts=f"{found.parts[:, column].sum():.4f}",
                     total=f"{found.attn_out[column]:.4f}"))  # fmt: skip
        source(head_parts.written_by_head, "return head_out @ own.mT")


def specialists(r: Reading) -> None:
    """What the heads of this model are good at."""
    here = r.view.layer, r.view.head
    left, right = sides()
    with left:
        prose(SLUG, "specialists")
        kind = figure.choice("measure", tuple(head_measures.MEASURES))
        passage = figure.choice("on", ("text", "random"))
        prose(SLUG, f"specialists_{kind}")
        own = tuple(r.trace.token_ids[r.trace.has_start :])
        found = heads.specialities(r.model, own if passage == "text" else None)
        if found is None or not found.pairs[kind].any():
            st.info(t("no_pairs"))
            return
        scores = found.scores[kind]
        top = figure.highest(scores)
        prose(
            SLUG, "specialists_result", head=bold(name_of(top)), score=f"{scores[top]:.2f}",
            even=f"{found.even[kind]:.2f}", tokens=len(found.labels),
        )  # fmt: skip
        formula(formulas.measure(float(scores[here]), found.weights[here], found.pairs[kind]))
        source(head_measures.MEASURES[kind], "return")
    with right:
        figure.speciality_map(r, found, kind)
        source(head_measures.share_on, "on_pairs = ")


def grouped(r: Reading) -> None:
    """Heads that share their keys and values."""
    s = r.shape
    left, right = sides()
    with left:
        prose(SLUG, "grouped")
        prose(
            SLUG, "grouped_own" if s.n_heads == s.n_kv_heads else "grouped_shared",
            heads=s.n_heads, groups=s.n_kv_heads, size=s.n_heads // s.n_kv_heads,
        )  # fmt: skip
        formula(formulas.groups(r))
        figure.cache_bars(r)
    with right:
        figure.keys_map(r)
        source(attention.repeat_heads, "return x if n_kv_heads == n_heads")


STEPS = (all_heads, one_head, compare, switch_off, concat, shares, specialists, grouped)

view.adopt_address()
model = model_choice.choose()
_, whole_page = panels.page_tools(LESSON, has_toy=False)
reading = whose_code.open_reading(LESSON, model, DEFAULT_LAYER, DEFAULT_HEAD)
steps = {step.__name__: lambda step=step: step(reading) for step in STEPS}
walk(LESSON, steps, lambda: token_bar(reading), whole_page=whole_page)
KEPT = ("other", "off", "kind", "measure", "on")
view.mirror_address(
    "text", "layer", "head", "q", "k", "step", "model", "code", "ops", *(f"{SLUG}_{name}" for name in KEPT)
)
