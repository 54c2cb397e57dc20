"""Counting baselines: they are probabilities, and they match a count by hand."""

import math

import pytest

from lm_core.ngram import START, BigramModel

TEXTS = ["the cat sat", "the dog sat on the cat", "a cat"]


def test_every_row_sums_to_one_with_one_place_for_the_unknown() -> None:
    model = BigramModel([text.split() for text in TEXTS])
    words = [*model.counts, "never seen"]
    assert sum(map(model.unigram, words)) == pytest.approx(1, abs=1e-12)
    for previous in [START, *model.counts, "never seen"]:
        assert sum(model.bigram(previous, word) for word in words) == pytest.approx(1, abs=1e-12)


def test_a_row_counted_by_hand() -> None:
    model = BigramModel([text.split() for text in TEXTS])
    # 11 words of 6 kinds; "the" is followed by cat (twice) and dog
    assert model.unigram("cat") == pytest.approx((3 + 1) / (11 + 6 + 1))
    assert model.bigram("the", "cat") == pytest.approx((2 + 2 * 4 / 18) / (3 + 2))
    assert model.bigram(START, "a") == pytest.approx((1 + 2 * 2 / 18) / (3 + 2))


def test_bits_are_the_sum_along_the_text() -> None:
    model = BigramModel(TEXTS)
    by_hand = math.log2(model.bigram(START, "c")) + math.log2(model.bigram("c", "a"))
    assert model.bits("ca") == pytest.approx(-by_hand)
    assert model.bits("猫", pairs=False) == pytest.approx(-math.log2(model.unigram("unknown")))
    assert model.bits("ac", pairs=False) == model.bits("ca", pairs=False)
