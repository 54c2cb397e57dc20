"""From files of text to batches of token ids.

Notation:  B batch · T positions. A batch is T + 1 consecutive tokens a row: inputs are the first T, targets the last T.
"""

import csv
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SEPARATOR = "<|endoftext|>"  # how plain-text collections part their documents


@dataclass(frozen=True)
class Document:
    """One story: its text, the book it comes from, and the share of easy words where the source states it."""

    text: str
    book: str
    simple: float = 1.0


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a `.jsonl` file (fields text, title or source, simple), of a `.json` list of such rows, or of a
    `.txt` file parted by `<|endoftext|>`; each may be gzipped. Poems have `paragraphs` instead of a text: the lines.
    Raises ValueError for another ending, naming it.
    """
    stem = path.name.removesuffix(".gz")
    opener = gzip.open if path.name.endswith(".gz") else open
    if stem.endswith(".jsonl"):
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield _document(json.loads(line), path.name)
    elif stem.endswith(".json"):
        with opener(path, "rt", encoding="utf-8") as file:
            for row in json.load(file):
                yield _document(row, path.name)
    elif stem.endswith(".txt"):
        with opener(path, "rt", encoding="utf-8") as file:
            for i, text in enumerate(file.read().split(SEPARATOR)):
                if text.strip():
                    yield Document(text.strip(), f"{path.name}#{i}")
    else:
        raise ValueError(f"{path.name}: only .jsonl, .json and .txt files (also .gz) can be read")


def _document(row: dict[str, Any], file: str) -> Document:
    book = row.get("title") or row.get("source") or file
    if "text" in row:
        return Document(row["text"], book, float(row.get("simple", 1.0)))
    return Document("\n".join(row["paragraphs"]), f"{row.get('author', '')} {row.get('rhythmic') or book}")


def passages(text: str, length: int) -> Iterator[str]:
    """Cut a text at the ends of its paragraphs (lines) into passages of at least `length` characters, but for the last.

    A model that only ever saw a start token before whole books does not know how to begin in the middle of one; cut
    texts teach it, and a learner's own sentence is nothing else. length 0 leaves the text whole.

    >>> list(passages("One.\\nTwo.\\nThree.", 6))
    ['One.\\nTwo.', 'Three.']
    """
    taken: list[str] = []
    for line in text.split("\n") if length else [text]:
        taken.append(line)
        if length and sum(map(len, taken)) >= length:
            yield "\n".join(taken)
            taken = []
    if taken:
        yield "\n".join(taken)


def hash_share(name: str) -> float:
    """A number in [0, 1) made from a name: evenly spread, and the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def is_held_out(book: str, share: float) -> bool:
    """Whether a whole book belongs to the selection split: decided by a hash of its name, the same on every machine.

    >>> [is_held_out(name, 0.5) for name in ("Emma", "Heidi", "Alice")]
    [False, True, True]
    """
    return hash_share(book) < share


