"""The figures and controls of the lesson on the chain rule."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from lab import figures, scores
from lab.figures.underflow import underflow
from lab.language import text
from lab.scores import TextScore
from lab.ui import components, panels, view
from lab.ui.charts import chart
from lab.ui.panels import tex, tex_name
from lab.ui.reading import Reading

SLUG = "chain_rule"
SHOWN = 10  # candidates drawn as bars
FEW = 8  # candidates to click
CUTS = {"rank": (10, 100, 1000), "bits": (3, 7, 11)}  # GLTR's ranks; and a scale in bits
TINTS = (0.0, 0.3, 0.62, 1.0)
MOST_TIMES = 40
COLUMN_P = "P"  # the same in every language


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"{SLUG}.{key}", language=None, **values)


def scored(r: Reading) -> TextScore:
    """The text, scored; a clear message and a stop where there is nothing to score."""
    try:
        return scores.score(r.model, r.trace)
    except scores.TooShortError:
        st.info(t("too_short"))
        st.stop()


def place(r: Reading) -> int:
    """Which token is asked about: its position in the trace; the very first has nothing before it."""
    return max(1, r.view.query)


def power_of_ten(value: float) -> str:
    r"""A small number for a formula.

    >>> power_of_ten(0.0123), power_of_ten(3.2e-14)
    ('0.0123', '3.2 \\cdot 10^{-14}')
    """
    if value == 0 or value >= 1e-4:
        return f"{value:.4f}"
    return _times_ten(f"{value:.1e}")


def scientific(nats: float) -> str:
    """e to the power of `nats`, written out, also where float64 would say 0 or infinity.

    >>> scientific(math.log(2.5e-14)), scientific(-2000 * math.log(10)), scientific(2000 * math.log(10))
    ('2.5e-14', '1.0e-2000', '1.0e+2000')
    """
    power = nats / math.log(10)
    exponent = math.floor(power)
    digits = f"{10 ** (power - exponent):.1f}"
    return f"1.0e{exponent + 1:+03d}" if digits == "10.0" else f"{digits}e{exponent:+03d}"


def _times_ten(number: str) -> str:
    digits, exponent = number.split("e")
    return rf"{digits} \cdot 10^{{{int(exponent)}}}"


def given(r: Reading, at: int) -> str:
    """`P(w_3 | w_1, w_2)` with the tokens' names."""
    before = [tex_name(r.labels[i], i) for i in range(int(r.trace.has_start), at)]
    shown = [*before[:1], r"\dots", before[-1]] if len(before) > 3 else before
    condition = r"\mid " + r",\,".join(shown) if shown else ""
    return rf"P({tex('q', tex_name(r.labels[at], at))}{condition})"


# --- one conditional --------------------------------------------------------------------------------------------------


def candidates(r: Reading, at: int) -> tuple[list[int], scores.Conditional]:
    """The most likely tokens at a place, and the one that stands there, if it is not among them."""
    found = scores.conditional(r.trace, at)
    chosen = found.order[:SHOWN].tolist()
    actual = r.trace.token_ids[at]
    return (chosen if actual in chosen else [*chosen[:-1], actual]), found


def top_bars(r: Reading, at: int, s: TextScore) -> None:
    """The whole distribution: the favourites, the token that came, and all others together."""
    ids, found = candidates(r, at)
    values = found.probabilities[ids]
    rest = max(0.0, 1.0 - float(values.sum()))
    names = [*scores.token_labels(r.model, ids), t("others", n=f"{len(found.probabilities) - len(ids):,}")]
    actual = ids.index(r.trace.token_ids[at])
    chart(
        figures.bars, names, [*values.tolist(), rest], highlight=actual, value_range=(0, 1.12), decimals=4,
        alt=t("bars_alt", token=r.labels[at], p=f"{values[actual]:.4f}", rank=int(s.ranks[at - 1])),
        title=t("bars_title"), file="conditional",
    )  # fmt: skip


def rank_class(rank: int) -> int:
    """0 the favourite, 1 among ten, 2 among a hundred, 3 beyond."""
    return 0 if rank == 1 else 1 if rank <= 10 else 2 if rank <= 100 else 3


# --- product and sum --------------------------------------------------------------------------------------------------


