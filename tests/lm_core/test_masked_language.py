"""Hidden words: the batches, the loss against transformers' BertForPreTraining, and a recipe from text to model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, BertForPreTraining

from lm_core import device as devices
from lm_core.checkpoint import load_pretrained, save_pretrained
from lm_core.config import EncoderConfig
from lm_core.encoder import Encoder
from lm_core.encoder_rows import IS_NEXT, NO_PAIR, Frame, SentenceStream
from lm_core.masked_language import MaskedRows, MaskingConfig, masked_language_loss
from lm_core.objectives import IGNORED
from lm_core.pretrain import PretrainConfig, pretrain, train_step
from lm_core.recipe import Recipe, first_model, objective, prepare, read_recipe, train_recipe
from lm_core.token_kinds import TokenKinds
from lm_core.tokenizer import BPETokenizer, train_bpe
from lm_core.tokenizer_files import for_encoder, load_tokenizer
from tests.support import one_thread

TEXT = " ".join(f"The cat number {n} sat on the mat. The dog saw it. It ran to the door {n % 3}." for n in range(40))
CONFIG = PretrainConfig(n_steps=4, batch_size=6, n_tokens=24, warmup=1, validation_batches=1)


@pytest.fixture(autouse=True)
def _float32_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(devices, "bf16_speedup", lambda _: 0.0)
    with one_thread():
        yield


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return for_encoder(train_bpe([TEXT], 300, ["<|endoftext|>"]))


def _rows(tokenizer: BPETokenizer, **masking: float) -> MaskedRows:
    ids = np.array([0, *tokenizer.encode(TEXT), 0, *tokenizer.encode(TEXT[60:])], dtype=np.uint16)
    frame = Frame.of(tokenizer.special_tokens)
    return MaskedRows(SentenceStream(ids, TokenKinds.of(tokenizer)), frame, MaskingConfig(**masking))


def _model(vocab_size: int, next_sentence_head: bool = True) -> Encoder:
    config = EncoderConfig(
        vocab_size=vocab_size, d_model=12, n_layers=2, n_heads=3, d_mlp=29, context_length=24,
        next_sentence_head=next_sentence_head,
    )  # fmt: skip
    model = Encoder(config).init_weights(torch.Generator().manual_seed(1))
    with torch.no_grad():  # far from uniform, so that a wrong place shows
        for name, parameter in model.named_parameters():
            parameter.mul_(1 if "norm" in name else 8)
    return model


# Batches


def test_the_same_step_and_seed_are_the_same_batch(tokenizer: BPETokenizer) -> None:
    one, other = _rows(tokenizer, pair_share=0.5), _rows(tokenizer, pair_share=0.5)
    assert all(torch.equal(a, b) for a, b in zip(one.batch(3, 1, 6, 24), other.batch(3, 1, 6, 24), strict=True))
    assert not torch.equal(one.batch(3, 1, 6, 24)[0], one.batch(4, 1, 6, 24)[0])
    assert not torch.equal(one.batch(3, 1, 6, 24)[0], one.batch(3, 2, 6, 24)[0])


def test_only_ordinary_tokens_are_asked_for(tokenizer: BPETokenizer) -> None:
    rows, frame = _rows(tokenizer, pair_share=0.5, short_share=0.0), Frame.of(tokenizer.special_tokens)
    specials = torch.tensor(sorted(tokenizer.special_tokens.values()))
    for step in range(20):
        inputs, labels, segments, lengths, is_next = rows.batch(step, 1, 6, 24)
        assert inputs.shape == labels.shape == segments.shape == (6, int(lengths.max()))
        asked = labels != IGNORED
        assert not torch.isin(labels[asked], specials).any()
        assert (inputs[:, 0] == frame.cls).all()
        for row, length in zip(inputs, lengths, strict=True):
            assert row[length - 1] == frame.sep and (row[length:] == frame.pad).all()
        assert torch.equal((inputs == frame.sep).sum(1) == 2, is_next != NO_PAIR)
        untouched = ~asked
        assert not (inputs[untouched] == frame.mask).any()


def test_short_batches_hold_four_times_as_many_rows(tokenizer: BPETokenizer) -> None:
    shapes = [_rows(tokenizer, short_share=0.5).batch(step, 1, 4, 48)[0].shape for step in range(40)]
    short = [shape for shape in shapes if shape[0] == 16]
    assert 8 < len(short) < 32
    assert all(shape[1] <= 12 for shape in short)
    assert all(shape[0] == 4 and 12 < shape[1] <= 48 for shape in shapes if shape not in short)
    with pytest.raises(ValueError, match=r"short_share must lie in 0 … 1, not 1\.5"):
        MaskingConfig(short_share=1.5)


# The loss


@pytest.mark.parametrize("pair_share", [0.0, 1.0])
def test_the_loss_is_that_of_transformers(tokenizer: BPETokenizer, tmp_path: Path, pair_share: float) -> None:
    """BertForPreTraining adds the same two means; it has to compute all B · T rows of logits for it."""
    model = _model(tokenizer.vocab_size)
    save_pretrained(model, None, tmp_path, half=False)
    theirs = BertForPreTraining.from_pretrained(tmp_path)
    inputs, labels, segments, lengths, is_next = _rows(tokenizer, pair_share=pair_share).batch(0, 1, 6, 24)
    seen = (torch.arange(inputs.shape[1]) < lengths[:, None]).long()
    if pair_share == 0:
        is_next = torch.full_like(is_next, NO_PAIR)
    ours = masked_language_loss(model, inputs, labels, segments, lengths, is_next)
    out = theirs(inputs, seen, segments, labels=labels, next_sentence_label=is_next.clamp(min=0))
    expected = out.loss
    if pair_share == 0:
        expected = nn.functional.cross_entropy(out.prediction_logits.flatten(0, 1), labels.flatten())
    else:
        assert (is_next == IS_NEXT).any() and (is_next != NO_PAIR).all()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    assert ours.item() > 3


def test_padding_changes_nothing(tokenizer: BPETokenizer) -> None:
    model = _model(tokenizer.vocab_size)
    inputs, labels, segments, lengths, is_next = _rows(tokenizer, pair_share=0.5, short_share=0.0).batch(1, 1, 6, 20)
    wider = [torch.cat([x, torch.full((6, 4), fill)], 1) for x, fill in ((inputs, 7), (labels, IGNORED), (segments, 1))]
    one = masked_language_loss(model, inputs, labels, segments, lengths, is_next)
    assert masked_language_loss(model, *wider, lengths, is_next).item() == pytest.approx(one.item(), rel=1e-5)


def test_nothing_selected_is_no_loss(tokenizer: BPETokenizer) -> None:
    model = _model(tokenizer.vocab_size, next_sentence_head=False)
    inputs, labels, *rest = _rows(tokenizer, select_share=0.0).batch(0, 1, 2, 16)
    assert (labels == IGNORED).all()
    assert masked_language_loss(model, inputs, labels, *rest).item() == 0


def test_the_loss_falls_below_what_frequency_alone_gives(tokenizer: BPETokenizer) -> None:
    model = _model(tokenizer.vocab_size).init_weights(torch.Generator().manual_seed(1))
    rows = _rows(tokenizer)
    asked = torch.cat([labels[labels != IGNORED] for labels in (rows.batch(s, 1, 8, 24)[1] for s in range(100))])
    shares = torch.bincount(asked) / len(asked)
    entropy = torch.special.entr(shares).sum().item()
    config = replace(CONFIG, n_steps=120, batch_size=8, lr=1e-2, muon_lr=2e-2, validation_batches=5)
    records = list(pretrain(model, rows, rows, config, loss_of=masked_language_loss))
    assert records[0].loss > 5 > 4 > entropy
    assert records[-1].validation_loss is not None and records[-1].validation_loss < 0.8 * entropy


def test_every_parameter_learns(tokenizer: BPETokenizer) -> None:
    model = _model(tokenizer.vocab_size)
    batch: tuple[Tensor, ...] = _rows(tokenizer, pair_share=0.5).batch(0, 1, 6, 24)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    train_step(model, [sgd], *batch, clip_norm=1.0, loss_of=masked_language_loss)
    same = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert same == []


# The recipe

RECIPE = """
name = "tiny-mlm"
held_out = 0.3

