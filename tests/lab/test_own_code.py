"""The learner's functions on a trained model: right ones give the reference, named mistakes are found at their stage,
and code that breaks or never ends is told with its own line.

The mistakes are the judge's own; they run in this process (`page_worker.answer`). What is hostile runs in the box.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from lab import models, own_answers, own_code, sandbox, traces
from lab.own_answers import Answer
from lab.sandbox import page_worker
from lm_core.judge.catalogue import BY_SLUG
from lm_core.judge.files import mutant_text, solution_text, stub_text
from lm_core.sampling import SamplingConfig

MODEL, TEXT = "bundled:storyteller", "The old king looked at the little bird"
# exercise, mistake -> the first stage that must be named, and the kind of difference
STAGES = {
    ("scaled_scores", "no_scale"): ("scaled", "number"), ("scaled_scores", "scaled_too_early"): ("scores", "number"),
    ("scaled_scores", "keys_by_queries"): ("scores", "number"), ("attend", "no_scale"): ("scaled", "number"),
    ("attend", "minus_ten_thousand"): ("masked", "opened"), ("attend", "polarity"): ("masked", "opened"),
    ("attend", "mask_after_softmax"): ("weights", "number"), ("attend", "wrong_axis"): ("weights", "number"),
    ("attend", "keys_mixed"): ("head_out", "number"), ("causal_mask", "strictly_before"): ("masked", "closed"),
    ("causal_mask", "transposed"): ("masked", "opened"), ("split_heads", "dealt_out"): ("q_proj", "number"),
    ("split_heads", "merge_dealt_out"): ("attn_out", "number"), ("rms_norm", "no_root"): ("attn_in", "number"),
    ("feed_forward", "gate_not_bent"): ("mlp_hidden", "number"), ("feed_forward", "residual"): ("mlp_out", "number"),
}  # fmt: skip


def answer_to(slug: str, text: str | None = None, mistake: str | None = None) -> Answer:
    exercise = BY_SLUG[slug]
    if mistake is not None:
        text = mutant_text(exercise, next(m for m in exercise.mutants if m.name == mistake))
    return Answer(exercise, solution_text(exercise) if text is None else text)


@pytest.fixture(scope="module")
def trace() -> traces.TextTrace:
    return traces.trace(MODEL, TEXT)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Our own files run in this process."""

    def run(job: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        monkeypatch.chdir(tmp_path)
        return dict(load(page_worker.answer(json.loads(json.dumps(job)))))

    monkeypatch.setattr(own_code, "run_page", run)
    monkeypatch.setattr(own_code, "WRITTEN", 3)
    own_code._KEPT.clear()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("lesson", [name for name in own_answers.OF_LESSON if name != "sampling"])
def test_right_answers_give_the_reference(lesson: str, trace: traces.TextTrace) -> None:
    used = [answer_to(slug) for slug in own_answers.OF_LESSON[lesson]]
    result = own_code.of_text(MODEL, trace, used)
    assert result.failure is None and result.divergence is None and result.arrays is not None
    for name, values in trace.arrays.items():
        np.testing.assert_allclose(result.arrays[name], values, rtol=1e-5, atol=1e-4, err_msg=name)
    assert result.written is not None and result.written.reference == result.written.yours != ""
    assert own_code.can_be_drawn(result)
    assert own_code.as_trace(trace, result).arrays is result.arrays


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("exercise", "stage"), STAGES.items(), ids=["-".join(key) for key in STAGES])
def test_a_named_mistake_is_found_at_its_stage(
    exercise: tuple[str, str], stage: tuple[str, str], trace: traces.TextTrace
) -> None:
    result = own_code.of_text(MODEL, trace, [answer_to(exercise[0], mistake=exercise[1])])
    found = result.divergence
    assert result.failure is None and found is not None
    assert (found.stage, found.kind, found.layer) == (*stage, 0)
    assert result.arrays is not None
    assert result.arrays[found.stage][0][found.cell] == np.float32(found.yours)
    assert trace.arrays[found.stage][0][found.cell] == np.float32(found.reference)
    assert result.arrays["logits"].tobytes() != trace.arrays["logits"].tobytes() or "ten_thousand" in exercise[1]
    if exercise[1] == "no_scale":
        assert found.factor == pytest.approx(math.sqrt(models.shape(MODEL).d_head), rel=1e-4)


@pytest.mark.usefixtures("here")
def test_a_mask_of_floats_is_told_by_form(trace: traces.TextTrace) -> None:
    failure = own_code.of_text(MODEL, trace, [answer_to("causal_mask", mistake="floats")]).failure
    n = len(trace.token_ids)
    assert failure is not None and (failure.kind, failure.function) == ("shape", "causal_mask")
    assert (failure.returned, failure.wanted) == (f"float [{n}, {n}]", f"bool [{n}, {n}]")


