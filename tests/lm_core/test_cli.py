"""The command line on a tiny random model: trace, score, generate, and one sentence for every bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from lm_core.__main__ import main
from lm_core.checkpoint import load_pretrained, save_pretrained
from lm_core.cli_model import NO_START, printable
from lm_core.config import gpt2_config, llama_config
from lm_core.corpus import split_of
from lm_core.generation import generate
from lm_core.model import Decoder
from lm_core.ngram import BigramModel
from lm_core.sampling import SamplingConfig
from lm_core.tokenizer import train_bpe

TEXT = "low lower 猫 low"
ARRAYS = {
    "token_ids", "q_proj", "k_proj", "q", "k", "v", "scores", "scaled", "masked", "weights", "head_out", "attn_out",
    "resid_pre", "resid_mid", "mlp_out", "resid_post", "logits",
}  # fmt: skip


def _save(folder: Path, specials: list[str], **shape: Any) -> Path:
    tokenizer = train_bpe(["low low lower lowest"], 262, specials)
    size = {
        "vocab_size": tokenizer.vocab_size,
        "d_model": 20,
        "n_layers": 3,
        "n_heads": 4,
        "context_length": 24,
        **shape,
    }
    model = Decoder(llama_config(d_mlp=31, n_kv_heads=2, d_head=6, **size) if not shape else gpt2_config(**size))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.3, 0.4, generator=generator)
    save_pretrained(model, tokenizer, folder, half=False)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a document-start token: Llama in shape, grouped-query."""
    return _save(tmp_path_factory.mktemp("model"), ["<|endoftext|>"])


