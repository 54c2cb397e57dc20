"""Rows for an encoder begin and end where sentences do, never cross a document, and nothing gives a pair away."""

from __future__ import annotations

import numpy as np
import pytest

from lm_core.encoder_rows import IS_NEXT, NO_PAIR, NOT_NEXT, Frame, SentenceStream
from lm_core.token_kinds import TokenKinds
from lm_core.tokenizer import BPETokenizer, pretokenize, train_bpe
from lm_core.tokenizer_files import for_encoder

N_DOCUMENTS, N_SENTENCES = 30, 12
TEXT = "He said, \"It's 42 cats!\" Then — “who?” — Mr. Fox didn't\nanswer; café 猫  end."

SENTENCES = '"Stop!" cried he. "I am here." The end\nA title\n\nNo dog. 7 cats? "Yes!"'


def _sentence(d: int, s: int) -> str:
    """Every sentence says which it is, and where it ends."""
    return f"Tale {d} has part {s}" + " and more" * ((d + s) % 4) + "."


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    words = ["Tale has part and more " * 20, " Tale has part and more" * 20, TEXT * 3, SENTENCES * 3]
    return for_encoder(train_bpe(words, 480, ["<|endoftext|>"]))


@pytest.fixture(scope="module")
def stream(tokenizer: BPETokenizer) -> SentenceStream:
    """Thirty documents of twelve sentences, a newline after every third."""
    ids: list[int] = []
    for d in range(N_DOCUMENTS):
        text = "".join(_sentence(d, s) + ("\n" if s % 3 == 2 else " ") for s in range(N_SENTENCES))
        ids += [tokenizer.bos_id or 0, *tokenizer.encode(text.rstrip())]
    return SentenceStream(np.array(ids, dtype=np.uint16), TokenKinds.of(tokenizer))


def _text(tokenizer: BPETokenizer, ids: np.ndarray) -> str:
    return tokenizer.decode(ids.tolist())


# Words and sentences


def test_words_are_the_pretokens(tokenizer: BPETokenizer) -> None:
    ids = np.array(tokenizer.encode(TEXT))
    begins = TokenKinds.of(tokenizer).begins_word(ids)
    words = [_text(tokenizer, part) for part in np.split(ids, np.flatnonzero(begins)[1:])]
    assert "".join(words) == TEXT
    assert words == pretokenize(TEXT)


def test_specials_begin_a_word_and_so_does_what_follows_them_in_a_row(tokenizer: BPETokenizer) -> None:
    frame = Frame.of(tokenizer.special_tokens)
    ids = np.array([[frame.cls, *tokenizer.encode("cats"), frame.sep, frame.pad]])
    assert TokenKinds.of(tokenizer).begins_word(ids)[0, [0, 1, -2, -1]].all()


def test_sentences_begin_after_ends_and_newlines_only(tokenizer: BPETokenizer) -> None:
    ids = np.array(tokenizer.encode(SENTENCES))
    starts = np.flatnonzero(TokenKinds.of(tokenizer).begins_sentence(ids))
    pieces = [_text(tokenizer, part).strip() for part in np.split(ids, starts[1:])]
    assert pieces == ['"Stop!" cried he.', '"I am here."', "The end", "A title", "No dog.", "7 cats?", '"Yes!"']


def test_the_token_without_its_space(tokenizer: BPETokenizer) -> None:
    kinds = TokenKinds.of(tokenizer)
    for token_id in range(tokenizer.vocab_size):
        if token_id in tokenizer.special_tokens.values():
            continue
        bare, token = tokenizer.token_bytes(int(kinds.without_space[token_id])), tokenizer.token_bytes(token_id)
        assert bare in (token, token.removeprefix(b" "))
        if token.startswith(b" ") and token[1:] in tokenizer.vocab:
            assert bare == token[1:]


# Rows


def test_rows_are_whole_sentences_of_one_document(stream: SentenceStream, tokenizer: BPETokenizer) -> None:
    frame, random = Frame.of(tokenizer.special_tokens), np.random.default_rng(1)
    seen = set()
    for _ in range(200):
        row = stream.single(random, 64, frame)
        assert len(row.token_ids) <= 64 and row.is_next == NO_PAIR and not row.segments.any()
        assert (row.token_ids[0], row.token_ids[-1]) == (frame.cls, frame.sep)
        text = _text(tokenizer, row.token_ids[1:-1])
        first = text.split(" ", 4)
        d, s = int(first[1]), int(first[4].split()[0].rstrip("."))
        document = "".join(_sentence(d, n) + ("\n" if n % 3 == 2 else " ") for n in range(N_SENTENCES))
        assert text.startswith("Tale") and text.endswith(".")
        assert document[document.index(_sentence(d, s)) :].startswith(text)
        seen.add((d, s))
    assert len(seen) > 100


def test_a_row_is_as_full_as_whole_sentences_allow(stream: SentenceStream, tokenizer: BPETokenizer) -> None:
    start = int(stream.starts[5])
    for most in range(20, 60):
        piece = stream.after(start, most)
        following, end_of_following = stream.starts[stream.starts >= start + len(piece)][:2]
        assert len(piece) <= most < end_of_following - start  # one sentence more would not have fitted
        assert following - start - len(piece) in (0, 1)  # but for a newline nothing is left out


def test_a_sentence_longer_than_the_row_is_cut(stream: SentenceStream) -> None:
    start = int(stream.starts[7])
    assert len(stream.after(start, 3)) == 3
    assert len(stream.before(int(stream.starts[8]), 3)) == 3


def test_pairs_follow_each_other_or_do_not(stream: SentenceStream, tokenizer: BPETokenizer) -> None:
    frame, random = Frame.of(tokenizer.special_tokens), np.random.default_rng(2)
    counts = {IS_NEXT: 0, NOT_NEXT: 0, NO_PAIR: 0}
    for _ in range(600):
        row = stream.pair(random, 80, frame)
        counts[row.is_next] += 1
        ends = np.flatnonzero(row.token_ids == frame.sep)
        assert len(row.token_ids) <= 80 and ends[-1] == len(row.token_ids) - 1
        if row.is_next == NO_PAIR:
            continue
        assert len(ends) == 2
        assert row.segments.tolist() == [0] * (ends[0] + 1) + [1] * (ends[1] - ends[0])
        a, b = (_text(tokenizer, part) for part in (row.token_ids[1 : ends[0]], row.token_ids[ends[0] + 1 : ends[1]]))
        assert b.startswith("Tale") and b.endswith(".") and a.endswith(".")  # B looks the same in both cases
        last, first = a[a.rindex("Tale") :].split(), b.split()
        follows = last[1] == first[1] and int(last[4].rstrip(".")) + 1 == int(first[4].rstrip("."))
        assert follows or row.is_next == NOT_NEXT
    pairs = counts[IS_NEXT] + counts[NOT_NEXT]
    assert (counts[IS_NEXT] - pairs / 2) ** 2 / (pairs / 4) < 10.8  # chi-square, one degree of freedom
    assert 0 < counts[NO_PAIR] < 120  # one in twelve sentences has none before it


def test_what_is_missing_is_named(tokenizer: BPETokenizer) -> None:
    with pytest.raises(ValueError, match=r"no \[MASK\]"):
        Frame.of({"[PAD]": 1, "[CLS]": 2, "[SEP]": 3})
    with pytest.raises(ValueError, match="no sentence begins in these 3 tokens"):
        SentenceStream(np.zeros(3, dtype=np.uint16), TokenKinds.of(tokenizer))
