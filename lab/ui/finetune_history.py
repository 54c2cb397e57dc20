"""The runs of a learner: open one again, keep a note on it, compare two, delete one."""

from __future__ import annotations

import time

import streamlit as st

from lab import finetune_records as numbers
from lab import runs, store
from lab.figures import training_curves
from lab.lessons import escape_markdown
from lab.store import Run
from lab.store import current as the_store
from lab.ui import view
from lab.ui.charts import chart
from lab.ui.finetune_setup import t

SHOWN = 8
LONGEST_NOTE = 300


def show(owner: str, open_run: str | None) -> None:
    """The list, newest first; nothing while there are no runs."""
    found = the_store().history(owner)
    if not found:
        return
    st.header(t("history"), anchor=False)
    everything = len(found) > SHOWN and st.toggle(t("all_runs", n=len(found)), key="ft_all_runs")
    for run in found if everything else found[:SHOWN]:
        _entry(run, run.id == open_run)
    if len(found) > 1:
        _compare(found)


def open_(run_id: str | None) -> None:
    """Put a run on the screen (None: the form); for a button's callback."""
    view.put("run", run_id)


def _entry(run: Run, is_open: bool) -> None:
    title, state, note, delete = st.columns([4, 4, 4, 1], vertical_alignment="center")
    shown = escape_markdown(run.title)
    title.button(
        f"**{shown}**" if is_open else shown, key=f"ft_open_{run.id}", type="tertiary", on_click=open_, args=(run.id,)
    )
    done = t("status.step", step=run.step, n_steps=run.n_steps)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))
    state.caption(f"{t(f'status_short.{run.status}')} · {done} · {when}")

    key = f"ft_note_{run.id}"
    if key not in st.session_state:
        st.session_state[key] = run.note

    def keep() -> None:
        store.current().set_note(run.id, run.owner, st.session_state[key])

    note.text_input(
        t("note"), key=key, max_chars=LONGEST_NOTE, placeholder=t("note"), on_change=keep, label_visibility="collapsed"
    )
    if not run.is_active:
        with delete.popover("×", type="tertiary", help=t("delete")):
            st.markdown(t("delete_sure", title=shown))
            st.button(t("delete"), key=f"ft_delete_{run.id}", on_click=_delete, args=(run.id, run.owner, is_open))


def _delete(run_id: str, owner: str, is_open: bool) -> None:
    if runs.delete(run_id, owner) and is_open:
        open_(None)


def _compare(found: list[Run]) -> None:
    """Two runs in one figure."""
    by_id = {run.id: run for run in found}
    names = _names(found)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = [
            st.selectbox(
                t(f"compare_{place}"), list(by_id), index=place - 1, key=f"ft_compare_{place}",
                format_func=names.__getitem__, width=320,
            )
            for place in (1, 2)
        ]  # fmt: skip
        wanted = st.toggle(t("compare"), key="ft_compare")
    if not wanted or None in chosen:
        return
    if chosen[0] == chosen[1]:
        st.caption(t("compare_same"))
        return
    curves = {}
    for run_id in chosen:
        records = numbers.merged([], [record for _, record in store.current().records(str(run_id))])
        curves[names[str(run_id)]] = numbers.training(records), numbers.validation(records)
    if not any(points for pair in curves.values() for points in pair):
        st.caption(t("compare_empty"))
        return
    log = bool(st.session_state.get("ft_log"))
    series = [points for pair in curves.values() for points in pair]
    chart(
        training_curves.compared, curves, n_steps=max(by_id[str(id)].n_steps for id in chosen),
        y_range=numbers.loss_range(*series, log=log), names=(t("training"), t("validation")), log=log,
        alt=t("compare_alt", one=names[str(chosen[0])], two=names[str(chosen[1])]), title=t("compare_title"),
        file="ft_compared",
    )  # fmt: skip


def _names(found: list[Run]) -> dict[str, str]:
    """A name for each run, with its time, so that two of the same title are told apart."""
    return {run.id: f"{run.title} · {time.strftime('%m-%d %H:%M:%S', time.localtime(run.created))}" for run in found}