def table(s: TextScore) -> None:
    """Every token with its probability, the product so far, its bits and their sum so far."""
    p, bits = s.probabilities, s.bits
    rows = np.stack([p, np.cumprod(p), bits, np.cumsum(bits)], axis=1)
    names = [COLUMN_P, t("column_product"), t("column_bits"), t("column_sum")]
    panels.figure_head(t("table_title"), figures.matrix_csv(rows, s.labels, names), "chain")
    st.dataframe(
        {
            t("column_token"): s.labels,
            names[0]: [f"{x:.4f}" if x >= 1e-4 else f"{x:.1e}" for x in p],
            names[1]: [f"{x:.3g}" for x in rows[:, 1]],
            names[2]: [f"{x:.2f}" for x in bits],
            names[3]: [f"{x:.2f}" for x in rows[:, 3]],
        },
        hide_index=True, key="chain_table", height="content" if len(p) <= 16 else 600,
    )  # fmt: skip


def product_formula(r: Reading, s: TextScore) -> list[str]:
    """P(w₁ … w_n) as a product, with the first factors and the result."""
    p = s.probabilities.tolist()
    factors = [power_of_ten(x) for x in p]
    shown = [*factors[:3], r"\dots", factors[-1]] if len(factors) > 4 else factors
    whole, first = (r"P(w_1 \dots w_n)", "") if s.has_start else (r"P(w_2 \dots w_n \mid w_1)", r"{t \ge 2}")
    total = s.total_nats  # beyond −745 nats float64 has only 0 for it
    result = power_of_ten(math.exp(total)) if total > -9 else _times_ten(scientific(total))
    return [
        whole + r" = \prod_" + (first or "t") + r" P(w_t \mid w_{<t})",
        "= " + r" \cdot ".join(shown),
        rf"= \mathbf{{{result}}}",
    ]


def log_formula(s: TextScore) -> list[str]:
    """The same as a sum of bits, and the three ways to divide it."""
    bits, n = s.bits.tolist(), len(s.bits)
    terms = [f"{b:.2f}" for b in bits]
    shown = [*terms[:3], r"\dots", terms[-1]] if n > 4 else terms
    total = float(s.bits.sum())
    surprisal = tex("loss", r"-\log_2 P(w_t \mid w_{<t})")
    return [
        rf"-\log_2 P = \sum_t {surprisal}",
        rf"= {' + '.join(shown)} = \mathbf{{{total:.2f}}}\ \text{{bits}}",
        rf"\text{{perplexity}} = 2^{{{total:.2f}/{n}}} = \mathbf{{{s.perplexity:.1f}}}",
        rf"\text{{bits per byte}} = {total:.2f} / {s.n_bytes} = \mathbf{{{s.bits_per_byte:.3f}}}",
    ]


def bits_bars(r: Reading, s: TextScore) -> None:
    """Surprisal of each token, in bits, on an axis that does not move."""
    shown = min(len(s.bits), 24)
    chart(
        figures.bars, s.labels[:shown], s.bits[:shown], highlight=min(place(r) - 1, shown - 1), role="loss",
        value_range=(0, 1.15 * max(16.0, float(s.bits.max()))), decimals=2, alt=t("bits_alt"), title=t("bits_title"),
        file="bits",
    )  # fmt: skip
    if shown < len(s.bits):
        st.caption(t("first_shown", n=shown))


# --- underflow --------------------------------------------------------------------------------------------------------


def times_slider() -> int:
    """How often the text is read in a row."""
    key, entry = "chain_times_slider", view.get("chain_times")
    asked = int(entry) if str(entry).isdecimal() and len(str(entry)) < 3 else 10
    st.session_state[key] = asked if 1 <= asked <= MOST_TIMES else 10
    return int(
        st.slider(
            t("times"), 1, MOST_TIMES, key=key,
            on_change=lambda: view.put("chain_times", str(st.session_state[key])),
        )
    )  # fmt: skip


def underflow_chart(found: scores.Product) -> None:
    """The product in float32 and the sum of logarithms."""
    chart(
        underflow, found.products, found.log2_sums, floors={t("floor_full"): -126.0, t("floor_last"): -149.0},
        names=(t("line_product"), t("line_sum")), alt=t("underflow_alt"), x_title=t("tokens_read"), y_title="log₂ P",
        title=t("underflow_title"), file="underflow",
    )  # fmt: skip


