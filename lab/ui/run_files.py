"""Take a run away, or delete it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from lab import models, run_export, runs
from lab.language import current, text
from lab.store import Run


def show(run: Run, records: Sequence[Mapping[str, Any]], on_delete: Callable[[], None] | None = None) -> None:
    """Two quiet buttons: the zip, made when somebody asks for it; and, for a run that nobody works on, delete."""
    with st.container(horizontal=True, key=f"run_files_{run.id}"):
        place = runs.folder(run.id)
        if (place / "result").is_dir():
            take_away(run, place, records)
        else:
            st.caption(text("export.nothing"), width="content")
        if not run.is_active:
            with st.popover(text("export.delete"), type="tertiary"):
                st.markdown(text("export.delete_sure"))
                st.button(
                    text("export.delete_yes"), key=f"run_delete_{run.id}", on_click=_delete, args=(run, on_delete)
                )


def take_away(run: Run, place: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """The button that makes the zip."""
    language = current()
    try:
        base = models.folder(str(run.spec["model"])) if str(run.spec["model"]).startswith("run:") else None
    except ValueError:  # it has been deleted since: the README says where to put it
        base = None

    def made() -> bytes:
        packed = io.BytesIO()
        run_export.write_zip(run, place, records, packed, base=base, language=language)
        return packed.getvalue()

    try:
        run_export.check(place, base)
    except run_export.ExportError as error:
        st.caption(text(f"export.{error.reason}", language=None, **error.numbers), width="content")
        return
    st.download_button(
        text("export.button"), made, file_name=run_export.file_name(run), mime="application/zip",
        key=f"run_export_{run.id}",
    )  # fmt: skip


def _delete(run: Run, on_delete: Callable[[], None] | None) -> None:
    if runs.delete(run.id, run.owner) and on_delete is not None:
        on_delete()
