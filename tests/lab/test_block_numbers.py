"""The numbers of the lesson on the block, held to the traced model; and the table of tokens, to what it may be sent."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from lab import course, models, traces
from lab.language import LANGUAGES, strings
from lab.ui import block_numbers as numbers
from lab.ui import block_training
from lab.ui.block_neurons import in_context
from lab.ui.token_grid import Cell, token_grid_payload
from lm_core.counting import model_parts
from lm_core.model import Decoder
from tests import tiny_models

TEXT = "The old king looked at the little bird."


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    return f"folder:{tiny_models.save(tmp_path, getattr(tiny_models, request.param)())}"


def test_attributions_add_up_to_the_logits_of_the_trace(model: str) -> None:
    trace = traces.trace(model, TEXT)
    for position in (0, len(trace.labels) - 1):
        ids = numbers.candidates(trace, position)
        logits = trace.arrays["logits"][position]
        assert ids[0] == int(logits.argmax()) and len(set(ids)) == numbers.CANDIDATES
        found = numbers.logit_table(model, trace, position, ids)
        assert found.table.shape == (2 * 2 + 2, 5)
        np.testing.assert_allclose(found.table.sum(axis=0), logits[ids], atol=2e-5)
        np.testing.assert_allclose(found.rows @ found.columns.T, found.table[:-1], atol=1e-12)
        stream = trace.arrays["resid_post"][-1, position].astype(np.float64)
        centred = stream - stream.mean() if models.shape(model).norm == "layer_norm" else stream
        assert found.size == pytest.approx(np.sqrt((centred**2).mean() + models.shape(model).norm_eps), rel=1e-6)


def test_the_lens_ends_in_the_model_and_follows_the_text(model: str) -> None:
    trace = traces.trace(model, TEXT)
    found, logits = numbers.lens(model, trace), trace.arrays["logits"].astype(np.float64)
    assert found.ids.shape == (3, len(trace.labels), 5)
    assert found.followed[:-1] == trace.token_ids[1:] and found.followed[-1] == int(logits[-1].argmax())
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    for i, token in enumerate(found.followed):
        order = np.argsort(-logits[i], kind="stable")
        assert found.ids[-1, i, 0] == order[0]
        assert found.ranks[-1, i] == order.tolist().index(token) + 1
        assert found.shares[-1, i] == pytest.approx(shares[i, token], abs=1e-6)
    assert (found.probabilities[..., 0] >= found.probabilities[..., 1]).all()


def test_attention_taken_apart_adds_up(model: str) -> None:
    trace = traces.trace(model, TEXT)
    found = numbers.sources(model, trace, layer=1, position=4)
    assert found.shares.sum() + found.bias_share == pytest.approx(found.length, rel=1e-5)
    assert found.length == pytest.approx(np.linalg.norm(trace.arrays["attn_out"][1, 4]), rel=1e-5)


def test_examples_are_places_of_the_corpus_where_the_neuron_is_that_strong(model: str) -> None:
    loaded = models.load(model)
    assert isinstance(loaded.model, Decoder) and loaded.tokenizer is not None
    lines = numbers.CORPUS.read_text(encoding="utf-8").splitlines()
    for high in (True, False):
        found = numbers.examples(model, 1, 3, high)
        values = [example.activation for example in found]
        assert len(found) == numbers.EXAMPLES and values == sorted(values, reverse=high)
        start = [] if loaded.start_id is None else [loaded.start_id]
        for example in found:
            said = "".join(example.labels).replace("␣", " ")
            line = next(line for line in lines if line.startswith(said))
            ids = (start + loaded.tokenizer.encode(line))[:40]
            with torch.no_grad():
                hidden = loaded.model.trace(torch.tensor([ids])).layers[1].mlp_hidden[0, :, 3]
            assert example.activation == pytest.approx(float(hidden[len(start) + example.at]), abs=1e-5)
            counted = hidden[len(start) :]
            assert example.activation <= float(counted.max()) + 1e-6


def test_a_neuron_is_its_weights_and_the_norm_forgets_size(model: str) -> None:
    trace, n = traces.trace(model, TEXT), 5
    x, w = trace.arrays["mlp_in"][1, 2].astype(np.float64), numbers.neuron_weights(model, 1, n)
    wide = torch.tensor(x @ w.w_in + w.b_in)
    if w.w_gate is None:
        expected = torch.nn.functional.gelu(wide, approximate="tanh")
    else:
        expected = torch.nn.functional.silu(torch.tensor(x @ w.w_gate + w.b_gate)) * wide
    assert trace.arrays["mlp_hidden"][1, 2, n] == pytest.approx(float(expected), abs=1e-5)
    change, largest = numbers.change_when_scaled(model, 1, trace.arrays["resid_mid"][1, 2], 10.0)
    assert change < 0.05 * largest
    assert numbers.change_when_scaled(model, 1, trace.arrays["resid_mid"][1, 2], 1.0)[0] == 0


def test_counts_and_flops(model: str) -> None:
    trace = traces.trace(model, TEXT)
    counted, formula = numbers.flops(model, trace)
    assert counted == formula > 0
    assert sum(part.parameters for part in numbers.counted_parts(model)) == models.shape(model).n_parameters


def test_an_id_that_the_tokenizer_never_gives_has_a_label_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    model = f"folder:{tiny_models.save(tmp_path, tiny_models.gpt2(vocab_size=300))}"
    assert numbers.label(model, 299) == "⟨299⟩"
    assert numbers.label(model, 65).strip()


def test_training_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="stop"), block_training._one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError("stop")
    assert torch.get_num_threads() == before and not block_training._TRAINING.locked()


def test_every_part_and_rate_has_its_words() -> None:
    names = {part.name for part in model_parts(tiny_models.gpt2())}
    for language in LANGUAGES:
        assert {f"block.count_{name}" for name in names} <= set(strings(language))
    lesson = course.lesson("block")
    text = (course.ROOT / "assets" / "strings" / "en.toml").read_text(encoding="utf-8")
    assert list(tomllib.loads(text)["block"]["step"]) == list(lesson.steps)


def test_the_corpus_is_plain_and_ours() -> None:
    lines = numbers.CORPUS.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) == 60
    assert all(line.isascii() and 30 < len(line) < 80 for line in lines)


def test_the_context_of_an_example_is_inert() -> None:
    shown = in_context(numbers.Example(1.0, ["<b>", "␣|", "$x$"], at=1))
    assert "\\<b\\>" in shown and "\\|" in shown and "\\$x\\$" in shown


class TestTokenGrid:
    def test_it_sends_what_it_was_given(self) -> None:
        cells = [[Cell("<b>", 0.5, ("a", "b"), True), Cell("x", -1.0)], [Cell("y"), Cell("z", 0.0)]]
        sent = token_grid_payload(cells, ["r1", "r2"], ["c1", "c2"], alt="a table", selected=(1, 0))
        assert sent["cells"][0] == [
            {"text": "<b>", "tint": 50, "tip": ["a", "b"], "mark": True},
            {"text": "x", "tint": -100, "tip": [], "mark": False},
        ]
        assert sent["cells"][1][0]["tint"] is None and sent["selected"] == [1, 0]

    @pytest.mark.parametrize(
        ("fault", "changes"),
        [
            ("do not fit", {"rows": ["r1"]}),
            ("do not fit", {"cols": []}),
            ("no cell", {"selected": (2, 0)}),
            ("alt is empty", {"alt": " "}),
            ("tint of 1.5", {"cells": [[Cell("x", 1.5)], [Cell("y")]]}),
        ],
    )
    def test_it_refuses_what_cannot_be_drawn(self, fault: str, changes: dict[str, object]) -> None:
        good: dict[str, object] = {
            "cells": [[Cell("x")], [Cell("y")]], "rows": ["1", "2"], "cols": ["c"], "alt": "a table", "selected": None,
        }  # fmt: skip
        with pytest.raises(ValueError, match=fault):
            token_grid_payload(**(good | changes))  # type: ignore[arg-type]
