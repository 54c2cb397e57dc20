"""Loading models for the app: each bad folder has its reason, nothing hangs, and a shared server opens no folder."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from lab import chosen_device, hub_downloads, models, traces
from lm_core import hub as lm_core_hub
from lm_core.checkpoint import load_pretrained
from lm_core.checkpoint_error import CheckpointError, HubUnreachableError, with_a_reason
from lm_core.hub import Progress
from tests import fake_hub, tiny_models
from tests.support import ROOT


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("LM_LAB_MODE", "LM_LAB_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path))  # no lab.toml of whoever runs the tests
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


# --- bounded, shared, on a device -------------------------------------------------------------------------------------


def _settle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str) -> None:
    """Let a lab.toml say this."""
    path = tmp_path / "lab.toml"
    path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("LM_LAB_CONFIG", str(path))


def test_memory_is_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"folder:{tiny_models.save(tmp_path / str(i), tiny_models.gpt2(), seed=i)}" for i in range(3)]
    n_bytes = 4 * models.about(names[0]).n_parameters
    assert models._STORE.n_bytes() == n_bytes
    _settle(monkeypatch, tmp_path, f"[models]\nmemory_gb = {2.5 * n_bytes / 2**30}")
    models.forget_all()
    kept = [models.load(name) for name in names]
    assert models._STORE.n_bytes() == 2 * n_bytes
    assert models.load(names[2]) is kept[2] and models.load(names[1]) is kept[1]
    assert models.load(names[0]) is not kept[0], "the least recently used went first"
    assert models.load(names[1]) is kept[1], "and now it was the third one's turn"
    _settle(monkeypatch, tmp_path, f"[models]\nmemory_gb = {0.5 * n_bytes / 2**30}")
    assert _reason(names[0]) == "too_large"
    _settle(monkeypatch, tmp_path, f"[models]\nmax_parameters = {n_bytes // 4 - 1}")
    assert _reason(names[0]) == "too_large"
    _settle(monkeypatch, tmp_path, f"[models]\nmax_parameters = {n_bytes // 4}")
    assert models.about(names[0]).n_parameters == n_bytes // 4


def test_two_learners_load_a_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"folder:{tiny_models.save(tmp_path / 'model', tiny_models.gpt2())}"
    calls, real = [], models.load_pretrained

    def slow(folder: Path, **options: object) -> models.LoadedModel:
        calls.append(folder)
        time.sleep(0.2)
        return real(folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(models, "load_pretrained", slow)
    with ThreadPoolExecutor(6) as pool:
        loaded = list(pool.map(models.load, [name] * 6))
    assert len(calls) == 1 and all(one is loaded[0] for one in loaded)


def test_no_folders_if_the_teacher_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"folder:{tiny_models.save(tmp_path / 'model', tiny_models.gpt2())}"
    models.load(name)
    _settle(monkeypatch, tmp_path, "[models]\nfolders = false")
    assert _reason(name) == "missing"


def test_devices_are_those_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(*there: str) -> None:
        def pick(name: str = "auto") -> torch.device:
            name = there[0] if name == "auto" else name
            if name.split(":")[0] not in there:
                raise ValueError("not here")
            return torch.device(name)

        monkeypatch.setattr(models.devices, "pick", pick)
        chosen_device._there.cache_clear()

    try:
        for there, offered, expected in (
            (("cpu",), '["auto", "cpu"]', ["cpu"]), (("cuda", "cpu"), '["auto", "cpu"]', ["cuda", "cpu"]),
            (("cuda", "cpu"), '["cpu", "auto", "cuda:0"]', ["cpu", "cuda"]), (("cpu",), '["cuda", "mps"]', ["cpu"]),
            (("cpu",), '["cpu", "cuda"]', ["cpu"]), (("cuda", "cpu"), '["cpu"]', ["cpu"]),
        ):  # fmt: skip
            here(*there)
            _settle(monkeypatch, tmp_path, f"[device]\noffered = {offered}")
            assert models.offered_devices() == expected, (there, offered)
    finally:
        chosen_device._there.cache_clear()


def test_each_device_has_its_model_and_its_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices without a GPU: `meta` stands in for the other one, since a model there has shapes, too."""
    name = f"folder:{tiny_models.save(tmp_path / 'model', tiny_models.gpt2())}"
    session: dict[str, str] = {}

    def place(folder: Path, device: torch.device, max_parameters: int) -> models.LoadedModel:
        loaded = load_pretrained(folder, max_parameters=max_parameters)
        loaded.model.to(device)  # reading a file straight to `meta` is refused
        return loaded

    monkeypatch.setattr(models, "load_pretrained", place)
    monkeypatch.setattr(chosen_device, "offered_devices", lambda: ["cpu", "meta"])
    monkeypatch.setattr(models.devices, "pick", torch.device)
    monkeypatch.setattr(chosen_device.st, "session_state", session)
    here, prints = models.load(name), models.fingerprint(name)
    for nonsense in ("cuda:7", "", "disk"):
        session[models.DEVICE_STATE] = nonsense
        assert models.load(name) is here and models.fingerprint(name) == prints
    session[models.DEVICE_STATE] = "meta"
    there = models.load(name)
    assert there is not here and models.about(name).device == "meta" and models.fingerprint(name) != prints
    assert models.load(name) is there


