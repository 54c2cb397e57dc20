"""Byte-level BPE against vectors and a training reference by other hands, and its promises about characters."""

import json
import random
import unicodedata
from pathlib import Path

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from lm_core.bpe_merges import learn_merges
from lm_core.fast_tokenizer import FastTokenizer
from lm_core.token_spans import group_pieces, show, to_alphabet
from lm_core.tokenizer import BPETokenizer, pretokenize, train_bpe
from lm_core.tokenizer_files import load_gpt2, to_fast

END = "<|endoftext|>"
TEXTS = {
    "empty": "",
    "space": " ",
    "spaces": "   \n\n \t  ",
    "emoji": "🙂🙃 flags 🇨🇳🇺🇳 skin 👍🏽",
    "zwj": "👩‍👩‍👧‍👦 family",
    "chinese": "今天天气很好,我们去公园玩。",
    "rtl": "שלום عليكم \u202eabc\u202c",
    "control": "a\x00b\x01\x1b[31m\x7f\x85\u200b\ufeff",
    "combining": "e\u0301 \u0301 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "markup": "<script>alert('x')</script> **b** $x$",
    "specials": f"a{END}b <|endoftext|",
    "replacement": "\ufffd",
}


@pytest.fixture(scope="module")
def gpt2(shared_data: Path) -> BPETokenizer:
    return load_gpt2(shared_data / "gpt2-bpe" / "vocab.bpe", shared_data / "gpt2-bpe" / "encoder.json")


@pytest.fixture(scope="module")
def fast(gpt2: BPETokenizer) -> FastTokenizer:
    return to_fast(gpt2)


@pytest.fixture(scope="module")
def corpus(shared_data: Path) -> str:
    return (shared_data / "gpt2-bpe" / "cs336-corpus.en").read_bytes().decode()


@pytest.fixture(scope="module")
def small(corpus: str) -> BPETokenizer:
    return train_bpe([corpus], 500, [END])


