"""The catalogue of the course: ONE list of parts and lessons, for the navigation, the map on Home, links and tests.

A lesson's title and the question it answers are texts `lesson.<slug>.title` and `lesson.<slug>.question` of
`assets/strings/`; a part's title is `part.<slug>`. A lesson without a `page` is planned: Home shows it, and nothing
links to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from lab.language import text

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Lesson:
    """One page of the course, or the plan of one.

    `page` is its file relative to the repository, `url_path` the last part of its address, `minutes` the time an
    attentive first reading takes, `steps` the section ids of its walk, in order.
    """

    slug: str
    page: str | None = None
    minutes: int | None = None
    steps: tuple[str, ...] = ()

    @property
    def url_path(self) -> str:
        """The address, such as `self-attention`."""
        return self.slug.replace("_", "-")

    @property
    def file(self) -> Path:
        """The page's file. Raises ValueError for a planned lesson."""
        if self.page is None:
            raise ValueError(f"lesson {self.slug!r} has no page yet")
        return ROOT / self.page

    @property
    def is_open(self) -> bool:
        """Whether there is a page to go to."""
        return self.page is not None and self.file.is_file()

    def title(self, language: str | None = None) -> str:
        """The title in `language` (default: the session's)."""
        return text(f"lesson.{self.slug}.title", language=language)

    def question(self, language: str | None = None) -> str:
        """The question that the lesson answers, one sentence."""
        return text(f"lesson.{self.slug}.question", language=language)


@dataclass(frozen=True)
class Part:
    """A part of the course: a heading with its lessons in order."""

    slug: str
    lessons: tuple[Lesson, ...]

    def title(self, language: str | None = None) -> str:
        """The title in `language` (default: the session's)."""
        return text(f"part.{self.slug}", language=language)


PARTS: tuple[Part, ...] = (
    Part("start", (Lesson("home", page="pages/start/home.py"),)),
    Part(
        "vectors",
        (
            Lesson(
                "tokens",
                page="pages/text/tokens.py",
                minutes=20,
                steps=("text", "bytes", "merges", "ids", "compare", "vectors", "neighbours", "map"),
            ),
            Lesson(
                "positions",
                page="pages/text/positions.py",
                minutes=25,
                steps=("shuffle", "leak", "sinusoidal", "learned", "rope", "relative", "alibi", "distance", "beyond"),
            ),
        ),
    ),
    Part(
        "attention",
        (
            Lesson(
                "self_attention",
                page="pages/attention/self_attention.py",
                minutes=25,
                steps=("question", "x", "qkv", "scores", "scale", "mask", "softmax", "mix", "output"),
            ),
            Lesson(
                "multi_head",
                page="pages/attention/multi_head.py",
                minutes=25,
                steps=(
                    "all_heads",
                    "one_head",
                    "compare",
                    "switch_off",
                    "concat",
                    "shares",
                    "specialists",
                    "grouped",
                ),
            ),
            Lesson(
                "masking",
                page="pages/attention/masking.py",
                minutes=30,
                steps=("kinds", "cells", "padding", "empty", "infinity", "documents", "leak", "corruption", "encoder"),
            ),
        ),
    ),
    Part(
        "probability",
        (
            Lesson(
                "chain_rule",
                page="pages/probability/chain_rule.py",
                minutes=30,
                steps=(
                    "conditional",
                    "product",
                    "logs",
                    "underflow",
                    "colours",
                    "compare",
                    "toy",
                    "logits",
                    "guess",
                ),
            ),
            Lesson(
                "sampling",
                page="pages/probability/sampling.py",
                minutes=30,
                steps=("guess", "repetition", "temperature", "cut", "order", "draw", "branch", "beams", "cache"),
            ),
        ),
    ),
    Part(
        "model",
        (
            Lesson(
                "block",
                page="pages/model/block.py",
                minutes=30,
                steps=("stream", "norm", "attention", "neurons", "logit", "lens", "placement", "counts"),
            ),
            Lesson("families"),
            Lesson("objectives"),
        ),
    ),
    Part(
        "training",
        (
            Lesson("pretraining"),
            Lesson("finetune", page="pages/training/finetune.py", minutes=15),
            Lesson("evaluation"),
        ),
    ),
    Part("exercises", (Lesson("exercises", page="pages/practice/exercises.py"),)),
)

HOME = PARTS[0].lessons[0]


def lessons() -> Iterator[Lesson]:
    """Every lesson of the course, open or planned, in order."""
    return (lesson for part in PARTS for lesson in part.lessons)


def lesson(slug: str) -> Lesson:
    """The lesson called `slug`. Raises KeyError if there is none."""
    for candidate in lessons():
        if candidate.slug == slug:
            return candidate
    raise KeyError(f"no lesson {slug!r} in lab/course.py")


def part_of(wanted: Lesson) -> Part:
    """The part that a lesson of the catalogue belongs to."""
    return next(part for part in PARTS if wanted in part.lessons)


def navigation() -> Any:
    """Build Streamlit's navigation from the open lessons, titles in the session's language; returns the page to run."""
    sections = {
        part.title(): [_page(entry) for entry in part.lessons if entry.is_open]
        for part in PARTS
        if any(entry.is_open for entry in part.lessons)
    }
    return st.navigation(sections, expanded=True)


def _page(entry: Lesson) -> Any:
    return st.Page(entry.file, title=entry.title(), url_path=entry.url_path, default=entry is HOME)
