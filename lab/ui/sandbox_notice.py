"""What a page says about the sandbox: that there is none, or why it gave no answer."""

from __future__ import annotations

import streamlit as st

from lab import sandbox
from lab.language import text


def banner() -> bool:
    """Say it when student code is not isolated here, or does not run at all; whether it runs."""
    kind = sandbox.kind()
    if kind == "process":
        st.warning(text("sandbox.not_isolated"), icon=":material/lock_open:")
    if kind == "refused":
        st.error(text("sandbox.refused"), icon=":material/block:")
    return kind != "refused"


def failure(error: sandbox.SandboxError) -> None:
    """Why there is no answer. What the box printed is student text: the page shows it as code or not at all."""
    st.warning(text(f"sandbox.{error.reason}"))
