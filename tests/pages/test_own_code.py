"""The lessons on the learner's own code: what they say and draw, in both languages; the files lie in our folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from lab import course, own_code
from lab.language import LANGUAGES, strings
from lm_core.judge.catalogue import BY_SLUG
from lm_core.judge.files import mutant_text, solution_text
from tests.attention_reference import BUNDLED, cells, components_of, sent, truth

TEXT = "The old king looked at the little bird"


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    monkeypatch.setenv("LM_LAB_EXERCISES", str(tmp_path))
    monkeypatch.setattr(own_code, "WRITTEN", 4)
    own_code._KEPT.clear()
    return tmp_path


def write(folder: Path, slug: str, text: str | None = None, mistake: str | None = None) -> None:
    exercise = BY_SLUG[slug]
    if mistake is not None:
        text = mutant_text(exercise, next(m for m in exercise.mutants if m.name == mistake))
    (folder / exercise.filename).write_text(solution_text(exercise) if text is None else text, encoding="utf-8")


def visit(lesson: str, language: str = "en", **query: str) -> AppTest:
    app = AppTest.from_file(str(course.ROOT / "app.py"), default_timeout=60)
    app.query_params["lang"] = language
    app.run()
    app.switch_page(str(course.lesson(lesson).page))
    app.query_params.update({"model": "bundled:storyteller", "text": TEXT, "code": "mine"} | query)
    app.run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    groups = (app.markdown, app.caption, app.info, app.warning, app.error, app.success, app.code)
    return "\n".join(element.value for group in groups for element in group)


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_without_an_answer_the_page_says_so_and_shows_the_reference(language: str) -> None:
    app, say = visit("self_attention", language, step="5"), strings(language)
    assert say["own.reference_below"] in words(app) and not app.error
    assert all(f"exercise={slug}" in words(app) or app.get("page_link") for slug in ("attend", "causal_mask"))
    right = truth(BUNDLED, TEXT)
    np.testing.assert_allclose(cells(sent(app, "map_scaled")), right.head("scaled", 1, 7), rtol=2e-4, atol=1e-3)
    assert "source_scale_scores" in components_of(app)


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_a_missing_scaling_is_named_and_the_figures_are_the_learners(language: str, files: Path) -> None:
    write(files, "attend", mistake="no_scale")
    app, say = visit("self_attention", language, step="5"), strings(language)
    (error,) = app.error
    assert say["own.stage.scaled"] in error.value and "5.657" in error.value and "√32" in error.value
    assert sent(app, "yours_map")["selected"] is not None
    first = cells(sent(app, "map_scaled"))  # of layer 2: what a wrong first layer made of it, and not scaled
    assert np.abs(first - truth(BUNDLED, TEXT).head("scaled", 1, 7)).max() > 1
    assert any("def attend(" in code.value for code in app.code), "the source panel shows what ran"
    assert "source_scale_scores" not in components_of(app)
    assert app.query_params["code"] in ("mine", ["mine"])
    app.button_group(key="code_menu").set_value(say["own.reference"]).run()
    assert not app.error and "code" not in app.query_params
    right = truth(BUNDLED, TEXT).head("scaled", 1, 7)
    np.testing.assert_allclose(cells(sent(app, "map_scaled")), right, rtol=2e-4, atol=1e-3)


def test_a_right_answer_shows_the_references_numbers(files: Path) -> None:
    write(files, "attend")
    write(files, "causal_mask")
    app = visit("self_attention", step="5")
    assert not app.error and app.success[0].value == strings("en")["own.same"]
    right = truth(BUNDLED, TEXT).head("scaled", 1, 7)
    np.testing.assert_allclose(cells(sent(app, "map_scaled")), right, rtol=2e-4, atol=1e-3)


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_an_exception_is_shown_with_its_line(language: str, files: Path) -> None:
    write(files, "causal_mask", "def causal_mask(n, m=None, device=None):\n    return [0][n]  # <b>*oops*</b>\n")
    app = visit("masking", language)
    assert app.warning[0].value == strings(language)["own.failed_exception"]
    assert app.code[0].value.splitlines() == [
        "ex07_causal_mask.py:2    return [0][n]  # <b>*oops*</b>", "IndexError: list index out of range",
    ]  # fmt: skip
    assert strings(language)["own.reference_below"] in words(app)
    write(files, "causal_mask")  # an edit shows at once
    app.run()
    assert not app.warning and app.success


def test_a_mask_off_by_one_is_drawn_on_every_step_of_masking(files: Path) -> None:
    write(files, "causal_mask", mistake="strictly_before")
    app = visit("masking", step="2")
    assert strings("en")["own.stage.masked"] in app.error[0].value and "−∞" in app.error[0].value
    board = cells(sent(app, "board_cells"))
    np.testing.assert_array_equal(board, np.tril(np.ones_like(board), -1))
    assert not app.info


@pytest.mark.parametrize(
    ("lesson", "slug", "mistake", "stage"),
    [("multi_head", "split_heads", "dealt_out", "q_proj"), ("block", "rms_norm", "no_root", "attn_in")],
)
def test_other_lessons(lesson: str, slug: str, mistake: str, stage: str, files: Path) -> None:
    write(files, slug, mistake=mistake)
    app = visit(lesson)
    assert strings("en")[f"own.stage.{stage}"] in app.error[0].value


def test_positions_and_a_loop_without_an_end(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "SECONDS", 2)
    write(files, "rope", "def rotate(x, angles):\n    while True:\n        pass\n")
    app = visit("positions", step="5")
    assert "ex04_rope.py" in app.code[0].value and app.button(key="own_again")
    assert app.title


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_sampling(language: str, files: Path) -> None:
    text = solution_text(BY_SLUG["top_k"]).replace("return logits / temperature", "return logits * temperature")
    write(files, "top_k", text)
    app, say = visit("sampling", language, step="3", sampling_temperature="0.5"), strings(language)
    assert say["own.stage.temperature"] in app.error[0].value and "0.25" in app.error[0].value
    assert any("logits * temperature" in code.value for code in app.code)


def test_lessons_without_such_an_exercise_have_no_switch() -> None:
    app = visit("chain_rule")
    assert all(group.key != "code_menu" for group in app.button_group)
