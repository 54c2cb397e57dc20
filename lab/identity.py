"""Whose a run or a file is."""

from __future__ import annotations

import hashlib
import uuid

import streamlit as st

from lab import settings

LOCAL = "local"
GUEST_STATE = "identity.guest"


def owner() -> str:
    """Who sits there: `local` on somebody's own computer; on a shared server who has logged in, the same tomorrow.

    Without a login a shared server's visitor owns what this browser tab makes, and nobody else sees it.
    """
    if not settings.is_shared():
        return LOCAL
    user = st.user.to_dict()
    if user.get("is_logged_in") and user.get("sub"):  # `sub` is lasting, and unique at its issuer
        return "user:" + hashlib.sha256(f"{user.get('iss')}\n{user['sub']}".encode()).hexdigest()[:32]
    return str(st.session_state.setdefault(GUEST_STATE, f"guest:{uuid.uuid4().hex}"))
