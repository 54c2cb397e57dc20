"""Messages: every reason has its sentence in both languages, and the exact words below are fit to be shown."""

from __future__ import annotations

import typing

import pytest

from lab import models, traces
from lab.language import LANGUAGES, strings
from lab.ui import trouble
from lm_core.checkpoint_error import Reason

REASONS = [
    *typing.get_args(Reason), models.NotCausalError.reason, models.NoTokenizerError.reason,
    traces.UnreadableTextError.reason, "other",
]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_has_a_sentence_of_its_own(language: str) -> None:
    sentences = [strings(language)[f"trouble.{reason}"] for reason in REASONS]
    assert len(set(sentences)) == len(REASONS)
    assert all("{" not in sentence for sentence in sentences), "a message takes no values"


def test_odd_words_are_shown_whole_and_short() -> None:
    assert trouble.detail(ValueError("a\ud800\x00\u202e\n猫 b")) == "a\\ud800\\x00\\u202e\\n猫 b"
    assert len(trouble.detail(ValueError("x" * 10**6))) < 1000
    assert trouble.detail(ValueError()) == ""


@pytest.mark.parametrize(
    "path", ["/srv/lab/models/x.json", "~/models/x", "C:\\Users\\ann\\x", "\\\\host\\share", "'/srv/a b/c'"]
)
def test_a_shared_server_tells_no_path(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = FileNotFoundError(f"there is no {path} here")
    monkeypatch.setenv("LM_LAB_MODE", "local")
    assert path.replace("\\", "/") in trouble.detail(error).replace("\\", "/")
    monkeypatch.setenv("LM_LAB_MODE", "shared")
    told = trouble.detail(error)
    assert "…" in told and "srv" not in told and "ann" not in told and "models" not in told and "host" not in told


def test_a_shared_server_keeps_what_is_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_LAB_MODE", "shared")
    for words in ("should be (61, 8) by config.json", "write hub:owner/name", "3 tokens/s", "-1/2 of h.0/attn"):
        assert trouble.detail(ValueError(words)) == words
