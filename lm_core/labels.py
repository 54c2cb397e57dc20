"""Texts with labels: are they fit to learn from, and which of them are kept for measuring?

Everything that is wrong is said before anything starts, with the numbers, in one ValueError.
"""

import difflib
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence

from lm_core.data import Example

MAX_CLASSES = 100
RARE = 20  # a label this many times rarer than one that looks like it is taken for a misspelling
ALIKE = 0.75


def check_labels(train: Sequence[Example], validation: Sequence[Example] = ()) -> tuple[str, ...]:
    """The classes, sorted: their number is the row of the head that learns them.

    Raises ValueError when there is one class only, when there are so many that the text column was taken for the label,
    when a class has a single example, when validation knows a class that training does not, or when a rare label looks
    like a misspelt common one.

    >>> check_labels([Example("a", "good"), Example("b", "bad"), Example("c", "bad"), Example("d", "good")])
    ('bad', 'good')
    >>> check_labels([Example("a", "good"), Example("b", "good")])
    Traceback (most recent call last):
    ValueError: all 2 examples are called 'good': a classifier needs at least two classes
    """
    counts = Counter(example.label for example in train)
    if not counts:
        raise ValueError("there are no examples: a classifier needs at least two classes")
    if len(counts) == 1:
        only = next(iter(counts))
        raise ValueError(f"all {len(train)} examples are called {only!r}: a classifier needs at least two classes")
    if misspelt := _misspelt(counts + Counter(example.label for example in validation)):
        raise ValueError("; ".join(misspelt) + ": correct the labels and try again")
    if len(counts) > MAX_CLASSES or (len(counts) > 10 and len(counts) > len(train) / 2):
        raise ValueError(
            f"{len(counts)} different labels among {len(train)} examples: is the label column the right one?"
        )
    if alone := sorted(label for label, n in counts.items() if n == 1):
        raise ValueError(f"only one training example is called {alone[0]!r}: give each class at least two")
    if unknown := sorted({example.label for example in validation} - counts.keys()):
        raise ValueError(f"validation has examples called {unknown[0]!r}, training has none")
    return tuple(sorted(counts))


def _plain(label: str) -> str:
    return unicodedata.normalize("NFKC", label).casefold().strip()


def _misspelt(counts: Counter[str]) -> list[str]:
    """A sentence for each label that looks like another, much more frequent one, or differs from it by case only."""
    found = []
    for label, n in counts.items():
        for other, more in counts.most_common():
            close = difflib.SequenceMatcher(None, _plain(label), _plain(other)).ratio() >= ALIKE
            same = _plain(label) == _plain(other) and (more, other) > (n, label)
            if label != other and (same or (close and not _plain(label).isdigit() and more >= RARE * n)):
                found.append(f"{label!r} ({_times(n)}) looks like {other!r} ({_times(more)})")
                break
    return found


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def split_examples(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """(train, validation): about `share` of each class is kept for measuring, chosen by a hash of the text.

    At least one of each. The same on every machine and in every order; a text that occurs twice is never in both parts.

    >>> kept = split_examples([Example(f"text {i}", "ab"[i % 2]) for i in range(40)], 0.2)[1]
    >>> len(kept), sorted({example.label for example in kept})
    (8, ['a', 'b'])
    """
    if not 0 < share < 1:
        raise ValueError(f"the share kept for validation must lie between 0 and 1, not {share}")
    texts_of: dict[str, list[str]] = {}
    for example in {_key(example): example for example in examples}.values():
        texts_of.setdefault(example.label, []).append(_key(example))
    kept: set[str] = set()
    for texts in texts_of.values():
        texts.sort(key=lambda text: hashlib.sha256(text.encode("utf-8", "replace")).digest())
        kept.update(texts[: max(1, round(share * len(texts)))] if len(texts) > 1 else [])
    return [e for e in examples if _key(e) not in kept], [e for e in examples if _key(e) in kept]


def _key(example: Example) -> str:
    return " ".join(_plain(example.text).split())


def words(text: str) -> list[str]:
    """Lower-case words; each CJK character counts as one.

    >>> words("It's 好的, OK?")
    ["it's", '好', '的', 'ok']
    """
    spaced = "".join(f" {c} " if "\u3400" <= c <= "\u9fff" else c for c in text.casefold())
    stripped = (word.strip(_EDGES) for word in spaced.split())
    return [word for word in stripped if word]


_EDGES = "".join(chr(c) for c in range(0x21, 0x7F) if not chr(c).isalnum()) + "“”‘’…—–。，、：；？！「」『』（）《》"


def ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    """Every run of n words.

    >>> sorted(ngrams("a b c", 2))
    [('a', 'b'), ('b', 'c')]
    """
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}


def without_shared_ngrams(texts: Sequence[str], seen: Sequence[str], n: int = 8) -> list[str]:
    """Those of `texts` that share no run of n words with any of `seen`: a test part that training has not leaked into.

    >>> without_shared_ngrams(["a b c d", "x y z"], ["b c d e"], n=3)
    ['x y z']
    """
    known = set().union(*(ngrams(text, n) for text in seen)) if seen else set()
    return [text for text in texts if not ngrams(text, n) & known]
