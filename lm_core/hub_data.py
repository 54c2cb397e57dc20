"""Labelled sets of the Hugging Face hub, by the package `datasets`, which is only woken when one is asked for."""

from collections.abc import Collection
from typing import Any

from lm_core.data import LABEL_COLUMNS, MAX_EXAMPLES, TEXT_COLUMNS, Example

SPLITS = {"train": "train", "validation": "validation", "dev": "validation"}


def read_hub_examples(
    name: str, *, allowed: Collection[str] | None, revision: str | None = None, subset: str | None = None
) -> list[Example]:
    """The examples of a set `owner/name`, each with its part; at most MAX_EXAMPLES of each part are read.

    allowed: the sets that may be fetched, None for any (a laptop). Raises ValueError for a set that is not allowed, has
    no text and label column, or where `datasets` is not installed; ConnectionError when the hub is away.
    """
    if allowed is not None and name not in allowed:
        there = ", ".join(sorted(allowed)) or "none"
        raise ValueError(f"the data set {name!r} is not among those that may be fetched here: {there}")
    try:
        import datasets
    except ImportError:
        raise ValueError("data sets of the hub need the package datasets: pip install datasets") from None
    try:
        found = datasets.load_dataset(name, subset, revision=revision)
    except (ConnectionError, OSError) as error:
        raise ConnectionError(f"the data set {name} cannot be fetched: {str(error).splitlines()[0]}") from None
    examples: list[Example] = []
    for split, part in SPLITS.items():
        if split in found:
            examples += _rows(name, found[split], part)
    if not examples:
        raise ValueError(f"the data set {name} has no part called train")
    return examples


def _rows(name: str, split: Any, part: str) -> list[Example]:
    columns = list(split.column_names)
    text = next((c for c in TEXT_COLUMNS if c in columns), None)
    label = next((c for c in LABEL_COLUMNS if c in columns), None)
    if text is None or label is None:
        raise ValueError(f"{name}: need a text and a label column; there are {', '.join(columns)}")
    names = getattr(split.features[label], "names", None)  # a ClassLabel knows what its numbers mean
    rows = split.select(range(min(len(split), MAX_EXAMPLES)))
    labels = [str(value if names is None else names[value]) for value in rows[label]]
    return [
        Example(str(body).strip(), name, part) for body, name in zip(rows[text], labels, strict=True) if body.strip()
    ]