@dataclass(frozen=True)
class TokenStream:
    """Documents joined into one long row of tokens, a document-start token before each. token_ids uint16/int32 [N]."""

    token_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.token_ids)

    def batch(self, step: int, seed: int, batch_size: int, n_tokens: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets int64 [B T] of training step `step`; the same (step, seed) gives the same batch.

        Every epoch cuts the stream into windows at another offset and visits them in another order, so each token is
        predicted once an epoch, but for a rest shorter than two windows at the ends, another one each time. Nothing
        has to be remembered between steps: that is what makes a resumed run exact.
        Raises ValueError when the stream is shorter than one window.
        """
        windows = (len(self.token_ids) - 1) // n_tokens - 1  # one less, to leave room for the offset
        if windows < 1:
            raise ValueError(f"{len(self.token_ids)} tokens of text are too few for windows of {n_tokens}")
        rows = []
        for number in range(step * batch_size, (step + 1) * batch_size):
            epoch, place = divmod(number, windows)
            offset, order = _epoch_plan(seed, epoch, windows, n_tokens)
            start = offset + int(order[place]) * n_tokens
            rows.append(self.token_ids[start : start + n_tokens + 1].astype(np.int64))
        block = torch.from_numpy(np.stack(rows))
        return block[:, :-1], block[:, 1:]


@lru_cache(maxsize=2)  # a batch can straddle two epochs
def _epoch_plan(seed: int, epoch: int, windows: int, n_tokens: int) -> tuple[int, np.ndarray]:
    """The offset and the order in which one epoch visits the windows."""
    random = np.random.default_rng([seed, epoch])
    return int(random.integers(n_tokens)), random.permutation(windows)


# --- what a learner brings: a text, or texts with labels --------------------------------------------------------------

MAX_FILE_BYTES = 10 * 2**20
MAX_EXAMPLES = 200_000
TEXT_COLUMNS = ("text", "sentence", "review", "content", "question", "文本", "句子", "内容", "评论")
LABEL_COLUMNS = ("label", "labels", "class", "category", "sentiment", "标签", "类别", "情感")


@dataclass(frozen=True)
class Example:
    """A text and what it is called; `part` is train, validation or test where the file says so, else empty."""

    text: str
    label: str
    part: str = ""


def decode_text(content: bytes, name: str, limit: int = MAX_FILE_BYTES) -> str:
    """The text of a file, UTF-8 with or without its mark; line ends become \\n.

    Raises ValueError that names the file and what is wrong with it: too large, empty, binary, or another encoding.

    >>> decode_text("\\ufeff猫\\r\\n".encode(), "a.txt")
    '猫\\n'
    >>> decode_text("naïve".encode("latin-1"), "a.txt")
    Traceback (most recent call last):
    ValueError: a.txt is not UTF-8 text (byte 2 is 0xef): save it again with the encoding UTF-8
    """
    if len(content) > limit:
        raise ValueError(f"{name} has {len(content) / 2**20:.1f} MB; the limit is {limit / 2**20:.0f} MB: take a part")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{name} is UTF-16, not UTF-8 text: save it again with the encoding UTF-8")
    if b"\0" in content:
        raise ValueError(f"{name} is no text: it holds zero bytes, as programs, pictures and office files do")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{content[error.start]:02x}"
        raise ValueError(f"{name} is not UTF-8 text ({byte}): save it again with the encoding UTF-8") from None
    if not text.strip():
        raise ValueError(f"{name} is empty: there is nothing to learn from")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_limited(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a file, unpacked if it ends in .gz. Raises ValueError, before reading it all, above `limit`."""
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            content: bytes = file.read(limit + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path.name} is no whole gzip file: {error}") from None
    if len(content) > limit:
        raise ValueError(f"{path.name} has more than the limit of {limit / 2**20:.0f} MB: take a part")
    return content


def parse_examples(content: bytes, name: str, limit: int = MAX_FILE_BYTES) -> list[Example]:
    """Texts with labels from CSV (, or ;), TSV (never quoted, as GLUE writes it) or JSON lines, by `name`'s ending.

    A first row with known names (`TEXT_COLUMNS`, `LABEL_COLUMNS`, and `split` for the part) says which column is which;
    without one there must be two, and the one with fewer different values is the label. Raises ValueError naming the
    line at fault.

    >>> parse_examples(b"sentence\\tlabel\\na fine film\\t1\\n", "train.tsv")
    [Example(text='a fine film', label='1', part='')]
    """
    text, ending = decode_text(content, name, limit), Path(name.removesuffix(".gz")).suffix.lower()
    if ending == ".jsonl":
        rows = _json_rows(text, name)
    elif ending in (".csv", ".tsv"):
        rows = _table_rows(text, name, ending)
    else:
        raise ValueError(
            f"{name}: texts with labels are read from .csv, .tsv and .jsonl; a .txt is a corpus to continue"
        )
    if len(rows) > MAX_EXAMPLES:
        raise ValueError(f"{name} has {len(rows):,} examples; the limit is {MAX_EXAMPLES:,}: take a part")
    examples = []
    for line, body, label, part in rows:
        if not body.strip() or not label.strip():
            raise ValueError(f"{name}, line {line}: the {'label' if body.strip() else 'text'} is empty")
        examples.append(Example(body.strip(), label.strip(), part.strip().lower()))
    if not examples:
        raise ValueError(f"{name} has a first row and nothing below it: there is nothing to learn from")
    return examples


def _column(names: list[str], known: tuple[str, ...]) -> int | None:
    lowered = [name.strip().lower() for name in names]
    return next((lowered.index(name) for name in known if name in lowered), None)


Row = tuple[int, str, str, str]  # line, text, label, part


def _json_rows(text: str, name: str) -> list[Row]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{name}, line {number} is no JSON: {error}") from None
        keys = list(row) if isinstance(row, dict) else []
        body, label = _column(keys, TEXT_COLUMNS), _column(keys, LABEL_COLUMNS)
        if body is None or label is None:
            raise ValueError(f"{name}, line {number}: need an object with a text and a label, as in {JSON_EXAMPLE}")
        rows.append((number, str(row[keys[body]]), str(row[keys[label]]), str(row.get("split", ""))))
    return rows


JSON_EXAMPLE = '{"text": "a fine film", "label": "good"}'


def _table_rows(text: str, name: str, ending: str) -> list[Row]:
    first = text.lstrip("\n").split("\n", 1)[0]
    delimiter = "\t" if ending == ".tsv" else max(",;\t", key=first.count)
    if delimiter == "\t":
        reader = csv.reader(text.split("\n"), delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(text.split("\n"), delimiter=delimiter, strict=True)
    try:
        table = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}") from None
    width = len(table[0][1])
    for line, row in table:
        if len(row) != width:
            advice = "a text in a .tsv must hold no tab"
            if delimiter != "\t":
                advice = f"put a text that holds a {delimiter} in quotes"
            raise ValueError(f"{name}, line {line} has {len(row)} columns, the first row {width}: {advice}")
    body, label = _column(table[0][1], TEXT_COLUMNS), _column(table[0][1], LABEL_COLUMNS)
    if body is not None and label is not None:
        part = _column(table[0][1], ("split",))
        return [(line, row[body], row[label], "" if part is None else row[part]) for line, row in table[1:]]
    if width != 2:
        found = ", ".join(cell.strip()[:20] for cell in table[0][1])
        raise ValueError(f"{name}: which column is which? Name them text and label in the first row; found: {found}")
    kinds = [len({row[i] for _, row in table}) for i in (0, 1)]
    label = 0 if kinds[0] < kinds[1] else 1
    return [(line, row[1 - label], row[label], "") for line, row in table]


def read_glue(folder: Path) -> tuple[list[Example], list[Example] | None]:
    """(train, dev) of a folder in GLUE's format: `train.tsv` and, where there is one, `dev.tsv`; .gz too.

    GLUE's test.tsv has no labels and is not read. Raises ValueError where there is no train.tsv.
    """
    found = {p: next((f for f in (folder / f"{p}.tsv", folder / f"{p}.tsv.gz") if f.is_file()), None) for p in PARTS}
    if found["train"] is None:
        raise ValueError(f"{folder.name} holds no train.tsv (or train.tsv.gz): not a data set in GLUE's format")
    limit = 8 * MAX_FILE_BYTES  # a folder of this computer, not an upload
    parts = [
        None if file is None else parse_examples(read_limited(file, limit), file.name, limit) for file in found.values()
    ]
    return parts[0] or [], parts[1]


PARTS = ("train", "dev")
