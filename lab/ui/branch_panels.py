"""Writing step by step: a tree of what was tried. A node is the tuple of new token ids that leads to it."""

from __future__ import annotations

import re

import numpy as np
import streamlit as st

from lab import figures, models
from lab.ui import components, panels, view
from lab.ui import sampling_numbers as numbers
from lab.ui.sampling_controls import config, seed_box, t, whole_number
from lab.ui.sampling_numbers import Ids, Prompt
from lab.ui.sampling_panels import share
from lab.ui.token_tree import Node, token_tree

OFFERED = 7
MOST_PATHS = 300
MOST_DEPTH = 64
AT_ONCE = 10
_TREE = "sampling.tree"


def path_of(prompt: Prompt) -> Ids:
    """The new tokens of the text in hand, from the address; what does not fit the model is left out."""
    asked = str(view.get("sampling_path", "") or "")
    ids = [int(part) for part in asked.split(".")] if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})*", asked) else []
    size = numbers.config_of(prompt.model).vocab_size
    kept: list[int] = []
    for token in ids[: min(MOST_DEPTH, max(prompt.room, 0))]:
        if token >= size or (kept and kept[-1] in prompt.stop_ids):
            break
        kept.append(token)
    return tuple(kept)


def go(path: Ids) -> None:
    """Make this the text in hand."""
    view.put("sampling_path", ".".join(map(str, path)) or None)


def tried(prompt: Prompt, path: Ids) -> list[Ids]:
    """Every path that was tried with this text and model, in the order of trying; `path` among them."""
    about = (prompt.model, models.fingerprint(prompt.model), prompt.token_ids)
    kept = st.session_state.get(_TREE)
    if not kept or kept[0] != about:
        kept = st.session_state[_TREE] = (about, {})
    paths: dict[Ids, None] = kept[1]
    for n in range(len(path) + 1):
        paths.setdefault(path[:n])
    while len(paths) > MOST_PATHS:  # the oldest that is no part of the text in hand goes, with all that follows it
        old = next(p for p in paths if p != path[: len(p)])
        for gone in [p for p in paths if p[: len(old)] == old]:
            del paths[gone]
    return list(paths)


def forget() -> None:
    """Start from the text again."""
    st.session_state.pop(_TREE, None)
    go(())


def is_over(prompt: Prompt, path: Ids) -> bool:
    """Whether nothing can follow: the text ended, or no room is left."""
    return bool(path and path[-1] in prompt.stop_ids) or len(path) >= min(MOST_DEPTH, prompt.room)


def extended(prompt: Prompt, path: Ids, how: str, n: int, seed: int) -> Ids:
    """n more tokens: `favourite`, or `draw` with the numbers of the seed, number i for new token i."""
    u = numbers.uniforms(seed, len(path) + n)
    for _ in range(n):
        if is_over(prompt, path):
            break
        ids = prompt.token_ids + path
        token = (
            numbers.draw(prompt.model, ids, config(), u[len(path)])
            if how == "draw"
            else int(numbers.next_logits(prompt.model, ids).argmax())
        )
        path = (*path, token)
    return path


def controls(prompt: Prompt, path: Ids) -> None:
    """Buttons: the favourite, a draw, ten draws, one back, from the start; a seed; a field to force a word."""
    over, seed = is_over(prompt, path), whole_number("seed", 0, 9999, 0)

    def take(how: str, n: int) -> None:
        go(extended(prompt, path, how, n, seed))

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(t("take_favourite"), key="take_favourite", on_click=take, args=("favourite", 1), disabled=over)
        st.button(t("take_draw"), key="take_draw", on_click=take, args=("draw", 1), disabled=over)
        st.button(t("take_many", n=AT_ONCE), key="take_many", on_click=take, args=("draw", AT_ONCE), disabled=over)
        st.button(t("back"), key="back", on_click=go, args=(path[:-1],), disabled=not path)
        st.button(t("restart"), key="restart", on_click=forget, type="tertiary")
    seed_box("tree")

    def force() -> None:
        typed = str(st.session_state.get("force_box") or "")
        loaded = models.load(prompt.model)
        assert loaded.tokenizer is not None  # or `load` had raised
        try:
            ids = tuple(loaded.tokenizer.encode(typed[:60]))
        except ValueError:
            ids = ()
        size = numbers.config_of(prompt.model).vocab_size
        if ids and max(ids) < size:
            go((*path, *ids)[: min(MOST_DEPTH, prompt.room)])
        st.session_state["force_box"] = ""

    st.text_input(
        t("force"), key="force_box", max_chars=60, on_change=force, disabled=over, placeholder=t("force_hint")
    )