# --- colours ----------------------------------------------------------------------------------------------------------


def colour_controls() -> tuple[str, tuple[float, ...]]:
    """By what to colour, and the three borders between the shades, kept in rising order."""
    by_key = "chain_by_menu"
    st.session_state[by_key] = view.get("chain_by") if view.get("chain_by") in CUTS else "rank"

    def by_changed() -> None:
        view.put("chain_by", st.session_state[by_key])
        view.put("chain_cuts", None)

    by = str(
        st.segmented_control(
            t("by"), list(CUTS), key=by_key, required=True, format_func=lambda b: t(f"by_{b}"),
            on_change=by_changed,
        )
    )  # fmt: skip
    cuts = _cuts(view.get("chain_cuts"), by)

    def changed() -> None:
        asked = sorted(st.session_state[f"chain_cut_{i}"] for i in range(3))
        view.put("chain_cuts", ",".join(f"{value:g}" for value in asked))

    for i, column in enumerate(st.columns(3)):
        st.session_state[f"chain_cut_{i}"] = int(cuts[i]) if by == "rank" else float(cuts[i])
        column.number_input(
            t("cut", n=i + 1), min_value=1 if by == "rank" else 0.5, max_value=50000 if by == "rank" else 30.0,
            step=1 if by == "rank" else 0.5, key=f"chain_cut_{i}", on_change=changed,
        )  # fmt: skip
    return by, cuts


def _cuts(asked: object, by: str) -> tuple[float, ...]:
    """Three rising borders from an address such as `10,100,1000`; nonsense means the usual ones.

    >>> _cuts("5,50,500", "rank"), _cuts("a,b", "rank"), _cuts(None, "bits")
    ((5.0, 50.0, 500.0), (10, 100, 1000), (3, 7, 11))
    """
    parts = str(asked or "").split(",")
    if len(parts) == 3 and all(part.replace(".", "", 1).isdecimal() and len(part) < 8 for part in parts):
        values = tuple(sorted(float(part) for part in parts))
        highest = 50000 if by == "rank" else 30
        if values[0] >= (1 if by == "rank" else 0.5) and values[-1] <= highest:
            return values
    return CUTS[by]


def shades(values: np.ndarray, cuts: tuple[float, ...]) -> list[int]:
    """The shade of each value: 0 up to the first border (itself included), 3 beyond the last.

    >>> shades(np.array([1, 10, 11, 5000]), (10, 100, 1000))
    [0, 0, 1, 3]
    """
    return np.searchsorted(np.asarray(cuts, dtype=float), values, side="left").tolist()


def coloured_sentence(r: Reading, s: TextScore, by: str, cuts: tuple[float, ...]) -> list[int]:
    """The sentence in four shades; returns how many tokens have each."""
    found = shades(s.ranks if by == "rank" else s.bits, cuts)
    tints: list[float | None] = [None] + [TINTS[shade] for shade in found]
    rows = np.stack([s.ranks.astype(float), s.bits], axis=1)
    panels.figure_head(t("coloured_title"), figures.matrix_csv(rows, s.labels, ["rank", "bits"]), "coloured")
    components.token_strip(
        r.labels, ids=r.trace.token_ids, colours=tints, colour_role="loss", selected_query=place(r), key="coloured",
        caption=t("coloured_alt"), on_select=r.choose_query,
    )  # fmt: skip
    return [found.count(shade) for shade in range(4)]


def shade_bars(counts: list[int], by: str, cuts: tuple[float, ...]) -> None:
    """How many tokens fall in each shade."""
    unit = "" if by == "rank" else " bit"
    names = [f"≤ {cuts[0]:g}{unit}", *(f"{a:g} – {b:g}{unit}" for a, b in zip(cuts, cuts[1:], strict=False)),
             f"> {cuts[2]:g}{unit}"]  # fmt: skip
    chart(
        figures.bars, names, counts, role="loss", decimals=0, value_range=(0, 1.15 * max(1, sum(counts))),
        alt=t("shades_alt"), title=t("shades_title"), file="shades",
    )  # fmt: skip
