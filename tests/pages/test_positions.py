"""The lesson on positions: every step, both languages, three shapes of model, strange texts and strange links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lab import course, models
from lab.language import LANGUAGES, strings
from lab.lessons import section
from lab.ui import model_choice
from lm_core.config import DecoderConfig
from tests import tiny_models

LESSON = course.lesson("positions")
STEPS = LESSON.steps
FAMILIES: dict[str, DecoderConfig] = {
    "gpt2": tiny_models.gpt2(),
    "llama": tiny_models.llama(),
    "odd": tiny_models.gpt2(d_model=15, n_heads=5),  # 3 numbers a head: no whole pairs
    "one": tiny_models.gpt2(d_model=3, n_heads=3, context_length=1),
    "two": tiny_models.llama(context_length=2),
}


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)


def _open(language: str = "en", folder: Path | None = None, whole: bool = False, **query: str) -> AppTest:
    app = AppTest.from_file(str(LESSON.file), default_timeout=60)
    app.session_state["lang"] = language
    app.session_state["whole_page"] = whole
    if folder is not None:
        app.session_state["model_menu"] = model_choice.FOLDER
        app.session_state["model_folder"] = str(folder)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def _bundled() -> None:
    if models.DEFAULT not in models.bundled():
        pytest.skip("the storyteller is not in this checkout")


def _fine(app: AppTest, step: str, language: str) -> None:
    assert not app.exception, app.exception[0].value
    assert [e.value for e in [*app.info, *app.warning, *app.error]] == []
    assert [title.value for title in app.title] == [section("positions", step, language).title]


def _said(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.markdown, *app.caption, *app.latex])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", STEPS)
def test_each_step_opens_with_the_storyteller(step: str, language: str) -> None:
    _bundled()
    _fine(_open(language, step=str(STEPS.index(step) + 1)), step, language)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_step_opens_with_a_folder(family: str, step: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, FAMILIES[family])
    language = "zh" if step in ("rope", "beyond") else "en"
    _fine(_open(language, folder, step=str(STEPS.index(step) + 1), layer="2", head="3"), step, language)


def _whole(app: AppTest, language: str = "en") -> None:
    assert not app.exception, app.exception[0].value
    assert [e.value for e in [*app.info, *app.warning, *app.error]] == []
    assert [h.value for h in app.header] == [section("positions", step, language).title for step in STEPS]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_page(family: str, language: str, tmp_path: Path) -> None:
    _whole(_open(language, tiny_models.save(tmp_path, FAMILIES[family]), whole=True), language)


TEXTS = [
    "a", "a b", "word " * 10_000, "👨‍👩‍👧‍👦 🏳️‍🌈 é", "שלום עולם مرحبا", "a\x00b\x1b[31m\u202ec\ud7ff",
    "<b>x</b> <script>alert(1)</script>", "**a** $x^2$ `c` [d](e) :red[f] {g} %s \\frac", "猫坐在垫子上。", "\n\n x \n",
]  # fmt: skip


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_strange_texts(text: str, family: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, FAMILIES[family])
    app = _open("en", folder, whole=True, text=text)
    _whole(app)
    assert "<b>" not in _said(app) and "<script>" not in _said(app) and ":red[f]" not in _said(app)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("text", ["", "   ", "\u200b\n"])
def test_a_blank_text_gets_a_message(text: str, language: str, tmp_path: Path) -> None:
    app = _open(language, tiny_models.save(tmp_path, FAMILIES["gpt2"]), text=text or " ")
    assert not app.exception
    assert [e.value for e in app.info] == [strings(language)["trouble.blank"]]


@pytest.mark.parametrize(
    "query",
    [
        {"positions_shuffle": "99999999999"}, {"positions_shuffle": "-1"}, {"positions_shuffle": "٣"},
        {"positions_pair": "0"}, {"positions_pair": "999"}, {"positions_pair": "x"},
        {"positions_places": "5"}, {"positions_places": "99,0"}, {"positions_places": "a,b,c"},
        {"positions_places": "11,0"}, {"positions_places": "0,11"}, {"positions_distance": "1e9"},
        {"positions_distance": "9999"}, {"q": "999", "k": "0"}, {"q": "1", "k": "9"}, {"step": "99"},
    ],
)  # fmt: skip
def test_a_strange_link_opens_all_the_same(query: dict[str, str], tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, FAMILIES["llama"])
    _whole(_open("en", folder, whole=True, **({"text": "The old king looked at the bird"} | query)))


def test_shuffling_again_gives_another_order_and_stands_in_the_address(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, FAMILIES["llama"])
    app = _open("en", folder, step="1", text="one two three four five")
    before = [line.value for line in app.latex]
    app.button(key="shuffle_again_none").click().run()
    _fine(app, "shuffle", "en")
    assert app.query_params["positions_shuffle"] in ("2", ["2"])
    assert [line.value for line in app.latex] != before


def _question(app: AppTest) -> Any:
    """What the step asks before it shows its answer."""
    (found,) = [group for group in app.button_group if str(group.key).startswith("guess.")]
    return found


def test_the_answer_to_the_shuffle_is_that_nothing_changes(tmp_path: Path) -> None:
    app = _open("en", tiny_models.save(tmp_path, FAMILIES["gpt2"]), step="1", text="one two three four five", layer="2")
    app = _question(app).set_value(2).run()
    assert strings("en")["panel.right"] in _said(app)


def test_a_moved_pair_keeps_its_score_with_turning_and_not_with_a_table(tmp_path: Path) -> None:
    for family, right in (("llama", True), ("gpt2", False)):
        folder = tiny_models.save(tmp_path / family, FAMILIES[family])
        app = _open("en", folder, step="6", text="The old king", q="3", k="2")
        app = _question(app).set_value(2).run()
        assert (strings("en")["panel.right"] in _said(app)) is right
        home = app.latex[0].value.split("mathbf{")[1].split("}")[0]
        app = app.slider[0].set_value(5).run()
        _fine(app, "relative", "en")
        parts = [piece.split("}")[0] for piece in app.latex[0].value.split("mathbf{")[1:]]
        assert parts[0] == home and (parts[0] == parts[1]) is right


def test_a_table_says_where_it_ends(tmp_path: Path) -> None:
    app = _open("en", tiny_models.save(tmp_path, FAMILIES["gpt2"]), step="9")
    assert "position 40 has no row" in _said(app).replace("\\", "")


def test_a_model_that_reaches_further_than_the_story(tmp_path: Path) -> None:
    app = _open("en", tiny_models.save(tmp_path, tiny_models.llama(context_length=4096)), step="9")
    _fine(app, "beyond", "en")
    assert "nothing lies beyond" in _said(app)


def test_an_encoder_gets_a_message(tmp_path: Path) -> None:
    app = _open("en", tiny_models.save(tmp_path, tiny_models.bert()))
    assert [e.value for e in [*app.warning, *app.error]] == [strings("en")["trouble.not_causal"]]
