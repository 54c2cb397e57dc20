"""tokenizer.json out and in, the fast path on every family of vocabulary, and what becomes of broken files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from lm_core import fast_tokenizer
from lm_core.fast_tokenizer import FastTokenizer, Tokenizer
from lm_core.token_spans import TokenSpan
from lm_core.tokenizer import BPETokenizer, train_bpe
from lm_core.tokenizer_files import load_gpt2, load_tokenizer, save_tokenizer_json, to_fast

END = "<|endoftext|>"
STORY = "Once upon a time there was a little cat. The little cat said: meow, meow! 猫 is a cat. It's 10 o'clock.\n"
TEXTS = [
    "",
    STORY,
    "A  little\tcat\r\n\n",
    "emoji 👩‍👩‍👧 and 猫, שלום, \x00\x07",
    f"hello {END} there",
    "\u00a0x\u3000y",
    "a" * 500,
]


@pytest.fixture
def bpe() -> BPETokenizer:
    return train_bpe([STORY], 300, [END, "<|pad|>"])


@pytest.fixture
def content(bpe: BPETokenizer, tmp_path: Path) -> dict[str, Any]:
    return json.loads(save_tokenizer_json(bpe, tmp_path / "content").read_text(encoding="utf-8"))


def write(folder: Path, content: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# --- save and load ----------------------------------------------------------------------------------------------------


def test_saved_file_loads_everywhere_with_equal_ids(bpe: BPETokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    path = save_tokenizer_json(bpe, tmp_path / "model")
    rust = tokenizers.Tokenizer.from_file(str(path))
    auto = transformers.AutoTokenizer.from_pretrained(str(path.parent))
    direct = transformers.PreTrainedTokenizerFast.from_pretrained(str(path.parent))
    again, fast = load_tokenizer(path.parent), FastTokenizer.from_file(path.parent)
    assert (again.vocab, again.merges, again.special_tokens) == (bpe.vocab, bpe.merges, bpe.special_tokens)
    assert auto.bos_token_id == auto.eos_token_id == fast.bos_id == fast.eos_id == bpe.bos_id == 0
    assert len(auto) == fast.vocab_size == bpe.vocab_size == 300
    for text in TEXTS:
        expected = bpe.encode(text)
        assert again.encode(text) == fast.encode(text) == expected
        read = bpe.encode(text, allow_special=True)  # the two libraries read special tokens by default
        assert rust.encode(text).ids == auto(text)["input_ids"] == direct(text)["input_ids"] == read
        assert fast.encode(text, allow_special=True) == read
        assert auto.decode(read) == bpe.decode(read) == fast.decode(read) == text
    assert 0 in bpe.encode(TEXTS[4], allow_special=True)


def test_gpt2_survives_the_journey(shared_data: Path, tmp_path: Path) -> None:
    gpt2 = load_gpt2(shared_data / "gpt2-bpe" / "vocab.bpe", shared_data / "gpt2-bpe" / "encoder.json")
    assert len(gpt2.merges) == 50_000
    assert gpt2.merges[0] == (b" ", b"t")  # not the version line
    save_tokenizer_json(gpt2, tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.vocab, again.merges, again.special_tokens) == (gpt2.vocab, gpt2.merges, {END: 50256})
    rust = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        assert rust.encode(text).ids == gpt2.encode(text, allow_special=True)


def test_merges_written_as_strings_are_read(bpe: BPETokenizer, content: dict[str, Any], tmp_path: Path) -> None:
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    assert load_tokenizer(write(tmp_path, content)).merges == bpe.merges


def test_special_token_named_like_a_token_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a' has the name of an ordinary token"):
        save_tokenizer_json(train_bpe([], 257, ["a"]), tmp_path)


def test_padding_and_truncation_in_a_file_are_not_obeyed(content: dict[str, Any], tmp_path: Path) -> None:
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    assert len(FastTokenizer.from_file(write(tmp_path, content)).encode(STORY)) > 3


# --- the fast path on other families ----------------------------------------------------------------------------------


def bert() -> tokenizers.Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", ",", "[", "]", "mask", "cls"]
    rust = tokenizers.Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer()
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    rust.add_special_tokens(words[:5])
    return rust


def llama() -> tokenizers.Tokenizer:
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "▁h", "▁hi"]
    vocab = {name: i for i, name in enumerate(names)}
    rust = tokenizers.Tokenizer(
        models.BPE(vocab, [("▁", "h"), ("▁h", "i")], byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    )
    rust.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    rust.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    rust.add_special_tokens(names[:3])
    return rust


def digits_byte_level(bpe: BPETokenizer) -> tokenizers.Tokenizer:
    """SmolLM2's cut: every digit by itself, then as GPT-2."""
    rust = to_fast(bpe)._plain
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return rust


