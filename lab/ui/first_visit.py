"""The first visitor of a freshly started server, who comes by a deep link.

Streamlit 1.67 decides once a process, before any script has run, whether an app is of its old kind with a `pages/`
folder; ours has such a folder, so the first run of all goes through the old router, which does not know our pages, says
"Page not found" and has the browser take the page out of its address. From the first `st.navigation` on it knows
better: loading the page that was asked for again is all that is needed, once, and nobody has typed anything yet.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import streamlit as st

# Only the path is set: whatever it holds, the browser stays with this server; the query has stayed in the address.
_load = st.components.v2.component(
    "lm_lab.load_again",
    js="""export default function ({ data }) {
  const address = new URL(window.location.href);
  address.pathname = data.path;
  window.location.replace(address);
}""",
)


def _asked_for() -> str:
    return urlsplit(st.context.url or "").path


def came_by_deep_link() -> bool:
    """Whether this visit's address names a page, not the front door."""
    return _asked_for().strip("/") != ""


def load_again() -> None:
    """Have the browser load the page it asked for again, and draw nothing more in this run.

    Call it after `st.navigation`, or the old router would answer the second time too.
    """
    _load(key="load_again", data={"path": _asked_for()})
    st.stop()