def vectors(shared_data: Path) -> list[tuple[str, list[int]]]:
    """llama.cpp's strings and GPT-2 ids; a string ends before the newline of its separator line, the last is empty."""
    folder = shared_data / "gpt2-bpe"
    strings = (folder / "llamacpp-vectors.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = (folder / "llamacpp-vectors.out").read_text(encoding="utf-8").split("\n")
    return [(text, [int(token_id) for token_id in line.split()]) for text, line in zip(strings, lines, strict=True)]


# --- vectors ----------------------------------------------------------------------------------------------------------


def test_all_47_llamacpp_vectors_on_both_paths(shared_data: Path, gpt2: BPETokenizer, fast: FastTokenizer) -> None:
    pairs = vectors(shared_data)
    assert len(pairs) == 47
    for text, expected in pairs:
        assert gpt2.encode(text) == expected, text
        assert fast.encode(text) == expected, text
        assert gpt2.decode(expected) == fast.decode(expected) == text


def test_tiktoken_vectors(gpt2: BPETokenizer, fast: FastTokenizer) -> None:
    for tokenizer in (gpt2, fast):
        assert tokenizer.encode("hello world") == [31373, 995]
        assert tokenizer.encode(f"hello {END}", allow_special=True) == [31373, 220, 50256]
        assert tokenizer.vocab_size == 50257
        assert tokenizer.bos_id == tokenizer.eos_id == 50256


def test_greedy_reference_text_decodes(gpt2: BPETokenizer) -> None:
    token_ids = [464, 3290, 373, 1043, 287, 257, 2214, 1474, 262, 16246, 286, 2688, 290, 2688, 27262, 13, 198, 198]
    text = "The dog was found in a field near the intersection of West and West Streets.\n\n"
    assert gpt2.decode(token_ids) == text
    assert gpt2.encode(text[:-2]) == token_ids[:-2]  # typed text would have both newlines as one token


def test_special_tokens_in_a_users_text_are_text(gpt2: BPETokenizer, fast: FastTokenizer) -> None:
    for tokenizer in (gpt2, fast):
        assert tokenizer.encode(f"hello {END}") == [31373, 1279, 91, 437, 1659, 5239, 91, 29]  # hello, <, |, end …
        token_ids = tokenizer.encode(f"a{END}b")
        assert 50256 not in token_ids
        assert tokenizer.decode(token_ids) == f"a{END}b"
        assert not any(span.special for span in tokenizer.spans(token_ids))
        assert tokenizer.encode(f"a{END}b", allow_special=True).count(50256) == 1
        assert tokenizer.encode("plain again" + END)[-1] != 50256  # the switch is not remembered


def test_of_two_special_tokens_the_longer_wins() -> None:
    tokenizer = train_bpe([], 259, ["<s>", "<s><s>", "<s"])
    for path in (tokenizer, to_fast(tokenizer)):
        assert path.encode("<s><s><s>", allow_special=True) == [1, 0]


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_equals_the_cs336_reference(shared_data: Path, small: BPETokenizer) -> None:
    folder = shared_data / "gpt2-bpe"
    lines = (folder / "cs336-train-bpe-reference-merges.txt").read_text(encoding="utf-8").split("\n")
    expected = [tuple(line.split(" ")) for line in lines if line]
    assert [(to_alphabet(left), to_alphabet(right)) for left, right in small.merges] == expected
    vocab = json.loads((folder / "cs336-train-bpe-reference-vocab.json").read_text(encoding="utf-8"))
    assert {to_alphabet(token): token_id for token, token_id in small.vocab.items()} | small.special_tokens == vocab


def naive_merges(words: dict[bytes, int], n_new: int) -> list[tuple[bytes, bytes]]:
    """The definition, counted afresh each time."""
    cut = {word: [bytes([byte]) for byte in word] for word in words}
    merges = []
    for _ in range(n_new):
        counts: dict[tuple[bytes, bytes], int] = {}
        for word, symbols in cut.items():
            for i in range(len(symbols) - 1):
                pair = symbols[i], symbols[i + 1]
                counts[pair] = counts.get(pair, 0) + words[word]
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        for word, symbols in cut.items():
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
                i += 1
            cut[word] = symbols
    return merges


@pytest.mark.parametrize("seed", range(8))
def test_incremental_counts_equal_counting_afresh(seed: int) -> None:
    """Two letters only: long runs, overlaps and ties are everywhere."""
    rng = random.Random(seed)
    words = {bytes(rng.choices(b"ab", k=rng.randint(1, 12))): rng.randint(1, 3) for _ in range(30)}
    assert learn_merges(words, 40) == naive_merges(words, 40)


def test_ties_go_to_the_greater_pair() -> None:
    assert train_bpe(["ab cd"], 257).merges == [(b"c", b"d")]
    # a string comes after its own beginnings: of (a, b) and (ab, ?) … compared left symbol first
    assert learn_merges({b"xy": 2, b"xyz": 1, b"xq": 3}, 1) == [(b"x", b"y")]


def test_training_stops_when_nothing_is_left() -> None:
    tokenizer = train_bpe(["abab"], 1000)
    assert tokenizer.vocab_size == 256 + 2
    assert train_bpe([], 256).encode("é") == [train_bpe([], 256).vocab[b"\xc3"], train_bpe([], 256).vocab[b"\xa9"]]


def test_no_merge_is_learned_from_or_across_special_tokens() -> None:
    tokenizer = train_bpe([f"x{END}" * 50], 270, [END])
    assert tokenizer.merges == []
    assert tokenizer.special_tokens == {END: 0}


def test_vocabulary_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size 256 is below 256 bytes \\+ 1 special"):
        train_bpe([], 256, [END])


# --- merging ----------------------------------------------------------------------------------------------------------


def test_rank_decides_and_not_position() -> None:
    vocab = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257}
    tokenizer = BPETokenizer(vocab, [(b"b", b"c"), (b"a", b"b")])
    assert tokenizer.encode("abc") == [ord("a"), 256]  # from the left it would be ab, c
    assert to_fast(tokenizer).encode("abc") == [ord("a"), 256]


