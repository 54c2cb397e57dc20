"""The lesson on masks in both languages: every step, odd texts, and both readers of a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import ButtonGroup

from lab import course, masked_word, masking, models, traces
from lab.language import LANGUAGES, strings
from lab.lessons import section
from lab.ui import masking_rows, model_choice
from lab.ui.reading import EXAMPLE
from lm_core.checkpoint import save_pretrained
from lm_core.encoder import Encoder
from lm_core.tokenizer import train_bpe
from tests import tiny_models

PAGE = str(course.ROOT / "pages" / "attention" / "masking.py")
STEPS = course.lesson("masking").steps
STORYTELLER = "bundled:storyteller"
BIRD = "The little bird sang a song."


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)


def _open(
    folder: Path | None = None, language: str = "en", text: str = BIRD, whole: bool = False, **query: str
) -> AppTest:
    app = AppTest.from_file(PAGE, default_timeout=90)
    app.session_state["lang"] = language
    if folder is not None:
        app.session_state["model_menu"], app.session_state["model_folder"] = model_choice.FOLDER, str(folder)
    app.session_state["view.text"] = text
    app.session_state["whole_page"] = whole
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def _texts(app: AppTest) -> str:
    assert not app.exception, app.exception[0].value
    return "\n".join(part.value for part in [*app.markdown, *app.caption, *app.info])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", STEPS)
def test_every_step_shows_its_prose(step: str, language: str) -> None:
    app = _open(language=language, step=str(STEPS.index(step) + 1))
    shown = _texts(app)
    assert [title.value for title in app.title] == [section("masking", step, language).title]
    assert not app.warning and not app.error
    opening = section("masking", step, language).body.split("{")[0].split("$")[0].split("\n")[0][:18]
    assert opening in shown


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "😀"])
def test_odd_texts_leave_every_step_standing(text: str) -> None:
    shown = _texts(_open(text=text, whole=True))
    assert "<script" not in shown


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_other_shapes_of_model(shape: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, getattr(tiny_models, shape)())
    app = _open(folder, whole=True)
    _texts(app)
    assert [header.value for header in app.header] == [section("masking", step, "en").title for step in STEPS]


@pytest.mark.parametrize("kind", ["none", "window", "prefix", "documents"])
def test_every_kind_of_mask_has_its_own_words(kind: str) -> None:
    shown = _texts(_open(step="1", masking_kind=kind))
    assert section("masking", f"kinds_{kind}", "en").body.split("{")[0].split("$")[0][:18] in shown


@pytest.mark.parametrize("query", [
    {"masking_kind": "<b>", "masking_size": "-1", "masking_cells": "9.999_x_٣.1", "masking_at": "0.0"},
    {"masking_side": "up", "masking_rule": "?", "masking_row": "9", "masking_pair": "1.99"},
    {"masking_raise": "99999999", "masking_lower": "nan", "masking_new": "", "masking_gap": "77", "masking_after": ""},
])  # fmt: skip
def test_nonsense_in_the_address_is_ignored(query: dict[str, str], tmp_path: Path) -> None:
    _texts(_open(tiny_models.save(tmp_path, tiny_models.gpt2()), whole=True, **query))


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_encoder_is_turned_away(language: str, tmp_path: Path) -> None:
    app = _open(tiny_models.save(tmp_path, tiny_models.bert()), language)
    assert [warning.value for warning in app.warning] == [strings(language)["trouble.not_causal"]]


# --- the answer waits -------------------------------------------------------------------------------------------------


def _question(app: AppTest) -> ButtonGroup:
    (found,) = [group for group in app.button_group if str(group.key).startswith("guess.")]
    return found


def _drawn(app: AppTest) -> set[str]:
    """Which figures stand on the page, by the names of their CSV files."""
    found = {str(button.proto.id).rsplit("-", 1)[-1] for button in app.get("download_button")}
    return {name.removeprefix("csv_") for name in found}


@pytest.mark.parametrize(("step", "figure"), [
    ("padding", "padding"), ("empty", "nan"), ("infinity", "ways_1"), ("documents", "packings"), ("leak", "leak"),
])  # fmt: skip
def test_the_figure_that_gives_the_answer_away_comes_after_it(step: str, figure: str) -> None:
    app = _open(step=str(STEPS.index(step) + 1))
    covered = strings("en")["panel.covered"]
    assert covered in _texts(app) and figure not in _drawn(app)
    app.button(key=f"uncover_{step}").click().run()  # a teacher in a hurry
    assert covered not in _texts(app) and figure in _drawn(app)
    app.button(key=f"uncover_{step}").click().run()
    assert covered in _texts(app) and figure not in _drawn(app)
    _question(app).set_value(0).run()
    assert covered not in _texts(app) and figure in _drawn(app)


def test_the_first_question_is_about_a_text_that_is_not_on_the_page() -> None:
    """How many pairs does the causal mask allow for twice as many tokens? n becomes 2n: n (2n + 1) pairs."""
    app = _open(step="1")
    n = len(traces.trace(STORYTELLER, BIRD).labels)
    question = _question(app)
    assert f"{n * (2 * n + 1):,}" in question.options
    question.set_value(question.options.index(f"{n * (2 * n + 1):,}")).run()
    assert strings("en")["panel.right"] in _texts(app)


@pytest.mark.parametrize(("query", "answer"), [
    ({}, "none"), ({"masking_raise": "12000"}, "added"), ({"masking_lower": "12000"}, "filled"),
])  # fmt: skip
def test_each_mistake_has_its_own_case(query: dict[str, str], answer: str) -> None:
    app = _open(step="5", **query)
    question = _question(app)
    question.set_value(masking_rows.ANSWERS.index(answer)).run()
    assert strings("en")["panel.right"] in _texts(app)


@pytest.mark.parametrize(("up", "down", "fails"), [
    (0, 0, ()), (12000, 0, ("added",)), (0, 12000, ("filled",)), (12000, 12000, ("filled", "added")),
])  # fmt: skip
def test_the_cases_are_those_of_torch(up: int, down: int, fails: tuple[str, ...]) -> None:
    """The three ways written out with torch alone, in float64, on scores that no model made."""
    scores = np.random.default_rng(5).normal(0, 6, 9)
    allowed = np.arange(9) < 5
    row = masking.case_scores(scores, allowed, up, down)
    ways = masking.row_ways(row, allowed)
    plain, open_ = torch.tensor(row), torch.tensor(allowed)
    theirs = {
        "infinity": plain.masked_fill(~open_, -torch.inf),
        "filled": plain.masked_fill(~open_, -1e4),
        "added": plain + (~open_).double() * -1e4,
    }
    for way, masked in theirs.items():
        np.testing.assert_allclose(ways[way][1], torch.softmax(masked, -1).numpy(), atol=2e-3)  # float32 at 12,000
    assert masking.broken(ways, allowed) == fails
    hidden = torch.softmax(theirs["infinity"], -1)
    np.testing.assert_allclose(hidden, torch.softmax(torch.tensor(scores).masked_fill(~open_, -torch.inf), -1))


@pytest.mark.parametrize("language", LANGUAGES)
def test_minus_is_a_minus_in_the_note_on_float16(language: str) -> None:
    shown = _texts(_open(language=language, step="5"))
    assert "−10,000" in shown and "-10000" not in shown and "-∞" not in shown


# --- both readers of a gap --------------------------------------------------------------------------------------------


@pytest.fixture
def filler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small random encoder whose vocabulary holds [MASK], where the page looks for one."""
    torch.manual_seed(3)
    config = tiny_models.bert()
    tokenizer = train_bpe(tiny_models.TEXTS, config.vocab_size, ["[CLS]", "[SEP]", "[MASK]"])
    folder = tmp_path / "storyteller-mlm"
    save_pretrained(Encoder(config), tokenizer, folder)
    name = f"folder:{folder}"
    monkeypatch.setattr(masked_word, "encoder", lambda: name)
    return name


