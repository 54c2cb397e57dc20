"""The page of live fine-tunes, without a browser: the form in both languages, bad input, and a run in every state.

No supervisor runs here: what a worker would report is written to the store by its own side, from a real small run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from lab import course, finetune_presets, store
from lab import finetune_records as numbers
from lab.language import LANGUAGES, strings
from lab.store import Run
from lm_core.batches import causal_data
from lm_core.finetune import finetune
from lm_core.finetune_config import FinetuneConfig
from lm_core.learner import make_learner
from lm_core.model import Decoder
from tests import tiny_models
from tests.support import NASTY

PAGE = str(course.ROOT / "pages" / "training" / "finetune.py")
STEPS = 8


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    torch.manual_seed(1)
    config = FinetuneConfig(task="causal", n_steps=STEPS, n_tokens=8, batch_size=2, validate_every=4, lr=0.01)
    text = ["the little bird looked at the old king. " * 20]
    data = causal_data(text, [text[0][:200]], tiny_models.tokenizer(), 8)
    run = finetune(make_learner(Decoder(tiny_models.llama()), config), data, config)
    return [json.loads(json.dumps(record.to_json())) for record in run]


def _open(language: str = "en", run: str | None = None) -> AppTest:
    app = AppTest.from_file(PAGE, default_timeout=60)
    app.session_state["lang"] = language
    if run is not None:
        app.query_params["run"] = run
    return app.run()


def _said(app: AppTest) -> str:
    assert not app.exception, app.exception[0].value
    return "\n".join(part.value for part in [*app.markdown, *app.caption, *app.warning, *app.info, *app.code])


def _spec(task: str = "causal") -> dict[str, Any]:
    config = {"task": task, "n_steps": STEPS, "learns": "whole", "lr": 0.01, "schedule": "cosine", "batch_size": 2,
              "accumulate": 1, "n_tokens": 8, "optimizer": "adamw", "clip_norm": 1.0}  # fmt: skip
    return {"model": "bundled:storyteller", "config": config, "probe": "The king", "data": {"kind": "text"}}


def _submit(key: str = "1", title: str = "A run", **more: Any) -> Run:
    return store.current().submit("local", key, title, _spec(**more))


def _work(run: Run, records: list[dict[str, Any]], *, task: str = "causal") -> int:
    """Report as a worker does; returns the token."""
    there = store.current()
    attempt = there.claim("test")
    assert attempt is not None and attempt.run_id == run.id
    there.add_records(run.id, attempt.token, records)
    for step, text in ((0, "The king was old"), (4, "The king set\nsail $x$ <b>")):
        probe: dict[str, Any] = {
            "step": step,
            "samples": [{"prompt": "The king", "text": text}],
            "next": {"tokens": ["␣was", "␣set"], "probabilities": [0.5, 0.1] if step == 0 else [0.2, 0.7]},
            "attention": {"tokens": ["The", "␣king"], "layer": 3, "head": 0, "weights": [[1.0, 0.0], [0.4, 0.6]]},
        }
        if task == "classification":
            p = [[0.5, 0.5], [0.5, 0.5]] if step == 0 else [[0.1, 0.9], [0.3, 0.7]]
            probe["predictions"] = {
                "texts": ["good *film*", "a bore"], "labels": ["bad", "good"], "true": ["good", "bad"],
                "probabilities": p,
            }  # fmt: skip
        there.add_probe(run.id, attempt.token, probe)
    return attempt.token


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_form_begins_with_a_preset_in_the_reader_s_language(language: str) -> None:
    app = _open(language)
    said = _said(app)
    assert not app.warning
    first = finetune_presets.ids(language)[0]
    assert app.session_state["ft_task"] == first
    assert strings(language)[f"finetune.about.{first}"] in said
    assert not app.button(key="ft_start").disabled
    assert store.current().history("local") == []


@pytest.mark.parametrize("id", [preset.id for preset in finetune_presets.PRESETS])
def test_start_makes_one_run_however_often_it_is_pressed(id: str) -> None:
    app = _open()
    app.session_state["finetune.task"] = app.session_state["finetune.task_chosen"] = id
    app.run()
    app.button(key="ft_start").click().run()
    (run,) = store.current().history("local")
    assert app.query_params["run"] == [run.id] or app.query_params["run"] == run.id
    chosen = finetune_presets.preset(id)
    assert run.spec["model"] == chosen.model and run.spec["data"] == {"kind": chosen.kind, "preset": chosen.data}
    assert "place 1" in _said(app)
    app.session_state["view.run"] = None  # the same form again, as a second click sends it
    app.run()
    app.button(key="ft_start").click().run()
    assert len(store.current().history("local")) == 1
    app.button(key="ft_another").click().run()
    app.button(key="ft_start").click().run()
    assert len(store.current().history("local")) == 2


def test_every_knob_is_there_and_reaches_the_run() -> None:
    app = _open()
    app.toggle(key="ft_every_knob").set_value(True).run()
    said = _said(app)
    for field in FinetuneConfig.__dataclass_fields__:
        if field not in ("task", "pooling"):  # decided by the preset; the head of a judge only
            assert strings("en")[f"finetune.knob.{field}"]
            assert field in ("learns", "lr", "n_steps") or strings("en")[f"finetune.knob_line.{field}"] in said
    app.number_input(key="ft_ship_log_n_steps").set_value(7).run()
    app.number_input(key="ft_ship_log_warmup").set_value(3).run()
    app.toggle(key="ft_every_knob").set_value(False).run()
    assert "warmup = 3" in _said(app), "what is hidden is said"
    app.button(key="ft_start").click().run()
    config = store.current().history("local")[0].spec["config"]
    assert (config["n_steps"], config["warmup"], config["batch_size"]) == (7, 3, 8)


def _own(app: AppTest, kind: str, words: str) -> AppTest:
    app.session_state["finetune.task"] = app.session_state["finetune.task_chosen"] = "own"
    app.session_state["ft_kind"] = kind
    app.run()
    return app.text_area(key=f"ft_paste_{kind}").set_value(words).run()


@pytest.mark.parametrize("language", LANGUAGES)
def test_own_words_that_cannot_be_learned_from_are_refused_and_kept(language: str) -> None:
    said = strings(language)
    for kind, words, reason in (
        ("text", "one line", "single_line"), ("text", "two\nlines", "short"), ("text", "  \n\t", "nothing"),
        ("examples", "text,label\na,good\nb,good\n", "one_class"), ("examples", "{nonsense", "json"),
    ):  # fmt: skip
        app = _own(_open(language), kind, words)
        start = said[f"finetune.trouble.{reason}"].split("{")[0]
        assert start in _said(app), reason
        assert not any(button.key == "ft_start" and not button.disabled for button in app.button)
        assert app.text_area(key=f"ft_paste_{kind}").value == words
    assert store.current().history("local") == []


def test_odd_words_never_break_the_form() -> None:
    for odd in NASTY:
        _said(_own(_open(), "text", odd + "\n" + odd * 3))


def test_own_words_become_a_run() -> None:
    words = "text,label\n" + "".join(f"the {i}th film was {w},{w}\n" for i in range(40) for w in ("good", "bad"))
    app = _own(_open(), "examples", words)
    assert "bad, good" in _said(app)
    app.button(key="ft_start").click().run()
    _said(app)
    (run,) = store.current().history("local")
    assert run.spec["data"] == {"kind": "examples", "preset": None} and run.spec["config"]["task"] == "classification"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_run_at_work_shows_what_it_said(language: str, records: list[dict[str, Any]]) -> None:
    run = _submit()
    _work(run, records[:6])
    app = _open(language, run.id)
    said = _said(app)
    assert strings(language)["finetune.status.step"].format(step=5, n_steps=STEPS) in said
    pace = numbers.pace(records[:6])
    assert pace is not None and f"{pace.tokens_per_second:,.0f}" in said
    start = numbers.validation(records)[0][1]
    assert f"{start:.2f}" in said or numbers.findings(records[:6])
    assert "sail" in said and "<b>" not in said, "the learner's text is inert"
    assert {button.key for button in app.button} >= {"ft_pause", "ft_cancel"}
    app.button(key="ft_pause").click().run()
    again = store.current().run(run.id, "local")
    assert again is not None and again.wanted == "pause"
    assert strings(language)["finetune.status.asked_pause"] in _said(app)


def test_a_paused_run_waits_for_resume_and_a_stopped_one_is_over(records: list[dict[str, Any]]) -> None:
    run = _submit()
    token = _work(run, records[:5])
    store.current().end(run.id, token, "paused")
    app = _open("en", run.id)
    assert "paused" in _said(app)
    app.button(key="ft_resume").click().run()
    assert "place 1" in _said(app)
    app.button(key="ft_cancel").click().run()
    assert "stopped" in _said(app)
    assert not any(button.key in ("ft_pause", "ft_resume", "ft_cancel") for button in app.button)


def test_sentences_that_change_sides_are_named(records: list[dict[str, Any]]) -> None:
    run = _submit(task="classification")
    _work(run, records, task="classification")
    said = _said(_open("en", run.id))
    assert "validation sentences: 1 of 2 right, 1 before" in said
    assert r"good \*film\* — now right: good" in said and "a bore — now wrong: good" in said


def test_a_failed_run_says_why(records: list[dict[str, Any]]) -> None:
    run = _submit()
    store.current().end(run.id, _work(run, records[:3]), "failed", "not_a_number")
    app = _open("en", run.id)
    assert strings("en")["runs.not_a_number"] in _said(app)


@pytest.mark.parametrize("run_id", ["0" * 32, "../../etc", "<script>", "x" * 4000, ""])
def test_a_run_that_is_not_there_is_said_and_the_form_stands(run_id: str) -> None:
    app = _open("en", run_id)
    assert strings("en")["finetune.no_such_run"] in _said(app) or not run_id
    assert app.button(key="ft_start")


def test_somebody_else_s_run_is_not_shown(records: list[dict[str, Any]]) -> None:
    other = store.current().submit("user:eve", "k", "Secret", _spec())
    assert "Secret" not in _said(_open("en", other.id))


def test_history_notes_compare_and_delete(records: list[dict[str, Any]]) -> None:
    runs = [_submit(str(i), f"Run *{i}*") for i in range(2)]
    for run in runs:
        store.current().end(run.id, _work(run, records), "finished")
    app = _open("en", runs[0].id)
    app.text_input(key=f"ft_note_{runs[1].id}").set_value("try a smaller lr").run()
    kept = store.current().run(runs[1].id, "local")
    assert kept is not None and kept.note == "try a smaller lr"
    app.toggle(key="ft_compare").set_value(True).run()
    assert strings("en")["finetune.compare_title"] in _said(app)
    app.selectbox(key="ft_compare_2").set_value(runs[1].id).run()
    assert strings("en")["finetune.compare_same"] in _said(app)
    app.button(key=f"ft_open_{runs[1].id}").click().run()
    assert [title.value for title in app.title] == [r"Run \*1\*"]
    app.button(key=f"ft_delete_{runs[1].id}").click().run()
    assert store.current().run(runs[1].id, "local") is None
    assert app.button(key="ft_start")
