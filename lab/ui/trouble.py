"""What went wrong, said in the reader's language, with what to do about it."""

from __future__ import annotations

import streamlit as st

from lab.language import DEFAULT, strings, text


def show(error: Exception) -> None:
    """A message for an error of `lm_core` or `lab`; `reason`, where the error has one, picks the sentence.

    The error's own words are English and exact: they stand below, as plain text, for whoever knows what they mean.
    """
    reason = getattr(error, "reason", "other")
    key = f"trouble.{reason}"
    st.warning(text(key if key in strings(DEFAULT) else "trouble.other"))
    st.code(str(error), language=None, wrap_lines=True)
