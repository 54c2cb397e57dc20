"""Every lesson on a model as deep as SmolLM2 135M: 30 layers of 9 heads, 3 of keys and values. Small and random."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lab import course, models
from lab.language import LANGUAGES
from lab.lessons import section
from tests import tiny_models

LESSONS = [lesson for part in course.PARTS for lesson in part.lessons if lesson.is_open and lesson.steps]  # the walks


@pytest.mark.parametrize(("lesson", "language"), list(zip(LESSONS, cycle(LANGUAGES), strict=False)))
def test_every_step_at_the_last_layer_and_head(
    lesson: course.Lesson, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path))
    tiny_models.save(tmp_path / "models" / "deep", tiny_models.deep())
    shape = models.shape("kept:deep")
    assert (shape.n_layers, shape.n_heads, shape.n_kv_heads, shape.d_head, shape.d_model) == (30, 9, 3, 4, 20)
    app = AppTest.from_file(str(lesson.file), default_timeout=60)
    app.session_state["lang"] = language
    app.session_state["whole_page"] = True
    app.query_params.update({"model": "kept:deep", "layer": "30", "head": "9", "text": "The old king 猫"})
    app.run()
    assert not app.exception, app.exception[0].value
    assert not app.warning and not app.error
    assert app.query_params["model"] == "kept:deep"
    titles = [section(lesson.slug, step, language).title for step in lesson.steps]
    assert [header.value for header in app.header] == titles, "all steps were drawn"
    menus = {box.key: box for box in app.selectbox if box.key in ("layer_menu", "head_menu")}
    without = ("tokens", "chain_rule", "sampling")  # they look at texts and predictions, not at one head
    assert menus.keys() == (set() if lesson.slug in without else {"layer_menu", "head_menu"})
    for key, count in (("layer_menu", 30), ("head_menu", 9)):
        if key in menus:
            assert len(menus[key].options) == count
            assert app.session_state[key] == count - 1, "the last one, as the link says"
