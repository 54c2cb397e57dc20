"""What went wrong, said in the reader's language, with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import streamlit as st

from lab import models
from lab.language import DEFAULT, strings, text

LONGEST_DETAIL = 400  # a broken file may call a tensor whatever it likes, at any length
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/\\~-])(?:~|[A-Za-z]:)?[/\\][^\s'\"]+")


def show(error: Exception, instead: Mapping[str, str] | None = None) -> None:
    """A message for an error of `lm_core` or `lab`; `reason`, where the error has one, picks the sentence.

    instead: reason -> key of a text that fits better here than the usual one.

    The error's own words are English and exact: they stand below, as plain text, for whoever knows what they mean.
    """
    reason = getattr(error, "reason", "too_large" if isinstance(error, MemoryError) else "other")
    key = (instead or {}).get(reason, f"trouble.{reason}")
    st.warning(text(key if key in strings(DEFAULT) else "trouble.other"))
    if words := detail(error):
        st.code(words, language=None, wrap_lines=True)


def detail(error: Exception) -> str:
    """The error's own words, fit to be shown: short, every character visible, no path of a shared server.

    >>> detail(ValueError("tensor 'a\\x1b\\ud800' is odd"))
    "tensor 'a\\\\x1b\\\\ud800' is odd"
    """
    words = str(error)
    if models.is_shared():
        words = ABSOLUTE_PATH.sub("…", words)
    if len(words) > LONGEST_DETAIL:
        words = words[:LONGEST_DETAIL] + " …"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
