"""The numbers of the lesson on sampling, held to transformers and to lm_core; the tree, the beams, the components."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lab import models
from lab.figures import alt_of, to_csv
from lab.figures.pieces import pieces
from lab.ui import beam_panels, branch_panels
from lab.ui import sampling_numbers as numbers
from lab.ui.stage_bars import Bar, stage_bars_payload
from lab.ui.token_tree import Node, token_tree_payload
from lm_core.sampling import ORDER, SamplingConfig
from tests import tiny_models

TEXT = "The old king looked at the little bird"
CONFIG = SamplingConfig(1.3, 40, 0.9, 1.4, 0.02)


@pytest.fixture(params=["gpt2", "llama"])
def prompt(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> numbers.Prompt:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    # transformers wants a width that its heads divide
    config = tiny_models.gpt2() if request.param == "gpt2" else tiny_models.llama(d_model=24)
    return numbers.read(f"folder:{tiny_models.save(tmp_path, config)}", TEXT)


def test_the_final_column_is_what_transformers_would_draw_from(prompt: numbers.Prompt) -> None:
    import transformers as tf

    theirs = tf.AutoModelForCausalLM.from_pretrained(prompt.model.removeprefix("folder:"))
    ids = torch.tensor([prompt.token_ids])
    with torch.no_grad():
        logits = theirs(ids).logits[:, -1].float()
    scores = tf.RepetitionPenaltyLogitsProcessor(1.4)(ids, logits.clone())
    for warp in (
        tf.TemperatureLogitsWarper(1.3),
        tf.TopKLogitsWarper(40),
        tf.TopPLogitsWarper(0.9),
        tf.MinPLogitsWarper(0.02),
    ):
        scores = warp(ids, scores)
    found = numbers.stages(prompt.model, prompt.token_ids, CONFIG)
    np.testing.assert_allclose(found.probabilities[-1], scores.softmax(-1)[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found.of("model"), logits.softmax(-1)[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert found.names == ("model", *ORDER)


def test_the_crossing_token_is_kept_and_is_the_last(prompt: numbers.Prompt) -> None:
    found = numbers.stages(prompt.model, prompt.token_ids, CONFIG)
    c = numbers.crossing(found)
    assert c is not None and c.before < 0.9 <= c.after + 1e-6
    assert np.isfinite(found.logits_of("top_p")[c.token])
    kept = np.flatnonzero(np.isfinite(found.logits_of("top_p")))
    assert found.of("top_k")[kept].min() == found.of("top_k")[c.token] and len(kept) == c.n_kept
    assert numbers.crossing(numbers.stages(prompt.model, prompt.token_ids, SamplingConfig())) is None


def test_a_thousand_draws_come_from_the_last_stage(prompt: numbers.Prompt) -> None:
    found = numbers.stages(prompt.model, prompt.token_ids, CONFIG)
    counts = numbers.draw_many(found, 5, 1000)
    assert counts.sum() == 1000 and counts[~np.isfinite(found.logits[-1])].sum() == 0
    first = numbers.draw(prompt.model, prompt.token_ids, CONFIG, numbers.uniforms(5, 1)[0])
    assert counts[first] > 0
    assert numbers.written(prompt, CONFIG, 5, 1)[0] == first


def test_writing_is_bounded_and_repeats_with_its_seed(prompt: numbers.Prompt) -> None:
    once = numbers.written(prompt, CONFIG, 1, 10**6)
    assert once == numbers.written(prompt, CONFIG, 1, 10**6) and len(once) <= min(numbers.MOST_WRITTEN, prompt.room)
    assert len(numbers.measure(prompt, 10**6, True)) <= numbers.MOST_WRITTEN


def test_log_probability_is_the_chain_rule(prompt: numbers.Prompt) -> None:
    new = (5, 260, 7)
    total = sum(
        float(np.log(numbers.stages(prompt.model, prompt.token_ids + new[:n], SamplingConfig()).of("model")[w]))
        for n, w in enumerate(new)
    )
    assert numbers.log_probability(prompt.model, prompt.token_ids, new) == pytest.approx(total, abs=1e-4)


def test_beams_are_followed_back_to_the_prompt(prompt: numbers.Prompt) -> None:
    found = numbers.searched(prompt, 3, 5, 1.0)
    nodes = beam_panels.nodes_of(prompt, found, 2)
    assert len(nodes) == 1 + sum(map(len, found.steps))
    assert {n.state == "hidden" for n in nodes if n.col > 2} == {True}
    last = len(found.steps) - 1
    ended = [beam_panels.new_ids(found, last, r) for r, c in enumerate(found.steps[last]) if c.fate == "ends"]
    assert found.finished[0].token_ids in ended or found.finished[0].token_ids[-1] in prompt.stop_ids
    token_tree_payload(nodes, alt="beams")


def test_half_a_character_is_shown_as_its_bytes_and_a_whole_one_as_itself(prompt: numbers.Prompt) -> None:
    loaded = models.load(prompt.model)
    assert loaded.tokenizer is not None
    whole = tuple(loaded.tokenizer.encode("猫"))
    assert len(whole) == 3  # three bytes, none merged
    half = numbers.labels(prompt.model, prompt.token_ids + whole[:2])
    assert "猫" not in "".join(half) and "�" not in "".join(half) and r"\xe7" in "".join(half)
    assert numbers.label_after(prompt.model, prompt.token_ids + whole[:2], whole[2]) == "猫³⁄₃"
    assert all(numbers.label_after(prompt.model, (), i) for i in range(290))


def test_branches_begin_new_rows_and_parents_come_first() -> None:
    rows = branch_panels.places([(), (1,), (1, 2), (1, 3), (4,), (1, 2, 5), (4, 6)])
    assert rows == {(): 0, (1,): 0, (1, 2): 0, (1, 2, 5): 0, (1, 3): 1, (4,): 2, (4, 6): 2}


def test_what_the_components_are_sent_is_checked() -> None:
    bars = [[Bar(0.5, "50%"), Bar(0.0, "cut", "cut")]]
    sent = stage_bars_payload(bars, ["<b>"], ["a", "b"], alt="x", selected=(0, 1))
    assert sent["cells"][0][0] == {"width": 50.0, "text": "50%", "state": "kept", "tip": []}
    for wrong in ({"selected": (1, 0)}, {"alt": " "}, {"n_tokens": 0, "selected": (0, 0)}):
        with pytest.raises(ValueError, match=r"selected|alt"):
            stage_bars_payload(bars, ["r"], ["a", "b"], **({"alt": "x"} | wrong))
    with pytest.raises(ValueError, match="do not fit"):
        stage_bars_payload(bars, ["r", "s"], ["a", "b"], alt="x")
    with pytest.raises(ValueError, match="cannot be drawn"):
        stage_bars_payload([[Bar(1.5, "")]], ["r"], ["a"], alt="x")
    good = [Node(0, 0, -1, "a"), Node(1, 0, 0, "b")]
    assert token_tree_payload(good, alt="x", selected=1)["cols"] == 2
    for bad in (
        [],
        [Node(0, 0, 0, "a")],
        [*good, Node(1, 0, 0, "c")],
        [Node(0, 0, -1, "a", fill=2)],
        [*good, Node(1, 1, 1, "c")],
    ):
        with pytest.raises(ValueError, match=r"node|place"):
            token_tree_payload(bad, alt="x")


def test_pieces_hold_their_widths() -> None:
    figure = pieces(["<b>", "c"], [0.25, 0.75], at=0.3, highlight=1, alt="two")
    assert list(figure.data[0].base) == [0.0, 0.25] and list(figure.data[0].x) == [0.25, 0.75]
    assert figure.data[0].text[0] == "&lt;b&gt;" and alt_of(figure) == "two"
    assert to_csv(figure).splitlines()[0] == "label,from,to"
    with pytest.raises(ValueError, match=r"a number 1\.5"):
        pieces(["a"], [1.0], at=1.5, highlight=None, alt="x")
