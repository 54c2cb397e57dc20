"""The lesson on the block in both languages: every step, every model shape, good and bad sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from lab import course, models, traces
from lab.language import LANGUAGES, strings
from lab.lessons import section
from lab.ui import block_training, model_choice, reading
from lm_core.norm_placement import StackConfig
from tests import tiny_models
from tests.support import NASTY

PAGE = str(course.ROOT / "pages" / "model" / "block.py")
STEPS = course.lesson("block").steps


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    # The stacks are trained for real, smaller and shorter: their full size is tested beside them.
    small = StackConfig(d_model=8, n_heads=2, d_mlp=8, n_layers=3, context_length=8, batch=2, steps=3)
    run = block_training.run_placement
    monkeypatch.setattr(block_training, "run_placement", lambda text, c, pre_norm: run(text, small, pre_norm))


def _open(folder: Path | None, language: str = "en", **query: str) -> AppTest:
    app = AppTest.from_file(PAGE, default_timeout=60)
    app.session_state["lang"] = language
    if folder is not None:
        app.session_state["model_menu"] = model_choice.FOLDER
        app.session_state["model_folder"] = str(folder)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("model"), getattr(tiny_models, request.param)())


def _texts(app: AppTest) -> str:
    assert not app.exception, app.exception[0].value
    return "\n".join(part.value for part in [*app.markdown, *app.caption])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", STEPS)
def test_every_step_shows_its_prose(step: str, language: str, folder: Path) -> None:
    app = _open(folder, language, step=str(STEPS.index(step) + 1), layer="2", head="3")
    shown = _texts(app)
    assert [title.value for title in app.title] == [section("block", step, language).title]
    assert not app.warning and not app.error
    opening = section("block", step, language).body.split("{")[0].split("$")[0].split("\n")[0][:20]
    assert opening in shown
    assert "".join(app.query_params["step"]) == str(STEPS.index(step) + 1)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_whole_page_shows_all_steps(language: str, folder: Path) -> None:
    app = AppTest.from_file(PAGE, default_timeout=90)
    app.session_state["lang"] = language
    app.session_state["model_menu"], app.session_state["model_folder"] = model_choice.FOLDER, str(folder)
    app.session_state["whole_page"] = True
    app.run()
    assert not app.exception
    assert [header.value for header in app.header] == [section("block", step, language).title for step in STEPS]


@pytest.mark.parametrize("text", [*NASTY, "word " * 10_000, "a"])
def test_odd_sentences_leave_every_step_standing(text: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, tiny_models.gpt2())
    for step in ("3", "4", "5", "6"):
        app = AppTest.from_file(PAGE, default_timeout=60)
        app.session_state["model_menu"], app.session_state["model_folder"] = model_choice.FOLDER, str(folder)
        app.session_state["view.text"] = text
        app.query_params["step"] = step
        app.run()
        shown = _texts(app)
        assert "<script" not in shown and "<img" not in shown


@pytest.mark.parametrize("text", ["", "   ", "\u200b"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_blank_sentence_gets_a_message(text: str, language: str, folder: Path) -> None:
    app = AppTest.from_file(PAGE, default_timeout=60)
    app.session_state["lang"], app.session_state["view.text"] = language, text
    app.session_state["model_menu"], app.session_state["model_folder"] = model_choice.FOLDER, str(folder)
    app.run()
    assert [info.value for info in app.info] == [strings(language)["trouble.blank"]]


@pytest.mark.parametrize("query", [
    {"block_neuron": "99999999"}, {"block_neuron": "-1"}, {"block_neuron": "٣"}, {"block_token": "9"},
    {"block_token": "x"}, {"block_scope": "<b>"}, {"block_when": "later"}, {"block_rate": "1e9"},
    {"block_length": "0"}, {"block_length": "9999999"}, {"layer": "99", "head": "0", "q": "77", "k": "99"},
])  # fmt: skip
def test_nonsense_in_the_address_is_ignored(query: dict[str, str], folder: Path) -> None:
    for step in range(1, len(STEPS) + 1):
        assert not _open(folder, step=str(step), **query).exception


@pytest.mark.parametrize("context_length", [1, 2, 3])
def test_a_model_that_sees_very_little(context_length: int, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, tiny_models.llama(context_length=context_length))
    for step in range(1, len(STEPS) + 1):
        assert not _open(folder, step=str(step)).exception


def test_an_encoder_is_turned_away(tmp_path: Path) -> None:
    app = _open(tiny_models.save(tmp_path, tiny_models.bert()))
    assert [warning.value for warning in app.warning] == [strings("en")["trouble.not_causal"]]


def test_the_table_of_counts_is_that_of_the_model(folder: Path) -> None:
    shown = _texts(_open(folder, step="8"))
    total = models.shape(f"folder:{folder}").n_parameters
    assert strings("en")["block.count_same"].format(formula=f"{total:,}", real=f"{total:,}") in shown
    assert "PyTorch's own counter saw" in shown and "should not happen" not in shown


def test_the_answer_on_the_final_guess_is_the_models(folder: Path) -> None:
    """Answer the question of the lens with every option: exactly the model's is right."""
    model = f"folder:{folder}"
    trace = traces.trace(model, reading.EXAMPLE)
    arrays, loaded = trace.arrays, models.load(model).model
    states = np.stack([arrays["embedded"], *arrays["resid_post"]])[:, -1]
    with torch.no_grad():
        tops = loaded.unembed(loaded.final_norm(torch.tensor(states))).argmax(-1).tolist()
    first = max([s + 1 for s, top in enumerate(tops) if top != tops[-1]], default=0)
    names = ["embedding", "layer 1", "layer 2"]
    options = sorted({0, first, 2, min(2, max(0, first - 1)), 1})
    for state in options:
        app = _open(folder, step="6")
        (question,) = [group for group in app.button_group if str(group.key).startswith("guess.")]
        assert list(question.options) == [names[s] for s in options]
        app = question.set_value(options.index(state)).run()
        words = strings("en")["panel.right" if state == first else "panel.wrong"]
        assert any(m.value.startswith(words) for m in app.markdown), state


def test_the_menus_of_placement_change_what_is_drawn(folder: Path) -> None:
    app = _open(folder, step="7", block_when="after", block_rate="0.01")
    assert "learning rate of 0\\.01" in _texts(app)
    assert "".join(app.query_params["block_when"]) == "after"
