"""Which model reads: a menu in the sidebar."""

from __future__ import annotations

import streamlit as st

from lab import models
from lab.language import text
from lab.ui import view

FOLDER = "folder"
LONGEST_PATH = 500


def choose() -> str:
    """Draw the menu; returns the name of the chosen model, such as `bundled:storyteller`.

    A folder of one's own can be named on one's own computer; a name from a link counts only where this app allows it,
    and a folder never comes from a link.
    """
    offered = models.bundled() + ([] if models.is_shared() else [FOLDER])
    asked = view.get("model")
    key = "model_menu"
    if st.session_state.get(key) not in offered:
        st.session_state[key] = asked if asked in offered else offered[0]
    with st.sidebar.container(key="model"):
        chosen = st.selectbox(
            text("controls.model"), offered, key=key, persist_state="session",
            format_func=lambda name: text("controls.folder") if name == FOLDER else name.removeprefix("bundled:"),
        )  # fmt: skip
        if chosen == FOLDER:
            path = st.text_input(
                text("controls.folder_path"), key="model_folder", max_chars=LONGEST_PATH, persist_state="session"
            )
            return f"folder:{(path or '').strip()}"
    view.put("model", chosen if chosen != models.DEFAULT else None)
    return str(chosen)
