"""The views of a fine-tune: figures hold the numbers of the probes, the slider moves all views, answers are counted."""

from __future__ import annotations

import csv
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score
from streamlit.testing.v1 import AppTest

from lab import answers, figures
from lab.lessons import escape_markdown
from lab.ui import finetune_after
from tests.support import NASTY

CAUSAL = [[1, 0, 0], [0.25, 0.75, 0], [0.5, 0.2, 0.3]]


def table(figure: Any) -> list[list[str]]:
    return list(csv.reader(io.StringIO(figures.to_csv(figure), newline="")))


def test_next_token_bars_hold_both_numbers_and_fix_the_axis() -> None:
    tokens = ["␣ship", "<b>x</b>", "␣ship"]
    one = figures.next_token_bars(tokens, [0.17, 0.02, None], [0.01, None, 0.3], alt="a", value_max=0.5,
                                  bounds=(0.004, 0.008))  # fmt: skip
    two = figures.next_token_bars(tokens, [0.5, 0.1, 0.1], [0.01, 0.1, 0.3], alt="a", value_max=0.5)
    assert list(one.data[0].x) == [0.17, 0.02, 0.0]
    assert list(one.layout.xaxis.range) == list(two.layout.xaxis.range)
    assert [note.text for note in one.layout.annotations] == ["1.0 → 17.0 %", "< 0.8 → 2.0 %", "30.0 → < 0.4 %"]
    assert [(shape.x0, shape.y0 + 0.36) for shape in one.layout.shapes] == [(0.01, 0), (0.3, 2)]
    assert one.layout.yaxis.ticktext[1] == "&lt;b&gt;x&lt;/b&gt;"
    assert table(one)[1:] == [["␣ship", "0.01", "0.17"], ["<b>x</b>", "", "0.02"], ["␣ship", "0.3", ""]]
    with pytest.raises(ValueError, match="probability"):
        figures.next_token_bars(["a"], [1.2], [0.1], alt="a", value_max=1)


def test_an_attention_map_leaves_the_masked_corner_empty() -> None:
    figure = figures.attention_map(["a", "b", "a"], CAUSAL, alt="a")
    cells = figure.data[0]
    assert {(q, k): z for q, k, z in zip(cells.y, cells.x, cells.z, strict=True)} == {
        (q, k): CAUSAL[q][k] for q in range(3) for k in range(q + 1)
    }
    assert (cells.zmin, cells.zmax) == (0, 1)
    assert len(figures.attention_map(["a", "b"], [[0.5, 0.5], [0.1, 0.9]], alt="a").data[0].z) == 4
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        figures.attention_map(["a"], [[1.5]], alt="a")


def test_curves_keep_their_own_steps() -> None:
    figure = figures.overlaid_curves({"x": ([0, 10], [5, 4]), "y": ([0, 5, 10], [5, 3, 2]), "none": ([], [])},
                                     alt="a", x_range=(0, 20), y_range=(0, 6))  # fmt: skip
    assert [list(curve.x) for curve in figure.data] == [[0, 10], [0, 5, 10]]
    assert list(figure.layout.xaxis.range) == [0, 20] and list(figure.layout.yaxis.range) == [0, 6]
    assert figures.alt_of(figures.overlaid_curves({}, alt="empty", x_range=(0, 1), y_range=(0, 1))) == "empty"
    with pytest.raises(ValueError, match="2 xs and 1 ys"):
        figures.overlaid_curves({"x": ([0, 1], [1])}, alt="a", x_range=(0, 1), y_range=(0, 1))


def kept(seed: int, n: int = 40) -> dict[str, Any]:
    drawn = np.random.default_rng(seed)
    p = drawn.random(n).round(4)
    return {
        "texts": [f"text {i}" for i in range(n)], "labels": ["bad", "good"],
        "true": [["bad", "good"][i % 2] for i in range(n)], "probabilities": np.stack([1 - p, p], 1).tolist(),
    }  # fmt: skip


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.95])
def test_measures_at_a_threshold_are_those_of_scikit_learn(threshold: float) -> None:
    found = answers.read(kept(1))
    judged = answers.judge(found, threshold)
    expected = (found.probabilities[:, 1] > threshold).astype(int)
    assert judged.confusion.tolist() == confusion_matrix(found.true, expected, labels=[0, 1]).tolist()
    for ours, theirs in ((judged.precision, precision_score), (judged.recall, recall_score), (judged.f1, f1_score)):
        assert ours == pytest.approx(theirs(found.true, expected, labels=[0, 1], average=None, zero_division=0))


