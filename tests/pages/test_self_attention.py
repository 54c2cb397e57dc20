"""The self-attention lesson as a visitor meets it: every step, both languages, and whatever a reader may type.

AppTest cannot click our components; a click's effect (`view.q` and the like) is set here, and the clicks themselves
are made in tests/browser/test_self_attention.py.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from lab.course import lesson
from lab.language import LANGUAGES, strings
from lab.lessons import section
from lab.ui import view
from tests.attention_reference import BUNDLED, cells, components_of, last_number, open_lesson, sent, truth
from tests.support import NASTY

LESSON = lesson("self_attention")
FIGURES = {
    "question": {"arcs"}, "x": {"map_x", "strip_x"}, "qkv": {"map_q", "strip_q"}, "scores": {"map_scores"},
    "scale": {"map_scaled"}, "mask": {"map_masked"}, "softmax": {"map_weights"}, "mix": {"map_mix"},
    "output": {"map_output"},
}  # fmt: skip
CHINESE = re.compile("[\u4e00-\u9fff]")


def words(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.title, *app.header, *app.markdown, *app.caption, *app.info, *app.warning])


def place(app: AppTest) -> str:
    """File and line below the source panel."""
    return next(c.value for c in app.caption if c.value.startswith("lm_core/"))


def pills(app: AppTest) -> Any:
    (found,) = [group for group in app.button_group if str(group.key).startswith("guess.")]
    return found


@pytest.fixture(scope="module", params=list(LANGUAGES))
def visitor(request: pytest.FixtureRequest) -> tuple[AppTest, str]:
    return open_lesson(request.param), request.param


@pytest.mark.parametrize("number", range(1, len(LESSON.steps) + 1))
def test_every_step_in_both_languages(visitor: tuple[AppTest, str], number: int) -> None:
    app, language = visitor
    app.session_state["view.step"] = str(number)
    app.run()
    assert not app.exception and not app.warning
    step = LESSON.steps[number - 1]
    assert app.title[0].value == section("self_attention", step, language).title
    assert FIGURES[step] <= set(components_of(app))
    assert sent(app, "self_attention_steps")["current"] == number - 1
    assert re.fullmatch(r"lm_core/[a-z_]+\.py : \d+", place(app))
    assert len([c for c in components_of(app) if c.startswith("source_")]) >= 1
    assert "{" not in re.sub(r"\$[^$]*\$", "", words(app)), "a placeholder was left open"
    if language == "zh":
        prose = [m.value for m in app.markdown if len(m.value) > 60]
        assert prose and all(CHINESE.search(text) for text in prose)


def test_next_and_back_walk_through_all_steps() -> None:
    app = open_lesson(step=1)
    seen = [app.title[0].value]
    while [b for b in app.button if b.key == "walk_next"]:
        app.button(key="walk_next").click().run()
        assert not app.exception
        seen.append(app.title[0].value)
    assert seen == [section("self_attention", step, "en").title for step in LESSON.steps]
    assert app.query_params["step"] in ("9", ["9"])
    app.button(key="walk_back").click().run()
    assert app.title[0].value == seen[-2]


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_whole_page(language: str) -> None:
    app = open_lesson(language)
    app.toggle(key="whole_page").set_value(True).run()
    assert not app.exception
    assert [h.value for h in app.header] == [section("self_attention", s, language).title for s in LESSON.steps]
    assert set().union(*FIGURES.values()) <= set(components_of(app))
    assert components_of(app).count("tokens") == 1


@pytest.mark.parametrize("step", ["0", "10", "-3", "abc", "99999", "１", "", "1.5"])
def test_a_step_that_is_none_means_the_first(step: str) -> None:
    app = open_lesson(step=step, mode="nonsense")
    assert not app.exception
    assert app.title[0].value == section("self_attention", "question", "en").title


@pytest.mark.parametrize("name", [f"folder:{BUNDLED}", "folder", "bundled:nobody", "bundled:../models/storyteller"])
def test_a_model_in_a_link_is_a_bundled_one_or_nothing(name: str) -> None:
    app = open_lesson(step=1)
    app.query_params["model"] = name
    app.run()
    assert not app.exception
    assert app.selectbox(key="model_menu").value == "bundled:storyteller"
    assert "model" not in app.query_params


def test_choosing_a_head_or_a_layer_changes_the_numbers_to_its_own() -> None:
    app = open_lesson(step=4, layer=1, head=1)
    text = app.session_state["view.text"]
    right = truth(BUNDLED, text)
    app.selectbox(key="head_menu").select_index(2).run()
    np.testing.assert_allclose(cells(sent(app, "map_scores")), right.head("scores", 0, 2), rtol=2e-4, atol=1e-3)
    app.selectbox(key="layer_menu").select_index(4).run()
    np.testing.assert_allclose(cells(sent(app, "map_scores")), right.head("scores", 4, 2), rtol=2e-4, atol=1e-3)
    assert last_number(app.latex[0].value) == pytest.approx(right.head("scores", 4, 2)[-1, -2], rel=2e-4, abs=6e-3)
    assert (app.query_params["layer"], app.query_params["head"]) in [("5", "3"), (["5"], ["3"])]


def test_another_sentence_is_read_and_its_last_word_chosen() -> None:
    app = open_lesson(step=4, layer=4, head=1, q=2, k=1)
    app.text_input(key="sentence_box").set_value("Two dogs ran home").run()
    right = truth(BUNDLED, "Two dogs ran home")
    data = sent(app, "map_scores")
    n = len(right.token_ids)
    assert data["selected"] == [n - 1, n - 2]
    np.testing.assert_allclose(cells(data), right.head("scores", 3, 0), rtol=2e-4, atol=1e-3)


# --- what a reader may type -------------------------------------------------------------------------------------------

BLANK = ["", "   ", "\n\t ", "\u200b\u200d", "\x00\x01", "\u3000"]
STRANGE = [
    "a", "I", "👩‍👩‍👧‍👦", "👍🏽 🇨🇳 ❤️", "مرحبا بالعالم", "שלום", "\u202eabc\u202c", "a\x00b\x07c\x1b[31md", "ﷺ", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "<script>alert(1)</script>", "<|endoftext|>", "**b** [x](http://e.x) ![i](http://e.x/i.png)", "$x^2$ \\frac{1}{0}",
    "a" * 300, "的" * 300, "{query} {0} %s", ":red[x] :material/home:", "‮\u2028\u2029x", "\\", "`", "$",
    *NASTY,
]  # fmt: skip


@pytest.fixture(scope="module")
def typist() -> AppTest:
    return open_lesson(step=1)


def typed(app: AppTest, text: str, step: int) -> AppTest:
    app.session_state["view.text"] = text
    app.session_state["view.step"] = str(step)
    for name in ("q", "k"):
        app.session_state[f"view.{name}"] = None
    return app.run()


@pytest.mark.parametrize("language", list(LANGUAGES))
@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_a_blank_text_is_answered_in_the_readers_language(language: str, text: str) -> None:
    app = typed(open_lesson(language), text, 4)
    assert not app.exception
    assert [message.value for message in app.info] == [strings(language)["trouble.blank"]]
    assert bool(CHINESE.search(app.info[0].value)) == (language == "zh")
    assert "map_scores" not in components_of(app)


def test_after_a_blank_link_the_typed_sentence_stays() -> None:
    app = open_lesson(text=" ", step=4)
    assert [message.value for message in app.info] == [strings("en")["trouble.blank"]]
    app.text_input(key="sentence_box").set_value("Two dogs ran").run()
    app.run()
    assert not app.info and "".join(sent(app, "tokens")["tokens"][1:]) == "Two␣dogs␣ran"


@pytest.mark.parametrize("text", STRANGE, ids=ascii)
def test_a_strange_text_gives_figures_or_a_clear_message(typist: AppTest, text: str) -> None:
    for step, figure in ((1, "arcs"), (4, "map_scores"), (7, "map_weights"), (8, "map_mix")):
        app = typed(typist, text, step)
        assert not app.exception, step
        if app.info or app.warning:
            said = [m.value for m in [*app.info, *app.warning]]
            assert all(len(message) > 20 for message in said)
        else:
            data = sent(app, figure)
            assert np.isfinite(cells(data) if figure == "map_mix" else [0.0]).all()
            assert len(sent(app, "tokens")["tokens"]) >= 2
        json.dumps([sent(app, key) for key in components_of(app)], allow_nan=False)


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_ten_thousand_words_are_cut_and_said(language: str) -> None:
    text = "word " * 10_000
    for app in (typed(open_lesson(language), text, 4), open_lesson(language, text=text, step=4)):
        assert not app.exception
        shown = sent(app, "tokens")["tokens"]
        assert len(shown) == 128
        cut = next(c.value for c in app.caption if "128" in c.value)
        assert bool(CHINESE.search(cut)) == (language == "zh")
        assert "text" not in app.query_params or len(app.query_params["text"][0]) <= view.LONGEST_TEXT


def test_one_word_looks_at_the_start_and_itself() -> None:
    app = open_lesson(text="Hello", step=7)
    weights = cells(sent(app, "map_weights"))
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=3e-5)
    assert weights[0].tolist() == [1.0] + [0.0] * (len(weights) - 1)


# --- guessing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_a_guess_is_answered_with_the_models_number(language: str) -> None:
    app = open_lesson(language, step=4, layer=2, head=3, q=7, model=BUNDLED)
    row = truth(BUNDLED, app.session_state["view.text"]).head("scores", 1, 2)[6, :7]
    labels = sent(app, "tokens")["tokens"]
    options = pills(app).options
    right = [n for n, option in enumerate(options) if plain(content(option)) == labels[int(row.argmax())]]
    assert len(right) >= 1
    number = f"{row.max():.2f}"
    for guess in range(len(options)):
        pills(app).set_value(guess).run()
        assert not app.exception
        yes, no = strings(language)["panel.right"], strings(language)["panel.wrong"]
        answers = [m.value for m in app.markdown if m.value.startswith((yes, no))]
        assert len(answers) == 1 and number in answers[0].replace("\\", "")
        assert answers[0].startswith(yes) == (guess == right[-1])


def content(option: Any) -> str:
    return str(getattr(option, "content", option))


def plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text).replace("\u00a0", " ")


def test_a_guess_is_forgotten_with_the_sentence_and_the_word() -> None:
    app = open_lesson(step=4)
    pills(app).set_value(0).run()

    def answered() -> bool:
        return any(
            m.value.startswith((strings("en")["panel.right"], strings("en")["panel.wrong"])) for m in app.markdown
        )

    assert answered()
    app.session_state["view.q"] = 3
    app.run()
    assert not answered()
    pills(app).set_value(0).run()
    assert answered()
    app.text_input(key="sentence_box").set_value("The little bird sang").run()
    assert not answered()


@pytest.mark.parametrize("step", [1, 4, 5, 7])
def test_every_question_has_its_right_answer_among_the_options(step: int) -> None:
    app = open_lesson(step=step)
    verdicts = []
    for guess in range(len(pills(app).options)):
        pills(app).set_value(guess).run()
        assert not app.exception
        verdicts.append(any(m.value.startswith(strings("en")["panel.right"]) for m in app.markdown))
    assert verdicts.count(True) == 1
