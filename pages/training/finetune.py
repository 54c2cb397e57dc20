"""Fine-tuning, live: a model learns a voice or a task while one watches, in a run that outlives the page."""

import streamlit as st

from lab import course, lessons, store
from lab.identity import owner
from lab.language import current
from lab.ui import (
    broken_mask,
    finetune_after,
    finetune_history,
    finetune_live,
    finetune_race,
    finetune_setup,
    model_choice,
    run_files,
    view,
)  # fmt: skip
from lab.ui.finetune_setup import t
from lab.ui.panels import prose

LESSON = course.lesson("finetune")
SLUG = LESSON.slug


def leave() -> None:
    """Back to the form, for another run."""
    view.put("run", None)
    finetune_setup.new_form()


def tools(run: store.Run | None) -> None:
    """The quiet line on top: where we are, and the way to another run."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key="tools"):
        st.caption(f"{course.part_of(LESSON).title()} / {LESSON.title()}", width="content")
        if run is not None:
            st.button(t("another"), key="ft_another", type="tertiary", on_click=leave)


def page() -> None:
    """The run that the address names, else the form; below, the runs that there were."""
    model = model_choice.choose()
    mine = owner()
    wanted = view.get("run")
    run = store.current().run(str(wanted), mine) if wanted else None
    if wanted and run is None:
        view.put("run", None)
        st.info(t("no_such_run"))
    tools(run)
    if run is None:
        st.title(lessons.section(SLUG, "teach", current()).title, anchor=False)
        prose(SLUG, "teach")
        if (started := finetune_setup.setup(mine, model)) is not None:
            view.put("run", started.id)
            st.rerun()
    else:
        st.title(lessons.escape_markdown(run.title), anchor=False)
        finetune_live.summary(run)
        finetune_live.show(run)
        finetune_live.use_button(run)
        if not run.is_active:
            records, probes = finetune_live.seen(run.id)
            run_files.take_away(run, records)
            if probes:
                st.divider()
                finetune_after.show(run, probes, records)
                st.divider()
                finetune_race.show(run)
    st.space("medium")
    finetune_history.show(mine, run.id if run is not None else None)
    if run is None:
        st.divider()
        broken_mask.show()


view.adopt_address()
page()
view.mirror_address("run", "model")
