"""The shipped encoder: the same logits here and in transformers, the same ids, and gaps filled with sense."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoTokenizer, BertForMaskedLM

from lm_core.checkpoint import BUNDLED, LoadedModel, load_pretrained
from lm_core.encoder import Encoder
from lm_core.encoder_rows import Frame
from lm_core.recipe import read_recipe

FOLDER = BUNDLED / "storyteller-mlm"
TEXTS = ["The old king looked at the little bird.", '"Who is there?" asked the wolf.\nNobody — 猫!', "a"]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_pretrained("bundled:storyteller-mlm")


def test_logits_and_ids_are_those_of_transformers(loaded: LoadedModel) -> None:
    theirs, tokenizer = BertForMaskedLM.from_pretrained(FOLDER).eval(), AutoTokenizer.from_pretrained(FOLDER)
    assert isinstance(loaded.model, Encoder)
    for text in TEXTS:
        ids = loaded.encode(text)
        assert tokenizer(text)["input_ids"] == ids
        with torch.no_grad():
            expected = theirs(torch.tensor([ids])).logits
            found = loaded.model(torch.tensor([ids]))
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    pair = tokenizer(TEXTS[0], TEXTS[2], return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**pair).logits
        found = loaded.model(pair["input_ids"], segment_ids=pair["token_type_ids"])
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_tokenizer_is_the_storytellers_with_four_more(loaded: LoadedModel) -> None:
    storyteller = load_pretrained("bundled:storyteller").tokenizer
    assert storyteller is not None and loaded.tokenizer is not None
    frame = Frame.of(loaded.tokenizer.special_tokens)
    assert (frame.pad, frame.cls, frame.sep, frame.mask) == (4096, 4097, 4098, 4099)
    for text in TEXTS:
        assert loaded.encode(text) == [frame.cls, *storyteller.encode(text), frame.sep]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [("Once upon a time there", " a little girl.", " was"), ('"I am hungry," said', " wolf.", " the")],
)
def test_a_gap_is_filled_with_sense(loaded: LoadedModel, before: str, after: str, expected: str) -> None:
    assert loaded.tokenizer is not None
    frame = Frame.of(loaded.tokenizer.special_tokens)
    left = loaded.encode(before)[:-1]
    ids = [*left, frame.mask, *loaded.tokenizer.encode(after), frame.sep]
    with torch.no_grad():
        guess = int(loaded.model(torch.tensor([ids]))[0, len(left)].argmax())
    assert loaded.tokenizer.decode([guess]) == expected


def test_the_files_say_what_the_recipe_does(loaded: LoadedModel) -> None:
    recipes = [read_recipe(FOLDER / name) for name in ("recipe.toml", "recipe-2.toml")]
    assert all(loaded.model.config == recipe.model for recipe in recipes)
    assert json.loads((FOLDER / "config.json").read_text())["dtype"] == "float32"
    lines = (FOLDER / "training_log.csv").read_text().splitlines()
    assert lines[-1].split(",")[1] == str(sum(recipe.train.n_steps for recipe in recipes))
    assert (FOLDER / "model.safetensors").stat().st_size < 20e6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{loaded.model.n_parameters():,} parameters" in card
    assert all(f"{recipe.train.n_steps:,} steps" in card for recipe in recipes)
