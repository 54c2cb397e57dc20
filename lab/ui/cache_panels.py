"""The KV cache on a page: what is stored and what is computed again, its memory, and its speed measured now."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from lab import figures, models
from lab.ui import panels, trouble
from lab.ui import sampling_numbers as numbers
from lab.ui.charts import chart
from lab.ui.sampling_controls import t, whole_slider
from lab.ui.sampling_numbers import Prompt
from lm_core.counting import cache_bytes
from lm_core.generation import positions_computed

BYTES = 4  # this app computes in float32
MEASURED = 48


def shapes_table(prompt: Prompt) -> None:
    """What the cache of this text holds, and what one more token costs with it and without."""
    c, n = numbers.config_of(prompt.model), len(prompt.token_ids)
    rows = [
        (t("stored_k"), f"{c.n_layers} × [1, {c.n_kv_heads}, {n}, {c.d_head}]"),
        (t("stored_v"), f"{c.n_layers} × [1, {c.n_kv_heads}, {n}, {c.d_head}]"),
        (t("not_stored"), f"{c.n_layers} × [1, {c.n_heads}, 1, {c.d_head}]"),
        (t("read_with"), "1"),
        (t("read_without"), f"{n + 1}"),
    ]
    lines = [f"| {t('what')} | {t('shape')} |", "|:--|:--|", *(f"| {name} | `{value}` |" for name, value in rows)]
    with st.container(key="cache_shapes"):
        st.markdown("\n".join(lines))


def memory(prompt: Prompt) -> None:
    """Formula and chart of the memory by length."""
    c = numbers.config_of(prompt.model)
    longest = max(c.context_length, 2)
    n = whole_slider("cache_length", 1, longest, min(len(prompt.token_ids), longest))
    total = cache_bytes(c, n, BYTES)
    panels.formula(
        [
            r"\text{bytes} = 2 \cdot L \cdot H_{kv} \cdot d_{head} \cdot T \cdot \text{bytes per number}",
            rf"= 2 \cdot {c.n_layers} \cdot {c.n_kv_heads} \cdot {c.d_head} \cdot {n} \cdot {BYTES}"
            rf" = \mathbf{{{total:,}}}".replace(",", "{,}"),
        ],
        t("memory_formula"),
    )
    lengths = np.unique(np.linspace(1, longest, 60).astype(int))
    series = {t("cache_line"): np.array([cache_bytes(c, int(k), BYTES) for k in lengths]) / 2**20}
    if c.n_kv_heads < c.n_heads:
        series[t("no_groups")] = series[t("cache_line")] * c.n_heads / c.n_kv_heads
    top = 1.08 * max(float(v.max()) for v in series.values())
    chart(
        figures.line, lengths, series, x_title=t("length_axis"), y_title="MiB", y_range=(0.0, top),
        alt=t("memory_alt", n=longest, mib=f"{cache_bytes(c, longest, BYTES) / 2**20:.2f}"), title=t("memory_title"),
        file="cache_memory",
    )  # fmt: skip


def key_of(prompt: Prompt) -> tuple[Any, ...]:
    """What a measurement belongs to."""
    return prompt.model, models.fingerprint(prompt.model), prompt.token_ids


def measured(prompt: Prompt) -> dict[bool, list[float]] | None:
    """The last measurement with this text and model, or None."""
    kept = st.session_state.get("sampling.measured")
    return kept[1] if kept and kept[0] == key_of(prompt) else None


def measure_button(prompt: Prompt) -> None:
    """Measure now, on a button: the same text written twice."""
    n = min(MEASURED, prompt.room)
    if n < 1:
        st.caption(t("no_room"))
        return
    if st.button(t("measure", n=n), type="primary", key="measure"):
        try:
            with st.spinner(t("measuring"), show_time=False):
                numbers.measure(prompt, 2, True)  # the first pass of all wakes the machine
                found = {cached: numbers.measure(prompt, n, cached) for cached in (True, False)}
        except (ValueError, OSError, MemoryError) as error:
            trouble.show(error)
            return
        st.session_state["sampling.measured"] = (key_of(prompt), found)


def measured_figure(prompt: Prompt) -> None:
    """Seconds of each token, with and without, and tokens a second."""
    found = measured(prompt)
    if found is None:
        st.caption(t("not_measured"))
        return
    n = min(len(found[True]), len(found[False]))
    if n < 2:
        return
    with_, without = (np.array(found[cached][:n]) * 1000 for cached in (True, False))
    series = {t("with_cache"): with_, t("without_cache"): without}
    speeds = {name: n / (values.sum() / 1000) for name, values in series.items()}
    positions = [positions_computed(len(prompt.token_ids), n, cached) for cached in (True, False)]
    st.markdown(
        t("speed_said", with_=f"{speeds[t('with_cache')]:.1f}", without=f"{speeds[t('without_cache')]:.1f}", n=n,
          p_with=f"{positions[0]:,}", p_without=f"{positions[1]:,}")
    )  # fmt: skip
    chart(
        figures.line, np.arange(1, n + 1), series, x_title=t("token_axis"), y_title=t("milliseconds"),
        y_range=(0.0, 1.1 * float(np.quantile(np.concatenate([with_, without]), 0.98))),
        alt=t("speed_alt", with_=f"{speeds[t('with_cache')]:.1f}", without=f"{speeds[t('without_cache')]:.1f}"),
        title=t("speed_title"), file="cache_speed", roles={t("with_cache"): "weights", t("without_cache"): "loss"},
    )  # fmt: skip
