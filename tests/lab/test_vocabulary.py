"""Tokens, merges, neighbours and the map, held to `tokenizers`, the files themselves and numpy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordPiece

from lab import models, traces, vocabulary
from lm_core.tokenizer import pretokenize
from tests import tiny_models

MODEL = models.DEFAULT
FOLDER = models.MODELS / "storyteller"
TEXTS = ["The old king looked at the little bird", "unbirdlike 猫🐦  two  spaces\n", "for i in range(10):", "שלום"]


@pytest.fixture(scope="module")
def library() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    weights = load_file(FOLDER / "model.safetensors")
    return weights["model.embed_tokens.weight"].astype(np.float32)


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose tokenizer is no byte-level BPE."""
    folder = tiny_models.save(tmp_path_factory.mktemp("wordpiece"), tiny_models.gpt2())
    tokenizer = Tokenizer(WordPiece({"?": 0, "the": 1, "king": 2, "##s": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return f"folder:{folder}"


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_the_librarys_after_the_document_start(text: str, library: Tokenizer) -> None:
    found = vocabulary.read(MODEL, text)
    assert found.has_start and found.token_ids == [0, *library.encode(text).ids]
    assert found.labels[0] == traces.START_LABEL and found.n_cut == 0 and found.n_own == len(found.token_ids) - 1
    assert b"".join(piece or b"" for piece in found.pieces).decode() == text


@pytest.mark.parametrize("text", TEXTS)
def test_every_token_knows_its_word(text: str, library: Tokenizer) -> None:
    found = vocabulary.read(MODEL, text)
    assert found.words is not None and found.words[0] == (-1, "")
    words = dict(found.words[1:])
    assert [words[n] for n in sorted(words)] == pretokenize(text)
    for n, word in words.items():
        own = [i for i, (number, _) in zip(found.token_ids, found.words, strict=True) if number == n]
        assert own == library.encode(word).ids


def test_a_long_text_says_how_much_was_left_out() -> None:
    found = vocabulary.read(MODEL, "king " * 300)
    assert (
        len(found.token_ids) == traces.MOST_TOKENS == len(found.labels) == len(found.pieces) == len(found.words or [])
    )
    assert len(found.token_ids) + found.n_cut == 1 + 300 + 1  # the start; 300 words; the last space
    with pytest.raises(ValueError, match="without anything"):
        vocabulary.read(MODEL, " \u200b")


@pytest.mark.parametrize("word", [" birdkeeper", "looked", "猫", " antibirdishness"])
def test_merges_follow_the_list_in_the_file(word: str, library: Tokenizer) -> None:
    listed = [tuple(m) for m in json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]]
    trace = vocabulary.merges(MODEL, word)
    assert trace is not None and list(trace.token_ids) == library.encode(word).ids
    symbols = list(trace.start)
    assert b"".join(symbols) == word.encode() and all(len(s) == 1 for s in symbols)
    for step in trace.steps:
        pairs = [pair for pair in zip(symbols, symbols[1:], strict=False) if vocabulary.rank(MODEL, *pair) is not None]
        assert step.rank == min(vocabulary.rank(MODEL, *pair) or 0 for pair in pairs)
        left, right = (s.decode().replace(" ", "Ġ") for s in step.pair) if step.pair[0].isascii() else (None, None)
        assert left is None or listed[step.rank] == (left, right)
        symbols = list(step.symbols)
    assert all(vocabulary.rank(MODEL, *pair) is None for pair in zip(symbols, symbols[1:], strict=False))


def test_merges_have_a_longest_word() -> None:
    assert vocabulary.merges(MODEL, "a" * vocabulary.LONGEST_WORD) is not None
    assert vocabulary.merges(MODEL, "猫" * (vocabulary.LONGEST_WORD // 3) + "a") is None


def test_a_tokenizer_of_another_kind_is_read_without_merges(wordpiece: str) -> None:
    found = vocabulary.read(wordpiece, "the kings")
    assert found.labels == ["the", "king", "##s"] and found.words is None and not found.has_start
    assert vocabulary.merges(wordpiece, "king") is None and vocabulary.rank(wordpiece, b"k", b"i") is None


def test_vectors_are_rows_and_columns_of_the_file(matrix: np.ndarray) -> None:
    assert vocabulary.size(MODEL) == matrix.shape
    assert np.array_equal(vocabulary.vector(MODEL, 1007), matrix[1007])
    assert np.array_equal(vocabulary.column(MODEL, 17), matrix[:, 17])


def test_neighbours_over_the_whole_vocabulary(matrix: np.ndarray, library: Tokenizer) -> None:
    king = library.encode(" king").ids[0]
    rows = matrix.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows[king]
    order = [int(i) for i in np.argsort(-cosines) if i != king][:12]
    found = vocabulary.neighbours(MODEL, king)
    assert found.token_ids == order and np.allclose(found.cosines, cosines[order], atol=1e-5)
    assert found.labels[0] == library.decode([order[0]]).replace(" ", "␣")
    assert np.allclose(found.all_cosines, np.delete(cosines, king), atol=1e-5)


def test_the_map_is_the_svd_of_the_centred_matrix(matrix: np.ndarray) -> None:
    seen = vocabulary.vocabulary_map(MODEL)
    centred = matrix.astype(np.float64) - matrix.astype(np.float64).mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    assert np.allclose(seen.explained, shares[:2], atol=1e-9)
    assert np.allclose(np.abs(seen.coordinates), np.abs(centred @ rows[:2].T), atol=1e-6)
    assert np.allclose((centred @ seen.directions.T), seen.coordinates)
    assert len(seen.labels) == len(matrix) and seen.labels[0] == "⟨endoftext⟩"
    with pytest.raises(ValueError, match="read-only"):
        seen.coordinates[0, 0] = 1  # one map for all readers


def test_the_map_of_a_large_vocabulary_is_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, tiny_models.llama())
    monkeypatch.setattr(vocabulary, "MOST_MAPPED", 100)
    assert len(vocabulary.vocabulary_map(f"folder:{folder}").labels) == 100


def test_a_row_without_a_token_still_has_a_name(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, tiny_models.gpt2(vocab_size=300))  # the tokenizer has 290
    model = f"folder:{folder}"
    assert vocabulary.label_of(model, 299) == "#299" and vocabulary.vocabulary_map(model).labels[-1] == "#299"


@pytest.mark.parametrize("names", vocabulary.GPT2_FILES)
def test_gpt2_joins_in_where_its_files_are(
    names: tuple[str, str], shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path))
    assert vocabulary.gpt2_tokens("Hello world") is None
    folder = tmp_path / "tokenizers" / "gpt2"
    folder.mkdir(parents=True)
    for source, name in zip(("vocab.bpe", "encoder.json"), names, strict=True):
        shutil.copy(shared_data / "gpt2-bpe" / source, folder / name)
    found = vocabulary.gpt2_tokens("Hello world 猫")
    assert found is not None and found.token_ids[:2] == [15496, 995] and found.labels[:2] == ["Hello", "␣world"]
    assert b"".join(piece or b"" for piece in found.pieces).decode() == "Hello world 猫"
    (folder / names[1]).write_text("{")
    assert vocabulary.gpt2_tokens("Hello world") is None
    monkeypatch.delenv("LM_LAB_HOME")
    assert vocabulary.gpt2_tokens("Hello world") is None


def test_characters_as_tokens() -> None:
    found = vocabulary.characters("a 猫")
    assert found.labels == ["a", "␣", "猫"] and found.token_ids == [97, 32, 29483] and found.n_own == 3
    assert vocabulary.characters("x" * 500).n_cut == 500 - traces.MOST_TOKENS
