"""Which text a model learns from, and which it never sees: the sources of a recipe, cut into three splits.

A whole book (or poem) goes to one split, decided by a hash of its name: `train`, `selection` to choose settings on,
`test` for a last figure. What is held out is scored as it is: never cut into passages, never repeated.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lm_core.data import hash_share, passages, read_documents

Split = Literal["train", "selection", "test"]
SHORTEST_SHARED_LINE = 5  # characters: the shortest line of a regular poem


@dataclass(frozen=True)
class Source:
    """One file of training text: documents with `simple` ≥ min_simple, each `repeat` times.

    With `passage` > 0 they are cut at ends of paragraphs into texts of about so many characters (`data.passages`).
    `also` adds each document a second time in the other Chinese script: "simplified" or "traditional".
    """

    path: str
    repeat: int = 1
    min_simple: float = 0.0
    passage: int = 0
    also: Literal["", "simplified", "traditional"] = ""

    def __post_init__(self) -> None:
        if self.also not in ("", "simplified", "traditional"):
            raise ValueError(f"unknown script {self.also!r}: use simplified or traditional")


@dataclass(frozen=True)
class Text:
    """One text of a split, to be read `repeat` times."""

    text: str
    split: Split
    repeat: int = 1


def split_of(book: str, held_out: float, tested: float = 0.0) -> Split:
    """The split of a whole book: a share `held_out` for selection, then a share `tested` for the test.

    >>> [split_of(name, 0.2, 0.4) for name in ("Emma", "Heidi", "Alice")]
    ['train', 'test', 'test']
    """
    place = hash_share(book)
    return "selection" if place < held_out else "test" if place < held_out + tested else "train"


@lru_cache(maxsize=2)
def _converter(script: str):  # type: ignore[no-untyped-def]  # the library has no types
    import opencc  # needed to make a model, never to run one

    return opencc.OpenCC("t2s" if script == "simplified" else "s2t").convert


def in_script(text: str, script: str) -> str:
    """The text in "simplified" or "traditional" characters, by OpenCC's phrase tables (opencc.byvoid.com).

    Raises ImportError where the library is not installed (it stands in requirements-dev.txt).
    """
    converted: str = _converter(script)(text)
    return converted


def read_texts(sources: Iterable[Source], data: Path, held_out: float, tested: float = 0.0) -> Iterator[Text]:
    """Every text of every source with its split. Texts in the other script come after all that are as their source has
    them, so that no window shows a text beside its own twin, to be copied.
    """
    sources = tuple(sources)
    for twins in (False, True):
        for source in sources:
            if twins and not source.also:
                continue
            for document in read_documents(data / source.path):
                if document.simple < source.min_simple:
                    continue
                split = split_of(document.book, held_out, tested)
                text = in_script(document.text, source.also) if twins else document.text
                if split != "train":
                    yield Text(text, split)
                else:
                    yield from (Text(part, split, source.repeat) for part in passages(text, source.passage))


def without_shared_lines(texts: Iterable[Text]) -> list[Text]:
    """The texts less those held out that share a line with a training text: anthologies print the same poem twice.

    >>> poems = [Text("a line of verse\\nanother", "train"), Text("a line of verse", "test"), Text("new words", "test")]
    >>> [text.text for text in without_shared_lines(poems) if text.split == "test"]
    ['new words']
    """
    texts = list(texts)
    learned = {line for text in texts if text.split == "train" for line in text.text.split("\n")}
    learned = {line for line in learned if len(line) >= SHORTEST_SHARED_LINE}
    return [text for text in texts if text.split == "train" or learned.isdisjoint(text.text.split("\n"))]