[[data]]
path = "books.jsonl"

[tokenizer]
vocab_size = 300

[model]
family = "bert"
d_model = 12
n_layers = 1
n_heads = 2
d_mlp = 20
context_length = 16
next_sentence_head = true

[masking]
pair_share = 0.5

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
    (tmp_path / "data").mkdir()
    rows = [{"title": f"B{i}", "text": f"Here is book {i}. It is read. " * 12} for i in range(12)]
    (tmp_path / "data" / "books.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return read_recipe(tmp_path / "tiny.toml")


def test_an_encoder_by_recipe_resumes_to_the_same_bits(recipe: Recipe, tmp_path: Path) -> None:
    data, cpu = tmp_path / "data", torch.device("cpu")
    whole = list(train_recipe(recipe, data, tmp_path / "whole", cpu))
    run = train_recipe(recipe, data, tmp_path / "parts", cpu)
    for _ in range(3):
        next(run)
    run.close()
    rest = list(train_recipe(recipe, data, tmp_path / "parts", cpu))
    assert [(r.step, r.loss, r.validation_loss) for r, _ in rest] == [
        (r.step, r.loss, r.validation_loss) for r, _ in whole[2:]
    ]
    pairs = zip(rest[-1][1].parameters(), whole[-1][1].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_tokenizer_is_framed_and_loads_everywhere(recipe: Recipe, tmp_path: Path) -> None:
    tokenizer, *_ = prepare(recipe, tmp_path / "data", tmp_path / "out")
    model = first_model(recipe, tmp_path / "out")
    save_pretrained(model, tmp_path / "out", tmp_path / "model", half=False)
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path / "model"), load_pretrained(tmp_path / "model")
    assert ours.tokenizer is not None and ours.start_id is None
    frame = Frame.of(ours.tokenizer.special_tokens)
    text = "Here is a book."
    assert theirs(text)["input_ids"] == ours.encode(text) == [frame.cls, *tokenizer.encode(text), frame.sep]
    assert (theirs.mask_token_id, theirs.pad_token_id) == (frame.mask, frame.pad)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["pad_token_id"] == frame.pad
    pair = theirs("It", " is")
    assert pair["token_type_ids"] == [0] * pair["input_ids"].index(frame.sep) + [0] + [1] * 2
    assert theirs.decode(theirs.encode("It is")[1:-1]) == "It is"
    masked = f"Here is {theirs.mask_token} book."
    assert frame.mask in theirs(masked)["input_ids"]
    assert load_tokenizer(tmp_path / "model").encode(text) == tokenizer.encode(text)


def test_settings_are_chosen_on_hidden_words_alone(recipe: Recipe, tmp_path: Path) -> None:
    tokenizer, train, selection = prepare(recipe, tmp_path / "data", tmp_path / "out")
    batches, judged, loss_of = objective(recipe, tokenizer, train, selection)
    assert loss_of is masked_language_loss
    assert any((batches.batch(step, 1, 4, 16)[4] != NO_PAIR).any() for step in range(5))
    assert all((judged.batch(step, 1, 4, 16)[4] == NO_PAIR).all() for step in range(5))


def test_tokenizer_and_first_embeddings_of_another_model(recipe: Recipe, tmp_path: Path) -> None:
    *_, (_, other) = train_recipe(recipe, tmp_path / "data", tmp_path / "other", torch.device("cpu"))
    save_pretrained(other, tmp_path / "other", tmp_path / "donor", half=False)
    donor = replace(recipe, tokenizer_of=f"folder:{tmp_path / 'donor'}", tokenizer_vocab=304)
    with pytest.raises(ValueError, match="vocab_size 250 is too small: the tokenizer has 287"):
        prepare(replace(donor, tokenizer_vocab=250), tmp_path / "data", tmp_path / "none")
    wider = replace(donor, embeddings_of_it=True, model=replace(donor.model, vocab_size=304))
    model, fresh = first_model(wider, tmp_path), first_model(replace(wider, embeddings_of_it=False), tmp_path)
    assert torch.equal(model.embed_tokens.weight[:300], other.embed_tokens.weight)
    assert torch.equal(model.embed_tokens.weight[300:], fresh.embed_tokens.weight[300:])
    assert model.unembed.weight is model.embed_tokens.weight
    with pytest.raises(ValueError, match="needs a model to take them from"):
        first_model(replace(wider, tokenizer_of=None), tmp_path)
    with pytest.raises(ValueError, match=r"the embeddings of folder.* are \(300, 12\), this model's \(304, 14\)"):
        first_model(replace(wider, model=replace(wider.model, d_model=14)), tmp_path)
