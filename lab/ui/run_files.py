"""Take a run away as a zip."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from lab import models, run_export, runs
from lab.language import current, text
from lab.store import Run


def take_away(run: Run, records: Sequence[Mapping[str, Any]]) -> None:
    """The button for the zip, which is made when somebody asks for it."""
    place = runs.folder(run.id)
    if not (place / "result").is_dir():
        st.caption(text("export.nothing"))
        return
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
        st.caption(text(f"export.{error.reason}", language=None, **error.numbers))
        return
    st.download_button(
        text("export.button"), made, file_name=run_export.file_name(run), mime="application/zip",
        key=f"run_export_{run.id}",
    )  # fmt: skip
