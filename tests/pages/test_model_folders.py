"""A model folder of the learner's own in the self-attention lesson: good ones work, bad ones get a clear message."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lab import course, models
from lab.language import LANGUAGES, strings
from lab.lessons import section
from lab.ui import model_choice
from tests import tiny_models

PAGE = str(course.ROOT / "pages" / "attention" / "self_attention.py")
STEPS = ("question", "x", "qkv", "scores", "scale", "mask", "softmax", "mix", "output")


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)


def _open(language: str = "en", path: str | None = None, **query: str) -> AppTest:
    """The lesson with the folder entry chosen and a path typed; None: as a learner first sees it."""
    app = AppTest.from_file(PAGE, default_timeout=30)
    app.session_state["lang"] = language
    if path is not None:
        app.session_state["model_menu"] = model_choice.FOLDER
        app.session_state["model_folder"] = path
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def _messages(app: AppTest) -> list[str]:
    assert not app.exception, app.exception[0].value
    return [message.value for message in [*app.info, *app.warning, *app.error]]


@pytest.mark.parametrize("language", LANGUAGES)
def test_choosing_the_folder_entry_asks_for_a_path(language: str) -> None:
    words = strings(language)
    # With a blank sentence: AppTest reads the labels of the layer menu outside the session, so in English.
    app = _open(language, text=" ")
    menu = next(box for box in app.sidebar.selectbox if box.label == words["controls.model"])
    app = menu.set_value(model_choice.FOLDER).run()
    assert _messages(app) == [words["trouble.blank"]]
    app = _open(language, "")
    assert _messages(app) == [words["trouble.no_path"]]
    field = app.sidebar.text_input[0]
    assert field.label == words["controls.folder_path"] and words["controls.folder_path"] in words["trouble.no_path"]
    assert _messages(field.set_value("   ").run()) == [words["trouble.no_path"]]
    assert "model" not in app.query_params


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("how", tiny_models.SPOILT)
def test_a_bad_folder_gets_a_message(how: str, language: str, tmp_path: Path) -> None:
    reason = tiny_models.spoil(tmp_path / "model", how)
    app = _open(language, str(tmp_path / "model"), text="The old king " * 20)
    assert _messages(app) == [strings(language)[f"trouble.{reason}"]]
    assert app.code[0].value, "the exact words stand below"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_path_that_names_no_folder_gets_a_message(language: str, tmp_path: Path) -> None:
    """One session, one path after the other: what one leaves behind must not spoil the next."""
    app = _open(language, "nowhere")
    for what, path in tiny_models.bad_paths(tmp_path).items():
        if what == "surrogate":
            continue  # a browser cannot send half a character
        app = app.sidebar.text_input[0].set_value(path).run()
        assert _messages(app) == [strings(language)["trouble.missing"]], what
    tiny_models.save(tmp_path / "good", tiny_models.gpt2())
    app = app.sidebar.text_input[0].set_value(f'  "{tmp_path / "good"}" ').run()
    assert _messages(app) == [] and app.title


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_each_step_works_on_a_folder(family: str, step: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, tiny_models.gpt2() if family == "gpt2" else tiny_models.llama())
    language = "zh" if step in ("qkv", "scale") else "en"
    app = _open(language, str(folder), step=str(STEPS.index(step) + 1), head="3", layer="2")
    assert _messages(app) == []
    assert [title.value for title in app.title] == [section("self_attention", step, language).title]
    assert len(app.markdown) + len(app.caption) > 1, "prose and figures"


@pytest.mark.parametrize(("family", "context_length"), [("gpt2", 1), ("gpt2", 2), ("llama", 2), ("llama", 5)])
def test_a_short_context_is_stated(family: str, context_length: int, tmp_path: Path) -> None:
    config = getattr(tiny_models, family)(context_length=context_length)
    folder = tiny_models.save(tmp_path, config)
    for step in range(len(STEPS)):
        app = _open("en", str(folder), step=str(step + 1))
        assert _messages(app) == []
        shown = [caption.value for caption in app.caption if f"at most {context_length} tokens" in caption.value]
        assert len(shown) == 1, STEPS[step]


def test_the_file_may_be_replaced_while_the_page_is_open(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", tiny_models.gpt2())
    app = _open("en", str(folder))
    assert _messages(app) == []
    (folder / "model.safetensors").write_bytes(b"")
    assert _messages(app.run()) == [strings("en")["trouble.broken"]]
    tiny_models.save(folder, tiny_models.llama())
    assert _messages(app.run()) == []


@pytest.mark.parametrize("asked", ["folder", "folder:/", "{good}", "hub:openai-community/gpt2", "run:1", ""])
@pytest.mark.parametrize("mode", ["shared", "local"])
def test_no_folder_comes_from_a_link(asked: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tiny_models.save(tmp_path / "model", tiny_models.gpt2())
    monkeypatch.setenv("LM_LAB_MODE", mode)
    monkeypatch.setattr(models, "bundled", lambda: [models.DEFAULT])
    opened: list[str] = []
    monkeypatch.setattr(models, "fingerprint", lambda name: opened.append(name) or _stop())
    app = _open("en", model=asked.format(good=f"folder:{good}"))
    assert opened == [models.DEFAULT], "only the bundled model was asked for"
    assert _messages(app) == [strings("en")["trouble.missing"]]


def _stop() -> str:
    raise models.CheckpointError("far enough", "missing")


def test_a_shared_server_opens_no_folder_whatever_the_session_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = tiny_models.save(tmp_path / "model", tiny_models.gpt2())
    monkeypatch.setenv("LM_LAB_MODE", "shared")
    monkeypatch.setattr(models, "bundled", lambda: [models.DEFAULT])
    opened: list[str] = []
    monkeypatch.setattr(models, "fingerprint", lambda name: opened.append(name) or _stop())
    app = _open("en", str(good))
    assert opened == [models.DEFAULT]
    assert [box.options for box in app.sidebar.selectbox if box.key == "model_menu"] == [["storyteller"]]
    assert not app.sidebar.text_input
