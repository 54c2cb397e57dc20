"""The multi-head lesson: every number on it held to `transformers` and numpy; links, languages and odd input."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from lab import course, heads
from lab.language import LANGUAGES, strings
from lab.lessons import section, sections
from lab.models import DEFAULT
from lm_core.head_measures import MEASURES
from tests import tiny_models
from tests.attention_reference import BUNDLED, Truth, cells, charts_of, last_number, make_tiny, sent, truth
from tests.support import NASTY

LESSON = course.lesson("multi_head")
STEPS = LESSON.steps
TEXT = "The old king saw the old bird"


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)


def visit(step: str, language: str = "en", model: Path | None = None, **query: object) -> AppTest:
    """The lesson as a link opens it; layers, heads and positions count from 1."""
    app = AppTest.from_file(str(course.ROOT / str(LESSON.page)), default_timeout=60)
    app.session_state["lang"] = language
    if model is not None:
        app.session_state["model_menu"], app.session_state["model_folder"] = "folder", str(model)
    app.query_params["step"] = str(STEPS.index(step) + 1)
    for name, value in query.items():
        app.query_params[name] = str(value)
    app.run()
    assert not app.exception, app.exception[0].value
    return app


def address(app: AppTest) -> dict[str, str]:
    """The query parameters; AppTest gives back a list for what the app has set, a string for what the test has."""
    return {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}


def words(app: AppTest) -> str:
    """All prose, without the backslashes that keep a value inert."""
    return "\n".join(element.value for element in [*app.markdown, *app.caption, *app.info]).replace("\\", "")


def latex(app: AppTest) -> str:
    return "\n".join(element.value for element in app.latex)


@cache
def logits(folder: Path, text: str, off: tuple[tuple[int, int], ...] = (), n: int | None = None) -> torch.Tensor:
    """What `transformers` expects after the first n tokens, the rows of W_O of the heads in `off` set to zero."""
    import copy

    found = truth(folder, text)
    model = copy.deepcopy(found.model)
    width = found.heads["v"].shape[-1]
    with torch.no_grad():
        for layer, head in off:
            own = slice(head * width, (head + 1) * width)
            if found.is_llama:
                model.model.layers[layer].self_attn.o_proj.weight[:, own] = 0
            else:
                model.transformer.h[layer].attn.c_proj.weight[own] = 0
        return model(torch.tensor([found.token_ids[:n]])).logits[0, -1].double()


def kl_bits(before: torch.Tensor, after: torch.Tensor) -> float:
    p, q = before.log_softmax(-1), after.log_softmax(-1)
    return float((p.exp() * (p - q)).sum() / math.log(2))


def by_hand(weights: np.ndarray, ids: list[int], kind: str) -> float:
    """A measure in plain Python."""
    rows = []
    for i in range(len(ids)):
        keys = {
            "previous": [i - 1] if i else [],
            "first": [0] if i else [],
            "same": [j for j in range(i) if ids[j] == ids[i]],
            "induction": [j for j in range(1, i) if ids[j - 1] == ids[i]],
        }[kind]
        if keys:
            rows.append(sum(float(weights[i, j]) for j in keys))
    return float(np.mean(rows)) if rows else math.nan


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", STEPS)
def test_each_step_opens(step: str, language: str) -> None:
    app = visit(step, language)
    assert [title.value for title in app.title] == [section("multi_head", step, language).title]
    assert not app.warning and not app.error and not app.info
    assert address(app)["step"] == str(STEPS.index(step) + 1)


def test_each_step_works_on_other_families(folder: Path) -> None:
    app = whole_page("zh", folder, text=TEXT, layer=2, head=4, q=4, k=2)
    assert not app.warning and not app.info


def test_every_section_is_used() -> None:
    code = (course.ROOT / str(LESSON.page)).read_text(encoding="utf-8")
    for id in sections("multi_head", "en"):
        base = re.sub(r"_(predict|reveal|zero|mean|result|own|shared|previous|first|same|induction)$", "", id)
        assert base in code, id


def test_all_maps_and_the_head_that_looks_back(folder: Path) -> None:
    found = truth(folder, TEXT)
    app = visit("all_heads", model=folder, text=TEXT, layer=2, head=3)
    data = sent(app, "maps_all")
    weights = found.heads["weights"]
    assert (data["layers"], data["heads"], data["side"]) == weights.shape[:3]
    assert data["selected"] == [1, 2]
    scores = np.array([[by_hand(m, found.token_ids, "previous") for m in layer] for layer in weights])
    best = np.unravel_index(scores.argmax(), scores.shape)
    pills = next(p for p in app.get("button_group") if len(p.options) == 4)
    names = [option.content.replace("\\", "") for option in pills.proto.options]
    right = f"layer {best[0] + 1}, head {best[1] + 1}"
    assert right in names
    app.session_state[pills.key] = names.index(right)
    app.run()
    assert strings("en")["panel.right"] in words(app)
    assert f"**{scores.max():.2f}**" in words(app) and f"gives {scores.min():.2f}" in words(app)


def test_one_head_shows_its_weights_and_habits(folder: Path) -> None:
    found = truth(folder, TEXT)
    app = visit("one_head", model=folder, text=TEXT, layer=2, head=3, q=6, k=3)
    weights = found.head("weights", 1, 2)
    np.testing.assert_allclose(cells(sent(app, "map_one")), weights, atol=1e-4)
    assert last_number(latex(app)) == pytest.approx(weights[5, 2], abs=1e-4)
    for kind in MEASURES:
        share = by_hand(weights, found.token_ids, kind)
        label = strings("en")[f"multi_head.measure_{kind}"]
        assert math.isnan(share) or f"{label} {share:.2f}" in words(app), kind


def test_compare_subtracts_two_heads(folder: Path) -> None:
    found = truth(folder, TEXT)
    app = visit("compare", model=folder, text=TEXT, layer=1, head=2, multi_head_other="2.4", q=5)
    one, two = found.head("weights", 0, 1), found.head("weights", 1, 3)
    np.testing.assert_allclose(cells(sent(app, "map_first")), one, atol=1e-4)
    np.testing.assert_allclose(cells(sent(app, "map_second")), two, atol=1e-4)
    np.testing.assert_allclose(cells(sent(app, "map_difference")), one - two, atol=1e-4)
    total = np.abs(one - two).sum(axis=1).mean() / 2
    assert last_number(latex(app)) == pytest.approx(total, abs=6e-4)
    assert sent(app, "maps_compare")["other"] == [1, 3] and address(app)["multi_head_other"] == "2.4"


@pytest.mark.parametrize("other", ["9.9", "0.1", "2", "²-.1.1"])
def test_a_nonsense_other_head_is_ignored(other: str, folder: Path) -> None:
    app = visit("compare", model=folder, text=TEXT, multi_head_other=other)
    found = truth(folder, TEXT)
    scores = np.array([[by_hand(m, found.token_ids, "previous") for m in layer] for layer in found.heads["weights"]])
    chosen = sent(app, "maps_compare")
    scores[tuple(chosen["selected"])] = -1
    assert tuple(chosen["other"]) == np.unravel_index(scores.argmax(), scores.shape)
    assert "multi_head_other" not in address(app)


@pytest.mark.parametrize("off", heads.OFF)
def test_switching_off_is_transformers_with_w_o_zeroed(off: heads.Off, folder: Path) -> None:
    found, n, layer, head = truth(folder, TEXT), 6, 1, 2
    n_heads = found.heads["q"].shape[1]
    others = tuple((layer, h) for h in range(n_heads) if h != head)
    gone = {"one": ((layer, head),), "others": others, "layer": (*others, (layer, head))}[off]
    before, after = logits(folder, TEXT, (), n), logits(folder, TEXT, gone, n)
    app = visit("switch_off", model=folder, text=TEXT, layer=layer + 1, head=head + 1, q=n, multi_head_off=off)
    assert last_number(latex(app)) == pytest.approx(kl_bits(before, after), abs=2e-3)
    first, second = charts_of(app)[0]["data"]
    shown, vocabulary = len(first["x"]) - 1, len(before)
    order = before.argsort(descending=True)[:6]
    p, q = before.softmax(-1), after.softmax(-1)
    for token in order.tolist():
        assert any(math.isclose(x, float(p[token]), abs_tol=1e-4) for x in first["x"])
        assert any(math.isclose(x, float(q[token]), abs_tol=1e-4) for x in second["x"])
    assert sum(first["x"]) == pytest.approx(1) and sum(second["x"]) == pytest.approx(1)
    assert f"{vocabulary - shown:,}" in charts_of(app)[0]["layout"]["yaxis"]["ticktext"][-1]
    costs = cells(sent(app, "map_costs"))
    for i, j in [(0, 0), (layer, head), (len(costs) - 1, n_heads - 1)]:
        assert costs[i, j] == pytest.approx(kl_bits(before, logits(folder, TEXT, ((i, j),), n)), abs=2e-3)


def test_zero_and_mean_ablation_differ_and_say_so() -> None:
    shown = {}
    for kind in heads.KINDS:
        app = visit("switch_off", text=TEXT, layer=1, head=8, multi_head_kind=kind)
        assert f"{kind.capitalize()} ablation" in words(app)
        shown[kind] = last_number(latex(app))
    assert shown["zero"] != shown["mean"]
    found = heads.prediction_without(DEFAULT, tuple(truth(BUNDLED, TEXT).token_ids), 0, 7, "one", "mean")
    assert shown["mean"] == pytest.approx(found.kl_bits, abs=6e-4)


def test_a_large_model_is_asked_before_every_head_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "QUICK", 1.0)
    app = visit("switch_off")
    button = app.button(key="costs_go")
    keys = [c.proto.id for c in app.main.get("bidi_component")]
    assert not any(key.endswith("map_costs") for key in keys)
    button.click().run()
    assert not app.exception
    assert cells(sent(app, "map_costs")).shape == (6, 8)
    app.query_params["q"] = "3"
    app.run()
    assert app.button(key="costs_go"), "another word, another question"


def test_concat_and_shares_add_up(folder: Path) -> None:
    found, layer, query, column = truth(folder, TEXT), 1, 4, 0
    out = found.heads["head_out"][layer][:, query]
    attn_out = found.layers["attn_out"][layer, query]
    app = visit("concat", model=folder, text=TEXT, layer=layer + 1, head=1, q=query + 1)
    np.testing.assert_allclose(cells(sent(app, "map_found")), out, atol=2e-3)
    np.testing.assert_allclose(cells(sent(app, "map_concat"))[0], attn_out, atol=5e-3)
    assert last_number(latex(app)) == pytest.approx(attn_out[column], abs=5e-3)

    app = visit("shares", model=folder, text=TEXT, layer=layer + 1, head=2, q=query + 1)
    parts, bias = parts_of(found, layer, query)
    rows = cells(sent(app, "map_parts"))
    np.testing.assert_allclose(rows[: len(parts)], parts, atol=5e-3)
    np.testing.assert_allclose(rows[-1], attn_out, atol=5e-3)
    np.testing.assert_allclose(rows[:-1].sum(axis=0), rows[-1], atol=5e-3)
    assert len(rows) == len(parts) + (bias is not None) + 1
    shares = charts_of(app)[0]["data"][0]["x"]
    np.testing.assert_allclose(shares[: len(parts)], parts @ attn_out / (attn_out @ attn_out), atol=1e-3)
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert last_number(latex(app)) == pytest.approx(shares[1], abs=6e-4)


def parts_of(found: Truth, layer: int, query: int) -> tuple[np.ndarray, np.ndarray | None]:
    """What each head writes, [H D], and the bias, from the weights of `transformers`."""
    out = found.heads["head_out"][layer][:, query]
    width = out.shape[1]
    if found.is_llama:
        matrix, bias = found.model.model.layers[layer].self_attn.o_proj.weight.detach().numpy().T, None
    else:
        c_proj = found.model.transformer.h[layer].attn.c_proj
        matrix, bias = c_proj.weight.detach().numpy(), c_proj.bias.detach().numpy()
    return np.stack([o @ matrix[h * width : (h + 1) * width] for h, o in enumerate(out)]), bias


@pytest.mark.parametrize("kind", MEASURES)
def test_specialists_over_the_text_twice(kind: str, folder: Path) -> None:
    own = truth(folder, TEXT).token_ids[1:]
    twice = f"{TEXT}{TEXT}"
    ids = [0, *own, *own]
    found = truth(folder, twice)
    if found.token_ids != ids:  # the two halves may join into other tokens: run the ids themselves
        with torch.no_grad():
            maps = found.model(torch.tensor([ids]), output_attentions=True).attentions
        weights = torch.stack([m[0] for m in maps]).numpy()
    else:
        weights = found.heads["weights"]
    app = visit("specialists", model=folder, text=TEXT, layer=2, head=3, multi_head_measure=kind)
    expected = np.array([[by_hand(m, ids, kind) for m in layer] for layer in weights])
    np.testing.assert_allclose(cells(sent(app, "map_specialists")), expected, atol=2e-3)
    assert last_number(latex(app)) == pytest.approx(expected[1, 2], abs=2e-3)
    best = np.unravel_index(expected.argmax(), expected.shape)
    assert f"**layer {best[0] + 1}, head {best[1] + 1}** with **{expected.max():.2f}**" in words(app)
    even = np.tril(np.ones((len(ids), len(ids)))) / np.arange(1, len(ids) + 1)[:, None]
    assert f"**{by_hand(even, ids, kind):.2f}**" in words(app)
    np.testing.assert_allclose(cells(sent(app, "map_passage")), weights[1, 2], atol=2e-3)


def test_specialists_over_random_words() -> None:
    app = visit("specialists", multi_head_measure="induction", multi_head_on="random")
    found = heads.specialities(DEFAULT, None)
    assert found is not None and len(found.labels) == 2 * heads.RANDOM_TOKENS + 1
    assert found.labels[1 : heads.RANDOM_TOKENS + 1] == found.labels[heads.RANDOM_TOKENS + 1 :]
    assert len(set(found.labels)) == heads.RANDOM_TOKENS + 1, "all different, none special"
    np.testing.assert_allclose(cells(sent(app, "map_specialists")), found.scores["induction"], atol=1e-4)
    period = heads.RANDOM_TOKENS
    stripe = [found.weights[3, 0, i, i - period + 1] for i in range(period + 1, 2 * period + 1)]
    assert found.scores["induction"][3, 0] == pytest.approx(np.mean(stripe), rel=1e-4)


def test_grouped_heads_read_the_same_key(folder: Path) -> None:
    found = truth(folder, TEXT)
    app = visit("grouped", model=folder, text=TEXT, layer=2, head=6 if found.is_llama else 4, q=3)
    np.testing.assert_allclose(cells(sent(app, "map_keys")), found.heads["k"][1][:, 2], atol=2e-3)
    rows = sent(app, "map_keys")["rows"]
    kept = {row["label"]: row for row in [{"label": r} for r in rows]}
    if found.is_llama:
        assert rows == ["1 ← 1", "2 ← 1", "3 ← 1", "4 ← 2", "5 ← 2", "6 ← 2"] and len(kept) == 6
        assert "6 query heads share 2 sets" in words(app)
        assert r"= 2 \cdot 3 \cdot 2 \cdot 4 = \mathbf{48}" in latex(app)
    else:
        assert rows == ["1 ← 1", "2 ← 2", "3 ← 3", "4 ← 4"]
        assert "each of the 4 heads has its own keys" in words(app)


def whole_page(language: str = "en", model: Path | None = None, **query: object) -> AppTest:
    """All steps at once."""
    app = visit("all_heads", language, model, **query)
    app.toggle(key="whole_page").set_value(True).run()
    assert not app.exception, app.exception[0].value
    assert [head.value for head in app.header] == [section("multi_head", step, language).title for step in STEPS]
    return app


@pytest.mark.parametrize("text", ["a", "the " * 12, NASTY[5], NASTY[13], *NASTY[-6:], "<b>x</b> $x$ **y**"])
def test_odd_texts(text: str) -> None:
    assert not whole_page("zh" if len(text) % 2 else "en", text=text).warning


@pytest.mark.parametrize("text", ["", "   ", "\u200b\n"])
def test_a_blank_text_gets_a_message(text: str) -> None:
    for language in LANGUAGES:
        app = visit("switch_off", language, text=text)
        if text:
            assert [info.value for info in app.info] == [strings(language)["trouble.blank"]]


def test_ten_thousand_words_are_cut_and_said() -> None:
    app = visit("all_heads")
    app.session_state["view.text"] = "word " * 10_000
    app.toggle(key="whole_page").set_value(True).run()
    assert not app.exception
    assert any("128" in caption.value for caption in app.caption)


@pytest.mark.parametrize(("family", "context_length"), [("gpt2", 1), ("gpt2", 2), ("llama", 3)])
def test_a_short_context(family: str, context_length: int, tmp_path: Path) -> None:
    config = getattr(tiny_models, family)(context_length=context_length)
    model = tiny_models.save(tmp_path, config)
    app = whole_page(model=model)
    missing = [strings("en")["multi_head.no_pairs"]] if context_length <= 2 else []
    assert [info.value for info in app.info] == missing


def test_choices_stand_in_the_address_and_nonsense_does_not() -> None:
    app = visit("specialists", multi_head_measure="same", multi_head_on="nonsense", multi_head_off="layer")
    assert address(app)["multi_head_measure"] == "same" and address(app)["multi_head_off"] == "layer"
    assert "multi_head_on" not in address(app)


def test_an_encoder_gets_a_message(tmp_path: Path) -> None:
    app = visit("all_heads", model=tiny_models.save(tmp_path, tiny_models.bert()))
    assert [w.value for w in app.warning] == [strings("en")["trouble.not_causal"]]


def test_the_message_of_the_small_maps_is_plain_data() -> None:
    app = visit("all_heads", text="<img src=x onerror=alert(1)>")
    raw = next(c.proto for c in app.main.get("bidi_component") if c.proto.id.endswith("-maps_all"))
    data: dict[str, Any] = json.loads(raw.json)
    assert set(data) == {"layers", "heads", "side", "maps", "selected", "other", "name", "alt", "caption"}
