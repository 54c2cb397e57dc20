"""The first visitor of a freshly started server, who comes by a deep link.

Streamlit 1.67 decides once a process, before any script has run, whether an app is of its old kind with a `pages/`
folder; ours has such a folder, so the first run of all goes through the old router, which does not know our pages and
says "Page not found" over a page that is there. From the first `st.navigation` on it knows better: loading the page
again is all that is needed, once, and nobody has typed anything yet.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import streamlit as st

_reload = st.components.v2.component("lm_lab.reload", js="export default function () { window.location.reload(); }")


def came_by_deep_link() -> bool:
    """Whether this visit's address names a page, not the front door."""
    return urlsplit(st.context.url or "").path.strip("/") != ""


def load_again() -> None:
    """Have the browser load the page again, and draw nothing more in this run."""
    _reload(key="reload")
    st.stop()
