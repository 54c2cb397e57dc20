"""Python code as coloured parts, for `components.source`: names that hold q, k, v or weights take their colour."""

from __future__ import annotations

import io
import keyword
import tokenize
from typing import Any

from lab.source import Source

ROLE_OF_NAME = {
    "q": "q", "q_proj": "q", "w_q": "q", "query": "q",
    "k": "k", "keys": "k", "k_proj": "k", "w_k": "k", "key": "k",
    "v": "v", "values": "v", "w_v": "v", "head_out": "v",
    "scores": "weights", "scaled": "weights", "masked": "weights", "weights": "weights",
    "allowed": "masked",
}  # fmt: skip
Part = tuple[str, str]


def _kind(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.NAME:
        return "word" if keyword.iskeyword(token.string) else ROLE_OF_NAME.get(token.string, "")
    return "said" if token.type in (tokenize.COMMENT, tokenize.STRING) else ""


def coloured_lines(text: str) -> list[list[Part]]:
    """Each line of `text` as (part, kind) pairs that joined give the line; text that is no Python stays uncoloured.

    >>> coloured_lines("return q @ k.mT\\n")
    [[('return', 'word'), (' ', ''), ('q', 'q'), (' @ ', ''), ('k', 'k'), ('.mT', '')]]
    """
    lines = text.splitlines()
    kinds = [[""] * len(line) for line in lines]
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if kind := _kind(token):
                for row in range(token.start[0] - 1, token.end[0]):
                    first = token.start[1] if row == token.start[0] - 1 else 0
                    last = token.end[1] if row == token.end[0] - 1 else len(lines[row])
                    kinds[row][first:last] = [kind] * (last - first)
    except (tokenize.TokenError, IndentationError):
        pass
    return [_runs(line, of_line) for line, of_line in zip(lines, kinds, strict=True)]


def _runs(line: str, kinds: list[str]) -> list[Part]:
    """Neighbours of one kind joined."""
    parts: list[Part] = []
    for character, kind in zip(line, kinds, strict=True):
        if parts and parts[-1][1] == kind:
            parts[-1] = (parts[-1][0] + character, kind)
        else:
            parts.append((character, kind))
    return parts


def docstring_rest(text: str) -> range:
    """The lines (from 0) of a function's docstring after its first line, the closing quotes included; may be empty.

    >>> docstring_rest('def f():\\n    \"\"\"One.\\n\\n    Two.\\n    \"\"\"\\n    return 1')
    range(2, 5)
    """
    lines = text.splitlines()
    opening = next((n for n, line in enumerate(lines) if line.strip().startswith(('"""', 'r"""'))), None)
    if opening is None or lines[opening].count('"""') > 1:
        return range(0)
    closing = next(n for n in range(opening + 1, len(lines)) if '"""' in lines[n])
    return range(opening + 1, closing + 1)


def source_payload(source: Source, marked: str, *, label: str, more: str, less: str) -> dict[str, Any]:
    """The message of `components.source`: every line with its number in the file.

    Raises ValueError when no line holds `marked`.
    """
    target = source.find(marked)
    folded = docstring_rest(source.text)
    lines = [
        {"number": source.line + n, "parts": parts, "marked": source.line + n == target, "folded": n in folded}
        for n, parts in enumerate(coloured_lines(source.text))
    ]
    return {"lines": lines, "label": label, "more": more, "less": less}
