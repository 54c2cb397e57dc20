"""A model of the hub on its way: how far it is, and what to do where it cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from lab import hub_downloads, models
from lab.language import text
from lab.lessons import escape_markdown
from lab.ui import trouble
from lm_core.hub import Progress

PATIENCE_SECONDS = 0.5  # what is in the cache already is found within
POLL_SECONDS = 0.4
MEGABYTE = 1_000_000


def fetch(name: str, label: str, slot: DeltaGenerator, use_other: Callable[[], None], other: str) -> None:
    """Wait until model `name` is on this machine, showing in `slot` how far it is; ends the page if it cannot be had.

    A click elsewhere ends the waiting and not the download.
    """
    try:
        download = models.start_download(name)
    except ValueError as error:
        give_up(error, name, slot, use_other, other)
    if not download.ended.wait(PATIENCE_SECONDS):
        with slot.container(), st.status(text("model.fetching", label=escape_markdown(label)), expanded=True):
            bar = st.progress(0.0, text("model.asking"))
            while not download.ended.wait(POLL_SECONDS):
                if download.progress is not None:
                    bar.progress(*_how_far(download.progress))
        slot.empty()
    if download.error is not None:
        give_up(download.error, name, slot, use_other, other)


def _how_far(progress: Progress) -> tuple[float, str]:
    """The share that is here, 0 to 1, and the same in words."""
    share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 0.0
    words = text(
        "model.fetched",
        done=f"{progress.done_bytes / MEGABYTE:.0f}", total=f"{progress.total_bytes / MEGABYTE:.0f}",
        files=progress.done_files, all_files=progress.total_files,
    )  # fmt: skip
    return min(share, 1.0), words


def give_up(error: Exception, name: str, slot: DeltaGenerator, use_other: Callable[[], None], other: str) -> NoReturn:
    """Say why there is no such model, offer the one that is here, and end the page."""
    with slot.container():
        trouble.show(error, instead={"missing": "model.not_on_hub"})
        with st.container(horizontal=True):
            st.button(text("model.use_other", name=other), key="model_use_other", type="primary", on_click=use_other)
            st.button(text("model.again"), key="model_again", on_click=lambda: hub_downloads.forget_failure(name))
    st.stop()
