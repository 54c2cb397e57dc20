"""Which filter or stage is chosen, the same steps in another order, and the same text with other seeds."""

from __future__ import annotations

import numpy as np
import streamlit as st

from lab.lessons import escape_markdown
from lab.ui import panels, view
from lab.ui import sampling_numbers as numbers
from lab.ui.sampling_controls import config, t
from lab.ui.sampling_numbers import Prompt, Stages
from lab.ui.sampling_panels import names_of, said_ids, share, stage_name
from lm_core.sampling import ORDER

FILTERS = ("top_k", "top_p", "min_p")
WRITTEN = 12
# Orders that programs have really used, or that a reader would try.
OTHER_ORDERS = {
    "temperature_last": ("repetition", "top_k", "top_p", "min_p", "temperature"),
    "p_before_k": ("repetition", "temperature", "top_p", "top_k", "min_p"),
    "min_p_first": ("min_p", "repetition", "temperature", "top_k", "top_p"),
}


def _menu(name: str, options: tuple[str, ...], label: str, prefix: str) -> str:
    asked, key = view.get(f"sampling_{name}"), f"sampling_{name}_menu"
    st.session_state[key] = asked if asked in options else options[0]
    names = {option: t(f"{prefix}.{option}") for option in options}
    return str(
        st.segmented_control(
            label, options, key=key, required=True, wrap=True, format_func=names.__getitem__,
            label_visibility="collapsed",
            on_change=lambda: view.put(f"sampling_{name}", st.session_state[key]),
        )
    )  # fmt: skip


def chosen_filter() -> str:
    """top_k, top_p or min_p."""
    return _menu("filter", ("top_p", "top_k", "min_p"), t("which_filter"), "stage")


def chosen_stage() -> str:
    """The stage whose cell is outlined."""
    asked = view.get("sampling_stage")
    return asked if asked in ("model", *ORDER) else ORDER[-1]


def compare(prompt: Prompt, found: Stages) -> None:
    """The same settings in another order: what is left, and where the two disagree most."""
    st.markdown(t("other_order"))
    which = _menu("order", tuple(OTHER_ORDERS), t("other_order"), "order_name")
    other = numbers.stages(prompt.model, prompt.token_ids, config(), OTHER_ORDERS[which])
    ours, theirs = found.probabilities[-1], other.probabilities[-1]
    token = int(np.abs(ours.astype(np.float64) - theirs).argmax())
    st.caption(" → ".join(stage_name(name) for name in other.names))
    lines = [f"| | {t('n_left')} | “{escape_markdown(names_of(prompt, token))}” |", "|:--|--:|--:|"]
    for name, stages, row in ((t("this_order"), found, ours), (t("that_order"), other, theirs)):
        lines.append(f"| {name} | {stages.n_kept(stages.names[-1]):,} | {share(float(row[token]))} |")
    with st.container(key="other_order"):
        st.markdown("\n".join(lines))
    if np.allclose(ours, theirs, atol=1e-7):
        st.caption(t("same_result"))


def seeds_table(prompt: Prompt, seed: int) -> None:
    """The same seed twice and the next one: what `generate` writes."""
    panels.prose("sampling", "draw_seeds")
    if prompt.room < 1:
        st.caption(t("no_room"))
        return
    lines = [f"| {t('seed')} | {t('written', n=WRITTEN)} |", "|--:|:--|"]
    for s in (seed, seed, seed + 1):
        lines.append(f"| {s} | {said_ids(prompt, numbers.written(prompt, config(), s, WRITTEN))} |")
    with st.container(key="seed_texts"):
        st.markdown("\n".join(lines))
