"""Loading models for the app: each bad folder has its reason, nothing hangs, and a shared server opens no folder."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from lab import models, traces
from lm_core.checkpoint_error import CheckpointError, HubUnreachableError, with_a_reason
from tests import tiny_models
from tests.support import ROOT


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    models.forget_all()
    yield
    models.forget_all()


def _reason(name: str) -> str:
    """Why the model cannot be used for a lesson: from the two calls that a page makes."""
    with pytest.raises(ValueError) as raised:
        models.shape(name)
        traces.trace(name, "The old king " * 60)
    assert str(raised.value).strip(), "an error without a sentence"
    return str(getattr(raised.value, "reason", "other"))


@pytest.mark.parametrize("how", tiny_models.SPOILT)
def test_each_spoilt_folder_has_its_reason(how: str, tmp_path: Path) -> None:
    expected = tiny_models.spoil(tmp_path / "model", how)
    assert _reason(f"folder:{tmp_path / 'model'}") == expected


def test_paths_that_name_no_model_are_missing(tmp_path: Path) -> None:
    for what, path in tiny_models.bad_paths(tmp_path).items():
        assert _reason(f"folder:{path}") == "missing", what


@contextmanager
def _unprivileged() -> Iterator[None]:
    """Root may read everything: for a moment this process is nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_read_is_missing() -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own is closed to others from its root on
        Path(place).chmod(0o755)
        folder = tiny_models.save(Path(place) / "open" / "model", tiny_models.gpt2())
        name = f"folder:{folder}"
        with _unprivileged():
            assert models.load(name).tokenizer is not None
        for closed, rights in ((folder.parent, 0o600), (folder, 0o111), (folder / "config.json", 0),
                               (folder / "model.safetensors", 0), (folder / "tokenizer.json", 0)):  # fmt: skip
            models.forget_all()
            before = closed.stat().st_mode
            closed.chmod(rights)
            with _unprivileged(), pytest.raises(CheckpointError, match="Permission denied") as raised:
                models.load(name)
            assert raised.value.reason == "missing"
            closed.chmod(before)


def test_a_home_folder_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny_models.save(tmp_path / "model", tiny_models.gpt2())
    assert models.load("folder:~/model").model.config.n_layers == 2


def test_changed_files_are_loaded_again_and_few_models_are_kept(tmp_path: Path) -> None:
    name = f"folder:{tiny_models.save(tmp_path / 'model', tiny_models.gpt2())}"
    first = models.load(name)
    assert models.load(name) is first
    before = traces.trace(name, "The old king").arrays["logits"]
    tiny_models.save(tmp_path / "model", tiny_models.gpt2(), seed=8)
    second = models.load(name)
    assert second is not first
    assert not torch.equal(second.model.embed_tokens.weight, first.model.embed_tokens.weight)
    assert abs(traces.trace(name, "The old king").arrays["logits"] - before).max() > 1e-3
    for i in range(models.KEPT_IN_MEMORY):
        models.load(f"folder:{tiny_models.save(tmp_path / str(i), tiny_models.gpt2())}")
    assert models.load(name) is not second, "an old model must make room"