def test_only_the_encoder_is_moved_by_what_follows(filler: str) -> None:
    """Both read the two sentences to the end; the decoder's answer is recomputed with the whole row in one piece."""
    found = masked_word.gap_text(filler, BIRD)
    assert found is not None
    gap = len(found.token_ids) // 2
    enc = [masked_word.fill(filler, found.token_ids, gap, after) for after in (None, "with a loud cry.")]
    dec = [
        masked_word.guess_next(STORYTELLER, filler, found.token_ids, gap, after) for after in (None, "with a loud cry.")
    ]
    assert enc[0] is not None and enc[1] is not None and dec[0] is not None and dec[1] is not None
    assert np.abs(enc[0] - enc[1]).max() > 1e-5
    assert np.abs(dec[0] - dec[1]).max() < 1e-5

    loaded = models.load(STORYTELLER)
    assert loaded.tokenizer is not None
    left = models.load(filler).tokenizer.decode(found.token_ids[:gap])  # type: ignore[union-attr]
    start = [] if loaded.start_id is None else [loaded.start_id]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([[*start, *loaded.tokenizer.encode(left)]]))[0, -1]
    np.testing.assert_allclose(dec[0], torch.softmax(logits.double(), -1).numpy(), atol=1e-5)


def test_the_decoder_reads_what_follows(filler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that the decoder is given hold the changed right side: else its two answers would agree for nothing."""
    rows: list[tuple[int, ...]] = []
    whole = masked_word._expected

    def noted(model: str, files: str, ids: tuple[int, ...], place: int, code: str) -> masked_word.Probabilities:
        rows.append(ids)
        return whole(model, files, ids, place, code)

    monkeypatch.setattr(masked_word, "_expected", noted)
    found = masked_word.gap_text(filler, BIRD)
    assert found is not None
    for after in (None, "with a loud cry."):
        masked_word.guess_next(STORYTELLER, filler, found.token_ids, 3, after)
    tokenizer = models.load(STORYTELLER).tokenizer
    assert tokenizer is not None
    assert tokenizer.decode(list(rows[0])).endswith("song.")
    assert tokenizer.decode(list(rows[1])).endswith("with a loud cry.")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_both_readers(language: str, filler: str) -> None:
    app = _open(language=language, step="9")
    shown = _texts(app)
    assert strings(language)["masking.no_encoder"] not in shown
    assert strings(language)["masking.no_mask_in_encoder"] not in shown
    assert strings(language)["masking.decoder_same"].split("{")[0] not in shown  # it gives the answer away
    _question(app).set_value(0).run()
    assert strings(language)["masking.decoder_same"].split("{")[0] in _texts(app)
    assert strings(language)["panel.right"] in _texts(app)


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_an_encoder_the_page_says_so(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked_word, "encoder", lambda: None)
    app = _open(language=language, step="9")
    shown = _texts(app)
    assert strings(language)["masking.no_encoder"] in shown
    assert strings(language)["masking.decoder_same"].split("{")[0] in shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_chinese_before_an_english_encoder_is_told_and_there_is_a_way_out(language: str, filler: str) -> None:
    app = _open(language=language, step="9", text="床前明月光")
    assert strings(language)["masking.bytes_note"].split("{")[0] in _texts(app)
    app.button(key="read_english").click().run()
    assert strings(language)["masking.bytes_note"].split("{")[0] not in _texts(app)
    assert app.session_state["view.text"] == EXAMPLE
