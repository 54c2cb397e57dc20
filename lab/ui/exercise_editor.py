"""The editor in the page: a learner's file as a plain text area with line numbers, colours, Tab and Ctrl+S.

Streamlit brings no code editor. The packages that do (`streamlit-ace`, `streamlit-code-editor`) carry a bundled editor
of 1 to 3 MB each, are built on the old component interface, and decide themselves what happens to unsaved text when
the file changes underneath; that decision is the point here. So this is a text area of the browser, which brings undo,
search, screen readers, phones' keyboards and Chinese input for free, with some 200 lines around it
(`assets/components/code_editor.js`).

What the browser sends is the text and the version that it began from. Unsaved text survives a run of the page, a new
language, another page and a reload: it is kept in the tab's session storage until it is saved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lab.language import text
from lab.ui import components
from lab.workspaces import MOST_BYTES

_editor = components._register("code_editor")
LONGEST_VERSION = 64


def answered(raw: object) -> tuple[str, str] | None:
    """(text, base) that the browser sent, or None for anything else.

    >>> answered({"text": "x = 1", "base": "abc"}), answered({"text": 1}), answered("x")
    (('x = 1', 'abc'), None, None)
    """
    if not isinstance(raw, Mapping):
        return None
    written, base = raw.get("text"), raw.get("base")
    if not isinstance(written, str) or not isinstance(base, str) or len(base) > LONGEST_VERSION:
        return None
    return written, base


def focus_line(source: str) -> int:
    """The line to look at first: where the body is missing, else the first function.

    >>> focus_line("import torch\\n\\ndef f():\\n    raise NotImplementedError('TODO')\\n"), focus_line("def g(): ...")
    (4, 1)
    """
    lines = source.splitlines()
    for pattern in (r"\s+raise NotImplementedError", r"\s*def "):
        for number, line in enumerate(lines, 1):
            if re.match(pattern, line):
                return number
    return 1


def payload(
    source: str, version: str, *, path: str, nonce: str, draft: str, status: str, outcome: str, line: int | None
) -> dict[str, Any]:
    """The message of `editor`; see there."""
    return {
        "text": source, "version": version, "path": path, "nonce": nonce, "draft": draft, "status": status,
        "outcome": outcome, "line": line, "focus": line or focus_line(source), "most": MOST_BYTES,
        "label": text("exercises.editor_label", path=path),
        "words": {
            name: text(f"exercises.editor_{name}", most=MOST_BYTES // 1024)
            for name in ("save", "saved", "unsaved", "stale", "large", "keys")
        },
    }  # fmt: skip


def editor(data: dict[str, Any], *, key: str, on_save: Callable[[tuple[str, str]], None]) -> None:
    """Draw the editor; `on_save` gets (text, base) before the page runs.

    A new `nonce` puts the file into the editor whatever stands there; a new version alone overwrites no unsaved text.
    """
    components._mount(_editor, "save", key, data, answered, on_save)
