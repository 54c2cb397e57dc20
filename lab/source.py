"""The code that ran, for the panel beside a figure.

Texts are taken when this module is imported, right after `lm_core`: an edit on disk cannot make the panel show what did
not compute the figure. (Streamlit drops both from memory when a file changes and imports them anew, together.)
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_core

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Source:
    """The text of one function: `file` relative to the repository, `line` where it begins (from 1)."""

    file: str
    line: int
    text: str

    def find(self, fragment: str) -> int:
        """The line number in the file on which `fragment` stands. Raises ValueError when the code has no such line."""
        for offset, line in enumerate(self.text.splitlines()):
            if fragment in line:
                return self.line + offset
        raise ValueError(f"{self.file}: {fragment!r} does not stand in the function at line {self.line}")


def _modules() -> list[Any]:
    names = [m.name for m in pkgutil.iter_modules(lm_core.__path__) if m.name not in ("__main__", "exercises")]
    return [importlib.import_module(f"lm_core.{name}") for name in sorted(names)]


def _snapshot() -> tuple[dict[tuple[str, str], Source], str]:
    """Every function and method of `lm_core` with its text, and a hash over the text of all modules."""
    found: dict[tuple[str, str], Source] = {}
    digest = hashlib.sha256()
    for module in _modules():
        digest.update(Path(module.__file__).read_bytes())
        owners = [
            module,
            *(c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__),
        ]
        for owner in owners:
            for _, function in inspect.getmembers(owner, inspect.isfunction):
                inner = inspect.unwrap(function)  # under a decorator such as torch.no_grad
                written_here = inner.__code__.co_filename == module.__file__  # a dataclass writes methods itself
                if function.__module__ == module.__name__ and written_here:
                    lines, first = inspect.getsourcelines(inner)
                    file = Path(inspect.getfile(inner)).resolve().relative_to(ROOT).as_posix()
                    found[function.__module__, function.__qualname__] = Source(
                        file, first, textwrap.dedent("".join(lines))
                    )
    return found, digest.hexdigest()[:16]


_SOURCES, CODE_HASH = _snapshot()


def source_of(function: Callable[..., Any]) -> Source:
    """The text of a function or method of `lm_core`, as it was when it was imported.

    Raises KeyError for a function from elsewhere.
    """
    return _SOURCES[function.__module__, function.__qualname__]