@pytest.fixture(scope="module")
def startless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without one: GPT-2 in shape."""
    return _save(tmp_path_factory.mktemp("startless"), [], context_length=24)


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


# --- trace ------------------------------------------------------------------------------------------------------------


def test_trace_arrays_and_their_laws(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "trace.npz"
    assert main(["trace", "--model", str(folder), "--text", TEXT, "--out", str(out), "--device", "cpu"]) == 0
    assert list(tmp_path.iterdir()) == [out]
    with np.load(out, allow_pickle=False) as file:
        a = dict(file)
    assert a.keys() >= ARRAYS
    loaded = load_pretrained(folder)
    token_ids = loaded.encode(TEXT)
    n, v = len(token_ids), loaded.model.config.vocab_size
    assert a["token_ids"].tolist() == token_ids and token_ids[0] == loaded.start_id and n not in (2, 3, 4, 6, 20)
    for name in ("q_proj", "q", "head_out"):
        assert a[name].shape == (3, 4, n, 6), name
    for name in ("k_proj", "k", "v"):
        assert a[name].shape == (3, 2, n, 6), name
    for name in ("scores", "scaled", "masked", "weights"):
        assert a[name].shape == (3, 4, n, n), name
    for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"):
        assert a[name].shape == (3, n, 20), name
    assert a["logits"].shape == (n, v)
    assert {array.dtype for name, array in a.items() if name != "token_ids"} == {np.dtype(np.float32)}
    np.testing.assert_allclose(a["resid_pre"] + a["attn_out"] + a["mlp_out"], a["resid_post"], atol=1e-4)
    np.testing.assert_array_equal(a["resid_post"][:-1], a["resid_pre"][1:])
    np.testing.assert_allclose(a["weights"].sum(-1), 1, atol=1e-5)
    keys = a["k"].repeat(2, axis=1)
    np.testing.assert_allclose(a["q"] @ keys.swapaxes(-1, -2), a["scores"], atol=1e-3, rtol=1e-5)
    np.testing.assert_allclose(a["scores"] / math.sqrt(6), a["scaled"], rtol=1e-5)
    future = np.triu(np.ones((n, n), dtype=bool), 1)
    assert (a["masked"][..., future] == -np.inf).all() and (a["weights"][..., future] == 0).all()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        np.testing.assert_allclose(
            theirs(torch.tensor([token_ids])).logits[0].numpy(), a["logits"], atol=1e-3, rtol=1e-4
        )
    assert f"{n} tokens, 3 layers" in capsys.readouterr().err


def test_trace_of_an_encoder(tmp_path: Path) -> None:
    from tests.lm_core.test_checkpoint import _make

    _make("bert", tmp_path / "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "low", "##er"]
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(words))
    from tokenizers import BertWordPieceTokenizer

    BertWordPieceTokenizer({word: i for i, word in enumerate(words)}).save(str(tmp_path / "bert" / "tokenizer.json"))
    out = tmp_path / "t.npz"
    assert main(["trace", "--model", str(tmp_path / "bert"), "--text", "low lower", "--out", str(out)]) == 0
    assert np.load(out)["token_ids"].tolist() == [2, 5, 5, 6, 3]
    assert main(["score", "--model", str(tmp_path / "bert"), "--text", "low"]) == 2
    assert main(["generate", "--model", str(tmp_path / "bert"), "--text", "low"]) == 2


# --- score ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["folder", "startless"])
def test_score_equals_the_loss_of_transformers(
    which: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = request.getfixturevalue(which)
    assert main(["score", "--model", str(path), "--text", TEXT, "--json", "--device", "cpu"]) == 0
    report, loaded = _json(capsys), load_pretrained(path)
    ids = torch.tensor([loaded.encode(TEXT)])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        output = theirs(ids, labels=ids)
    rows = report["tokens"]
    assert report["mean_nats"] == pytest.approx(output.loss.item(), abs=1e-5)
    assert report["perplexity"] == pytest.approx(math.exp(output.loss.item()), rel=1e-5)
    assert len(rows) == report["scored_tokens"] == ids.shape[1] - 1
    assert report["log_prob_nats"] == pytest.approx(-output.loss.item() * len(rows), rel=1e-5)
    assert report["total_bits"] == pytest.approx(-sum(math.log2(row["probability"]) for row in rows), rel=1e-4)
    assert report["total_bits"] > 0 > report["log_prob_nats"]
    log_probs = output.logits[0, :-1].log_softmax(-1)
    for i, row in enumerate(rows):
        assert row["id"] == ids[0, i + 1]
        assert row["log_prob_nats"] == pytest.approx(log_probs[i, row["id"]].item(), abs=1e-4)
        assert row["rank"] == 1 + int((log_probs[i] > log_probs[i, row["id"]]).sum())
        assert row["surprisal_bits"] == pytest.approx(-math.log2(row["probability"]), rel=1e-4)
    n_bytes = len(TEXT.encode())
    if which == "folder":
        assert (report["first_scored"], report["note"], report["start_token"]) == (0, None, "<|endoftext|>")
    else:
        assert (report["first_scored"], report["note"], report["start_token"]) == (1, NO_START, None)
        n_bytes -= len("low")
    assert report["scored_bytes"] == n_bytes
    assert report["bits_per_byte"] == pytest.approx(report["total_bits"] / n_bytes)


def test_score_table(startless: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--model", f"folder:{startless}", "--text", TEXT]) == 0
    shown = capsys.readouterr().out
    assert "␣low" in shown and "猫" in shown and "perplexity" in shown and NO_START in shown


# --- generate ---------------------------------------------------------------------------------------------------------


def test_generate_prints_what_generate_yields(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_pretrained(folder)
    assert isinstance(loaded.model, Decoder) and loaded.tokenizer is not None
    sampling, prompt = SamplingConfig(1.3, 50, 0.9), torch.tensor(loaded.encode("low"))
    expected = list(generate(loaded.model, prompt, 9, sampling, stop_ids=frozenset([0]), seed=4))
    command = ["generate", "--model", str(folder), "--text", "low", "--max-new", "9", "--temperature", "1.3",
               "--top-k", "50", "--top-p", "0.9", "--seed", "4", "--device", "cpu"]  # fmt: skip
    assert main([*command, "--json"]) == 0
    report = _json(capsys)
    assert report["token_ids"] == expected and report["ended"] in ("max_new", "end of text")
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("low") and shown.endswith("\n")
    text = [token for token in expected if token != 0]
    assert printable(b"".join(map(loaded.tokenizer.token_bytes, text)).decode(errors="backslashreplace")) == shown[3:-1]
    assert main([*command[:-3], "5", "--device", "cpu", "--json"]) == 0
    assert _json(capsys)["token_ids"] != expected, "another seed, another text"


def test_generate_takes_a_penalty_and_min_p(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_pretrained(folder)
    assert isinstance(loaded.model, Decoder)
    sampling, prompt = SamplingConfig(1.3, 0, 1.0, 2.5, 0.1), torch.tensor(loaded.encode("low"))
    expected = list(generate(loaded.model, prompt, 9, sampling, stop_ids=frozenset([0]), seed=4))
    command = ["generate", "--model", str(folder), "--text", "low", "--max-new", "9", "--temperature", "1.3", "--seed",
               "4", "--device", "cpu", "--json"]  # fmt: skip
    assert main([*command, "--repetition-penalty", "2.5", "--min-p", "0.1"]) == 0
    assert _json(capsys)["token_ids"] == expected
    assert main([*command, "--repetition-penalty", "0"]) == 2
    assert main([*command, "--min-p", "2"]) == 2


def test_generate_ends_where_the_context_is_full(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "--model", str(folder), "--text", "low", "--max-new", "500", "--temperature", "3", "--json"]
    endings = set()
    for seed in range(3):
        assert main([*command, "--seed", str(seed)]) == 0
        report = _json(capsys)
        endings.add(report["ended"])
        assert len(report["token_ids"]) <= 23
    assert "context full" in endings


# --- bad input: exit code 2 and one sentence --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["score", "--text", ""], "the text is empty"),
        (["generate", "--text", ""], "the text is empty"),
        (["trace", "--text", "", "--out", "x.npz"], "the text is empty"),
        (["score", "--text", "a b " * 40], "the text has 161 tokens, but"),
        (["score", "--text", "a" * 1_000_001], "1,000,001 characters"),
        (["trace", "--text", "low", "--out", "no/such/folder/x.npz"], "there is no folder"),
        (["score", "--text", "low", "--device", "abacus"], "unknown device"),
        (["generate", "--text", "low", "--temperature", "-1"], "temperature -1.0 is negative"),
        (["generate", "--text", "low", "--temperature", "nan"], "not a finite number"),
        (["generate", "--text", "low", "--top-k", "-3"], "top_k -3"),
        (["generate", "--text", "low", "--top-p", "0"], "top_p 0.0"),
        (["generate", "--text", "low", "--max-new", "0"], "--max-new 0"),
        (["generate", "--text", "low", "--seed", "-1"], "--seed -1"),
        (["score", "--text", "low", "--model", "nowhere"], "there is no folder 'nowhere'"),
        (["score", "--text", "low", "--model", "run:7"], "training runs"),
    ],
)
def test_bad_input(
    arguments: list[str], sentence: str, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in arguments else ["--model", str(folder)]
    assert main([*arguments, *model]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_single_token_without_a_start_has_no_score(startless: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--model", str(startless), "--text", "low"]) == 2
    assert "single token" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["   ", "\x00\x1b[31m", "<b>*hi*</b>", "אבג", "😀", "\ud83d", "<|endoftext|>"])
def test_strange_texts_are_texts(text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spaces, control characters, markup, right-to-left, emoji, half characters, the name of a special token."""
    assert main(["score", "--model", str(folder), "--text", text, "--json"]) == 0
    assert all(row["id"] != 0 for row in _json(capsys)["tokens"]), "typed text is never a document start"
    assert main(["generate", "--model", str(folder), "--text", text, "--max-new", "3"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_missing_argument_and_no_tokenizer(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["score", "--text", "low"])
    assert stop.value.code == 2
    save_pretrained(load_pretrained(folder).model, None, tmp_path)
    assert main(["score", "--model", str(tmp_path), "--text", "low"]) == 2
    assert "has no tokenizer.json" in capsys.readouterr().err


# --- pretrain ---------------------------------------------------------------------------------------------------------

RECIPE = """
name = "tiny"
held_out = 0.2
prompts = ["low"]
[[data]]
path = "stories.txt"
[tokenizer]
vocab_size = 270
[model]
family = "llama"
d_model = 16
n_layers = 1
n_heads = 2
d_mlp = 24
context_length = 16
[train]
n_steps = 6
batch_size = 2
n_tokens = 8
optimizer = "adamw"
warmup = 2
validate_every = 3
validation_batches = 1
save_every = 3
"""


def test_pretrain_makes_a_model_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    stories = [f"The cat number {i} sat low on a lower mat and slept." for i in range(40)]
    (tmp_path / "stories.txt").write_text("<|endoftext|>".join(stories))
    command = ["pretrain", "--config", str(tmp_path / "recipe.toml"), "--data", str(tmp_path),
               "--out", str(tmp_path / "out"), "--device", "cpu"]  # fmt: skip
    assert main(command) == 0
    shown = capsys.readouterr().err
    assert "step 3/6" in shown and "selection" in shown and "tok/s" in shown
    model = tmp_path / "out" / "model"
    assert main(["score", "--model", str(model), "--text", "The cat sat low", "--json"]) == 0
    assert _json(capsys)["start_token"] == "<|endoftext|>"
    theirs, ours = transformers.AutoModelForCausalLM.from_pretrained(model), load_pretrained(model)
    ids = torch.tensor([ours.encode("The cat sat")])
    with torch.no_grad():
        assert (theirs(ids).logits - ours.model(ids)).abs().max() <= 1e-5
    assert main(command) == 2, "finished: there is nothing left to do"
    assert "already holds all 6 steps" in capsys.readouterr().err
    assert main([*command[:2], str(tmp_path / "gone.toml"), *command[3:]]) == 2


def test_evaluate_on_the_test_texts_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    stories = [f"The cat number {i} sat low on mat {i * i}." for i in range(40)]
    (tmp_path / "stories.txt").write_text("<|endoftext|>".join(stories))
    recipe.write_text(RECIPE)
    run = ["--data", str(tmp_path), "--device", "cpu"]
    assert main(["pretrain", "--config", str(recipe), "--out", str(tmp_path / "out"), *run]) == 0
    evaluate = ["evaluate", "--model", str(tmp_path / "out" / "model"), "--recipe", str(recipe), "--json", *run]
    assert main(evaluate) == 2, "this recipe keeps no texts for a test"
    assert "keeps no texts" in capsys.readouterr().err
    recipe.write_text(RECIPE.replace("held_out = 0.2", "held_out = 0.2\ntested = 0.3"))
    assert main(evaluate) == 0
    figures = _json(capsys)
    splits = [split_of(f"stories.txt#{i}", 0.2, 0.3) for i in range(40)]
    tested = [story for story, split in zip(stories, splits, strict=True) if split == "test"]
    learned = [story for story, split in zip(stories, splits, strict=True) if split == "train"]
    assert (figures["texts"], figures["characters"]) == (len(tested), sum(map(len, tested)))
    counted = BigramModel(learned)
    assert figures["bigram_bits_per_character"] == pytest.approx(sum(map(counted.bits, tested)) / figures["characters"])
    assert figures["bits_per_character"] == pytest.approx(figures["bits_per_byte"])  # plain ASCII
    assert figures["bigram_bits_per_character"] < figures["unigram_bits_per_character"]
