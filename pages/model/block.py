"""The block and the whole model: one token's way through all layers, from its embedding to a guess."""

import streamlit as st

from lab import course
from lab.language import text
from lab.ui import block_neurons as neurons_view
from lab.ui import block_numbers as numbers
from lab.ui import block_panels as flow
from lab.ui import block_readout as readout
from lab.ui import block_training, model_choice, panels, view, whose_code
from lab.ui import block_whole as whole
from lab.ui.block_panels import said
from lab.ui.panels import prose, source
from lab.ui.reading import Reading, token_bar
from lab.ui.walk import sides, walk
from lm_core import block, counting, layers, norm_placement, residual_stream

LESSON = course.lesson("block")
SLUG = LESSON.slug
DEFAULT_LAYER, DEFAULT_HEAD = 3, 0


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"{SLUG}.{key}", language=None, **values)


def stream(r: Reading) -> None:
    """Nothing is overwritten: every layer only adds."""
    left, right = sides()
    with left:
        prose(SLUG, "stream", query=r.query, n_layers=r.shape.n_layers, d_model=r.shape.d_model)
        flow.stream_formula(r)
        flow.cosine_bars(r)
    with right:
        flow.stream_figures(r)
        source(block.Block.trace, "resid_post = resid_mid + mlp_out")


def norm(r: Reading) -> None:
    """Before anything reads the row, it is brought to a common size."""
    change, largest = numbers.change_when_scaled(r.model, r.view.layer, r.layer("resid_mid")[r.view.query], 10.0)
    answer = 0 if change > 5 * largest else 1 if change > 0.5 * largest else 2  # ×10 changes by 9, ÷10 by 0.9
    left, right = sides()
    with left:
        is_layer_norm = r.shape.norm == "layer_norm"
        prose(SLUG, "norm", query=r.query)
        prose(SLUG, "norm_layer" if is_layer_norm else "norm_rms")
        flow.norm_formula(r)
        panels.predict_section(
            SLUG, "norm", [t("ten_times"), t("a_tenth"), t("hardly")], answer, about=(r.view, tuple(r.labels)),
            query=r.query, change=f"{change:.1e}", largest=f"{largest:.2f}",
        )  # fmt: skip
    with right:
        flow.norm_figures(r)
        function = layers.layer_norm if is_layer_norm else layers.rms_norm
        source(function, "normal = centred / torch.sqrt" if is_layer_norm else "return x / torch.sqrt")


def attention(r: Reading) -> None:
    """The only place where words meet."""
    found = numbers.sources(r.model, r.trace, r.view.layer, r.view.query)
    left, right = sides()
    with left:
        prose(SLUG, "attention", query=r.query, n_heads=r.shape.n_heads)
        flow.attention_formula(r, found)
    with right:
        flow.attention_figure(r, found)
        source(residual_stream.written_by_source, "return torch.einsum")


def neurons(r: Reading) -> None:
    """The feed-forward network: thousands of small detectors."""
    neuron = neurons_view.chosen_neuron(r)
    gated = numbers.config(r.model).gated_mlp
    left, right = sides()
    with left:
        prose(SLUG, "neurons", query=r.query, d_mlp=r.layer("mlp_hidden").shape[1])
        prose(SLUG, "neurons_gated" if gated else "neurons_plain")
        neurons_view.neuron_formula(r, neuron)
    with right:
        neurons_view.neuron_map(r, neuron)
        neurons_view.neuron_examples(r, neuron)
        source(layers.feed_forward, "hidden = activation(wide)")


def logit(r: Reading) -> None:
    """The guess is a sum: who pushed it up?"""
    ids = numbers.candidates(r.trace, r.view.query)
    found, labels = numbers.logit_table(r.model, r.trace, r.view.query, ids), [numbers.label(r.model, k) for k in ids]
    top = found.table[:, 0]
    sums = [float(top[0]), float(top[1 : len(found.rows) : 2].sum()), float(top[2 : len(found.rows) : 2].sum())]
    kinds = [t("part_embedding"), t("all_attention"), t("all_mlp")]
    left, right = sides()
    with left:
        prose(SLUG, "logit", query=r.query, top=said(r.model, ids[0]))
        prose(SLUG, "logit_frozen")
        readout.logit_formula(r, found, labels)
        panels.predict_section(
            SLUG, "logit", kinds, sums.index(max(sums)), about=(r.view.query, tuple(r.labels), r.model),
            top=said(r.model, ids[0]), embedding=f"{sums[0]:+.2f}", attention=f"{sums[1]:+.2f}", mlp=f"{sums[2]:+.2f}",
        )  # fmt: skip
    with right:
        readout.logit_map(r, found, labels)
        source(residual_stream.logit_parts, "read = through_frozen_norm")


