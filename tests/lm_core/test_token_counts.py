"""Counts of characters, bytes and words, by hand."""

from __future__ import annotations

import pytest

from lm_core.token_counts import character_tokens, count_tokens


@pytest.mark.parametrize(
    ("text", "characters", "n_bytes", "words"),
    [
        ("The cat", 7, 7, 2),
        ("don't stop", 10, 10, 2),
        ("naïve café", 10, 12, 2),
        ("猫在树下", 4, 12, 1),
        ("🐦🐦", 2, 8, 0),
        ("x1 = 42", 7, 7, 3),
        ("पेड़ नीचे", 9, 25, 2),
        ("", 0, 0, 0),
        ("cat \ud83d\ude00", 5, 8, 1),
        ("\ud83d", 1, 3, 0),
    ],
)
def test_sizes_of_a_text(text: str, characters: int, n_bytes: int, words: int) -> None:
    counts = count_tokens(text, 6)
    assert (counts.n_characters, counts.n_bytes, counts.n_words) == (characters, n_bytes, words)
    assert counts.bytes_per_token == pytest.approx(n_bytes / 6)
    assert counts.tokens_per_word == (pytest.approx(6 / words) if words else None)


def test_no_tokens_hold_no_bytes() -> None:
    assert count_tokens("", 0).bytes_per_token == 0


def test_a_token_a_character() -> None:
    assert character_tokens("b猫🐦") == [0x62, 0x732B, 0x1F426]
    assert character_tokens("\ud83d") == [0xFFFD]