@pytest.mark.usefixtures("here")
def test_nan_is_named_and_not_drawn(trace: traces.TextTrace) -> None:
    text = solution_text(BY_SLUG["attend"]).replace("weights = masked_softmax(masked)", "weights = masked - masked")
    result = own_code.of_text(MODEL, trace, [answer_to("attend", text)])
    assert result.divergence is not None and (result.divergence.stage, result.divergence.kind) == ("weights", "nan")
    assert math.isnan(result.divergence.yours)
    assert not own_code.can_be_drawn(result)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("text", "kind", "line", "said"),
    [
        (stub_text(BY_SLUG["rope"]), "unwritten", 24, "TODO"),
        ("def rotate(x, angles):\n    y = x[99]\n    return y\n", "exception", 2, "IndexError"),
        ("def rotate(x, angles):\n    return x.no_such\n", "exception", 2, "AttributeError"),
        ("def rotate(x angles):\n", "exception", 1, "SyntaxError"),
        ("rotat = 1\n", "missing", None, "rotate"),
        ("import sys\nsys.exit(0)\n", "exception", 2, "SystemExit"),
        ("def rotate(x, angles):\n    return rotate(x, angles)\n", "exception", 2, "RecursionError"),
    ],
)  # fmt: skip
def test_what_breaks_is_told_with_the_learners_own_line(
    text: str, kind: str, line: int | None, said: str, trace: traces.TextTrace
) -> None:
    failure = own_code.of_text(MODEL, trace, [answer_to("rope", text)]).failure
    assert failure is not None and (failure.kind, failure.line) == (kind, line)
    assert failure.file == "ex04_rope.py" and said in f"{failure.type} {failure.message}"
    assert failure.code == ("" if line is None else text.splitlines()[line - 1].strip())


@pytest.mark.usefixtures("here")
def test_an_edit_is_seen_at_once_and_the_same_text_is_not_run_twice(
    trace: traces.TextTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    run = own_code.run_page
    monkeypatch.setattr(own_code, "run_page", lambda job, files: runs.append(1) or run(job, files))
    right, wrong = answer_to("rope"), answer_to("rope", "def rotate(x, angles):\n    return -x\n")
    assert own_code.of_text(MODEL, trace, [right]).divergence is None
    found = own_code.of_text(MODEL, trace, [wrong]).divergence
    assert found is not None and found.stage == "q"
    own_code.of_text(MODEL, trace, [right])
    own_code.of_text(MODEL, trace, [wrong])
    assert len(runs) == 2
    own_code.of_text(MODEL, trace, [right], attempt=1)
    assert len(runs) == 3


@pytest.mark.usefixtures("here")
def test_the_stages_of_sampling(trace: traces.TextTrace) -> None:
    logits = trace.arrays["logits"][-1]
    config = SamplingConfig(temperature=0.7, top_k=20, top_p=0.9)
    ids = tuple(trace.token_ids)
    right = own_code.of_sampling(MODEL, ids, logits, config, 0, [answer_to("top_k"), answer_to("top_p")])
    assert right.failure is None and right.divergence is None and right.stages is not None
    assert np.isfinite(right.stages[3]).sum() == 20
    multiplied = solution_text(BY_SLUG["top_k"]).replace("return logits / temperature", "return logits * temperature")
    found = own_code.of_sampling(MODEL, ids, logits, config, 0, [answer_to("top_k", multiplied)]).divergence
    assert found is not None and found.stage == "temperature" and found.factor == pytest.approx(0.49, abs=1e-4)


@pytest.mark.parametrize(
    "back",
    [
        {}, {"report": np.zeros(3, np.uint8)}, {"report": np.frombuffer(b'{"error": null, "cut": false}', np.uint8)},
        {"report": np.frombuffer(b'{"error": null, "cut": false}', np.uint8), "weights": np.zeros((1, 2), np.float32)},
        {"report": np.frombuffer(b'{"error": {"kind": 3, "line": 1}, "cut": 0}', np.uint8)},
        {"report": np.frombuffer(b'{"error": "x", "cut": 0}', np.uint8)}, {"report": np.frombuffer(b"[1]", np.uint8)},
    ],
)  # fmt: skip
def test_a_forged_answer_is_no_numbers(
    back: dict[str, Any], trace: traces.TextTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_code._KEPT.clear()
    monkeypatch.setattr(own_code, "run_page", lambda job, files: dict(back))
    result = own_code.of_text(MODEL, trace, [answer_to("rope")])
    assert result.arrays is None and result.failure is not None


def test_in_the_box(trace: traces.TextTrace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would hurt this process: a loop without an end, and an exit. A print is no trouble."""
    own_code._KEPT.clear()
    monkeypatch.setattr(own_code, "SECONDS", 3)
    printed = "print('x' * 1000)\n" + solution_text(BY_SLUG["rope"])
    result = own_code.of_text(MODEL, trace, [answer_to("rope", printed)])
    assert result.failure is None and result.divergence is None and result.written is not None
    endless = "def rotate(x, angles):\n    while True:\n        try:\n            x + 1\n        except Exception:\n"
    endless += "            pass\n"
    failure = own_code.of_text(MODEL, trace, [answer_to("rope", endless)]).failure
    assert failure is not None and failure.kind == "time" and failure.line in range(2, 7)
    failure = own_code.of_text(MODEL, trace, [answer_to("rope", "import os\nos._exit(0)\n")]).failure
    assert failure is not None and failure.kind in ("crash", "output")


def test_a_model_too_large_for_the_box_is_told(trace: traces.TextTrace, monkeypatch: pytest.MonkeyPatch) -> None:
    own_code._KEPT.clear()
    monkeypatch.setattr(own_code, "MOST_MODEL_BYTES", 1000)
    failure = own_code.of_text(MODEL, trace, [answer_to("rope")]).failure
    assert failure is not None and failure.kind == "large"


def test_every_box_failure_has_words() -> None:
    from lab.language import strings
    from lab.sandbox.failure import REASONS

    for language in ("en", "zh"):
        assert {f"own.failed_{reason}" for reason in REASONS} <= strings(language).keys()
    assert issubclass(sandbox.SandboxError, RuntimeError)