def test_traces_are_shared_and_cannot_be_changed(tmp_path: Path) -> None:
    name = f"folder:{tiny_models.save(tmp_path / 'model', tiny_models.llama())}"
    first = traces.trace(name, "The old king")
    with pytest.raises(ValueError, match="read-only"):
        first.arrays["weights"][:] = 0
    first.labels[0], first.token_ids[0] = "changed", -1
    first.arrays.clear()
    again = traces.trace(name, "The old king")
    assert again.labels[0] != "changed" and again.token_ids[0] >= 0 and "weights" in again.arrays
    assert traces.trace(name, "The old king").arrays["weights"] is again.arrays["weights"], "computed once"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_traces_are_bounded_by_bytes(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"folder:{tiny_models.save(tmp_path / 'model', getattr(tiny_models, family)())}"
    traces._KEPT.clear()
    real = sum(values.nbytes for values in traces.trace(name, "The old king").arrays.values())
    counted = traces._KEPT.n_bytes()
    assert real <= counted < 1.5 * real, "the estimate covers what is there"
    monkeypatch.setattr(traces, "KEPT_BYTES", 2 * counted)
    for text in ("The old king", "The old bird", "A bird"):
        traces.trace(name, text)
    assert traces._KEPT.n_bytes() <= 2 * counted and len(traces._KEPT.keys()) >= 1
    monkeypatch.setattr(traces, "KEPT_BYTES", counted // 2)
    assert traces.trace(name, "The little old king").token_ids, "a large one is shown and not kept"


# --- the hub ----------------------------------------------------------------------------------------------------------

REPO = "someone/tiny"
NAME = f"hub:{REPO}@{fake_hub.COMMIT}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.FakeHub]:
    """A hub with one model, which the teacher allows."""
    tiny_models.save(tmp_path / "made", tiny_models.gpt2(d_model=60))
    _settle(monkeypatch, tmp_path, f'[models]\nhub = [{{repo = "{REPO}", revision = "{fake_hub.COMMIT}"}}]')
    monkeypatch.setattr(hub_downloads, "_DOWNLOADS", {})
    with fake_hub.serve(tmp_path / "made", REPO, tmp_path / "cache", monkeypatch) as running:
        yield running


@pytest.mark.parametrize("mode", ["local", "shared"])
def test_a_model_of_the_hub_is_fetched_once(
    mode: str, hub: fake_hub.FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_LAB_MODE", mode)
    hub.pause = 0.005
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(models.load, [NAME] * 4))
    assert all(one is loaded[0] for one in loaded) and loaded[0].name == NAME
    expected = load_pretrained(tmp_path / "made")
    assert torch.equal(loaded[0].model.embed_tokens.weight, expected.model.embed_tokens.weight)
    assert traces.trace(NAME, "The old king").arrays["logits"].shape[-1] == 290
    # Asked for twice: the size first, then the bytes.
    assert 0 < hub.asked.count(f"/{REPO}/resolve/{fake_hub.COMMIT}/model.safetensors") <= 3
    hub.asked.clear()
    monkeypatch.setattr(hub_downloads, "_DOWNLOADS", {})  # as after a restart
    models.forget_all()
    assert models.load(NAME) is not loaded[0] and hub.asked == [], "a commit that is here is not asked for again"


def test_progress_is_told(hub: fake_hub.FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.pause = 0.02
    told: list[Progress] = []
    real = lm_core_hub.download

    def watched(name: str, max_bytes: int, note: Callable[[Progress], None]) -> Path:
        return real(name, max_bytes, lambda progress: (told.append(progress), note(progress))[1])

    monkeypatch.setattr(lm_core_hub, "download", watched)
    download = models.start_download(NAME)
    assert models.start_download(NAME) is download, "who comes later joins"
    assert download.ended.wait(30) and download.error is None and download.folder is not None
    files = list(download.folder.iterdir())
    total = sum(file.stat().st_size for file in files)
    assert download.progress == Progress(total, total, len(files), len(files))
    assert any(0 < progress.done_bytes < total for progress in told), "on the way, too"
    assert all(a.done_bytes <= b.done_bytes for a, b in zip(told, told[1:], strict=False))


def test_only_what_the_teacher_names_is_fetched(hub: fake_hub.FakeHub) -> None:
    for name in (f"hub:{REPO}", f"hub:{REPO}@main", f"hub:{REPO}@v1", f"hub:{REPO}@{'0' * 40}", "hub:gpt2", "hub:"):
        for door in (models.load, models.fingerprint, models.about, models.shape, models.start_download):
            with pytest.raises(CheckpointError, match="is not one of this app's models"):
                door(name)
    assert hub.asked == [] and hub_downloads._DOWNLOADS == {}


def test_a_model_too_large_is_not_fetched(
    hub: fake_hub.FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SPARE_BYTES", 0)
    entry = f'hub = [{{repo = "{REPO}", revision = "{fake_hub.COMMIT}"}}]'
    _settle(monkeypatch, tmp_path, f"[models]\nmax_parameters = 1000\n{entry}")
    assert _reason(NAME) == "too_large"
    assert not list((tmp_path / "cache").glob("**/model.safetensors"))


def test_failures_are_told_and_can_be_tried_again(
    hub: fake_hub.FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    begin = time.monotonic()
    for _ in range(2):
        assert _reason(NAME) == "offline"
    assert time.monotonic() - begin < 5, "and soon"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert _reason(NAME) == "offline", "until somebody asks again"
    hub_downloads.forget_failure(NAME)
    assert models.load(NAME).name == NAME
    hub_downloads.forget_failure(NAME)  # no failure: nothing is forgotten
    assert models.start_download(NAME).folder is not None


def test_a_download_cut_short_is_taken_up_again(
    hub: fake_hub.FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models.load(NAME).folder
    for missing in ("model.safetensors", "tokenizer.json"):
        (folder / missing).unlink()
        models.forget_all()
        monkeypatch.setattr(hub_downloads, "_DOWNLOADS", {})
        assert models.load(NAME).tokenizer is not None, missing
    (folder / "model.safetensors").unlink()
    hub.shutdown()
    monkeypatch.setattr(hub_downloads, "_DOWNLOADS", {})
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    models.forget_all()
    assert _reason(NAME) == "offline", "half a model is none"