def test_a_folder_that_goes_away_is_missing(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", tiny_models.gpt2())
    models.load(f"folder:{folder}")
    folder.rename(tmp_path / "gone")
    assert _reason(f"folder:{folder}") == "missing"


def test_special_tokens_beyond_the_model_do_no_harm(tmp_path: Path) -> None:
    """A padding token that somebody added after training is never an id of a text here."""
    folder = tiny_models.save(tmp_path / "model", tiny_models.gpt2(vocab_size=289))
    bpe = tiny_models.train_bpe(tiny_models.TEXTS, 288, [])
    shifted = tiny_models.BPETokenizer(bpe.vocab, bpe.merges, {"<pad>": 289})
    tiny_models.save_pretrained(tiny_models.Decoder(tiny_models.gpt2(vocab_size=289)), shifted, folder)
    assert traces.trace(f"folder:{folder}", "king <pad>").arrays["logits"].shape[-1] == 289


@pytest.mark.parametrize("name", ["folder:", "folder:.", "folder:/", "hub:openai/gpt2", "run:3", "bundled:../x", "x"])
def test_a_shared_server_opens_bundled_models_only(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = f"folder:{tiny_models.save(tmp_path / 'model', tiny_models.gpt2())}"
    text = "The old king"
    traces.trace(good, text)
    monkeypatch.setenv("LM_LAB_MODE", "shared")
    for asked in (good, name):
        for door in (models.load, models.shape, models.fingerprint, lambda n: traces.trace(n, text)):
            with pytest.raises(CheckpointError) as raised:
                door(asked)
            assert raised.value.reason == "missing"


def test_a_text_without_tokens_is_said_so(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", tiny_models.gpt2(), vocab_size=None)
    for model in ({"type": "BPE", "vocab": {"a": 0}, "merges": []},
                  {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "gone"}):  # fmt: skip
        (folder / "tokenizer.json").write_text(tiny_models.json.dumps({"model": model}))
        assert traces.trace(f"folder:{folder}", "a").token_ids == [0]
        with pytest.raises(traces.UnreadableTextError) as raised:
            traces.trace(f"folder:{folder}", "é")
        assert raised.value.reason == "no_tokens"


def test_a_hostile_tokenizer_cannot_end_the_process(tmp_path: Path) -> None:
    """Each in a process of its own, since without the guard it would be this one."""
    code = (
        "import sys; from lm_core.fast_tokenizer import FastTokenizer\n"
        "try: FastTokenizer.from_file(sys.argv[1]).encode('a é aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab')\n"
        "except ValueError as error: print('refused')"
    )
    bpe = {"type": "BPE", "vocab": {"a": 0, "é": 1, "aé": 2}, "merges": [["a", "é"]]}
    cases = {
        "abort": {"model": bpe | {"continuing_subword_prefix": "x"}},
        "abort, old merges": {"model": bpe | {"merges": ["a é"], "continuing_subword_prefix": "x"}},
        "panic while loading": {"model": bpe, "normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
        "panic while encoding": {"model": bpe, "pre_tokenizer": {"type": "FixedLength", "length": 0}},
    }
    for what, content in cases.items():
        (tmp_path / "tokenizer.json").write_text(tiny_models.json.dumps(content))
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout.strip()) == (0, "refused"), (what, done.stderr[-300:])


def test_errors_keep_their_reason_and_tell_no_path() -> None:
    error = pickle.loads(pickle.dumps(CheckpointError("a sentence", "unsafe")))
    assert (str(error), error.reason) == ("a sentence", "unsafe")
    away = HubUnreachableError("the hub is away")
    assert isinstance(away, ConnectionError) and isinstance(away, ValueError) and away.reason == "offline"
    for raised, reason in {
        PermissionError(13, "Permission denied", "/secret/place/config.json"): "missing",
        OSError(5, "Input/output error", "/secret/place/config.json"): "broken",
        MemoryError(): "too_large", ValueError("odd"): "broken",
        RuntimeError("DefaultCPUAllocator: can't allocate memory"): "too_large", ConnectionError(): "broken",
    }.items():  # fmt: skip
        with pytest.raises(CheckpointError) as caught, with_a_reason():
            raise raised
        assert caught.value.reason == reason and "/secret" not in str(caught.value) and str(caught.value)
    with pytest.raises(RuntimeError, match="a bug"), with_a_reason():
        raise RuntimeError("a bug")


def test_refusing_a_large_folder_takes_little_memory(tmp_path: Path) -> None:
    for how in ("too many heads", "too many parameters", "vocabulary of 50 million", "too many layers"):
        tiny_models.spoil(tmp_path / how, how)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _reason(f"folder:{tmp_path / how}")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, how  # KiB on Linux
