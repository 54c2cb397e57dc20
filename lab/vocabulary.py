"""What a model's tokenizer and its embedding matrix say: tokens of a text, merges of a word, neighbours, a map.

No forward pass: only the way from a text to the rows of numbers that enter the first layer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from torch import Tensor

from lab import models, traces
from lab.source import CODE_HASH
from lm_core.embeddings import cosine_similarities, nearest_neighbours, pca
from lm_core.fast_tokenizer import Tokenizer
from lm_core.token_counts import character_tokens
from lm_core.token_spans import show
from lm_core.tokenizer import BPETokenizer, MergeTrace, pretokenize
from lm_core.tokenizer_files import load_gpt2, load_tokenizer

MOST_MAPPED = 8192  # tokens on the map; in a byte-level vocabulary low ids were learned first
LONGEST_WORD = 48  # bytes of a word whose merges are drawn
GPT2_FILES = (("vocab.bpe", "encoder.json"), ("merges.txt", "vocab.json"))  # the same two files under two names

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class TokenText:
    """A text as a tokenizer cuts it: what each token says, its id, and its bytes (None for the document start).

    n_cut: how many tokens were left out at the end. words: for each token the word (pretoken) it belongs to, and its
    number; None where the tokenizer's merges cannot be shown.
    """

    labels: list[str]
    token_ids: list[int]
    pieces: list[bytes | None]
    has_start: bool
    n_cut: int
    words: list[tuple[int, str]] | None

    @property
    def n_own(self) -> int:
        """Tokens of the text itself: without the document start, with those left out."""
        return len(self.token_ids) - self.has_start + self.n_cut


@st.cache_resource(max_entries=models.KEPT_IN_MEMORY, show_spinner=False)
def _readable(model: str, files: str, code: str) -> BPETokenizer | None:
    """The model's tokenizer in readable Python, where it is byte-level BPE that cuts as GPT-2's does; never changed."""
    try:
        return load_tokenizer(models.load(model).folder)
    except ValueError:
        return None


def _tokenizer(model: str) -> Tokenizer:
    tokenizer = models.load(model).tokenizer
    assert tokenizer is not None  # or `load` had raised
    return tokenizer


def _matrix(model: str) -> Tensor:
    return models.load(model).model.embed_tokens.weight.detach()


def label_of(model: str, token_id: int) -> str:
    """What one id says, alone; `#id` for a row of the matrix that the tokenizer has no token for."""
    return _label(_tokenizer(model), token_id)


def _label(tokenizer: Tokenizer, token_id: int) -> str:
    try:
        return tokenizer.labels([token_id])[0]
    except (ValueError, IndexError):
        return f"#{token_id}"


def size(model: str) -> tuple[int, int]:
    """Rows and columns of the embedding matrix: vocab_size and d_model."""
    rows, columns = _matrix(model).shape
    return int(rows), int(columns)


def start_id(model: str) -> int | None:
    """The id of the document-start token that this model puts before a text, or None."""
    return models.load(model).start_id


def specials_below(model: str, token_id: int) -> int:
    """How many special tokens have an id below `token_id`."""
    return sum(special < token_id for special in _tokenizer(model).special_tokens.values())


def read(model: str, text: str) -> TokenText:
    """Cut `text` into the tokens of `model`, at most `traces.MOST_TOKENS` of them.

    Raises ValueError for a blank text, what `models.load` raises, and UnreadableTextError for a text that the
    tokenizer cannot encode.
    """
    if traces.is_blank(text):
        raise ValueError("a text without anything to see")
    return _read(model, models.fingerprint(model), text[: traces.MOST_CHARACTERS], CODE_HASH)


@st.cache_data(max_entries=64, show_spinner=False)
def _read(model: str, files: str, text: str, code: str) -> TokenText:
    tokenizer, start = _tokenizer(model), start_id(model)
    try:
        own = tokenizer.encode(text)
    except ValueError as error:
        raise traces.UnreadableTextError(str(error)) from None
    if not own:
        raise traces.UnreadableTextError("the tokenizer gives no token for this text")
    before = [] if start is None else [start]
    kept = (before + own)[: traces.MOST_TOKENS]
    labels = tokenizer.labels(kept)
    if before:
        labels[0] = traces.START_LABEL
    pieces: list[bytes | None] = [*([None] * len(before)), *map(tokenizer.token_bytes, kept[len(before) :])]
    readable = _readable(model, files, code)
    words = None if readable is None else _words(readable, text, own)
    if words is not None:
        words = ([(-1, "")] * len(before) + words)[: len(kept)]
    return TokenText(labels, kept, pieces, bool(before), len(before) + len(own) - len(kept), words)


def _words(readable: BPETokenizer, text: str, token_ids: list[int]) -> list[tuple[int, str]] | None:
    """For each token its word; None where the readable path gives other ids than the model's own (a newer Unicode)."""
    words: list[tuple[int, str]] = []
    again: list[int] = []
    for number, word in enumerate(pretokenize(text)):
        part = readable.encode(word)
        words += [(number, word)] * len(part)
        again += part
    return words if again == token_ids else None


def merges(model: str, word: str) -> MergeTrace | None:
    """Every merge of one word (pretoken); None for a word of more than `LONGEST_WORD` bytes, or without merges."""
    readable = _readable(model, models.fingerprint(model), CODE_HASH)
    if readable is None or len(word.encode()) > LONGEST_WORD:
        return None
    return readable.merge_steps(word)


