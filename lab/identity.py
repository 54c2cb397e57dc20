"""Whose a run or a file is."""

from __future__ import annotations

import streamlit as st

from lab import settings

LOCAL = "local"
NOBODY = "guest"


def owner() -> str:
    """Who sits there: `local` on somebody's own computer, else the login's lasting id, or `guest` without a login."""
    if not settings.is_shared():
        return LOCAL
    user = st.user.to_dict()
    return f"user:{user['sub']}" if user.get("is_logged_in") and user.get("sub") else NOBODY