def lens(r: Reading) -> None:
    """Read the guess after every layer."""
    with st.spinner(text("block.reading_layers"), show_time=False):
        found = numbers.lens(r.model, r.trace)
    i, names = r.view.query, readout.state_names(r)
    first = readout.first_on_top(found, i)
    options = sorted({0, first, len(names) - 1, min(len(names) - 1, max(0, first - 1)), len(names) // 2})
    final = said(r.model, int(found.ids[-1, i, 0]))
    left, right = sides()
    with left:
        is_last = i + 1 == r.n_tokens
        prose(SLUG, "lens", query=r.query)
        prose(SLUG, "lens_last" if is_last else "lens_next", followed=readout.followed(r, found))
        readout.lens_formula(r, found)
        panels.predict_section(
            SLUG, "lens", [names[s] for s in options], options.index(first), about=(i, tuple(r.labels), r.model),
            final=final, state=names[first],
        )  # fmt: skip
    with right:
        (readout.lens_of_all if readout.chosen_scope() == "all" else readout.lens_of_word)(r, found)
        readout.rank_chart(r, found)
        source(residual_stream.logit_lens, "return norm(states) @ unembed.T")


def placement(r: Reading) -> None:
    """Norm before or after: the same stack, and one of them hardly learns."""
    c = norm_placement.StackConfig()
    left, right = sides()
    with left:
        prose(SLUG, "placement", n_layers=c.n_layers, d_model=c.d_model, steps=c.steps)
    with right:
        when = whole.chosen_moment()
        rate = whole.chosen_rate()
        with st.spinner(t("training"), show_time=False):
            runs = block_training.placement(rate)
        whole.gradient_chart(runs, when)
        whole.loss_chart(runs)
        source(block.Block.forward, "return self.norm_2(x + self.mlp(x))")
    first = {pre: float(run["after"][0]) for pre, run in runs.items()}
    answer = 0 if first[True] < 0.5 * first[False] else 1 if first[False] < 0.5 * first[True] else 2
    with left:
        whole.placement_formula(runs, when)
        panels.predict_section(
            SLUG, "placement", ["Pre-LN", "Post-LN", t("about_same")], answer, about=rate, steps=c.steps,
            pre=f"{first[True]:.1e}", post=f"{first[False]:.1e}",
        )  # fmt: skip
        prose(
            SLUG, "placement_seen", pre_loss=f"{runs[True]['losses'][-1]:.2f}",
            post_loss=f"{runs[False]['losses'][-1]:.2f}", start=whole.ratio_text(runs, "before"), steps=c.steps,
            end=whole.ratio_text(runs, "after"), rate=f"{rate:g}",
        )  # fmt: skip


def counts(r: Reading) -> None:
    """Where the numbers are, and what a token costs."""
    parts = numbers.counted_parts(r.model)
    names, largest = whole.largest_part(parts)
    share = max(part.parameters for part in parts) / r.shape.n_parameters
    prose(SLUG, "counts", n_parameters=f"{r.shape.n_parameters:,}")
    panels.predict_section(SLUG, "counts", names, largest, about=r.model, largest=names[largest], share=f"{share:.0%}")
    whole.count_table(parts, r.shape.n_parameters)
    whole.count_formulas(parts)
    left, right = sides()
    with left:
        prose(SLUG, "counts_flops")
        n = whole.length_slider(r)
        whole.flops_formula(r, n)
    with right:
        whole.flops_chart(r, n)
        source(counting.flops_per_token, "return sum(part.flops")


STEPS = (stream, norm, attention, neurons, logit, lens, placement, counts)

view.adopt_address()
model = model_choice.choose()
_, whole_page = panels.page_tools(LESSON, has_toy=False)
reading = whose_code.open_reading(LESSON, model, DEFAULT_LAYER, DEFAULT_HEAD)
steps = {step.__name__: lambda step=step: step(reading) for step in STEPS}
walk(LESSON, steps, lambda: token_bar(reading), whole_page=whole_page)
view.mirror_address(
    "text", "layer", "head", "q", "k", "step", "model", "code", "ops",
    "block_neuron", "block_token", "block_scope", "block_when", "block_rate", "block_length",
)  # fmt: skip
