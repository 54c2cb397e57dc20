"""Two languages: which one the learner reads, and the short texts of the user interface by meaning.

The texts stand in `assets/strings/{en,zh}.toml`; `text("home.button")` is the entry `button` of the table `[home]`.
Longer prose stands in Markdown, see `lab.lessons`.

The language is a plain value in the session, mirrored to `?lang=` so that a link or a reload keeps it. It is not bound
with `bind="query-params"`: a bound key would put the label in the URL (`?lang=中文`), vanish from links whenever it
equals the reader's default, and make `st.switch_page` raise whenever it is asked to carry the language along.
"""

from __future__ import annotations

import string
import tomllib
from functools import lru_cache
from pathlib import Path

import streamlit as st

LANGUAGES = {"en": "English", "zh": "中文"}
DEFAULT = "en"
STATE_KEY = "lang"
WIDGET_KEY = "language_choice"
STRINGS = Path(__file__).resolve().parents[1] / "assets" / "strings"


def preferred(locale: str | None) -> str:
    """The language to begin with for a browser's locale.

    >>> preferred("zh-TW"), preferred("en-GB"), preferred("fr"), preferred(None)
    ('zh', 'en', 'en', 'en')
    """
    primary = (locale or "").replace("_", "-").split("-")[0].lower()
    return primary if primary in LANGUAGES else DEFAULT


def current() -> str:
    """The language of this session: chosen, else from the URL, else the browser's; always a key of `LANGUAGES`."""
    chosen = st.session_state.get(STATE_KEY)
    if chosen in LANGUAGES:
        return str(chosen)
    asked = st.query_params.get("lang")
    return asked if asked in LANGUAGES else preferred(st.context.locale)


def choose() -> str:
    """Draw `English | 中文` in the sidebar and return the language; `app.py` calls it once, before all else."""
    if st.session_state.get(STATE_KEY) not in LANGUAGES:
        st.session_state[STATE_KEY] = current()
    with st.sidebar.container(key="language"):
        st.segmented_control(
            "Language · 语言",
            list(LANGUAGES),
            format_func=LANGUAGES.__getitem__,
            default=st.session_state[STATE_KEY],
            required=True,
            key=WIDGET_KEY,
            on_change=_remember,
            label_visibility="collapsed",
            persist_state="session",
        )
        language = current()
        # For screen readers and the shapes of Chinese characters; a key of LANGUAGES, never user text.
        st.html(f"<script>document.documentElement.lang = '{language}'</script>", unsafe_allow_javascript=True)
    if address() and st.query_params.get("lang") != language:
        st.query_params["lang"] = language  # also after a page switch, which empties the query
    return language


def address() -> dict[str, str]:
    """The query parameter that carries the language to another page; empty where it is the browser's own anyway."""
    explicit = "lang" in st.query_params or current() != preferred(st.context.locale)
    return {"lang": current()} if explicit else {}


def _remember() -> None:
    st.session_state[STATE_KEY] = st.session_state[WIDGET_KEY]


def text(key: str, *, language: str | None = None, **values: object) -> str:
    """The user-interface text `key` in `language` (default: the session's), its `{placeholders}` filled with `values`.

    The result is plain text, or Markdown where the entry is Markdown; a value that comes from a user and goes to
    `st.markdown` must pass `lab.lessons.escape_markdown` first.

    Raises KeyError for an unknown key or a missing value, naming the key and the language.
    """
    language = language or current()
    try:
        template = strings(language)[key]
    except KeyError:
        raise KeyError(f"no text {key!r} in assets/strings/{language}.toml") from None
    try:
        return template.format(**values)
    except KeyError as missing:
        raise KeyError(f"text {key!r} ({language}) needs a value for {missing}") from None


def strings(language: str) -> dict[str, str]:
    """All texts of a language, by dotted key. Read again when the file has changed on disk."""
    path = STRINGS / f"{language}.toml"
    return _read(path, path.stat().st_mtime_ns)


def placeholders(template: str) -> set[str]:
    """The names in braces of a text: `placeholders("{n} of {total}")` gives the set of `n` and `total`."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


@lru_cache(maxsize=8)
def _read(path: Path, _mtime_ns: int) -> dict[str, str]:
    with path.open("rb") as file:
        return dict(_flat(tomllib.load(file), path))


def _flat(table: dict[str, object], path: Path, prefix: str = "") -> list[tuple[str, str]]:
    """Nested tables as (dotted key, text) pairs."""
    pairs: list[tuple[str, str]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            pairs += _flat(value, path, f"{prefix}{name}.")
        elif isinstance(value, str):
            pairs.append((f"{prefix}{name}", value))
        else:
            raise ValueError(f"{path.name}: {prefix}{name} is not a text")
    return pairs
