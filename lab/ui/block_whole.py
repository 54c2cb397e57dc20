"""Figures of the lesson on the block: where the norm stands (two small stacks trained), and what a model costs."""

from __future__ import annotations

import numpy as np
import streamlit as st

from lab import figures
from lab.language import text
from lab.ui import block_numbers as numbers
from lab.ui import panels, view
from lab.ui.block_numbers import Floats
from lab.ui.block_panels import t
from lab.ui.block_training import LEARNING_RATES
from lab.ui.charts import chart
from lab.ui.reading import Reading
from lm_core.counting import Part, attention_flops, flops_per_token
from lm_core.norm_placement import StackConfig

Runs = dict[bool, dict[str, Floats]]
WHEN = ("before", "after")
LEAST = 1e-7  # gradients below it are drawn on the floor of the chart


def chosen_rate() -> float:
    """The learning rate of both stacks, from a menu; it stands in the address."""
    rates = {str(rate): rate for rate in LEARNING_RATES}
    asked = view.get("block_rate")
    st.session_state["block_rate_menu"] = asked if asked in rates else str(LEARNING_RATES[1])
    rate = st.segmented_control(
        t("rate"), list(rates), key="block_rate_menu", required=True,
        on_change=lambda: view.put("block_rate", st.session_state["block_rate_menu"]),
    )  # fmt: skip
    return rates[str(rate)]


def chosen_moment() -> str:
    """Whether gradients before the first step or after the last one are drawn."""
    asked = view.get("block_when")
    names = {when: t(f"when_{when}", steps=StackConfig().steps) for when in WHEN}
    st.session_state["block_when_menu"] = asked if asked in WHEN else WHEN[0]
    when = st.segmented_control(
        t("when"), WHEN, key="block_when_menu", required=True, format_func=names.__getitem__,
        label_visibility="collapsed", on_change=lambda: view.put("block_when", st.session_state["block_when_menu"]),
    )  # fmt: skip
    return str(when)


def gradient_chart(runs: Runs, when: str) -> None:
    """The length of the gradient of W_out in every layer of both stacks, as powers of ten."""
    layers = np.arange(1, len(runs[True][when]) + 1)
    series = {
        name: np.log10(np.maximum(runs[pre][when].astype(np.float64), LEAST))
        for name, pre in (("Pre-LN", True), ("Post-LN", False))
    }
    ends = {name: [f"{10 ** float(v[k]):.2g}" for k in (0, -1)] for name, v in series.items()}
    chart(
        figures.line, layers, series, alt=t("gradients_alt", pre=" → ".join(ends["Pre-LN"]),
        post=" → ".join(ends["Post-LN"])), x_title=t("layer_axis"), y_title=t("gradient_axis"),
        y_range=(-1.25, 0.25) if when == "before" else (-7.0, 0.25),
        roles={"Pre-LN": "weights", "Post-LN": "neutral"}, title=t("gradients"),
        file=f"gradients_{when}",
    )  # fmt: skip


def loss_chart(runs: Runs) -> None:
    """The loss of both stacks while they train."""
    steps = np.arange(len(runs[True]["losses"]))
    series = {"Pre-LN": runs[True]["losses"], "Post-LN": runs[False]["losses"]}
    chart(
        figures.line, steps, series, alt=t("losses_alt", pre=f"{series['Pre-LN'][-1]:.2f}",
        post=f"{series['Post-LN'][-1]:.2f}"), x_title=t("step_axis"), y_title=t("loss_axis"), y_range=(2.0, 6.5),
        roles={"Pre-LN": "weights", "Post-LN": "neutral"}, title=t("losses"), file="losses",
    )  # fmt: skip


def placement_formula(runs: Runs, when: str) -> None:
    """Both placements, and how much smaller the first layer's gradient is than the last one's."""
    ratio = {pre: first_to_last(run[when]) for pre, run in runs.items()}
    panels.formula(
        [
            r"\text{Pre-LN: } r + F(\mathrm{norm}(r)) \qquad \text{Post-LN: } \mathrm{norm}(r + F(r))",
            r"\dfrac{\lVert \nabla_1 \rVert}{\lVert \nabla_L \rVert}: \quad \text{Pre-LN } "
            + number_short(ratio[True]) + r", \quad \text{Post-LN } " + number_short(ratio[False]),
        ],
        t("formula_label"),
    )  # fmt: skip


def first_to_last(norms: Floats) -> float:
    """The first layer's gradient in units of the last one's."""
    return float(norms[0]) / max(float(norms[-1]), 1e-30)


def ratio_text(runs: Runs, when: str) -> str:
    """How many times the first layer's gradient is the last one's, of both stacks, for a sentence."""
    return f"Pre-LN {first_to_last(runs[True][when]):.2g}, Post-LN {first_to_last(runs[False][when]):.2g}"


