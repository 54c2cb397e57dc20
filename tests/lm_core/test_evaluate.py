"""Bits per byte against transformers' loss, window by window; minimal pairs against sums counted one by one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lm_core.__main__ import main
from lm_core.checkpoint import load_pretrained, save_pretrained
from lm_core.config import llama_config
from lm_core.evaluate import MinimalPair, minimal_pair_accuracy, score_texts, windows
from lm_core.model import Decoder
from lm_core.tokenizer import train_bpe

TEXTS = ["the cat sat on the mat and the dog sat by the door", "a bird", "猫 sat. " * 9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_bpe(TEXTS, 290, ["<|endoftext|>"])
    model = Decoder(
        llama_config(
            vocab_size=tokenizer.vocab_size, d_model=24, n_layers=2, n_heads=3, d_mlp=40, context_length=12, d_head=8
        )
    ).init_weights(torch.Generator().manual_seed(3))
    with torch.no_grad():  # far from uniform, so that a token scored at the wrong place shows
        for parameter in model.parameters():
            parameter.mul_(4)
    path = tmp_path_factory.mktemp("model")
    save_pretrained(model, tokenizer, path, half=False)
    return path


@pytest.mark.parametrize(("n", "context", "stride"), [(1, 5, 2), (5, 5, 2), (6, 5, 2), (23, 5, 1), (24, 7, 3)])
def test_each_token_but_the_first_is_scored_once_with_enough_context(n: int, context: int, stride: int) -> None:
    scored = []
    for start, end, first in windows(n, context, stride):
        assert end - start <= context
        assert first == 1 or first - start >= context - stride
        scored += range(first, end)
    assert scored == list(range(1, n))


def test_bits_per_byte_is_transformers_loss(folder: Path) -> None:
    loaded = load_pretrained(folder)
    assert isinstance(loaded.model, Decoder) and loaded.tokenizer is not None
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    nats, count = 0.0, 0
    for text in TEXTS:
        ids = [loaded.tokenizer.bos_id, *loaded.tokenizer.encode(text)]
        for start, end, first in windows(len(ids), 13, 6):
            labels = torch.tensor([[-100] * (first - start) + ids[first:end]])
            with torch.no_grad():
                loss = theirs(torch.tensor([ids[start : end - 1]])).logits
            loss = torch.nn.functional.cross_entropy(loss[0], labels[0, 1:], ignore_index=-100, reduction="sum")
            nats, count = nats + loss.item(), count + end - first
    score = score_texts(loaded.model, loaded.tokenizer, TEXTS, batch_size=3)
    assert score.n_tokens == count
    assert score.nats == pytest.approx(nats, rel=1e-6)
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-6)
    assert score.perplexity == pytest.approx(math.exp(nats / count), rel=1e-6)


def test_minimal_pairs_compare_whole_sentences(folder: Path) -> None:
    loaded = load_pretrained(folder)
    assert isinstance(loaded.model, Decoder) and loaded.tokenizer is not None
    pairs = [
        MinimalPair(a, b, name)
        for a, b, name in [("the cat", "the cat sat", "x"), ("a dog on", "a mat by", "x"), ("bird", "door", "y")]
    ]

    def total(text: str) -> float:
        return -score_texts(loaded.model, loaded.tokenizer, [text]).nats  # type: ignore[arg-type]

    want = [total(p.good) > total(p.bad) for p in pairs]
    got = minimal_pair_accuracy(loaded.model, loaded.tokenizer, pairs, batch_size=2)
    assert got == {"x": (want[0] + want[1]) / 2, "y": float(want[2])}
    assert want[0], "a sentence without its last word is the more probable one: totals are not divided by length"


def test_the_command_prints_both_kinds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, pairs = tmp_path / "texts.jsonl", tmp_path / "pairs.jsonl"
    texts.write_text("\n".join(json.dumps({"text": text, "title": "t"}) for text in TEXTS), encoding="utf-8")
    row = {"sentence_good": "the cat", "sentence_bad": "the cat sat", "UID": "length"}
    pairs.write_text(json.dumps(row), encoding="utf-8")
    assert main(["evaluate", "--model", str(folder), "--data", str(texts), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert figures["bits_per_byte"] > 0
    assert main(["evaluate", "--model", str(folder), "--data", str(pairs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"mean": 1.0, "length": 1.0}
    assert main(["evaluate", "--model", str(folder), "--data", str(tmp_path / "none.txt")]) == 2