def test_flips_are_the_answers_that_changed_those_now_right_first() -> None:
    before, now = answers.read(kept(1)), answers.read(kept(2))
    was, here = answers.judge(before, 0.5), answers.judge(now, 0.5)
    flips = answers.flipped(now, was, here)
    expected = {f"text {i}" for i in range(40) if (before.probabilities[i, 1] > 0.5) != (now.probabilities[i, 1] > 0.5)}
    assert {flip.text for flip in flips} == expected and len(flips) == len(expected) > 5
    right = [flip.now == flip.true for flip in flips]
    assert right == sorted(right, reverse=True) and True in right and False in right
    assert all(flip.before != flip.now and flip.probability >= 0.5 for flip in flips)
    three = {"texts": ["a"], "labels": ["x", "y", "z"], "true": [2], "probabilities": [[0.2, 0.3, 0.5]]}
    assert answers.judge(answers.read(three)).accuracy == 1.0
    with pytest.raises(ValueError, match="2 texts"):
        answers.read(three | {"texts": ["a", "b"]})


def test_layers_are_the_mean_of_their_matrices() -> None:
    change = {"blocks.10.mlp.w_in.weight": 0.4, "embed_tokens.weight": 0.1, "blocks.10.attention.w_q.weight": 0.2,
              "head.weight": None}  # fmt: skip
    assert finetune_after.by_layer(change) == pytest.approx({"11": 0.3, "embed_tokens": 0.1, "head": 0.0})


# --- on a page --------------------------------------------------------------------------------------------------------


def probe(step: int, p: float, classifies: bool, words: str = "The end") -> dict[str, Any]:
    made: dict[str, Any] = {
        "step": step, "samples": [{"prompt": words, "text": f"{words} of {step}\n\n# no head {words}"}],
        "attention": {"tokens": ["a", words, "c"], "layer": 1, "head": 0, "weights": CAUSAL},
        "change": {"blocks.0.attention.w_q.weight": p, "blocks.1.attention.w_q.weight": p / 2, "final_norm": 0.0},
    }  # fmt: skip
    if classifies:
        return made | {"predictions": kept(step) | {"texts": [f"{words} {i}" for i in range(40)]}}
    known = {"tokens": ["king", words], "ids": [5, 9], "probabilities": [1 - p, p]}
    new = {"tokens": ["ship"], "ids": [7], "probabilities": [0.01]} if step else {}
    return made | {"next": {name: known[name] + new.get(name, []) for name in known}}


def page(run, probes, records):  # type: ignore[no-untyped-def]  # its text is run alone, without the imports above
    from lab.ui import finetune_after

    finetune_after.show(run, probes, records)


def opened(probes: list[dict[str, Any]], language: str, words: str = "The end", step: int | None = None) -> AppTest:
    run = SimpleNamespace(id="r1", spec={"probe": words})
    app = AppTest.from_function(page, args=(run, probes, [{"step": 10, "best": True}]), default_timeout=30)
    app.session_state["lang"], app.session_state["after.step.r1"] = language, step
    return app.run()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("classifies", [False, True])
def test_the_slider_moves_every_view(language: str, classifies: bool) -> None:
    app = opened([probe(step, 0.1 + step / 50, classifies) for step in (0, 10, 20)], language)
    assert not app.exception
    assert app.select_slider[0].value == 20
    shown = " ".join(entry.value for entry in app.markdown)
    assert "of 20" in shown and "of 0" in shown and "of 10" not in shown
    if language == "en":
        app.select_slider[0].set_value(10).run()
    else:  # AppTest names an option outside of the session, so in English, and the widget would not know it
        app = opened([probe(step, 0.1 + step / 50, classifies) for step in (0, 10, 20)], language, step=10)
    assert not app.exception
    shown = " ".join(entry.value for entry in app.markdown)
    assert "of 10" in shown and "of 20" not in shown
    assert any("10" in caption.value for caption in app.caption)


def test_a_threshold_counts_the_sentences_anew() -> None:
    app = opened([probe(step, 0.1, True) for step in (0, 10)], "en")
    found = answers.read(kept(10))
    for threshold in (0.5, 0.8):
        app.slider[0].set_value(threshold).run()
        right = int(np.trace(answers.judge(found, threshold).confusion))
        assert any(f"{right} of 40 right" in entry.value for entry in app.markdown)


@pytest.mark.parametrize("words", NASTY)
def test_words_stay_words(words: str) -> None:
    app = opened([probe(step, 0.1, False, words) for step in (0, 10)], "en", words)
    assert not app.exception
    shown = [entry.value for entry in app.markdown]
    assert any(value.startswith(escape_markdown(words.split("\n")[0]).strip()) for value in shown)
    assert not any("<script>" in value for value in shown if not value.startswith("<style"))


def test_without_probes_or_with_one_nothing_breaks() -> None:
    assert opened([], "en").caption[0].value.startswith("Nothing has been kept")
    one = opened([probe(0, 0.1, False)], "en")
    assert not one.exception and not one.select_slider
