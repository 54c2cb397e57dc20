"""Hidden words and pseudo-likelihoods against transformers, one pass a token; the counting baselines by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from lm_core.__main__ import main
from lm_core.checkpoint import load_pretrained, save_pretrained
from lm_core.config import EncoderConfig
from lm_core.encoder import Encoder
from lm_core.encoder_rows import Frame
from lm_core.evaluate import MinimalPair
from lm_core.masked_evaluate import (
    Counts,
    Question,
    ask,
    first_of_each,
    hide_words,
    one_by_one,
    pseudo_pair_accuracy,
    rows_of,
    total,
)
from lm_core.token_kinds import TokenKinds
from lm_core.tokenizer import BPETokenizer, train_bpe
from lm_core.tokenizer_files import for_encoder, save_tokenizer_json

TEXTS = [
    "The cat sat on the mat. The dog saw it. Then it ran to the door and sat there.\nA bird sang. " * 3,
    "No bird saw the cat.",
]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return for_encoder(train_bpe(TEXTS, 300, ["<|endoftext|>"]))


@pytest.fixture(scope="module")
def folder(tokenizer: BPETokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = EncoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=12, n_layers=2, n_heads=3, d_mlp=20, context_length=24
    )
    model = Encoder(config).init_weights(torch.Generator().manual_seed(1))
    with torch.no_grad():  # far from uniform
        for name, parameter in model.named_parameters():
            parameter.mul_(1 if "norm" in name else 12)
    path = tmp_path_factory.mktemp("model")
    save_tokenizer_json(tokenizer, path)
    save_pretrained(model, path, path, half=False)
    return path


def _model(folder: Path) -> Encoder:
    model = load_pretrained(folder).model
    assert isinstance(model, Encoder)
    return model


@torch.no_grad()
def _theirs(folder: Path, question: Question, mask_id: int) -> torch.Tensor:
    """log P over the vocabulary at the places asked about, by transformers, alone and unpadded."""
    ids = torch.from_numpy(question.token_ids).clone()
    ids[question.asked] = mask_id
    model = BertForMaskedLM.from_pretrained(folder)
    return model(ids[None]).logits[0, question.asked].log_softmax(-1)


def test_rows_hold_every_token_once_but_newlines_at_their_ends(tokenizer: BPETokenizer) -> None:
    rows, frame = rows_of(TEXTS, tokenizer, 24), Frame.of(tokenizer.special_tokens)
    assert all(len(row) <= 24 and row[0] == frame.cls and row[-1] == frame.sep for row in rows)
    words = " ".join(tokenizer.decode(row[1:-1].tolist()) for row in rows).split()
    assert words == " ".join(TEXTS).split()


@pytest.mark.parametrize("batch_tokens", [30, 4096])
def test_answers_are_those_of_transformers(folder: Path, tokenizer: BPETokenizer, batch_tokens: int) -> None:
    rows, frame = rows_of(TEXTS, tokenizer, 24), Frame.of(tokenizer.special_tokens)
    questions = hide_words(rows, TokenKinds.of(tokenizer), seed=1, share=0.4)
    assert len(questions) > 5 and len({len(q.token_ids) for q in questions}) > 1  # rows of several lengths are padded
    answers = ask(_model(folder), questions, frame, batch_tokens=batch_tokens)
    for question, answer in zip(questions, answers, strict=True):
        theirs = _theirs(folder, question, frame.mask)
        true = torch.from_numpy(question.token_ids[question.asked])
        assert answer.log_probs == pytest.approx(theirs.gather(-1, true[:, None])[:, 0].numpy(), abs=1e-4)
        assert answer.right.tolist() == (theirs.argmax(-1) == true).tolist()
    score = total(answers)
    assert score.n_tokens == sum(len(q.asked) for q in questions)
    assert score.perplexity == pytest.approx(np.exp(score.nats / score.n_tokens))


def test_words_are_hidden_whole_and_always_the_same(tokenizer: BPETokenizer) -> None:
    rows, kinds = rows_of(TEXTS, tokenizer, 24), TokenKinds.of(tokenizer)
    one, other, more = (hide_words(rows, kinds, seed) for seed in (1, 1, 2))
    places = [[q.asked.tolist() for q in questions] for questions in (one, other, more)]
    assert places[0] == places[1] != places[2]
    assert [q.asked.tolist() for q in hide_words(rows, kinds, 1, share=1.0)] == [
        list(range(1, len(row) - 1)) for row in rows
    ]
    for question in one:
        begins = kinds.begins_word(question.token_ids)
        for place in question.asked:  # a token of a hidden word is hidden, before and after
            if place + 1 < len(begins) - 1 and not begins[place + 1]:
                assert place + 1 in question.asked
            if not begins[place]:
                assert place - 1 in question.asked


def test_counting_by_hand() -> None:
    stream = np.array([0, 1, 2, 0, 1, 1, 0, 2], dtype=np.uint16)
    counts = Counts(stream, vocab_size=4)
    question = Question(np.array([0, 2, 3, 1, 0]), np.array([1, 2, 3, 4]))
    single = {0: 4 / 12, 1: 4 / 12, 2: 3 / 12, 3: 1 / 12}
    assert np.exp(counts.answer(question, pairs=False).log_probs) == pytest.approx([single[t] for t in (2, 3, 1, 0)])
    # after 0: 1 1 2; after 2: 0; after 3: nothing; after 1: 2 1 0
    expected = [(1 + 2 * single[2]) / 5, (0 + 1 * single[3]) / 2, single[1], (1 + 3 * single[0]) / 6]
    answer = counts.answer(question, pairs=True)
    assert np.exp(answer.log_probs) == pytest.approx(expected)
    assert counts.best_after[:3].tolist() == [1, counts.best_after[1], 0]
    assert counts.best_after[3] == counts.unigram.argmax()


def test_the_distributions_of_counting_sum_to_one_and_best_is_best() -> None:
    random = np.random.default_rng(0)
    counts = Counts(random.integers(0, 7, 60), vocab_size=9)
    for left in range(9):
        chances = np.array(
            [
                np.exp(counts.answer(Question(np.array([left, b]), np.array([1])), pairs=True).log_probs[0])
                for b in range(9)
            ]
        )
        assert chances.sum() == pytest.approx(1)
        assert chances[counts.best_after[left]] == pytest.approx(chances.max())
    assert counts.unigram.sum() == pytest.approx(1)


def test_pairs_are_judged_by_the_sum_over_their_tokens(folder: Path, tokenizer: BPETokenizer) -> None:
    frame = Frame.of(tokenizer.special_tokens)
    texts = ["The cat sat.", "The dog sat on it.", "A bird sang.", "bird The sat cat", "it saw a dog"]
    pairs = [
        MinimalPair(a, b, f"{'xy'[i % 2]}") for i, (a, b) in enumerate(zip(texts, texts[1:] + texts[:1], strict=True))
    ]

    def by_hand(text: str) -> float:
        row = np.array([frame.cls, *tokenizer.encode(text), frame.sep])
        return sum(float(_theirs(folder, q, frame.mask)[0, row[q.asked[0]]]) for q in one_by_one(row))

    sums = {text: by_hand(text) for text in texts}
    wins = {name: [sums[p.good] > sums[p.bad] for p in pairs if p.paradigm == name] for name in "xy"}
    found = pseudo_pair_accuracy(_model(folder), load_pretrained(folder).tokenizer, pairs)  # type: ignore[arg-type]
    assert found == {name: sum(hits) / len(hits) for name, hits in wins.items()}
    assert 0 < sum(map(sum, wins.values())) < len(pairs)
    assert [p.good for p in first_of_each(pairs, 1)] == texts[:2]


def test_the_command_prints_model_and_baselines(
    folder: Path, tokenizer: BPETokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t, "title": "x"}) + "\n" for t in TEXTS))
    np.save(tmp_path / "train.npy", np.array([0, *tokenizer.encode(TEXTS[0])], dtype=np.uint16))
    command = ["evaluate", "--model", str(folder), "--data", str(tmp_path / "texts.jsonl"), "--rows", "2", "--json"]
    assert main(command) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main([*command, "--against", str(tmp_path)]) == 0
    figures = json.loads(capsys.readouterr().out)
    rows = rows_of(TEXTS, tokenizer, 24)
    assert alone.items() <= figures.items()
    assert (figures["rows"], figures["pseudo_rows"]) == (len(rows), 2)
    every = len(rows) // 2
    assert figures["pseudo_tokens"] == len(rows[0]) + len(rows[every]) - 4
    questions = hide_words(rows, TokenKinds.of(tokenizer), 1)
    score = total(ask(_model(folder), questions, Frame.of(tokenizer.special_tokens)))
    assert figures["masked_accuracy"] == score.accuracy
    assert figures["masked_perplexity"] == pytest.approx(score.perplexity)
    assert figures["bigram_masked_perplexity"] < figures["unigram_masked_perplexity"] < tokenizer.vocab_size
    assert figures["bigram_masked_accuracy"] > figures["unigram_masked_accuracy"]
    pairs = [{"sentence_good": "The cat.", "sentence_bad": "Cat the.", "UID": "x"}] * 3
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    assert main([*command[:3], "--data", str(tmp_path / "pairs.jsonl"), "--limit", "1", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"mean", "x"}


def test_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        total([])
