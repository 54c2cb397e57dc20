"""Beam search on a page: beams drawn as they live and die, and the finished ones beside the greedy text."""

from __future__ import annotations

import numpy as np
import streamlit as st

from lab import figures
from lab.ui import panels
from lab.ui import sampling_numbers as numbers
from lab.ui.sampling_controls import t, whole_slider
from lab.ui.sampling_numbers import Ids, Prompt
from lab.ui.sampling_panels import said_ids
from lab.ui.token_tree import Node, token_tree
from lm_core.beam_search import BeamSearch
from lm_core.sampling import SamplingConfig

MOST_BEAMS, MOST_STEPS = 6, 16


def settings(prompt: Prompt) -> tuple[int, int, float]:
    """(beams, new tokens, length penalty) from three sliders."""
    first, second, third = st.columns(3, gap="small")
    with first:
        n_beams = whole_slider("beams", 1, MOST_BEAMS, 3)
    with second:
        n_new = whole_slider("beam_new", 1, min(MOST_STEPS, prompt.room), min(8, prompt.room))
    with third:
        penalty = whole_slider("beam_length", 0, 20, 10) / 10
    return n_beams, n_new, penalty


def new_ids(found: BeamSearch, step: int, rank: int) -> Ids:
    """The new tokens of candidate `rank` of a step, back to the prompt."""
    ids: list[int] = []
    while step >= 0:
        candidate = found.steps[step][rank]
        ids.append(candidate.token)
        living = [i for i, c in enumerate(found.steps[step - 1]) if c.fate == "lives"] if step else [0]
        step, rank = step - 1, living[candidate.parent]
    return tuple(reversed(ids))


def nodes_of(prompt: Prompt, found: BeamSearch, shown: int) -> list[Node]:
    """A column a step, a row a rank; steps beyond `shown` keep their place and are hidden."""
    nodes = [Node(0, 0, -1, t("root"), "", "lives")]
    parents = [0]
    for step, candidates in enumerate(found.steps):
        living = []
        for rank, c in enumerate(candidates):
            ids = new_ids(found, step, rank)
            label = numbers.label_after(prompt.model, prompt.token_ids + ids[:-1], c.token)
            tip = (label, f"log p = {c.log_prob:.4f}", f"Σ log p = {c.total:.4f}", t(f"fate_{c.fate}"))
            state = c.fate if step < shown else "hidden"
            nodes.append(
                Node(step + 1, rank, parents[c.parent], label, f"{c.total:.2f}", state, float(np.exp(c.log_prob)), tip)
            )
            if c.fate == "lives":
                living.append(len(nodes) - 1)
        parents = living
    return nodes


def beam_figure(prompt: Prompt, found: BeamSearch) -> None:
    """The search, up to the step that a slider says."""
    n = len(found.steps)
    shown = whole_slider("beam_step", 1, n, n)
    shown = min(shown, n)
    nodes = nodes_of(prompt, found, shown)
    flat = [(s, r, c) for s, step in enumerate(found.steps) for r, c in enumerate(step)]
    table = np.array([[s + 1, r + 1, c.parent, c.token, c.log_prob, c.total] for s, r, c in flat])
    names = [f"{node.label} {c.fate}" for node, (_, _, c) in zip(nodes[1:], flat, strict=True)]
    csv = figures.matrix_csv(table, names, ["step", "rank", "parent", "id", "log p", "sum"])
    panels.figure_head(t("beam_title", step=shown), csv, "beams")
    best = nodes[1].label
    token_tree(nodes, key="beams", alt=t("beam_alt", step=shown, best=best), caption=t("beam_caption"), at=str(shown))


def greedy(prompt: Prompt, n: int) -> tuple[Ids, float]:
    """The greedy text of at most n tokens and its log-probability."""
    ids = numbers.written(prompt, SamplingConfig(temperature=0.0), 0, n)
    return ids, numbers.log_probability(prompt.model, prompt.token_ids, ids)


def finished_table(prompt: Prompt, found: BeamSearch, greedy_ids: Ids, greedy_total: float) -> None:
    """The finished beams, the best first, and under them the greedy text."""
    lines = [f"| {t('beam_text')} | n | Σ log p | {t('score')} |", "|:--|--:|--:|--:|"]
    for beam in found.finished:
        lines.append(
            f"| {said_ids(prompt, beam.token_ids)} | {len(beam.token_ids)} | {beam.total:.3f} | {beam.score:.3f} |"
        )
    lines.append(f"| {t('greedy')}: {said_ids(prompt, greedy_ids)} | {len(greedy_ids)} | {greedy_total:.3f} | |")
    with st.container(key="finished_beams"):
        st.markdown("\n".join(lines))


def score_formula(found: BeamSearch, penalty: float) -> None:
    """The score of the best finished beam."""
    best = found.finished[0]
    panels.formula(
        [
            r"\mathrm{score} = \dfrac{1}{n^{\alpha}} \sum_{t=1}^{n} \log P(w_t \mid w_{<t})",
            rf"= \dfrac{{{best.total:.3f}}}{{{len(best.token_ids)}^{{{penalty:g}}}}} = \mathbf{{{best.score:.3f}}}",
        ],
        t("best_formula"),
    )
