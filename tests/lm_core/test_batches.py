"""Batches: every text once an epoch, rows of like length, nothing counted that only fills up."""

from collections import Counter

import numpy as np
import pytest
import torch

from lm_core.batches import (
    IGNORED,
    CausalData,
    LabelledData,
    causal_data,
    labelled_data,
    parts_of,
    split_text,
    text_stream,
)
from lm_core.data import Example, TokenStream
from tests import tiny_models

N, B = 37, 4


def _labelled() -> LabelledData:
    """Text i is i + 1 tokens long and begins with id i."""
    random = np.random.default_rng(0)
    rows = tuple(([i, *random.integers(100, 200, i).tolist()], i % 3) for i in range(N))
    return LabelledData(rows, rows[:10], ("a", "b", "c"))


def test_an_epoch_visits_every_text_at_most_once_and_all_over_the_epochs() -> None:
    data, per_epoch = _labelled(), N // B
    for epoch in range(3):
        firsts = [int(row[0]) for n in range(per_epoch) for row in data.batch(epoch * per_epoch + n, 1, B).token_ids]
        assert len(firsts) == len(set(firsts)) == per_epoch * B
    seen = Counter(int(row[0]) for n in range(20 * per_epoch) for row in data.batch(n, 1, B).token_ids)
    assert len(seen) == N and min(seen.values()) >= 14


def test_rows_of_a_batch_are_of_like_length_and_complete() -> None:
    data, filled, random_filled = _labelled(), 0, 0
    rows = {ids[0]: (ids, label) for ids, label in data.train}
    random = np.random.default_rng(0)
    for n in range(N // B):
        batch = data.batch(n, 1, B)
        assert batch.n_tokens == int(batch.lengths.sum()) and batch.n_targets == B
        for row, length, target in zip(batch.token_ids, batch.lengths, batch.targets, strict=True):
            ids, label = rows[int(row[0])]
            assert row[:length].tolist() == ids and int(target) == label
            assert not row[length:].any()
        filled += batch.token_ids.numel() - batch.n_tokens
        lengths = random.permutation(N)[:B] + 1
        random_filled += int(lengths.max() * B - lengths.sum())
    assert filled < 0.3 * random_filled


def test_a_batch_is_a_pure_function_of_number_and_seed() -> None:
    one, other = _labelled(), _labelled()
    in_order = [one.batch(n, 5, B).token_ids for n in range(25)]
    for n in (24, 3, 17, 0):
        other.batch(n, 6, B)
        assert torch.equal(other.batch(n, 5, B).token_ids, in_order[n])
    assert not all(torch.equal(other.batch(n, 6, B).token_ids, in_order[n]) for n in range(5))


def test_validation_reads_every_text_once_or_a_fixed_sample() -> None:
    data = _labelled()
    batches = list(data.validation_batches(B))
    assert sorted(int(row[0]) for batch in batches for row in batch.token_ids) == list(range(10))
    samples = [[b.token_ids.tolist() for b in data.validation_batches(B, 2)] for _ in range(2)]
    assert samples[0] == samples[1] and sum(map(len, samples[0])) == 8
    assert len(list(data.validation_batches(B, 99))) == 3


def test_causal_validation_predicts_every_token_once() -> None:
    data = CausalData(TokenStream(np.arange(50)), TokenStream(np.arange(100, 130)), 7)
    pairs = []
    for batch in data.validation_batches(2):
        for row, targets, length in zip(batch.token_ids, batch.targets, batch.lengths, strict=True):
            assert (targets[length:] == IGNORED).all()
            pairs += list(zip(row[:length].tolist(), targets[:length].tolist(), strict=True))
    assert pairs == [(i, i + 1) for i in range(100, 129)]
    assert sum(batch.n_targets for batch in data.validation_batches(2)) == 29
    assert len(list(data.validation_batches(2, at_most=1))) == 1


def test_documents_begin_with_the_start_token() -> None:
    tokenizer = tiny_models.tokenizer()
    ids = text_stream(["The old", "king"], tokenizer).token_ids.tolist()
    assert ids == [0, *tokenizer.encode("The old"), 0, *tokenizer.encode("king")]


def test_splitting_a_text() -> None:
    documents = "<|endoftext|>\n".join(f"doc {i}\n" for i in range(10))
    train, kept = split_text(documents, 0.2)
    assert train == [f"doc {i}" for i in range(8)] and kept == ["doc 8", "doc 9"]
    with pytest.raises(ValueError, match="the text is a single line"):
        split_text("one line only", 0.1)


def test_texts_too_short_say_what_would_do() -> None:
    tokenizer = tiny_models.tokenizer()
    with pytest.raises(
        ValueError, match=r"has 31 training tokens; windows of 20 need 41: .*set n_tokens to 15 or less"
    ):
        causal_data(["x" * 30], ["y y"], tokenizer, 20)
    with pytest.raises(ValueError, match=r"has 3 training tokens; windows of 20 need 41: paste more text$"):
        causal_data(["xy"], ["y y"], tokenizer, 20)
    with pytest.raises(ValueError, match="1 validation tokens are too few"):
        causal_data(["x" * 60], [""], tokenizer, 20)
    assert causal_data(["x" * 60], ["y y"], tokenizer, 20).n_units == 2


def test_long_texts_lose_their_end_and_keep_their_frame() -> None:
    tokenizer = tiny_models.tokenizer()
    examples = [Example("xyxyxyxyxy", "a"), Example("zz", "b"), Example("xx", "a"), Example("zy", "b")]
    data = labelled_data(examples, examples[:2], tokenizer, 6, ([7], [8, 9]))
    assert data.train[0][0] == [7, *tokenizer.encode("xyx"), 8, 9] and data.n_cut == 2  # once in each part
    assert data.train[1][0] == [7, *tokenizer.encode("zz"), 8, 9]
    assert [label for _, label in data.train] == [0, 1, 0, 1] and data.labels == ("a", "b")
    with pytest.raises(ValueError, match="n_tokens 3 leaves no room"):
        labelled_data(examples, examples, tokenizer, 3, ([7], [8, 9]))
    with pytest.raises(ValueError, match="no validation examples"):
        labelled_data(examples, [], tokenizer, 6)


def test_fingerprints_tell_data_apart() -> None:
    data = _labelled()
    other = LabelledData(data.train, data.validation, ("a", "b", "d"))
    swapped = LabelledData(data.validation, data.train, data.labels)
    assert len({data.fingerprint, other.fingerprint, swapped.fingerprint}) == 3
    assert data.fingerprint == _labelled().fingerprint


def test_parts_follow_the_files_own_column() -> None:
    rows = [
        Example(f"t{i}", "ab"[i % 2], part) for i, part in enumerate(["train"] * 6 + ["validation"] * 2 + ["test"] * 2)
    ]
    train, kept = parts_of(rows, 0.5)
    assert (len(train), len(kept)) == (6, 2)
    assert len(parts_of([Example(f"t{i}", "ab"[i % 2]) for i in range(10)], 0.2)[1]) == 2
