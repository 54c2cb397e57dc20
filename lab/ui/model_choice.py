"""Which model reads: a menu in the sidebar."""

from __future__ import annotations

import streamlit as st

from lab import models
from lab.language import text
from lab.ui import view

FOLDER = "folder"
NO_FOLDER = "folder:"  # the entry for a folder is chosen, and no path typed yet
LONGEST_PATH = 500


def choose() -> str:
    """Draw the menu; returns the name of the chosen model, such as `bundled:storyteller`.

    A folder of one's own can be named on one's own computer; a name from a link counts only where it is a bundled
    model, and a folder never comes from a link. While its path is empty the name is `NO_FOLDER`.
    """
    bundled = models.bundled() or [models.DEFAULT]
    offered = bundled if models.is_shared() else [*bundled, FOLDER]
    asked = view.get("model")
    key, a_folder = "model_menu", text("controls.folder")
    if st.session_state.get(key) not in offered:
        st.session_state[key] = asked if asked in bundled else offered[0]
    with st.sidebar.container(key="model"):
        chosen = st.selectbox(
            text("controls.model"), offered, key=key, persist_state="session",
            format_func=lambda name: a_folder if name == FOLDER else name.removeprefix("bundled:"),
        )  # fmt: skip
        if chosen == FOLDER:
            view.put("model", None)
            path = st.text_input(
                text("controls.folder_path"), key="model_folder", max_chars=LONGEST_PATH, persist_state="session"
            )
            return f"folder:{_bare(path or '')}"
    view.put("model", chosen if chosen != models.DEFAULT else None)
    return str(chosen)


def _bare(path: str) -> str:
    """A path as typed or pasted, without the quotes that file managers put around it."""
    path = path.strip()
    return path[1:-1].strip() if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'" else path
