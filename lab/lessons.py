"""The prose of the lessons: `assets/lessons/<slug>.<language>.md`, read by section.

A file is a row of sections, each opened by a heading that carries its id:

    ## {#scores} How well does each query match each key?

    Every position now holds a **query**. The score of a pair is $q \\cdot k$; here it is {score}.

`{score}` is a placeholder: lower-case letters, digits and underscores in braces. Braces inside formulas (`$...$`,
`$$...$$`) and code (`` `...` ``, fences) are left alone, so LaTeX needs no escapes. A value is made inert before it
enters the text, because most values come from what a learner typed; one that is meant as Markdown is wrapped in
`Markdown`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

LESSONS = Path(__file__).resolve().parents[1] / "assets" / "lessons"

_HEADING = re.compile(r"^## (?:\{#(?P<id>[a-z][a-z0-9_]*)\} (?P<title>\S.*))?.*$", re.MULTILINE)
_VERBATIM = r"```.*?```|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$"
_TOKEN = re.compile(rf"(?P<verbatim>{_VERBATIM})|\{{(?P<name>[a-z][a-z0-9_]*)\}}", re.DOTALL)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# Streamlit replaces these in the finished text, past any backslash: emoji and icon codes, addresses, arrows and dashes.
# An invisible word joiner inside them keeps the letters as they were typed.
_REPLACED_LATE = re.compile(r":|@|www(?=\.)|[<>~-](?=[-=>])|=(?=>)", re.IGNORECASE)
_WORD_JOINER = "\u2060"
_BIDI_CONTROLS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C], "\ufffd")


class Markdown(str):
    """Text that is already safe Markdown and enters a section as it is."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """One section of a lesson: its id, its title as a plain sentence, and its body as Markdown with placeholders."""

    id: str
    title: str
    body: str

    def fill(self, **values: object) -> str:
        """The body with every `{name}` replaced by its value, which is escaped unless it is `Markdown`.

        Raises KeyError for a placeholder without a value, naming section and placeholder.
        """

        def replace(match: re.Match[str]) -> str:
            name = match["name"]
            if name is None:
                return match[0]
            if name not in values:
                raise KeyError(f"section {self.id!r} needs a value for {{{name}}}")
            value = values[name]
            return str(value) if isinstance(value, Markdown) else escape_markdown(str(value))

        return _TOKEN.sub(replace, self.body)

    @property
    def placeholders(self) -> set[str]:
        """The names that `fill` needs."""
        return {match["name"] for match in _TOKEN.finditer(self.body) if match["name"]}

    @property
    def verbatim(self) -> list[str]:
        """Formulas and code in order of appearance: what must be the same in every language."""
        return [match["verbatim"] for match in _TOKEN.finditer(self.body) if match["verbatim"]]


def section(slug: str, id: str, language: str) -> Section:
    """One section of lesson `slug`. Raises KeyError, naming file and id, if there is none."""
    try:
        return sections(slug, language)[id]
    except KeyError:
        raise KeyError(f"no section {id!r} in assets/lessons/{slug}.{language}.md") from None


def sections(slug: str, language: str) -> dict[str, Section]:
    """All sections of a lesson by id, in order. Read again when the file has changed on disk."""
    path = LESSONS / f"{slug}.{language}.md"
    return _read(path, path.stat().st_mtime_ns)


def parse(source: str, name: str) -> dict[str, Section]:
    """Split a lesson's source into sections. Raises ValueError, naming file and fault, where it is malformed."""
    headings = list(_HEADING.finditer(source))
    if not headings or source[: headings[0].start()].strip():
        raise ValueError(f"{name}: a lesson begins with a heading such as '## {{#question}} Which words matter?'")
    found: dict[str, Section] = {}
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading["id"] is None:
            raise ValueError(f"{name}: the heading {heading[0]!r} has no {{#id}} and title")
        if heading["id"] in found:
            raise ValueError(f"{name}: section {heading['id']!r} stands twice")
        body = source[heading.end() : following.start() if following else None].strip()
        found[heading["id"]] = Section(heading["id"], heading["title"].strip(), body)
    return found


def escape_markdown(text: str) -> str:
    """Make `text` show as itself inside `st.markdown`, on one line, whatever it holds.

    No markup of Markdown or of Streamlit is interpreted (links, images, HTML, `:red[...]`, `$...$`, icons, arrows) and
    nothing is fetched. Line breaks and control characters become visible symbols, direction overrides U+FFFD; text with
    right-to-left letters is isolated, so that it cannot reorder the sentence around it. Spaces at both ends are kept.

    >>> print(escape_markdown("*x* [a](b)"))
    \\*x\\* \\[a\\]\\(b\\)
    """
    text = text.translate(_BIDI_CONTROLS)
    text = "".join(_visible(character) for character in text)
    core = text.strip(" ")
    left = len(text) - len(text.lstrip(" ")) if core else len(text)
    right = len(text) - left - len(core)
    escaped = _PUNCTUATION.sub(r"\\\1", _REPLACED_LATE.sub(rf"\g<0>{_WORD_JOINER}", core))
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in core):
        escaped = f"\u2068{escaped}\u2069"
    return "\u00a0" * left + escaped.replace("  ", " \u00a0") + "\u00a0" * right


def code_span(text: str) -> Markdown:
    """`text` as inline code, inert, for a place where a learner's token is shown in a sentence."""
    text = "".join(_visible(character) for character in text.translate(_BIDI_CONTROLS))
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    text = text.replace(":material/", f":{_WORD_JOINER}material/")  # Streamlit replaces this one in code too
    return Markdown(f"{fence} {text} {fence}")


def _visible(character: str) -> str:
    """A control character as its symbol (U+2400 and following), any other character as it is."""
    point = ord(character)
    if point < 0x20:
        return chr(0x2400 + point)
    if point == 0x7F:
        return "\u2421"
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character


@lru_cache(maxsize=64)
def _read(path: Path, _mtime_ns: int) -> dict[str, Section]:
    return parse(path.read_text(encoding="utf-8"), path.name)
