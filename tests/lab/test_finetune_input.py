"""What a learner brings: every refusal of the engine is said in both languages, and good words are let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import finetune_input as brought
from lab import finetune_presets as presets
from lab import models
from lab.language import LANGUAGES, placeholders, strings
from lm_core.adapters import n_learned
from lm_core.checkpoint import load_pretrained
from lm_core.config import EncoderConfig
from lm_core.finetune_config import FinetuneConfig
from lm_core.learner import make_learner
from tests import tiny_models

TEXT = FinetuneConfig(task="causal", n_tokens=8, batch_size=2)
EXAMPLES = FinetuneConfig(task="classification", n_tokens=16, batch_size=2)
GOOD = "".join(f"a {word} film,{label}\n" for word in "abcdefgh" for label in ("good", "bad"))


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{tiny_models.save(tmp_path_factory.mktemp('llama'), tiny_models.llama())}"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = EncoderConfig(vocab_size=290, d_model=12, n_layers=2, n_heads=3, d_mlp=20, context_length=40)
    return f"folder:{tiny_models.save(tmp_path_factory.mktemp('bert'), config)}"


BAD_EXAMPLES = {
    "encoding": ("csv", "naïve,good\n".encode("latin-1")),
    "binary": ("csv", b"a\0b,good\n"),
    "empty": ("csv", b"  \n"),
    "large": ("csv", b"x" * (11 * 2**20)),
    "header_only": ("csv", b"text,label\n"),
    "empty_text": ("csv", b"text,label\n ,good\n"),
    "empty_label": ("csv", b"text,label\na film, \n"),
    "json": ("jsonl", b"{nonsense\n"),
    "json_fields": ("jsonl", b'{"a": 1}\n'),
    "columns": ("csv", b"text,label\na film, a good one,good\n"),
    "which_column": ("csv", b"one,two,three\na,b,c\n"),
    "row": ("csv", b'text,label\n"a" film,good\n'),
    "one_class": ("csv", b"text,label\na,good\nb,good\n"),
    "misspelt": ("csv", ("text,label\n" + GOOD + "x,Good\ny,Good\n").encode()),
    "many_labels": ("csv", ("text,label\n" + "".join(f"a {i},l{i * 7919}\n" for i in range(30))).encode()),
    "alone": ("csv", ("text,label\n" + GOOD + "x y z,odd\n").encode()),
    "unknown_label": ("csv", b"text,label,split\na,good,train\nb,bad,train\nc,good,train\nd,bad,train\ne,so,dev\n"),
    "no_validation": ("csv", b"text,label,split\na,good,train\nb,bad,train\nc,good,train\nd,bad,train\n"),
    "no_examples": ("csv", b"text,label,split\na,good,test\nb,bad,test\n"),
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD_EXAMPLES)
def test_bad_examples_are_refused_with_their_own_sentence(reason: str, llama: str) -> None:
    ending, content = BAD_EXAMPLES[reason]
    with pytest.raises(ValueError) as caught:
        brought.check(llama, "examples", {f"train.{ending}": content}, EXAMPLES)
    found, values = brought.explain(caught.value)
    assert found == reason
    for language in LANGUAGES:
        assert placeholders(strings(language)[f"finetune.trouble.{found}"]) <= set(values)


BAD_TEXTS = {
    "single_line": "only one line",
    "short": "one\ntwo\n",
    "few": "the little bird looked at the king\n" * 9,
}


@pytest.mark.parametrize("reason", BAD_TEXTS)
def test_bad_texts_are_refused_with_their_own_sentence(reason: str, llama: str) -> None:
    config = FinetuneConfig(task="causal", n_tokens=8, batch_size=200) if reason == "few" else TEXT
    with pytest.raises(ValueError) as caught:
        brought.check(llama, "text", {"train.txt": BAD_TEXTS[reason].encode()}, config)
    found, values = brought.explain(caught.value)
    assert found == reason
    for language in LANGUAGES:
        assert placeholders(strings(language)[f"finetune.trouble.{found}"]) <= set(values)


def test_what_does_not_fit_the_model_is_said_before_anything_starts(llama: str, encoder: str) -> None:
    words = {"train.txt": b"the little bird looked at the old king\n" * 40}
    labelled = {"train.csv": ("text,label\n" + GOOD).encode()}

    def reason(model: str, kind: presets.Kind, **changes: object) -> str:
        base = {"task": "causal" if kind == "text" else "classification", "n_tokens": 8, "batch_size": 2}
        with pytest.raises(brought.InputError) as caught:
            brought.check(model, kind, words if kind == "text" else labelled, FinetuneConfig(**(base | changes)))
        return caught.value.reason

    assert reason(encoder, "text") == "encoder"
    assert reason(encoder, "examples", learns="soft_prompt") == "soft_encoder"
    assert reason(llama, "text", n_tokens=41) == "window"
    assert reason(llama, "text", n_tokens=32, learns="soft_prompt", n_virtual=16) == "window"
    assert reason(llama, "text", learns="last_layers", n_last_layers=3) == "layers"
    assert reason(llama, "text", learns="lora", lora_rank=64) == "lora_rank"
    assert reason(encoder, "examples", learns="lora", lora_targets=("w_gate",)) == "lora_targets"


def test_good_words_are_counted(llama: str) -> None:
    facts = brought.check(llama, "examples", {"train.csv": ("text,label\n" + GOOD).encode()}, EXAMPLES)
    assert facts.labels == ("bad", "good") and facts.n_train + facts.n_validation == 16
    assert brought.check(llama, "text", {"train.txt": ("the little bird\n" * 60).encode()}, TEXT).n_train > 100


def test_pasted_words_get_the_ending_that_they_look_like() -> None:
    assert list(brought.own_files("examples", '{"text": "a", "label": "b"}', None)) == ["train.jsonl"]
    assert list(brought.own_files("examples", "text\tlabel", None)) == ["train.tsv"]
    assert list(brought.own_files("examples", "text,label", None)) == ["train.csv"]
    assert brought.own_files("text", "a\ud800b", None) == {"train.txt": b"ab"}
    assert brought.own_files("text", "ignored", ("A.TXT", b"x")) == {"train.txt": b"x"}
    for kind, pasted, upload, reason in (
        ("text", "  \n", None, "nothing"), ("text", "x", ("a.pdf", b"x"), "ending"),
        ("examples", "x", ("a.txt", b"x"), "ending"),
    ):  # fmt: skip
        with pytest.raises(brought.InputError) as caught:
            brought.own_files(kind, pasted, upload)  # type: ignore[arg-type]
        assert caught.value.reason == reason


@pytest.mark.parametrize("learns", ["whole", "head", "last_layers", "lora", "soft_prompt"])
@pytest.mark.parametrize("task", ["causal", "classification"])
@pytest.mark.parametrize("kind", ["llama", "encoder"])
def test_the_count_of_what_learns_is_the_engines(kind: str, task: str, learns: str, llama: str, encoder: str) -> None:
    model = llama if kind == "llama" else encoder
    impossible = (task == "causal" and (kind == "encoder" or learns == "head")) or (
        kind == "encoder" and learns == "soft_prompt"
    )
    if impossible:
        return
    config = FinetuneConfig(task=task, learns=learns, n_last_layers=1, lora_rank=2, n_virtual=3)  # type: ignore[arg-type]
    loaded = load_pretrained(Path(model.removeprefix("folder:")), trainable=True)
    real = n_learned(make_learner(loaded.model, config, 0 if task == "causal" else 3))
    assert brought.n_learned(model, config, 3)[0] == real


@pytest.mark.parametrize("id", [preset.id for preset in presets.PRESETS])
def test_every_preset_can_be_started(id: str) -> None:
    chosen = presets.preset(id)
    assert chosen.model in models.bundled()
    facts = brought.check(
        chosen.model, chosen.kind, presets.files(id), presets.usual_config(chosen.kind, chosen.model, id)
    )
    assert facts.n_train > 200 and facts.n_validation >= 80
    prompts = presets.prompts(id)
    assert 2 <= len(prompts) <= 8 and chosen.probe
    words = b"".join(presets.files(id).values()).decode()
    assert all(prompt not in words for prompt in prompts if len(prompt) > 8), "a prompt is in the training text"


def test_the_reader_s_language_comes_first() -> None:
    for language in LANGUAGES:
        assert sorted(presets.ids(language)) == sorted(preset.id for preset in presets.PRESETS)
    assert presets.preset(presets.ids("zh")[0]).model == "bundled:shiren"
    with pytest.raises(KeyError, match="no preset"):
        presets.preset("alchemy")


def test_every_sentence_of_ours_is_in_both_languages() -> None:
    reasons = {reason for _, reason in brought._SENTENCES} | {"other"}
    for language in LANGUAGES:
        assert {f"finetune.trouble.{reason}" for reason in reasons} <= set(strings(language))
    assert brought.explain(ValueError("something else")) == ("other", {})
