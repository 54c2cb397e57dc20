"""The lesson on tokens as a visitor meets it: every step, both languages, its numbers, and whatever a reader may type.

AppTest cannot click our components; a click's effect (`view.q` and the like) is set here, and the clicks themselves
are made in tests/browser/test_tokens.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from streamlit.testing.v1 import AppTest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordPiece

from lab import course, models
from lab.language import LANGUAGES, strings
from lab.lessons import section
from tests import tiny_models
from tests.support import NASTY

LESSON = course.lesson("tokens")
PAGE = str(LESSON.file)
FOLDER = models.MODELS / "storyteller"
TEXT = "The birdkeeper saw the bird"
CHINESE = re.compile("[\u4e00-\u9fff]")
FIGURES = {
    "text": {"tokens_ids"}, "bytes": {"tokens_bytes"}, "merges": {"tokens_merges"},
    "ids": {"tokens_variants", "tokens_page"}, "compare": {"tokens_compare_0", "tokens_compare_1"},
    "vectors": {"map_vectors", "strip_vector"}, "neighbours": {"tokens_near_strip", "strip_cosine"},
    "map": {"strip_map"},
}  # fmt: skip


@pytest.fixture(scope="module")
def library() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    return load_file(FOLDER / "model.safetensors")["model.embed_tokens.weight"].astype(np.float64)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    monkeypatch.delenv("LM_LAB_HOME", raising=False)


def visit(
    step: str | None, language: str = "en", folder: Path | None = None, text: str = TEXT, **query: Any
) -> AppTest:
    """The lesson at a step, or as a whole page (None); the text in the session, as after typing."""
    app = AppTest.from_file(PAGE, default_timeout=30)
    app.session_state["lang"] = language
    app.session_state["view.text"] = text
    app.session_state["whole_page"] = step is None
    if folder is not None:
        app.session_state["model_menu"], app.session_state["model_folder"] = "folder", str(folder)
    if step is not None:
        app.query_params["step"] = str(LESSON.steps.index(step) + 1)
    for name, value in query.items():
        app.query_params[name] = str(value)
    app.run()
    assert not app.exception, app.exception[0].message
    return app


def sent(app: AppTest, key: str) -> dict[str, Any]:
    found = [c.proto for c in app.main.get("bidi_component") if c.proto.id.endswith(f"-{key}")]
    assert len(found) == 1, f"{key} is there {len(found)} times"
    return json.loads(found[0].json)


def keys(app: AppTest) -> set[str]:
    return {c.proto.id.rsplit("-", 1)[1] for c in app.main.get("bidi_component")}


def formulas(app: AppTest) -> str:
    return "\n".join(latex.value for latex in app.latex)


def words(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.title, *app.header, *app.markdown, *app.caption, *app.info, *app.warning])


def guess(app: AppTest, option: int) -> str:
    """The answer to the one question of the step."""
    (pills,) = [group for group in app.button_group if str(group.key).startswith("guess.")]
    pills.set_value(option).run()
    (answer,) = [
        m.value
        for m in app.markdown
        if m.value.startswith((strings("en")["panel.right"], strings("en")["panel.wrong"]))
    ]
    return answer


@pytest.mark.parametrize("language", list(LANGUAGES))
@pytest.mark.parametrize("step", LESSON.steps)
def test_every_step_in_both_languages(step: str, language: str) -> None:
    app = visit(step, language)
    assert not app.warning and app.title[0].value == section("tokens", step, language).title
    assert FIGURES[step] <= keys(app)
    assert ("tokens_bar" in keys(app)) == (step != "text"), "the first figure is the bar"
    assert any(re.fullmatch(r"lm_core/[a-z_]+\.py : \d+", c.value) for c in app.caption)
    assert "{" not in re.sub(r"\$[^$]*\$", "", words(app)), "a placeholder was left open"
    if language == "zh":
        assert all(CHINESE.search(m.value) for m in app.markdown if len(m.value) > 60)


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_whole_page(language: str) -> None:
    app = visit(None, language)
    assert [h.value for h in app.header] == [section("tokens", step, language).title for step in LESSON.steps]
    assert set().union(*FIGURES.values()) <= keys(app) and "tokens_bar" in keys(app)


def test_the_text_in_tokens(library: Tokenizer) -> None:
    tokens = sent(visit("text"), "tokens_ids")["tokens"]
    assert [token["id"] for token in tokens] == [0, *library.encode(TEXT).ids]
    assert "".join(token["text"] for token in tokens[1:]).replace("␣", " ") == TEXT
    shades = {token["id"]: token["hue"] for token in tokens[1:]}
    assert all(token["hue"] == shades[token["id"]] for token in tokens[1:]) and len(set(shades.values())) == len(shades)
    counts = [len(TEXT), len(TEXT.encode()), 5, len(tokens) - 1]
    assert strings("en")["tokens.counts"].format(
        **dict(zip(("characters", "bytes", "words", "tokens"), counts, strict=True))
    ) in words(visit("text"))


def test_without_spaces_is_asked_and_answered_by_the_tokenizer(library: Tokenizer) -> None:
    with_spaces, without = len(library.encode(TEXT).ids), len(library.encode(TEXT.replace(" ", "")).ids)
    assert without > with_spaces
    answer = guess(visit("text"), 0)
    assert (
        answer.startswith(strings("en")["panel.right"])
        and f"**{with_spaces}**" in answer
        and f"**{without}**" in answer
    )
    assert guess(visit("text", text="king"), 2).startswith(strings("en")["panel.right"])


def test_bytes_and_the_number_of_a_character() -> None:
    app = visit("bytes", text="a 猫", q=3)
    blocks = sent(app, "tokens_bytes")["blocks"][1:]
    shown = [cell["text"] for block in blocks for cell in block["rows"][1]]
    assert " ".join(shown) == "a 猫".encode().hex(" ").upper()
    assert r"\mathbf{29483}" in formulas(app) and r"\mathrm{E7}\ \mathrm{8C}\ \mathrm{AB}" in formulas(app)


def test_merges_scrub_and_ask(library: Tokenizer) -> None:
    word = library.encode(" birdkeeper").ids
    app = visit("merges", q=4, tokens_merge=2)
    grid = sent(app, "tokens_merges")
    rows = [[cell["text"] for cell in row if cell["kind"].startswith("symbol")] for row in grid["blocks"][0]["rows"]]
    assert grid["current"] == 2 and rows[0] == list("␣birdkeeper") and len(rows[2]) == len(rows[0]) - 2
    assert "".join(rows[-1]) == "␣birdkeeper" and len(rows[-1]) == len(word)
    ranks = {pair["text"]: int(pair["rank"].split()[-1]) for pair in grid["pairs"] if not pair["unknown"]}
    assert rf"\mathbf{{{min(ranks.values())}}}" in formulas(app)
    order = list(ranks)
    best = min(order, key=ranks.__getitem__)
    answer = guess(app, order.index(best))
    assert answer.startswith(strings("en")["panel.right"]) and f"**{ranks[best]}**" in answer
    made = best.replace(" + ", "")
    assert made in rows[3], "the next line holds what the lowest rank makes"
    app.slider(key="tokens_merge_slider").set_value(5).run()
    assert sent(app, "tokens_merges")["current"] == 5 and app.query_params["tokens_merge"] in ("5", ["5"])


def test_merges_end_where_nothing_is_listed() -> None:
    app = visit("merges", q=4, tokens_merge=999)
    last = sent(app, "tokens_merges")["current"]
    assert last == len(sent(app, "tokens_merges")["blocks"][0]["rows"]) - 1
    assert all(pair["unknown"] for pair in sent(app, "tokens_merges")["pairs"])
    assert "token(s)" in words(app)


def test_an_id_follows_from_its_rank(library: Tokenizer) -> None:
    number = library.token_to_id("Ġbird")
    app = visit("ids", text="The bird", q=3)
    assert rf"= 1 + 256 + {number - 257} = \mathbf{{{number}}}" in formulas(app)
    bare, spaced = library.encode("bird").ids, library.encode(" bird").ids
    answer = guess(app, 1)
    assert answer.startswith(strings("en")["panel.right"]) and str(spaced[0]) in answer and str(bare[0]) in answer
    page = sent(app, "tokens_page")
    assert page["tokens"][page["selected"]]["id"] == number
    app.number_input(key="tokens_id_box").set_value(0).run()
    page = sent(app, "tokens_page")
    assert page["tokens"][0]["text"] == "⟨endoftext⟩" and page["selected"] == 0


def test_three_tokenizers(
    library: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_data: Path
) -> None:
    app = visit("compare")
    assert strings("en")["tokens.get_gpt2"] in words(app)
    assert [token["id"] for token in sent(app, "tokens_compare_1")["tokens"]] == [ord(c) for c in TEXT]
    folder = tmp_path / "tokenizers" / "gpt2"
    folder.mkdir(parents=True)
    for name in ("vocab.bpe", "encoder.json"):
        (folder / name).symlink_to(shared_data / "gpt2-bpe" / name)
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path))
    app = visit("compare", text="Hello world")
    assert [token["id"] for token in sent(app, "tokens_compare_2")["tokens"]] == [15496, 995]
    assert r"**GPT\-2** &nbsp; :gray[2 tokens · 1.00 a word · 5.50 bytes a token]" in words(app)


def test_vectors_are_rows_of_the_file(library: Tokenizer, matrix: np.ndarray) -> None:
    app = visit("vectors", q=4)
    ids = [0, *library.encode(TEXT).ids]
    values = np.array(sent(app, "map_vectors")["values"])
    assert np.allclose(values, matrix[ids], atol=1e-6)
    assert rf"\mathbf{{{matrix[ids[3], 0]:.4f}}}" in formulas(app)


def test_neighbours_and_their_cosine(library: Tokenizer, matrix: np.ndarray) -> None:
    app = visit("neighbours", text="The king", q=3, tokens_near=2)
    king = library.token_to_id("Ġking")
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosines = unit @ unit[king]
    order = [i for i in np.argsort(-cosines) if i != king]
    strip = sent(app, "tokens_near_strip")
    assert strip["ids"] == order[:12] and strip["key"] == 1
    assert rf"\mathbf{{{cosines[order[1]]:.3f}}}" in formulas(app)
    assert f"{matrix[king] @ matrix[order[1]]:.3f}" in formulas(app)


def test_the_map_and_its_search(library: Tokenizer, matrix: np.ndarray) -> None:
    app = visit("map", text="The king", q=3, tokens_find="king")
    figure = json.loads(app.main.get("plotly_chart")[0].proto.spec)
    vocabulary = [library.id_to_token(i) for i in range(len(matrix))]
    found = [name for name in vocabulary if "king" in name.lower() and name != "Ġking"]
    assert len(figure["data"][0]["hovertext"]) == len(matrix) and len(figure["data"][1]["hovertext"]) == len(found)
    centred = matrix - matrix.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    kept = 100 * (singular**2)[:2].sum() / (singular**2).sum()
    right = 0 if kept > 50 else 1 if kept > 25 else 2
    answer = guess(app, right)
    assert answer.startswith(strings("en")["panel.right"]) and f"**{kept:.1f} %**" in answer.replace("\\", "")


# --- other models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["gpt2", "llama", "bert"])
def test_other_models(shape: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", getattr(tiny_models, shape)())
    app = visit(None, folder=folder, text="The old king 猫")
    assert not app.warning and set().union(*FIGURES.values()) <= keys(app)


def test_a_row_too_long_for_one_map_is_drawn_in_stretches(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", tiny_models.gpt2(d_model=768, n_heads=12, n_layers=1))
    app = visit("vectors", folder=folder)
    assert len(sent(app, "map_vectors")["cols"]) == 256 and sent(app, "map_vectors")["cols"][0] == "1"
    (stretch,) = [group for group in app.button_group if group.key == "tokens_columns"]
    stretch.set_value(512).run()
    assert not app.exception and sent(app, "map_vectors")["cols"][0] == "513"


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_merges_of_another_kind_are_declined_kindly(language: str, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", tiny_models.gpt2())
    tokenizer = Tokenizer(WordPiece({"?": 0, "the": 1, "king": 2, "##s": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    app = visit("merges", language, folder, "the kings")
    assert strings(language)["tokens.no_merges"] in words(app) and "tokens_merges" not in keys(app)
    assert not visit(None, language, folder, "the kings 猫").warning


@pytest.mark.parametrize(("q", "text", "message"), [(1, TEXT, "no_word"), (2, "x" * 60, "long_word")])
def test_a_word_without_merges_says_why(q: int, text: str, message: str) -> None:
    said = words(visit("merges", text=text, q=q))
    assert strings("en")[f"tokens.{message}"].replace("{longest}", "48") in said


# --- whatever a reader may type -----------------------------------------------------------------------------------


@pytest.mark.parametrize("language", list(LANGUAGES))
@pytest.mark.parametrize("text", ["", "   ", "\u200b", "\x00\x07"])
def test_nothing_to_read(text: str, language: str) -> None:
    assert [i.value for i in visit("text", language, text=text).info] == [strings(language)["trouble.blank"]]


@pytest.mark.parametrize("text", [*NASTY, "word " * 10_000, "a" * 3000, "👩‍👩‍👧🇨🇳", "\u202e\u2066", "␣", "$x", "\\"])
def test_strange_texts_are_text(text: str) -> None:
    app = visit(None, text=text, q=2, tokens_find=text[:40])
    for element in [*app.markdown, *app.caption]:
        value = re.sub(r"\\[!-/:-@\[-`{-~]", "", element.value)
        assert not re.search(r"<(img|script|b)\b|\]\(http|:red\[red|:material/|!\[", value), element.value


@pytest.mark.parametrize("nonsense", ["²", "-1", "<b>", "9" * 30, "1.5", ""])
def test_a_nonsense_link_is_ignored(nonsense: str) -> None:
    names = ("q", "tokens_merge", "tokens_near", "tokens_id", "tokens_find")
    visit(None, **dict.fromkeys(names, nonsense))