def places(paths: list[Ids]) -> dict[Ids, int]:
    """A row for each path: the first child stays on its parent's row, every other one begins a new row below.

    >>> places([(), (5,), (5, 7), (9,)])
    {(): 0, (5,): 0, (5, 7): 0, (9,): 1}
    """
    children: dict[Ids, list[Ids]] = {path: [] for path in paths}
    for path in paths:
        if path:
            children[path[:-1]].append(path)
    rows: dict[Ids, int] = {}
    last = -1
    waiting: list[tuple[Ids, bool]] = [((), True)] if paths else []
    while waiting:
        path, begins = waiting.pop()
        if begins:
            last += 1
        rows[path] = last
        waiting += [(child, number > 0) for number, child in reversed(list(enumerate(children[path])))]
    return rows


def nodes_of(prompt: Prompt, path: Ids) -> tuple[list[Node], list[Ids]]:
    """What is drawn: all that was tried, and at the text in hand the likeliest tokens that could follow."""
    paths = tried(prompt, path)
    offers: list[Ids] = []
    if not is_over(prompt, path):
        row = numbers.next_logits(prompt.model, prompt.token_ids + path)
        offers = [(*path, int(i)) for i in np.argsort(-row, kind="stable")[:OFFERED]]
    everything = paths + [offer for offer in offers if offer not in set(paths)]
    rows = places(everything)
    order = sorted(everything, key=len)
    index = {p: i for i, p in enumerate(order)}
    nodes = []
    for p in order:
        if not p:
            nodes.append(Node(0, 0, -1, t("root"), "", "now" if not path else "path"))
            continue
        found = numbers.stages(prompt.model, prompt.token_ids + p[:-1], config())
        base, final = float(found.of("model")[p[-1]]), float(found.probabilities[-1][p[-1]])
        state = "now" if p == path else "path" if p == path[: len(p)] else "tried"
        if p not in paths:
            state = "offer" if final > 0 else "cut"
        label = numbers.labels(prompt.model, prompt.token_ids + p)[-1] if p[-1] not in prompt.stop_ids else (
            numbers.label_after(prompt.model, prompt.token_ids + p[:-1], p[-1])
        )  # fmt: skip
        nodes.append(
            Node(
                len(p), rows[p], index[p[:-1]], label, f"{share(base)} → {share(final)}", state, final,  # type: ignore[arg-type]
                (label, f"p_model = {base:.6g}", f"p_final = {final:.6g}", f"id {p[-1]}"),
            )
        )  # fmt: skip
    return nodes, order


def tree_figure(prompt: Prompt, path: Ids) -> None:
    """The tree; a click takes a token, or goes back to one."""
    nodes, order = nodes_of(prompt, path)
    panels.figure_head(t("tree_title", n=len(order)), _csv(nodes, order), "tree")
    token_tree(
        nodes, key="tree", selected=order.index(path), at=".".join(map(str, path)),
        alt=t("tree_alt", n=len(order), depth=len(path)), on_select=lambda i: go(order[i]),
    )  # fmt: skip


def _csv(nodes: list[Node], order: list[Ids]) -> str:
    table = np.array([[n.col, n.parent, 100 * n.fill] for n in nodes])
    names = [" ".join(map(str, p)) + " " + n.label for p, n in zip(order, nodes, strict=True)]
    return figures.matrix_csv(table, names, ["depth", "parent", "p final %"])


def shares_of(prompt: Prompt, path: Ids) -> list[float]:
    """The model's own probability of each new token, given all before it."""
    return [
        float(numbers.stages(prompt.model, prompt.token_ids + path[:n], config()).of("model")[token])
        for n, token in enumerate(path)
    ]


def text_so_far(prompt: Prompt, path: Ids) -> None:
    """The new tokens as chips, tinted by how likely each was."""
    if not path:
        st.caption(t("nothing_written"))
        return
    labels = numbers.labels(prompt.model, prompt.token_ids + path)[len(prompt.token_ids) :]
    tints = shares_of(prompt, path)
    components.token_strip(
        labels, ids=path, colours=tints, key="tree_text", caption=t("written_caption"),
        on_select=lambda i: go(path[: i + 1]),
    )  # fmt: skip


def path_formula(prompt: Prompt, path: Ids) -> None:
    """The probability of what was written: a product of conditional ones, and the sum of their logarithms."""
    p = shares_of(prompt, path)
    if not p:
        return
    total = sum(float(np.log(max(x, 1e-300))) for x in p)
    shown = [f"{x:.4f}" for x in (p if len(p) < 5 else [*p[:3], p[-1]])]
    if len(p) >= 5:
        shown.insert(3, r"\dots")
    mantissa = f"{np.exp(total):.3e}".replace("e-0", r" \cdot 10^{-").replace("e-", r" \cdot 10^{-").replace("e+00", "")
    mantissa += "}" if "^{" in mantissa else ""
    panels.formula(
        [
            r"P(w_1 \dots w_n) = \prod_t P(w_t \mid w_{<t})",
            "= " + r" \cdot ".join(shown) + rf" = \mathbf{{{mantissa}}}",
            rf"\log P = {total:.3f}",
        ],
        t("path_formula"),
    )