def load(rust: tokenizers.Tokenizer, folder: Path) -> FastTokenizer:
    return FastTokenizer.from_file(write(folder, rust.to_str()))


def test_bert(tmp_path: Path) -> None:
    fast = load(bert(), tmp_path)
    text = "The CATS, 猫 sat"
    token_ids = fast.encode(text)
    assert token_ids == [5, 6, 7, 9, 1, 8]
    framed = fast.encode(text, add_special_tokens=True)
    assert framed == [2, *token_ids, 3]
    assert (fast.bos_id, fast.eos_id) == (None, None)  # [CLS] and [SEP] are neither
    assert fast.labels(framed) == ["[CLS]", "the", "cat", "##s", ",", "[UNK]", "sat", "[SEP]"]
    assert fast.decode(token_ids[:3]) == "the cats"
    spans = fast.spans(framed, text)
    assert [span.text for span in spans] == ["[CLS]", "The", "CAT", "S", ",", "猫", "sat", "[SEP]"]
    assert [span.special for span in spans] == [True, *[False] * 6, True]
    with pytest.raises(ValueError, match="not what this text is encoded to"):
        fast.spans(framed, "another text")


def test_bert_mask_is_read_only_on_request(tmp_path: Path) -> None:
    fast = load(bert(), tmp_path)
    assert fast.encode("the [MASK] sat") == [5, 10, 12, 11, 8]
    assert fast.encode("the [MASK] sat", allow_special=True) == [5, 4, 8]
    span = fast.spans([5, 4, 8], "the [MASK] sat")[1]
    assert span == TokenSpan(1, 2, "[MASK]", special=True)


def test_llama_byte_fallback(tmp_path: Path) -> None:
    rust = llama()
    fast = load(rust, tmp_path)
    assert (fast.bos_id, fast.eos_id) == (1, 2)
    for text in ("hi", "hi 猫 hi", " hi", "hi\n🙂", ""):
        token_ids = fast.encode(text)
        assert fast.decode(token_ids) == rust.decode(token_ids) == text
        assert "".join(span.text for span in fast.spans(token_ids)) == text
    token_ids = fast.encode("hi 猫")
    assert fast.labels(token_ids) == ["␣hi", "␣", "猫¹⁄₃", "猫²⁄₃", "猫³⁄₃"]
    assert fast.spans(token_ids)[-1] == fast.spans(token_ids, "hi 猫")[-1] == TokenSpan(2, 5, "猫")
    assert fast.token_bytes(token_ids[2]) == "猫".encode()[:1]
    assert fast.decode(token_ids[:3]) == "hi \\xe7"
    assert 2 not in fast.encode("</s>")
    assert 2 in fast.encode("</s>", allow_special=True)


