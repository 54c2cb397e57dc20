"""From text to batches: files, the held-out split, and windows that visit every token once."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_core.data import Document, TokenStream, is_held_out, read_documents

N, WINDOW, BATCH = 61, 7, 3
WINDOWS = (N - 1) // WINDOW - 1  # of an epoch


def _stream() -> TokenStream:
    """Token i has the id i + 100, so that an id tells its place."""
    return TokenStream(np.arange(100, 100 + N, dtype=np.uint16))


def _starts(stream: TokenStream, seed: int, n_rows: int) -> list[int]:
    rows: list[int] = []
    for step in range(-(-n_rows // BATCH)):
        rows += (stream.batch(step, seed, BATCH, WINDOW)[0][:, 0] - 100).tolist()
    return rows[:n_rows]


def test_targets_are_the_inputs_one_later() -> None:
    inputs, targets = _stream().batch(0, 1, BATCH, WINDOW)
    assert inputs.shape == targets.shape == (BATCH, WINDOW)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(WINDOW))


def test_an_epoch_visits_no_window_twice_and_its_windows_do_not_overlap() -> None:
    for seed in range(20):
        starts = _starts(_stream(), seed, WINDOWS)
        first = min(starts)
        assert first < WINDOW
        assert sorted(starts) == [first + i * WINDOW for i in range(WINDOWS)]
        assert max(starts) + WINDOW < N


def test_over_many_epochs_every_token_is_predicted_almost_equally_often() -> None:
    epochs = 200
    counts: Counter[int] = Counter()
    for start in _starts(_stream(), 0, epochs * WINDOWS):
        counts.update(range(start + 1, start + WINDOW + 1))  # the targets
    assert set(counts) == set(range(1, (WINDOWS + 1) * WINDOW))  # token 0 is only ever a condition
    inner = [counts[token] for token in range(WINDOW, WINDOWS * WINDOW + 1)]
    assert set(inner) == {epochs}
    assert max(counts.values()) == epochs


def test_epochs_differ_in_order_and_offset() -> None:
    starts = _starts(_stream(), 3, 4 * WINDOWS)
    epochs = [starts[i * WINDOWS : (i + 1) * WINDOWS] for i in range(4)]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len({min(epoch) for epoch in epochs}) > 1
    assert any(epoch != sorted(epoch) for epoch in epochs)


def test_a_batch_is_a_pure_function_of_step_and_seed() -> None:
    one, other = _stream(), _stream()
    in_order = [one.batch(step, 5, BATCH, WINDOW)[0] for step in range(9)]
    for step in (8, 2, 5, 0, 8):  # any order, another object, another seed asked for in between
        other.batch(step, 6, BATCH, WINDOW)
        assert torch.equal(other.batch(step, 5, BATCH, WINDOW)[0], in_order[step])
    assert not torch.equal(one.batch(0, 6, BATCH, WINDOW)[0], in_order[0])


def test_a_batch_may_reach_over_several_epochs() -> None:
    starts = (_stream().batch(0, 1, 3 * WINDOWS, WINDOW)[0][:, 0] - 100).tolist()
    assert starts == _starts(_stream(), 1, 3 * WINDOWS)


@pytest.mark.parametrize("n_tokens", [2 * WINDOW + 1, 2 * WINDOW + 2, 3 * WINDOW])
def test_the_shortest_streams_still_fit(n_tokens: int) -> None:
    stream = TokenStream(np.arange(n_tokens, dtype=np.int32))
    for step in range(40):
        inputs, targets = stream.batch(step, 0, 1, WINDOW)
        assert inputs.shape == targets.shape == (1, WINDOW)


def test_too_little_text_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="14 tokens of text are too few for windows of 7"):
        TokenStream(np.arange(2 * WINDOW)).batch(0, 0, 1, WINDOW)


def test_the_input_stays_as_it_is() -> None:
    stream = _stream()
    inputs, targets = stream.batch(0, 1, BATCH, WINDOW)
    inputs.zero_()
    targets.zero_()
    assert np.array_equal(stream.token_ids, _stream().token_ids)
    assert len(stream) == N


@pytest.mark.parametrize("zipped", [False, True])
def test_documents_of_both_kinds(tmp_path: Path, zipped: bool) -> None:
    rows = [{"text": "Eins.", "title": "Buch", "simple": 0.5}, {"text": "二。"}]
    files = {
        "a.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "b.txt": " One.\n<|endoftext|>\n\n<|endoftext|>Two.<|endoftext|>",
    }
    read: dict[str, list[Document]] = {}
    for name, text in files.items():
        path = tmp_path / (name + ".gz" * zipped)
        path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
        read[name] = list(read_documents(path))
    gz = ".gz" * zipped
    assert read["a.jsonl"] == [Document("Eins.", "Buch", 0.5), Document("二。", f"a.jsonl{gz}", 1.0)]
    assert read["b.txt"] == [Document("One.", f"b.txt{gz}#0"), Document("Two.", f"b.txt{gz}#2")]


def test_another_kind_of_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.parquet: only \.jsonl, \.json and \.txt"):
        next(read_documents(tmp_path / "x.parquet"))


def test_the_share_that_is_held_out_is_the_share_asked_for() -> None:
    books = [f"book {i}" for i in range(4000)]
    for share in (0.02, 0.3):
        held = sum(is_held_out(book, share) for book in books) / len(books)
        assert held == pytest.approx(share, abs=4 * (share * (1 - share) / len(books)) ** 0.5)
    assert not any(is_held_out(book, 0.0) for book in books)
    assert all(is_held_out(book, 1.0) for book in books)


def test_a_larger_share_keeps_what_was_held_out() -> None:
    books = [f"book {i}" for i in range(500)]
    small, large = ({book for book in books if is_held_out(book, share)} for share in (0.1, 0.2))
    assert small < large
