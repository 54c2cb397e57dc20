"""The service behind the figures: the right numbers for the right text and head, cut where a screen ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lab import traces
from tests.attention_reference import BUNDLED, make_tiny, truth

MODEL = "bundled:storyteller"
TEXT = "The old king looked at the little bird"


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("grouped"), "llama")


def test_every_head_and_layer_is_the_models(grouped: Path) -> None:
    for folder, name in ((BUNDLED, MODEL), (grouped, f"folder:{grouped}")):
        right, ours = truth(folder, TEXT), traces.trace(name, TEXT)
        assert ours.token_ids == right.token_ids
        for layer in range(right.heads["q"].shape[0]):
            for array, values in right.layers.items():
                np.testing.assert_allclose(ours.layer(array, layer), values[layer], rtol=1e-3, atol=2e-4)
            for head in range(right.heads["q"].shape[1]):
                for array, values in right.heads.items():
                    np.testing.assert_allclose(
                        ours.head(array, layer, head), values[layer, head], rtol=1e-3, atol=5e-4, err_msg=array
                    )


def test_a_grouped_key_belongs_to_the_head_that_reads_it(grouped: Path) -> None:
    """x · W of `head_weights` is the key that the head's scores were made from."""
    ours = traces.trace(f"folder:{grouped}", TEXT)
    for head in range(6):
        learned = traces.head_weights(f"folder:{grouped}", 1, head)
        for part in ("q", "k", "v"):
            made = ours.layer("attn_in", 1) @ getattr(learned, part) + getattr(learned, f"{part}_bias")
            seen = ours.head(part if part == "v" else f"{part}_proj", 1, head)
            np.testing.assert_allclose(made, seen, rtol=1e-3, atol=1e-3)


def test_what_the_heads_write_adds_up_to_what_is_added(grouped: Path) -> None:
    ours = traces.trace(f"folder:{grouped}", TEXT)
    learned = [traces.head_weights(f"folder:{grouped}", 2, head).o for head in range(6)]
    rows = [ours.head("head_out", 2, head)[4] @ learned[head] for head in range(6)]
    np.testing.assert_allclose(sum(rows), ours.layer("attn_out", 2)[4], rtol=1e-3, atol=1e-3)
    lengths = traces.head_contributions(f"folder:{grouped}", ours, 2, 4)
    np.testing.assert_allclose(lengths, [np.linalg.norm(row) for row in rows], rtol=1e-5)


def test_a_long_text_is_cut_and_counted() -> None:
    short, long = traces.trace(MODEL, "word " * 20), traces.trace(MODEL, "word " * 10_000)
    assert short.n_cut == 0 and len(short.labels) < traces.MOST_TOKENS
    assert len(long.labels) == len(long.token_ids) == traces.MOST_TOKENS
    assert long.n_cut > 0 and long.labels[0] == traces.START_LABEL


def test_a_context_shorter_than_the_screen_is_the_limit(grouped: Path) -> None:
    assert len(traces.trace(f"folder:{grouped}", "word " * 100).labels) == 40


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u200b", "\x00\x1f", "\ufeff", "\u3000", "\ud800"])
def test_nothing_to_see_is_blank(text: str) -> None:
    assert traces.is_blank(text)
    with pytest.raises(ValueError, match="without anything to see"):
        traces.trace(MODEL, text)


@pytest.mark.parametrize("text", ["a", "\x00a", "猫", "👍", ".", "\u0301", "ﷺ"])
def test_something_to_see_is_not_blank(text: str) -> None:
    assert not traces.is_blank(text)
    assert len(traces.trace(MODEL, text).labels) >= 2


def test_a_lone_surrogate_is_a_clear_error_or_a_token() -> None:
    """No browser can send one; a file or a test can."""
    try:
        assert len(traces.trace(MODEL, "a\ud800b").labels) >= 2
    except ValueError as error:
        assert str(error)


def test_words_that_name_special_tokens_are_plain_text() -> None:
    ours = traces.trace(MODEL, "<|endoftext|>")
    assert ours.token_ids[0] == 0 and 0 not in ours.token_ids[1:]
    assert "".join(ours.labels[1:]) == "<|endoftext|>"


def test_a_scale_of_ones_own_replaces_the_root() -> None:
    rng = np.random.default_rng(1)
    q, k, v = rng.normal(size=(3, 5, 4))
    lower = np.tril(np.ones((5, 5), bool))
    steps = traces.attend_arrays(q, k, v, lower, scale=0.25)
    np.testing.assert_allclose(steps["scaled"], q @ k.T * 0.25)
    assert np.isneginf(steps["masked"][~lower]).all()
    np.testing.assert_allclose(steps["head_out"], steps["weights"] @ v)
    np.testing.assert_allclose(traces.attend_arrays(q, k, v)["scaled"], q @ k.T / 2)


def test_the_angle_of_a_pair_grows_with_the_position(grouped: Path) -> None:
    name = f"folder:{grouped}"
    theta = truth(grouped, TEXT).model.config.rope_parameters["rope_theta"]
    for column, pair in ((0, 0), (1, 1), (2, 0), (3, 1)):
        for position in (0, 1, 7):
            expected = position * theta ** (-2 * pair / 4)
            assert traces.turning_angle(name, position, column) == pytest.approx(expected, rel=1e-5)


def test_a_model_with_learned_positions_turns_nothing(tmp_path: Path) -> None:
    name = f"folder:{make_tiny(tmp_path, 'gpt2')}"
    with pytest.raises(ValueError, match="does not turn"):
        traces.turning_angle(name, 1, 0)
    norm = traces.norm_weights(name, 1)
    block = truth(tmp_path, TEXT).model.transformer.h[1].ln_1
    np.testing.assert_allclose(norm.weight, block.weight.detach().numpy())
    np.testing.assert_allclose(norm.bias, block.bias.detach().numpy())