def test_smollm_like_cut(bpe: BPETokenizer, tmp_path: Path) -> None:
    fast = load(digits_byte_level(bpe), tmp_path)
    token_ids = fast.encode("in 2024 猫")
    assert fast.decode(token_ids) == "in 2024 猫"
    assert [label for label in fast.labels(token_ids) if label.strip("␣").isdigit()][-4:] == ["2", "0", "2", "4"]
    with pytest.raises(ValueError, match=r"does not cut text as GPT-2 does: load it with FastTokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("make", [bert, llama])
def test_any_text_encodes_and_is_shown(make: Callable[[], tokenizers.Tokenizer], tmp_path: Path) -> None:
    fast = load(make(), tmp_path)
    for text in [*TEXTS, "\ud83d lone", "\ud83d\ude00 pair"]:
        token_ids = fast.encode(text)
        assert len(fast.labels(token_ids)) == len(token_ids)
        for spans in (fast.spans(token_ids), fast.spans(token_ids, text)):
            assert [i for span in spans for i in range(span.start, span.end)] == list(range(len(token_ids)))


def test_config_beside_the_file_names_start_and_end(bpe: BPETokenizer, tmp_path: Path) -> None:
    save_tokenizer_json(bpe, tmp_path)
    config = {"bos_token": {"content": "<|pad|>"}, "eos_token": END}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    fast = FastTokenizer.from_file(tmp_path)
    assert (fast.bos_id, fast.eos_id) == (1, 0)
    (tmp_path / "tokenizer_config.json").unlink()
    fast = FastTokenizer.from_file(tmp_path / "tokenizer.json")
    assert (fast.bos_id, fast.eos_id) == (0, 0)


def test_both_keep_the_interface(bpe: BPETokenizer) -> None:
    def start_and_text(tokenizer: Tokenizer) -> list[int]:
        return [tokenizer.bos_id or 0, *tokenizer.encode("cat")]

    assert start_and_text(bpe) == start_and_text(to_fast(bpe)) != [0]


# --- broken files -----------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no JSON": (lambda c: "{not json", "tokenizer.json is not JSON"),
    "nested": (lambda c: "[" * 100_000, "tokenizer.json is not JSON"),
    "a list": (lambda c: [1, 2], "holds a list, not a JSON object"),
    "empty": (lambda c: {}, "tokenizer.json"),
    "no model": (lambda c: {**c, "model": None}, "tokenizer.json"),
    "no merges": (lambda c: {**c, "model": {k: v for k, v in c["model"].items() if k != "merges"}}, "merges"),
    "no vocab": (lambda c: {**c, "model": {k: v for k, v in c["model"].items() if k != "vocab"}}, "vocab"),
    "odd merge": (lambda c: {**c, "model": {**c["model"], "merges": [["a"]]}}, "tokenizer.json"),
    "unknown merge": (lambda c: {**c, "model": {**c["model"], "merges": [["a", "猫"]]}}, "猫"),
    "negative id": (lambda c: {**c, "model": {**c["model"], "vocab": {**c["model"]["vocab"], "a": -1}}}, "-1"),
    "odd added": (lambda c: {**c, "added_tokens": [{"content": 3}]}, "tokenizer.json"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("reader", [load_tokenizer, FastTokenizer.from_file])
def test_broken_file_is_a_value_error(
    name: str, reader: Callable[[Path], object], content: dict[str, Any], tmp_path: Path
) -> None:
    spoil, message = BROKEN[name]
    path = write(tmp_path, spoil(content))
    with pytest.raises(ValueError, match=message) as raised:
        reader(path)
    assert str(tmp_path) not in str(raised.value)  # a message for a class names no folder of the server


def test_other_kinds_are_refused_by_the_readable_reader_only(tmp_path: Path, content: dict[str, Any]) -> None:
    path = write(tmp_path, bert().to_str())
    with pytest.raises(ValueError, match="holds a WordPiece model; the readable tokenizer reads BPE only"):
        load_tokenizer(path)
    assert FastTokenizer.from_file(path).vocab_size == 14
    for key in ("byte_fallback", "ignore_merges"):
        with pytest.raises(ValueError, match=key):
            load_tokenizer(write(tmp_path, {**content, "model": {**content["model"], key: True}}))
    content["added_tokens"][0]["special"] = False
    with pytest.raises(ValueError, match="by a rule of its own"):
        load_tokenizer(write(tmp_path, content))


@pytest.mark.parametrize("reader", [load_tokenizer, FastTokenizer.from_file])
def test_absent_binary_and_huge_files(
    reader: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"there is no file tokenizer\.json in the folder"):
        reader(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        reader(tmp_path)
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(fast_tokenizer.MAX_FILE_BYTES + 1)  # a sparse file: takes no room
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("a huge file was read"))
    with pytest.raises(ValueError, match="the limit is 64 MiB"):
        reader(tmp_path)


def test_gpt2_files_that_are_broken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file encoder\.json"):
        load_gpt2(tmp_path / "vocab.bpe", tmp_path / "encoder.json")
    (tmp_path / "encoder.json").write_text("{}", encoding="utf-8")
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no merges"):
        load_gpt2(tmp_path / "vocab.bpe", tmp_path / "encoder.json")
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\na b c\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is not a pair of tokens"):
        load_gpt2(tmp_path / "vocab.bpe", tmp_path / "encoder.json")
    (tmp_path / "encoder.json").write_text('{"a": [1]}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"the id of 'a' is \[1\], not a whole number"):
        load_gpt2(tmp_path / "vocab.bpe", tmp_path / "encoder.json")
