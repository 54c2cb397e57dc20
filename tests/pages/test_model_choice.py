"""The menus of the sidebar: what they hold, what stands below them, a download on the page, and how it may fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lab import chosen_device, hub_downloads, models, store
from lab.language import LANGUAGES, strings, text
from lab.ui import model_choice, model_fetch
from lm_core import checkpoint
from tests import fake_hub, tiny_models

REPO = "someone/tiny"
NAME = f"hub:{REPO}@{fake_hub.COMMIT}"
USUAL = models.DEFAULT


def _page() -> None:
    import streamlit as st

    from lab.ui import model_choice, view

    view.adopt_address()
    st.session_state["name"] = None
    st.session_state["name"] = model_choice.choose()
    view.mirror_address("model")


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.FakeHub]:
    """A laptop with one small bundled model, and a hub with one that the teacher allows."""
    for name in ("LM_LAB_MODE", "LM_LAB_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path))
    settle(tmp_path, f'[models]\nhub = [{{repo = "{REPO}", revision = "{fake_hub.COMMIT}", label = "Tiny *1*"}}]')
    for place in (models, checkpoint):
        monkeypatch.setattr(place, "MODELS" if place is models else "BUNDLED", tmp_path / "bundled")
    tiny_models.save(tmp_path / "bundled" / "storyteller", tiny_models.gpt2())
    tiny_models.save(tmp_path / "made", tiny_models.llama())
    monkeypatch.setattr(hub_downloads, "_DOWNLOADS", {})
    models.forget_all()
    with fake_hub.serve(tmp_path / "made", REPO, tmp_path / "cache", monkeypatch) as running:
        yield running
    models.forget_all()


def settle(home: Path, content: str) -> None:
    (home / "lab.toml").write_text(content, encoding="utf-8")


def visit(language: str = "en", **query: str) -> AppTest:
    app = AppTest.from_function(_page, default_timeout=30)
    app.session_state["lang"] = language
    app.query_params.update(query)
    return app.run()


def menu(app: AppTest, key: str = "model_menu") -> list[str]:
    """The labels of a menu; empty where there is no such menu."""
    return [label for box in app.sidebar.selectbox if box.key == key for label in box.options]


def choose(app: AppTest, label: str, key: str = "model_menu") -> AppTest:
    return app.sidebar.selectbox(key=key).select(label).run()


def below(app: AppTest) -> list[str]:
    return [caption.value for caption in app.sidebar.caption]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_menu_and_what_stands_below(language: str) -> None:
    words = strings(language)
    app = visit(language)
    assert not app.exception and app.session_state["name"] == USUAL and app.query_params == {}
    assert menu(app) == ["storyteller", "Tiny *1*", words["controls.folder"]]
    assert app.sidebar.selectbox[0].label == words["controls.model"]
    count = model_choice.count_words(models.about(USUAL).n_parameters, language)
    assert below(app) == [text("model.about", language=language, count=count, device="cpu")]
    assert not menu(app, "device_menu"), "one device is no choice"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_model_of_the_hub(language: str, hub: fake_hub.FakeHub) -> None:
    app = choose(visit(language), "Tiny *1*")
    assert not app.exception and not app.warning and app.session_state["name"] == NAME
    assert app.query_params["model"] == NAME
    assert below(app)[0].startswith(model_choice.count_words(models.about(NAME).n_parameters, language))
    again = visit(language, model=NAME)
    assert again.session_state["name"] == NAME, "a link to what the teacher allows"
    assert choose(again, "storyteller").session_state["name"] == USUAL


@pytest.mark.parametrize("asked", [f"hub:{REPO}", f"hub:{REPO}@main", "hub:openai-community/gpt2", "hub:", "folder"])
def test_nothing_else_of_the_hub_comes_from_a_link(asked: str, hub: fake_hub.FakeHub) -> None:
    app = visit(model=asked)
    assert app.session_state["name"] == USUAL and not app.exception
    assert hub.asked == [] and app.query_params == {}


def test_a_choice_the_teacher_takes_back(tmp_path: Path, hub: fake_hub.FakeHub) -> None:
    app = choose(visit(), "Tiny *1*")
    settle(tmp_path, "[models]\nhub = []\nfolders = false")
    app.run()
    assert app.session_state["name"] == USUAL and menu(app) == ["storyteller"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_progress_is_shown(language: str, hub: fake_hub.FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is watched while the script waits: each state of the bar is what a reader sees."""
    monkeypatch.setattr(model_fetch, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(model_fetch, "POLL_SECONDS", 0.05)
    shown: list[tuple[float, str]] = []
    real = model_fetch._how_far
    monkeypatch.setattr(model_fetch, "_how_far", lambda p: shown.append(real(p)) or shown[-1])
    app = visit(language)
    hub.pause = 0.03
    choose(app, "Tiny *1*")
    assert app.session_state["name"] == NAME and not app.status, "and gone when done"
    assert any(0 < share < 1 for share, _ in shown) and all(0 <= share <= 1 for share, _ in shown)
    assert [share for share, _ in shown] == sorted(share for share, _ in shown)
    assert all(("files" if language == "en" else "文件") in words and "4" in words for _, words in shown)


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_a_network(language: str, hub: fake_hub.FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    words = strings(language)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    app = choose(visit(language), "Tiny *1*")
    assert [warning.value for warning in app.warning] == [words["trouble.offline"]] and app.code[0].value
    assert app.session_state["name"] is None, "the page ended there"
    labels = [button.label for button in app.button]
    assert labels == [text("model.use_other", language=language, name="storyteller"), words["model.again"]]
    app.button(key="model_again").click().run()
    assert [warning.value for warning in app.warning] == [words["trouble.offline"]]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    app.button(key="model_again").click().run()
    assert app.session_state["name"] == NAME and not app.warning and not app.button

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert visit(language, model=NAME).session_state["name"] == NAME, "what is here needs no network"


def test_the_button_brings_the_bundled_model_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    app = visit(model=NAME)
    assert app.warning
    app.button(key="model_use_other").click().run()
    assert app.session_state["name"] == USUAL and not app.warning and app.query_params == {}
    assert app.sidebar.selectbox[0].value == USUAL


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("entry", "key"), [
    (f'{{repo = "{REPO}", revision = "gone"}}', "model.not_on_hub"),
    (f'{{repo = "someone/else", revision = "{fake_hub.COMMIT}"}}', "model.not_on_hub"),
])  # fmt: skip
def test_what_the_hub_does_not_have(entry: str, key: str, language: str, tmp_path: Path) -> None:
    settle(tmp_path, f"[models]\nhub = [{entry}]")
    app = visit(language)
    app = choose(app, menu(app)[1])
    assert [warning.value for warning in app.warning] == [strings(language)[key]] and len(app.button) == 2


def test_a_model_of_the_hub_that_does_not_load(tmp_path: Path) -> None:
    tiny_models.edit_config(tmp_path / "made", model_type="mamba")
    app = choose(visit(), "Tiny *1*")
    assert [warning.value for warning in app.warning] == [strings("en")["trouble.unsupported"]]
    app.button(key="model_use_other").click().run()
    assert app.session_state["name"] == USUAL


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_wrong_file_of_the_teacher(language: str, tmp_path: Path) -> None:
    settle(tmp_path, "[models]\nhubs = []")
    app = visit(language)
    assert [warning.value for warning in app.warning] == [strings(language)["trouble.settings"]]
    assert "does not know 'hubs'" in app.code[0].value
    settle(tmp_path, "")
    assert app.run().session_state["name"] == USUAL


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_shared_server_without_a_file_offers_what_it_ships(language: str, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_LAB_MODE", "shared")
        assert menu(visit(language)) == ["storyteller"]
    assert menu(visit(language)) == ["storyteller", "GPT-2", "SmolLM2 135M", strings(language)["controls.folder"]]


def test_a_choice_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (models, chosen_device):
        monkeypatch.setattr(module, "offered_devices", lambda: ["cuda", "cpu"])
    used: list[str] = []
    monkeypatch.setattr(models.devices, "pick", lambda name: used.append(name) or models.devices.torch.device("cpu"))
    app = visit("zh")
    assert menu(app, "device_menu") == ["cuda", "cpu"] and used[-1] == "cuda"
    assert app.sidebar.selectbox(key="device_menu").label == strings("zh")["controls.device"]
    choose(app, "cpu", "device_menu")
    assert used[-1] == "cpu" and app.session_state[models.DEVICE_STATE] == "cpu"
    assert app.run().sidebar.selectbox(key="device_menu").value == "cpu"


def test_a_click_elsewhere_does_not_end_the_download(hub: fake_hub.FakeHub) -> None:
    hub.pause = 0.03
    download = models.start_download(NAME)
    assert visit().session_state["name"] == USUAL and not download.ended.is_set()
    assert download.ended.wait(30) and download.folder is not None
    assert not [t for t in threading.enumerate() if t.name == f"download {NAME}" and t.is_alive() and t.join(5)]


def test_until_somebody_chooses_the_model_follows_the_language(tmp_path: Path) -> None:
    tiny_models.save(tmp_path / "bundled" / "shiren", tiny_models.llama())
    app = visit("zh")
    assert app.session_state["name"] == "bundled:shiren" and app.query_params == {}
    assert menu(app)[:2] == ["shiren 诗人", "storyteller"]
    app.session_state["lang"] = "en"
    assert app.run().session_state["name"] == USUAL and menu(app)[:2] == ["storyteller", "shiren 诗人"]
    choose(app, "shiren 诗人")
    assert app.query_params["model"] == "bundled:shiren"
    app.session_state["lang"] = "zh"
    assert app.run().session_state["name"] == "bundled:shiren"
    choose(app, "storyteller")
    app.session_state["lang"] = "en"
    assert app.run().session_state["name"] == USUAL, "chosen: it stays"
    app.session_state["lang"] = "zh"
    assert app.run().session_state["name"] == USUAL
    assert visit("zh", model=USUAL).session_state["name"] == USUAL, "and so does what a link names"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_model_kept_in_the_home(language: str, tmp_path: Path, hub: fake_hub.FakeHub) -> None:
    """A folder of LM_LAB_HOME/models is offered by name, on a shared server too; nothing else there is."""
    tiny_models.save(tmp_path / "models" / "smollm2-135m-instruct", tiny_models.llama())
    tiny_models.save(tmp_path / "models" / "<b>x", tiny_models.llama())
    tiny_models.save(tmp_path / "elsewhere", tiny_models.llama())
    (tmp_path / "models" / "empty").mkdir()
    label = text("model.kept", language=language, name="SmolLM2 Instruct")
    app = visit(language)
    assert menu(app) == ["storyteller", "Tiny *1*", label, strings(language)["controls.folder"]]
    choose(app, label)
    assert not app.exception and app.session_state["name"] == "kept:smollm2-135m-instruct"
    assert app.query_params["model"] == "kept:smollm2-135m-instruct"
    assert visit(language, model="kept:smollm2-135m-instruct").session_state["name"] == "kept:smollm2-135m-instruct"


def test_only_kept_models_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.save(tmp_path / "models" / "good", tiny_models.llama())
    tiny_models.save(tmp_path / "elsewhere", tiny_models.llama())
    monkeypatch.setenv("LM_LAB_MODE", "shared")
    assert visit(model="kept:good").session_state["name"] == "kept:good"
    for asked in ("kept:../elsewhere", "kept:", "kept:..", "kept:nothing", f"folder:{tmp_path / 'elsewhere'}"):
        assert not models.is_allowed(asked)
        assert visit(model=asked).session_state["name"] == USUAL


def test_an_encoder_is_no_choice_for_lessons_on_reading_from_left_to_right(tmp_path: Path) -> None:
    """It stays a bundled model, which lessons about encoders open by name; menu and links do not give it to others."""
    tiny_models.save(tmp_path / "bundled" / "an-encoder", tiny_models.bert())
    tiny_models.save(tmp_path / "bundled" / "other", tiny_models.llama())
    (tmp_path / "bundled" / "broken").mkdir()
    (tmp_path / "bundled" / "broken" / "config.json").write_text("{")
    encoder = "bundled:an-encoder"
    assert encoder in models.bundled() and models.is_allowed(encoder)
    assert models.causal() == [USUAL, "bundled:broken", "bundled:other"]
    app = visit(model=encoder)
    assert not app.exception and app.session_state["name"] == USUAL and app.query_params == {}
    assert menu(app)[:3] == ["storyteller", "broken", "other"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_ones_own_runs_are_offered_and_others_explained(language: str, tmp_path: Path) -> None:
    there = store.current()
    ids = {}
    for owner, title in (("local", "My *pirate*"), ("local", "No model"), ("ann", "Not mine")):
        ids[title] = there.submit(owner, title, title, {}).id
        if title != "No model":
            tiny_models.save(tmp_path / "runs" / ids[title] / "result" / "model", tiny_models.gpt2())
    own = text("model.run", language=language, name="My *pirate*")
    app = visit(language)
    assert own in menu(app) and not any("No model" in label or "Not mine" in label for label in menu(app))
    choose(app, own)
    assert not app.exception and not app.warning
    for title, reason in (("No model", "run_unfinished"), ("Not mine", "missing")):
        app = visit(language, model=f"run:{ids[title]}")
        assert [w.value for w in app.warning] == [strings(language)[f"trouble.{reason}"]], title
