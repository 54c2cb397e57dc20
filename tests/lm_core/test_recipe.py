"""A recipe from end to end: held-out books stay out, and a run that was stopped goes on to the same bits."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_core import device as devices
from lm_core.checkpoint import save_pretrained
from lm_core.data import is_held_out, read_documents
from lm_core.model import Decoder
from lm_core.pretrain import Record
from lm_core.recipe import Recipe, first_model, prepare, read_recipe, shorter, source_hashes, train_recipe
from lm_core.tokenizer_files import load_tokenizer
from tests.support import one_thread


@pytest.fixture(autouse=True)
def _float32_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bit-equality is promised for float32 and a fixed thread count: no bf16, whatever this machine measures."""
    monkeypatch.setattr(devices, "bf16_speedup", lambda _: 0.0)
    with one_thread():
        yield


def _what_matters(records: list[Record]) -> list[tuple[object, ...]]:
    """Everything but the clock."""
    return [(r.step, r.loss, r.grad_norm, r.lr_share, r.validation_loss) for r in records]


def _equal(one: Decoder, other: Decoder) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


RECIPE = """
name = "tiny"
held_out = 0.3
prompts = ["The cat"]

[[data]]
path = "books.jsonl"
repeat = 2
min_simple = 0.5

[[data]]
path = "stories.txt"

[tokenizer]
vocab_size = 270

[model]
family = "gpt2"
d_model = 12
n_layers = 1
n_heads = 2
context_length = 16

[train]
n_steps = 6
batch_size = 2
n_tokens = 16
warmup = 2
save_every = 2
validate_every = 3
validation_batches = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Twelve books whose every word names its book, four too hard ones, and a file of stories."""
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"title": f"B{i}", "text": f"book{i:02d} " * 30, "simple": 0.9} for i in range(12)]
    rows += [{"title": f"H{i}", "text": f"hard{i:02d} " * 30, "simple": 0.1} for i in range(4)]
    (data / "books.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "stories.txt").write_text("<|endoftext|>".join(f"tale{i:02d} " * 20 for i in range(8)))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return read_recipe(tmp_path / "tiny.toml")


def test_held_out_books_are_not_in_the_training_data(recipe: Recipe, tmp_path: Path) -> None:
    tokenizer, train, selection = prepare(recipe, tmp_path / "data", tmp_path / "out")
    learned, kept = (tokenizer.decode(stream.token_ids.tolist()) for stream in (train, selection))
    n_held_out = 0
    for i in range(12):
        name, held_out = f"book{i:02d} ", is_held_out(f"B{i}", 0.3)
        n_held_out += held_out
        assert learned.count(name) == (0 if held_out else 60)  # 30 words, repeated twice
        assert kept.count(name) == (30 if held_out else 0)
    assert 0 < n_held_out < 12
    assert "hard" not in learned + kept
    documents = list(read_documents(tmp_path / "data" / "stories.txt"))
    assert sum((d.text in learned) + (d.text in kept) for d in documents) == 8
    n_train = 2 * (12 - n_held_out) + sum(d.text in learned for d in documents)
    assert int((train.token_ids == tokenizer.bos_id).sum()) == n_train  # one start token before each document
    assert train.token_ids[0] == selection.token_ids[0] == tokenizer.bos_id


def test_the_tokenizer_never_saw_the_held_out_books(recipe: Recipe, tmp_path: Path) -> None:
    """Held-out texts all share a word that would merge at once, had they been read."""
    rows = [json.loads(line) for line in (tmp_path / "data" / "books.jsonl").read_text().splitlines()]
    for row in rows:
        if is_held_out(row["title"], 0.3):
            row["text"] = "zqzq " * 500
    (tmp_path / "data" / "books.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer, _, selection = prepare(recipe, tmp_path / "data", tmp_path / "out")
    assert "zqzq" in tokenizer.decode(selection.token_ids.tolist())
    assert len(tokenizer.encode("zqzq")) == 4


def test_preparing_twice_reads_what_the_first_time_wrote(recipe: Recipe, tmp_path: Path) -> None:
    first = prepare(recipe, tmp_path / "data", tmp_path / "out")
    (tmp_path / "data" / "books.jsonl").unlink()
    second = prepare(recipe, tmp_path / "data", tmp_path / "out")
    assert np.array_equal(first[1].token_ids, second[1].token_ids)
    assert np.array_equal(first[2].token_ids, second[2].token_ids)
    assert load_tokenizer(tmp_path / "out").encode("book tale") == first[0].encode("book tale")


def test_a_recipe_trains_logs_and_resumes_to_the_same_bits(recipe: Recipe, tmp_path: Path) -> None:
    data, cpu = tmp_path / "data", torch.device("cpu")
    whole = list(train_recipe(recipe, data, tmp_path / "whole", cpu))
    run = train_recipe(recipe, data, tmp_path / "parts", cpu)
    for _ in range(3):
        next(run)  # step 3 is logged but the last save is of step 2
    run.close()
    rest = list(train_recipe(recipe, data, tmp_path / "parts", cpu))
    assert [record.step for record, _ in rest] == [3, 4, 5, 6]
    assert _what_matters([r for r, _ in rest]) == _what_matters([r for r, _ in whole])[2:]
    assert _equal(rest[-1][1], whole[-1][1])
    logs = [
        [json.loads(line) for line in (tmp_path / out / "log.jsonl").read_text().splitlines()]
        for out in ("whole", "parts")
    ]
    for rows in logs:
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert [row["step"] for row in rows if "validation_loss" in row] == [3, 6]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]


def test_a_recipe_resumes_after_a_kill_between_two_renames(recipe: Recipe, tmp_path: Path) -> None:
    data, cpu, out = tmp_path / "data", torch.device("cpu"), tmp_path / "out"
    list(train_recipe(shorter(recipe, 4), data, out, cpu))
    (out / "state").rename(out / "state.old")
    assert [record.step for record, _ in train_recipe(recipe, data, out, cpu)] == [5, 6]
    assert len((out / "log.jsonl").read_text().splitlines()) == 6


def test_the_same_seed_is_the_same_fresh_model(recipe: Recipe, tmp_path: Path) -> None:
    other = replace(recipe, train=replace(recipe.train, seed=2))
    assert _equal(first_model(recipe, tmp_path), first_model(recipe, tmp_path))
    assert not _equal(first_model(recipe, tmp_path), first_model(other, tmp_path))
    assert shorter(recipe, 3).train.n_steps == 3
    assert shorter(recipe, 3).model == recipe.model


def test_sources_are_named_by_their_hash(recipe: Recipe, tmp_path: Path) -> None:
    before = source_hashes(recipe, tmp_path / "data")
    assert set(before) == {"books.jsonl", "stories.txt"}
    with (tmp_path / "data" / "stories.txt").open("a") as file:
        file.write("x")
    after = source_hashes(recipe, tmp_path / "data")
    assert after["books.jsonl"] == before["books.jsonl"]
    assert after["stories.txt"] != before["stories.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace('family = "gpt2"\n', ""), "bad.toml: missing or unknown entry 'family'"),
        (lambda t: t.replace('"gpt2"', '"gpt9"'), "bad.toml: missing or unknown entry 'gpt9'"),
        (lambda t: t.replace("[tokenizer]", "[tokens]"), "bad.toml: missing or unknown entry 'tokenizer'"),
        (lambda t: t.replace("n_layers", "layers"), "bad.toml: .*'layers'"),
        (lambda t: t.replace("repeat", "times"), "bad.toml: .*'times'"),
        (lambda t: t.replace("d_model = 12", "d_model = 13"), "d_model 13 is not divisible by n_heads 2"),
        (lambda t: t.replace("n_steps = 6", "n_steps = 0"), "n_steps must be at least 1, not 0"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    assert change(RECIPE) != RECIPE
    (tmp_path / "bad.toml").write_text(change(RECIPE))
    with pytest.raises(ValueError, match=message):
        read_recipe(tmp_path / "bad.toml")
    with pytest.raises(FileNotFoundError):
        read_recipe(tmp_path / "none.toml")


def test_a_second_run_goes_on_from_the_first(recipe: Recipe, tmp_path: Path) -> None:
    data, first = tmp_path / "data", tmp_path / "runs" / "first"
    *_, (_, trained) = train_recipe(recipe, data, first, torch.device("cpu"))
    second = replace(recipe, name="second", start="first")
    with pytest.raises(FileNotFoundError, match="'first': make it first"):
        first_model(second, tmp_path / "runs" / "second")
    save_pretrained(trained, load_tokenizer(first), first / "model", half=False)
    assert _equal(first_model(second, tmp_path / "runs" / "second"), trained)
    other_shape = replace(second, model=replace(second.model, context_length=8))
    with pytest.raises(ValueError, match="another shape"):
        first_model(other_shape, tmp_path / "runs" / "second")
    *_, (_, further) = train_recipe(second, data, tmp_path / "runs" / "second", torch.device("cpu"))
    assert not _equal(further, trained)
    assert load_tokenizer(tmp_path / "runs" / "second").vocab == load_tokenizer(first).vocab


def test_documents_are_cut_at_paragraphs_but_not_the_held_out_ones(recipe: Recipe, tmp_path: Path) -> None:
    data = tmp_path / "data"
    lines = "\n".join(f"line {i} of the story" for i in range(8))
    rows = [{"title": f"B{i}", "text": lines, "simple": 0.9} for i in range(12)]
    (data / "books.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cut = replace(recipe, sources=(replace(recipe.sources[0], repeat=1, passage=38), recipe.sources[1]))
    whole = replace(recipe, sources=(replace(recipe.sources[0], repeat=1), recipe.sources[1]))
    starts = {}
    for name, wanted in (("cut", cut), ("whole", whole)):
        tokenizer, *streams = prepare(wanted, data, tmp_path / name)
        starts[name] = [int((stream.token_ids == tokenizer.bos_id).sum()) for stream in streams]
    n_held_out = sum(is_held_out(f"B{i}", recipe.held_out) for i in range(12))
    assert starts["cut"][1] == starts["whole"][1]
    assert starts["cut"][0] - starts["whole"][0] == (12 - n_held_out) * 3  # eight lines, two to a passage
