"""The lesson on sampling in both languages: every step, every model shape, good and bad texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from lab import course, models
from lab.language import LANGUAGES, strings
from lab.lessons import section
from lab.ui import model_choice, reading
from lm_core.generation import generate
from lm_core.sampling import SamplingConfig
from tests import tiny_models
from tests.support import NASTY

PAGE = str(course.ROOT / "pages" / "probability" / "sampling.py")
STEPS = course.lesson("sampling").steps


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)


def _open(folder: Path, language: str = "en", text: str | None = None, whole: bool = False, **query: str) -> AppTest:
    app = AppTest.from_file(PAGE, default_timeout=60)
    app.session_state["lang"] = language
    app.session_state["model_menu"], app.session_state["model_folder"] = model_choice.FOLDER, str(folder)
    if text is not None:
        app.session_state["view.text"] = text
    app.session_state["whole_page"] = whole
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
    app = _open(folder, language, step=str(STEPS.index(step) + 1))
    shown = _texts(app)
    assert [title.value for title in app.title] == [section("sampling", step, language).title]
    assert not app.warning and not app.error
    shown_section = "cut_top_p" if step == "cut" else step
    opening = section("sampling", shown_section, language).body.split("{")[0].split("$")[0].split("\n")[0][:18]
    assert opening in shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_whole_page_shows_all_steps(language: str, folder: Path) -> None:
    app = AppTest.from_file(PAGE, default_timeout=90)
    app.session_state["lang"] = language
    app.session_state["model_menu"], app.session_state["model_folder"] = model_choice.FOLDER, str(folder)
    app.session_state["whole_page"] = True
    app.run()
    assert not app.exception
    assert [header.value for header in app.header] == [section("sampling", step, language).title for step in STEPS]


@pytest.mark.parametrize("text", [*NASTY[1::4], "word " * 2_000, "a", "猫"])
def test_odd_texts_leave_every_step_standing(text: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, tiny_models.gpt2())
    app = AppTest.from_file(PAGE, default_timeout=60)
    app.session_state["model_menu"], app.session_state["model_folder"] = model_choice.FOLDER, str(folder)
    app.session_state["view.text"] = text
    app.session_state["whole_page"] = True
    app.run()
    shown = _texts(app)
    assert "<script" not in shown and "<img" not in shown


@pytest.mark.parametrize("text", ["", "   ", "\u200b"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_blank_text_gets_a_message(text: str, language: str, folder: Path) -> None:
    assert [info.value for info in _open(folder, language, text).info] == [strings(language)["trouble.blank"]]


@pytest.mark.parametrize("query", [
    {"sampling_temperature": "-1", "sampling_top_k": "x", "sampling_top_p": "9", "sampling_min_p": "nan"},
    {"sampling_temperature": "0", "sampling_top_k": "1", "sampling_top_p": "0", "sampling_repetition": "0"},
    {"sampling_temperature": "1e9", "sampling_seed": "99999999", "sampling_token": "99999999"},
    {"sampling_path": "1.2.x"}, {"sampling_path": "999999.1"}, {"sampling_path": "٣"}, {"sampling_filter": "<b>"},
    {"sampling_path": ".".join(["5"] * 90)}, {"sampling_path": "0.5.5"}, {"sampling_stage": "?", "sampling_order": "?"},
    {"sampling_beams": "99", "sampling_beam_new": "0", "sampling_beam_length": "x", "sampling_beam_step": "77"},
    {"sampling_cache_length": "0"}, {"sampling_token": "٣"},
])  # fmt: skip
def test_nonsense_in_the_address_is_ignored(query: dict[str, str], folder: Path) -> None:
    _texts(_open(folder, whole=True, **query))


@pytest.mark.parametrize("context_length", [1, 2, 9])
def test_a_model_with_little_or_no_room_to_write(context_length: int, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, tiny_models.llama(context_length=context_length))
    _texts(_open(folder, whole=True))


def test_an_encoder_is_turned_away(tmp_path: Path) -> None:
    app = _open(tiny_models.save(tmp_path, tiny_models.bert()))
    assert [warning.value for warning in app.warning] == [strings("en")["trouble.not_causal"]]


def test_drawing_step_by_step_is_generate_with_the_same_seed(folder: Path) -> None:
    """Press `Draw one`, then `Draw 10`: the path in the address is what `generate` writes."""
    app = _open(folder, step="7", sampling_seed="3", sampling_temperature="1.4", sampling_top_k="0")
    for key in ("take_draw", "take_many"):
        app = app.button(key=key).click().run()
    loaded = models.load(f"folder:{folder}")
    config = SamplingConfig(1.4, 0, 0.9, 1.2, 0.05)
    ids = torch.tensor(loaded.encode(reading.EXAMPLE))
    expected = list(generate(loaded.model, ids, 11, config, stop_ids=frozenset([loaded.tokenizer.eos_id]), seed=3))
    assert "".join(app.query_params["sampling_path"]) == ".".join(map(str, expected))
    app = app.button(key="back").click().run()
    assert "".join(app.query_params["sampling_path"]) == ".".join(map(str, expected[:-1]))
    tried = app.session_state["sampling.tree"][1]
    assert tuple(expected) in tried, "what was tried is kept"
    app = app.button(key="restart").click().run()
    assert "sampling_path" not in app.query_params and len(app.session_state["sampling.tree"][1]) == 1


def test_words_can_be_forced(folder: Path) -> None:
    app = _open(folder, step="7")
    app = app.text_input(key="force_box").set_value("猫").run()
    ids = models.load(f"folder:{folder}").tokenizer.encode("猫")
    assert "".join(app.query_params["sampling_path"]) == ".".join(map(str, ids))
    assert not app.exception


def test_the_sliders_move_and_stand_in_the_address(folder: Path) -> None:
    app = _open(folder, step="5")
    app = app.slider(key="sampling_temperature_order").set_value(0.0).run()
    assert "".join(app.query_params["sampling_temperature"]) == "0" and not app.exception
    assert "→ 1 → 1 → 1 → 1" in _texts(app)
    app = app.button(key="off_order").click().run()
    size = "290"
    assert " → ".join([size] * 6) in _texts(app)


def test_measuring_writes_with_and_without_the_cache(folder: Path) -> None:
    app = _open(folder, step="9")
    assert strings("en")["sampling.not_measured"] in _texts(app)
    app = app.button(key="measure").click().run()
    found = app.session_state["sampling.measured"][1]
    assert set(found) == {True, False} and len(found[True]) == len(found[False]) > 1
    assert "tokens/s" in _texts(app)


def test_the_answers_are_the_models(folder: Path) -> None:
    """Answer the first question with every option: exactly the model's is right."""
    loaded = models.load(f"folder:{folder}")
    with torch.no_grad():
        logits = loaded.model(torch.tensor([loaded.encode(reading.EXAMPLE)]))[0, -1]
    top = float(torch.softmax(logits, -1).max())
    right = 0 if top < 0.1 else 1 if top <= 0.5 else 2
    for option in range(3):
        app = _open(folder)
        (question,) = [group for group in app.button_group if str(group.key).startswith("guess.")]
        app = question.set_value(option).run()
        words = strings("en")["panel.right" if option == right else "panel.wrong"]
        assert any(m.value.startswith(words) for m in app.markdown), option
