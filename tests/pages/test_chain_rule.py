"""The lesson on the chain rule in both languages: every step, odd texts, nonsense in the address, and the game."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from lab import course, models, scores, traces
from lab.language import LANGUAGES, strings
from lab.lessons import section
from lab.ui import chain_game, model_choice, reading
from lm_core.probability import guess_bits
from tests import tiny_models

PAGE = str(course.ROOT / "pages" / "probability" / "chain_rule.py")
STEPS = course.lesson("chain_rule").steps
MODEL = models.DEFAULT

needs_storyteller = pytest.mark.skipif(MODEL not in models.bundled(), reason="the storyteller is not in this checkout")


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)


def _open(
    folder: Path | None = None, language: str = "en", text: str | None = None, whole: bool = False, **query: str
) -> AppTest:
    """The page with a folder of a model, or with the storyteller."""
    app = AppTest.from_file(PAGE, default_timeout=90)
    app.session_state["lang"] = language
    if folder is not None:
        app.session_state["model_menu"], app.session_state["model_folder"] = model_choice.FOLDER, str(folder)
    if text is not None:
        app.session_state["view.text"] = text
    app.session_state["whole_page"] = whole
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def _texts(app: AppTest) -> str:
    assert not app.exception, app.exception[0].value
    return "\n".join(part.value for part in [*app.markdown, *app.caption])


@needs_storyteller
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", STEPS)
def test_every_step_shows_its_prose(step: str, language: str) -> None:
    app = _open(language=language, step=str(STEPS.index(step) + 1))
    shown = _texts(app)
    assert [title.value for title in app.title] == [section("chain_rule", step, language).title]
    assert not app.warning and not app.error and not app.info
    assert section("chain_rule", step, language).body.split("{")[0].split("$")[0].split("\n")[0][:14] in shown


@needs_storyteller
def test_the_sums_on_the_page_are_the_models() -> None:
    loaded = models.load(MODEL)
    ids = torch.tensor([loaded.encode(reading.EXAMPLE)])
    with torch.no_grad():
        rows = torch.log_softmax(loaded.model(ids)[0, :-1].double(), -1)
    bits = -rows.gather(-1, ids[0, 1:, None]).sum().item() / math.log(2)
    shown = "\n".join(part.value for part in _open(step="3", text=reading.EXAMPLE).latex) + _texts(_open(step="3"))
    assert f"{bits:.2f}" in shown
    assert f"{2 ** (bits / (ids.shape[1] - 1)):.1f}" in shown


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "$x$ *b*", "🙂"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_odd_texts_leave_every_step_standing(text: str, kind: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, getattr(tiny_models, kind)())
    app = _open(folder, text=text, whole=True)
    assert "<script" not in _texts(app)
    assert len(app.header) == len(STEPS)


@needs_storyteller
@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "$x$ *b*", "🙂", "🦖𝔛ᚠ" * 40])
def test_odd_texts_with_the_storyteller(text: str) -> None:
    """The last one has a probability that float64 cannot hold: no step may fail on it."""
    assert len(_open(text=text, whole=True).header) == len(STEPS)
    _texts(_open(text=text, step="2"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_token_without_a_start_gets_a_message(language: str, tmp_path: Path) -> None:
    folder = tiny_models.save_startless(tmp_path)
    app = _open(folder, language, "a")
    _texts(app)
    assert [info.value for info in app.info] == [strings(language)["chain_rule.too_short"]]
    app = _open(folder, language, "ab")
    assert not app.info
    assert strings(language)["chain_rule.no_start"].split("{")[0] in _texts(app)


def test_an_encoder_is_turned_away(tmp_path: Path) -> None:
    app = _open(tiny_models.save(tmp_path, tiny_models.bert()))
    assert [warning.value for warning in app.warning] == [strings("en")["trouble.not_causal"]]


@pytest.mark.parametrize("query", [
    {"chain_cuts": "a", "chain_length": "99", "chain_times": "-1", "chain_token": "zzz"},
    {"chain_cuts": "9,1,<b>", "chain_length": "0", "chain_times": "9" * 5000, "chain_token": "9" * 5000},
    {"chain_by": "<b>", "chain_other": "   ", "chain_length": "٣", "chain_times": "²", "chain_token": "²"},
    {"chain_by": "bits", "chain_cuts": "0,0,0", "chain_other": "<script>alert(1)</script> $x$"},
])  # fmt: skip
def test_nonsense_in_the_address_is_ignored(query: dict[str, str], tmp_path: Path) -> None:
    app = _open(tiny_models.save(tmp_path, tiny_models.gpt2()), whole=True, **query)
    assert "<script" not in _texts(app)
    assert app.slider(key="chain_times_slider").value == 10
    assert app.slider(key="chain_length_slider").value == 3


# --- the game ---------------------------------------------------------------------------------------------------------


def _reveal(app: AppTest, names: tuple[str, str], guesses: tuple[str, str], shown: int = 0) -> AppTest:
    for i in range(2):
        app.text_input(key=f"chain_name_{i}").set_value(names[i])
        app.text_input(key=f"chain_guess_{i}_{shown}_0").set_value(guesses[i])
    (button,) = [b for b in app.button if b.label == strings("en")["chain_rule.reveal"]]
    return button.click().run()


@needs_storyteller
def test_a_round_is_paid_in_bits() -> None:
    loaded = models.load(MODEL)
    trace = traces.trace(MODEL, chain_game.HIDDEN["en"][0])
    score = scores.score(MODEL, trace)
    vocab = trace.arrays["logits"].shape[1]
    app = _reveal(_open(step="9"), ("Ann", "Bo"), ("The 60, Once 20", ""))
    shares = {loaded.tokenizer.encode("The")[0]: 0.6, loaded.tokenizer.encode("Once")[0]: 0.2}
    ann, bo = guess_bits(shares, score.token_ids[0], vocab), guess_bits({}, score.token_ids[0], vocab)
    model = strings("en")["chain_rule.the_model"]
    paid = app.session_state[chain_game.STATE]["paid"]
    assert paid["Ann"] == [ann] and paid["Bo"] == [bo] == [pytest.approx(math.log2(vocab))]
    assert paid[model] == [score.bits[0]]
    shown = _texts(app)
    assert f"Ann {ann:.1f}" in shown and f"Bo {bo:.1f}" in shown and f"{model} {score.bits[0]:.1f}" in shown

    app = _reveal(app, ("Ann", "Bo"), ("fox 50", "fox"), shown=1)
    fox = loaded.tokenizer.encode(" fox")[0]
    second = guess_bits({fox: 0.5}, score.token_ids[1], vocab)
    paid = app.session_state[chain_game.STATE]["paid"]
    assert paid["Ann"] == [ann, second] and paid["Bo"] == [bo, second] and len(paid[model]) == 2
    assert f"Ann {second:.1f}" in _texts(app)


@needs_storyteller
def test_the_same_name_twice_is_two_players() -> None:
    app = _reveal(_open(step="9"), ("Ann", "Ann"), ("The 60", ""))
    assert list(app.session_state[chain_game.STATE]["paid"])[:2] == ["Ann", "Ann (2)"]


@needs_storyteller
def test_a_player_named_as_the_model_keeps_his_own_line() -> None:
    model = strings("en")["chain_rule.the_model"]
    app = _reveal(_open(step="9"), (model, "Bo"), ("The 60", ""))
    assert list(app.session_state[chain_game.STATE]["paid"]) == [f"{model} (1)", "Bo", model]


@needs_storyteller
@pytest.mark.parametrize("name", ["<b>x</b>", "**x**", "$x$", ":red[x]"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    app = _reveal(_open(step="9"), (name, "Bo"), ("The 60", ""))
    shown = _texts(app)
    assert name in app.session_state[chain_game.STATE]["paid"]
    assert name not in shown, "escaped, so that no markup acts"
    assert "x" in shown.split("Bits paid:")[1]


@needs_storyteller
@pytest.mark.parametrize("guess", ["The 60 or so", "The x"])
def test_a_guess_that_cannot_be_read_reveals_nothing(guess: str) -> None:
    app = _reveal(_open(step="9"), ("Ann", "Bo"), ("The 60", guess))
    assert [w.value for w in app.warning] == [strings("en")["chain_rule.guess_unread"].replace("{n}", "2")]
    state = app.session_state[chain_game.STATE]
    assert state["shown"] == 0 and state["paid"] == {}
    app = _reveal(app, ("Ann", "Bo"), ("The 60", "The"))
    assert app.session_state[chain_game.STATE]["shown"] == 1