def rank(model: str, left: bytes, right: bytes) -> int | None:
    """The rank of a pair in the model's list of merges (0 = learned first), or None when it is not in the list."""
    readable = _readable(model, models.fingerprint(model), CODE_HASH)
    return None if readable is None else readable.ranks.get((left, right))


def vector(model: str, token_id: int) -> NDArray[np.float32]:
    """One row of the embedding matrix, [D]."""
    row: NDArray[np.float32] = _matrix(model)[token_id].float().cpu().numpy()
    return row


def column(model: str, number: int) -> NDArray[np.float32]:
    """One column of the embedding matrix: the same number of every token, [V]."""
    values: NDArray[np.float32] = _matrix(model)[:, number].float().cpu().numpy()
    return values


@dataclass(frozen=True)
class Neighbours:
    """The tokens nearest to one by cosine, nearest first, and the cosines to all others (in order of id)."""

    token_ids: list[int]
    labels: list[str]
    cosines: list[float]
    all_cosines: NDArray[np.float32]


def neighbours(model: str, token_id: int, k: int = 12) -> Neighbours:
    """The `k` tokens nearest to `token_id` by cosine over the whole vocabulary."""
    return _neighbours(model, models.fingerprint(model), token_id, k, CODE_HASH)


@st.cache_data(max_entries=32, show_spinner=False)
def _neighbours(model: str, files: str, token_id: int, k: int, code: str) -> Neighbours:
    matrix, tokenizer = _matrix(model), _tokenizer(model)
    with models.compute_slots():
        ids, cosines = nearest_neighbours(matrix, token_id, k)
        everyone = cosine_similarities(matrix[token_id], matrix).cpu().float().numpy()
    return Neighbours(
        ids.tolist(), [_label(tokenizer, i) for i in ids.tolist()], cosines.tolist(), np.delete(everyone, token_id)
    )


@dataclass(frozen=True)
class VocabularyMap:
    """The vocabulary seen from its two directions of most variance. n tokens (ids 0 … n−1), D numbers each.

    labels: n. coordinates [n 2]; directions [2 D]; mean [D]; explained: the share of variance each direction holds.
    """

    labels: list[str]
    coordinates: NDArray[np.float64]
    directions: NDArray[np.float64]
    mean: NDArray[np.float64]
    explained: tuple[float, float]


def vocabulary_map(model: str) -> VocabularyMap:
    """Principal components of the embedding rows (the first `MOST_MAPPED` of them), two kept."""
    return _vocabulary_map(model, models.fingerprint(model), CODE_HASH)


@st.cache_resource(max_entries=4, show_spinner=False)  # read only: no copy a run, and nobody's own
def _vocabulary_map(model: str, files: str, code: str) -> VocabularyMap:
    matrix, tokenizer = _matrix(model)[:MOST_MAPPED], _tokenizer(model)
    with models.compute_slots():
        found = pca(matrix.cpu(), 2)
    first, second = found.explained.tolist()
    coordinates, directions, mean = found.coordinates.numpy(), found.directions.numpy(), found.mean.numpy()
    for array in (coordinates, directions, mean):
        array.setflags(write=False)
    labels = [_label(tokenizer, i) for i in range(len(matrix))]
    return VocabularyMap(labels, coordinates, directions, mean, (first, second))


# --- other tokenizers, to compare ---------------------------------------------------------------------------------


def gpt2_folder() -> Path | None:
    """Where GPT-2's two tokenizer files may lie: `$LM_LAB_HOME/tokenizers/gpt2`; None without `LM_LAB_HOME`."""
    home = os.environ.get("LM_LAB_HOME")
    return Path(home) / "tokenizers" / "gpt2" if home else None


def _gpt2_files() -> tuple[Path, Path] | None:
    folder = gpt2_folder()
    for merge_file, id_file in GPT2_FILES if folder else ():
        assert folder is not None
        if (folder / merge_file).is_file() and (folder / id_file).is_file():
            return folder / merge_file, folder / id_file
    return None


@st.cache_resource(max_entries=1, show_spinner=False)
def _load_gpt2(merge_file: str, id_file: str, changed: tuple[int, int], code: str) -> BPETokenizer:
    return load_gpt2(merge_file, id_file)


def gpt2_tokens(text: str) -> TokenText | None:
    """`text` as GPT-2 cuts it; None where its files are not at hand, or are no good."""
    files = _gpt2_files()
    if files is None:
        return None
    try:
        changed = (files[0].stat().st_mtime_ns, files[1].stat().st_mtime_ns)
        tokenizer = _load_gpt2(str(files[0]), str(files[1]), changed, CODE_HASH)
    except (ValueError, OSError):
        return None
    ids = tokenizer.encode(text[: traces.MOST_CHARACTERS])
    kept = ids[: traces.MOST_TOKENS]
    return TokenText(
        tokenizer.labels(kept), kept, [tokenizer.token_bytes(i) for i in kept], False, len(ids) - len(kept), None
    )


def characters(text: str) -> TokenText:
    """`text` with one token a character."""
    ids = character_tokens(text[: traces.MOST_CHARACTERS])
    kept = ids[: traces.MOST_TOKENS]
    pieces: list[bytes | None] = [chr(i).encode() for i in kept]
    return TokenText([show(chr(i)) for i in kept], kept, pieces, False, len(ids) - len(kept), None)
