"""Whole characters as byte-level BPE: one token each, bytes beyond the alphabet, and the same ids in the library."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from lm_core.character_tokenizer import character_bpe, common_characters, frequent_characters
from lm_core.tokenizer_files import load_tokenizer, save_tokenizer_json, to_fast

ALPHABET = "我爱愛自然语語言处處理，。？é𩅰床前明月光"
TEXTS = ("我爱自然语言处理", "我愛自然語言處理。\n床前明月光，", "猫 cat é ñ 𩅰", "明明光光 ，，。。 \t我", "\u0301月")


def test_each_character_of_the_alphabet_is_one_token() -> None:
    tokenizer = character_bpe(ALPHABET)
    assert all(len(tokenizer.encode(character)) == 1 for character in ALPHABET)
    assert len(tokenizer.encode(ALPHABET)) == len(ALPHABET)  # and no merge goes beyond a character


def test_a_character_outside_the_alphabet_is_its_bytes() -> None:
    tokenizer = character_bpe("床前明月光")
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("x")] == [b"x"]
    assert b"".join(tokenizer.token_bytes(i) for i in tokenizer.encode("猫")) == "猫".encode()
    assert tokenizer.decode(tokenizer.encode("床猫")) == "床猫"


@pytest.mark.parametrize("text", TEXTS)
def test_the_library_gives_the_same_ids(text: str, tmp_path: Path) -> None:
    tokenizer = character_bpe(ALPHABET, ["<|endoftext|>"])
    save_tokenizer_json(tokenizer, tmp_path)
    ids = tokenizer.encode(text)
    assert to_fast(tokenizer).encode(text) == ids
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == ids
    assert load_tokenizer(tmp_path).decode(ids) == tokenizer.decode(ids) == text


def test_bad_alphabets_are_refused() -> None:
    with pytest.raises(ValueError, match="not one character"):
        character_bpe(["明月"])


def test_the_common_characters_are_those_of_the_standard() -> None:
    characters = common_characters()
    assert len(set(characters)) == 3755
    assert (characters[0], characters[-1]) == ("啊", "座")  # the first and last of level 1, in the order of pinyin
    assert all("\u4e00" <= character <= "\u9fff" for character in characters)


def test_frequent_characters_are_counted_over_all_texts() -> None:
    assert frequent_characters(["月明", "月"], at_least=1) == ["月", "明"]
    assert frequent_characters(["月明", "月"], at_least=3) == []