def number_short(value: float) -> str:
    r"""A ratio for a formula: two significant figures, small ones as a power of ten.

    >>> number_short(3.14), number_short(0.000021)
    ('\\mathbf{3.1}', '\\mathbf{2.1 \\cdot 10^{-5}}')
    """
    if 0.01 <= abs(value) < 1000 or value == 0:
        return rf"\mathbf{{{value:.2g}}}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"\mathbf{{{mantissa} \cdot 10^{{{int(exponent)}}}}}"


# --- counts -----------------------------------------------------------------------------------------------------------


def part_name(part: Part) -> str:
    """A part of the model in the reader's language."""
    return t(f"count_{part.name}")


def count_table(parts: tuple[Part, ...], learned: int) -> None:
    """Every part with its count, its share and its FLOPs a token."""
    heads = [t(key) for key in ("part", "learned", "share", "flops")]
    lines = [f"| {' | '.join(heads)} |", "|:--|--:|--:|--:|"]
    for part in parts:
        count = part.parameters
        name = part_name(part) if part.terms else f"{part_name(part)}: {t('tied')}"
        lines.append(f"| {name} | {count:,} | {count / learned:.1%} | {part.flops:,} |")
    total, flops = sum(p.parameters for p in parts), sum(p.flops for p in parts)
    lines.append(f"| **{t('total')}** | **{total:,}** | | **{flops:,}** |")
    rows = [part_name(part) for part in parts]
    table = np.array([[part.parameters, part.flops] for part in parts])
    panels.figure_head(t("count_title"), figures.matrix_csv(table, rows, [t("learned"), t("flops")]), "counts")
    with st.container(key="counts_table"):
        st.markdown("\n".join(lines))
    st.caption(t("count_same" if total == learned else "count_differs", formula=f"{total:,}", real=f"{learned:,}"))


def count_formulas(parts: tuple[Part, ...]) -> None:
    """How many numbers each part learns, in letters and in this model's sizes."""
    lines = []
    for part in parts:
        if part.terms:
            name, count = part.name.replace("_", "~"), f"{part.parameters:,}".replace(",", "{,}")
            lines.append(rf"N_{{\mathrm{{{name}}}}} = {part.formula} = {part.numbers} = \mathbf{{{count}}}")
    panels.formula(lines, t("formula_label"))


def length_slider(r: Reading) -> int:
    """How many tokens the text in question has."""
    longest = max(numbers.config(r.model).context_length, 2)
    asked = str(view.get("block_length", ""))
    length = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 8 else r.n_tokens
    st.session_state["block_length_slider"] = min(max(length, 1), longest)
    return int(
        st.slider(
            t("length"), 1, longest, key="block_length_slider",
            on_change=lambda: view.put("block_length", str(st.session_state["block_length_slider"])),
        )
    )  # fmt: skip


def flops_formula(r: Reading, n: int) -> None:
    """The cost of a token that looks at n, with its two terms."""
    c = numbers.config(r.model)
    attention = attention_flops(c, n)
    matrices = flops_per_token(c, n) - attention
    panels.formula(
        [
            r"\text{FLOPs} = 2 \cdot P + 4 \cdot L \cdot H \cdot D_h \cdot n",
            rf"= 2 \cdot {matrices // 2:,} + 4 \cdot {c.n_layers} \cdot {c.n_heads} \cdot {c.d_head} \cdot {n}".replace(
                ",", r"{,}"
            ),
            rf"= {matrices:,} + {attention:,} = \mathbf{{{matrices + attention:,}}}".replace(",", r"{,}"),
        ],
        t("formula_label"),
    )


def flops_chart(r: Reading, n: int) -> None:
    """Cost of a token against the length of the text: the matrices stay, attention grows."""
    c = numbers.config(r.model)
    longest = max(c.context_length, 2)
    xs = np.unique(np.linspace(1, longest, 33).astype(int))
    attention = np.array([attention_flops(c, int(x)) for x in xs]) / 1e6
    matrices = np.full(len(xs), flops_per_token(c, 0) / 1e6)
    chart(
        figures.line, xs, {t("matrices"): matrices, t("attention"): attention},
        alt=t("flops_alt", n=n, share=f"{attention_flops(c, n) / flops_per_token(c, n):.1%}"),
        x_title=t("length_axis"), y_title=t("mflops"), y_range=(0, 1.1 * float(max(matrices.max(), attention.max()))),
        roles={t("matrices"): "neutral", t("attention"): "weights"}, title=t("flops_title"), file="flops",
    )  # fmt: skip
    counted, by_formula = numbers.flops(r.model, r.trace)
    key = "flops_same" if counted == by_formula else "flops_differ"
    st.caption(t(key, n=r.n_tokens, counted=f"{counted:,}", formula=f"{by_formula:,}"))


def largest_part(parts: tuple[Part, ...]) -> tuple[list[str], int]:
    """The three parts that hold the most numbers by name, in their order in the model, and which one is the largest."""
    names = [text(f"block.count_{part.name}") for part in parts if part.name in ("embedding", "attention", "mlp")]
    counts = [part.parameters for part in parts if part.name in ("embedding", "attention", "mlp")]
    return names, int(np.argmax(counts))