def test_longest_token_does_not_win_without_its_merges() -> None:
    vocab = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257, b"abc": 258}
    tokenizer = BPETokenizer(vocab, [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")])
    assert tokenizer.encode("abc") == [ord("a"), 256]


def test_steps_lead_from_bytes_to_the_encoded_ids(gpt2: BPETokenizer) -> None:
    text = "Tokenization of 猫 isn't unbelievable!"
    traces = gpt2.encode_steps(text)
    assert "".join(trace.pretoken for trace in traces) == text
    assert [token_id for trace in traces for token_id in trace.token_ids] == gpt2.encode(text)
    assert sum(len(trace.steps) for trace in traces) > 10
    for trace in traces:
        before = trace.start
        assert all(len(symbol) == 1 for symbol in before)
        for step in trace.steps:
            candidates = [gpt2.ranks[pair] for pair in zip(before, before[1:], strict=False) if pair in gpt2.ranks]
            assert step.rank == min(candidates)
            assert gpt2.merges[step.rank] == step.pair
            assert step.symbols != before
            assert b"".join(step.symbols) == trace.pretoken.encode()
            before = step.symbols
        assert tuple(gpt2.vocab[symbol] for symbol in before) == trace.token_ids


def test_a_very_long_word_is_encoded_in_time(gpt2: BPETokenizer, fast: FastTokenizer) -> None:
    letters = "".join(random.Random(0).choices("abcdefghijklmnop", k=3000))
    for text in ("a" * 10_000, letters):
        assert gpt2.encode(text) == fast.encode(text)


def test_bad_vocabularies_are_refused() -> None:
    vocab = {bytes([byte]): byte for byte in range(256)}
    with pytest.raises(ValueError, match="1 of the 256 bytes have no token"):
        BPETokenizer({token: token_id for token, token_id in vocab.items() if token != b"a"}, [])
    with pytest.raises(ValueError, match="merge 0"):
        BPETokenizer(vocab, [(b"a", b"b")])
    with pytest.raises(ValueError, match="share one id"):
        BPETokenizer(vocab, [], {END: 3})
    with pytest.raises(ValueError, match="empty name"):
        BPETokenizer(vocab, [], {"": 256})


# --- both paths, any text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_round_trip_and_equal_ids(name: str, gpt2: BPETokenizer, fast: FastTokenizer, small: BPETokenizer) -> None:
    text = TEXTS[name]
    assert "".join(pretokenize(text)) == text
    for readable, rust in ((gpt2, fast), (small, to_fast(small))):
        token_ids = readable.encode(text)
        assert rust.encode(text) == token_ids
        assert readable.decode(token_ids) == rust.decode(token_ids) == text
        assert readable.spans(token_ids) == rust.spans(token_ids)
        assert readable.labels(token_ids) == rust.labels(token_ids)
        assert b"".join(map(readable.token_bytes, token_ids)) == text.encode()
        assert [readable.token_bytes(i) for i in token_ids] == [rust.token_bytes(i) for i in token_ids]


@pytest.mark.parametrize("file", ["cs336-address.txt", "cs336-german.txt"])
def test_round_trip_of_files(file: str, shared_data: Path, gpt2: BPETokenizer, fast: FastTokenizer) -> None:
    text = (shared_data / "gpt2-bpe" / file).read_bytes().decode()
    assert gpt2.decode(gpt2.encode(text)) == text
    assert gpt2.encode(text) == fast.encode(text)


def test_both_cut_at_the_same_places_around_every_kind_of_character() -> None:
    """Of assigned characters every third: letters, digits, marks and white space as Unicode 14 knows them."""
    rust = ByteLevel(add_prefix_space=False, use_regex=True)
    for code in range(0, 0x20000, 3):
        if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co"):
            text = f"a{chr(code)} {chr(code)}1  {chr(code)}"
            expected = [piece for piece, _ in rust.pre_tokenize_str(text)]
            assert [to_alphabet(piece.encode()) for piece in pretokenize(text)] == expected, hex(code)


def test_random_unicode_gives_equal_ids(gpt2: BPETokenizer, fast: FastTokenizer) -> None:
    """Characters in use since Unicode 4 or so: for letters newer than a library's table the two cuts may differ."""
    rng = random.Random(1)
    ranges = [(0, 0x180), (0x370, 0x400), (0x5D0, 0x5EB), (0x2000, 0x2070), (0x3000, 0x3100), (0x4E00, 0x9FA0)]
    for _ in range(300):
        text = "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randint(1, 30)))
        token_ids = gpt2.encode(text)
        assert fast.encode(text) == token_ids, ascii(text)
        assert gpt2.decode(token_ids) == text


def test_corpus_gives_equal_ids(corpus: str, small: BPETokenizer) -> None:
    assert small.encode(corpus) == to_fast(small).encode(corpus)


SURROGATES = {"\ud83d": "\ufffd", "a\udc00b": "a\ufffdb", "\ud83d\ude00": "😀", "x \ud83d \ud83d\ude00": "x \ufffd 😀"}


@pytest.mark.parametrize("text", SURROGATES)
def test_surrogate_pairs_are_joined_and_lone_ones_replaced(text: str, gpt2: BPETokenizer, fast: FastTokenizer) -> None:
    token_ids = gpt2.encode(text)
    assert gpt2.decode(token_ids) == SURROGATES[text]
    assert fast.encode(text) == token_ids
    assert "".join(trace.pretoken for trace in gpt2.encode_steps(text)) == SURROGATES[text]


def test_unknown_ids_are_refused(gpt2: BPETokenizer, fast: FastTokenizer) -> None:
    for tokenizer in (gpt2, fast):
        for token_id in (50257, -1):
            with pytest.raises(ValueError, match=f"token id {token_id} is not in this vocabulary"):
                tokenizer.decode([token_id])


# --- spans and labels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_spans_are_whole_characters_and_the_shortest(name: str, gpt2: BPETokenizer) -> None:
    text = TEXTS[name]
    token_ids = gpt2.encode(text)
    spans = gpt2.spans(token_ids)
    assert [i for span in spans for i in range(span.start, span.end)] == list(range(len(token_ids)))
    for span in spans:
        pieces = [gpt2.token_bytes(token_id) for token_id in token_ids[span.start : span.end]]
        assert b"".join(pieces).decode("utf-8") == span.text  # strict: a half character would raise
        for cut in range(1, len(pieces)):
            with pytest.raises(UnicodeDecodeError):
                b"".join(pieces[:cut]).decode("utf-8")


def test_every_single_token_and_pair_decodes_without_mojibake(gpt2: BPETokenizer) -> None:
    rng = random.Random(2)
    for token_id in range(0, 50257, 7):
        token_ids = [token_id, rng.randrange(50257)]
        spans = gpt2.spans(token_ids)
        assert [i for span in spans for i in range(span.start, span.end)] == [0, 1]
        text = "".join(span.text for span in spans)
        assert text == gpt2.decode(token_ids)
        if b"\xef\xbf\xbd" not in b"".join(map(gpt2.token_bytes, token_ids)):
            assert "\ufffd" not in text
        assert all(gpt2.labels(token_ids))


def test_broken_bytes_are_hex_escapes() -> None:
    texts = [span.text for span in group_pieces([b"a", b"\xe7\x8c", b"b", b"\xff", b"\xab", END, b"\xf0\x9f"])]
    assert [span.text for span in group_pieces([b"\xe7", END, b"\x8c\xab"])] == ["\\xe7", END, "\\x8c\\xab"]
    assert texts == ["a", "\\xe7\\x8c", "b", "\\xff", "\\xab", END, "\\xf0\\x9f"]
    assert [(span.start, span.end) for span in group_pieces([b"\xf0\x9f", b"\x99", b"\x82!"])] == [(0, 3)]
    # one token ends one character and begins the next: all three hang together
    assert [span.text for span in group_pieces([b"\xe7\x8c", b"\xab\xe7", b"\x8c\xab"])] == ["猫猫"]
    assert group_pieces([]) == ()


def test_labels_make_everything_visible(gpt2: BPETokenizer) -> None:
    text = f"a b\n\t\x00\x7f\u200d 猫{END}"
    labels = gpt2.labels(gpt2.encode(text, allow_special=True))
    assert labels == ["a", "␣b", "⏎", "⇥", "␀", "␡", "\\u200d¹⁄₂", "\\u200d²⁄₂", *labels[8:-1], "⟨endoftext⟩"]
    assert labels[8:-1] == ["␣猫¹⁄₃", "␣猫²⁄₃", "␣猫³⁄₃"]  # GPT-2's first piece is a space and one byte of three
    assert gpt2.labels(gpt2.encode("猫")[:1]) == ["\\xe7"]
    assert show("\u202e\xa0\u3000\x85 \U0001fae8") == "\\u202e\\xa0\\u3000\\x85␣\U0001fae8"  # an emoji of 2022 stays
    for label in gpt2.labels(list(range(0, 50257, 11))):
        assert label.strip() == label and label and label.isprintable(), ascii(label)
