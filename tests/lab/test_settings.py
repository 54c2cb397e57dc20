"""The teacher's file: what it may say, what is said of its mistakes, and where it is looked for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lab import settings
from lab.settings import HubModel, SettingsError, parse
from lm_core.hub import COMMIT

SHA = "a" * 40


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path))
    for name in ("LM_LAB_CONFIG", "LM_LAB_MODE"):
        monkeypatch.delenv(name, raising=False)


def test_everything_can_be_said() -> None:
    said = parse(f"""
        [models]
        hub = [{{repo = "owner/name", revision = "{SHA}", label = "My 模型"}}, {{repo = "gpt2", revision = "v1.0"}}]
        max_parameters = 5_000_000
        memory_gb = 1.5
        folders = false
        [device]
        offered = ["cpu", "cuda:1", "cpu"]
    """)
    assert said.hub == (HubModel("owner/name", SHA, "My 模型"), HubModel("gpt2", "v1.0", "gpt2"))
    assert [model.name for model in said.hub] == [f"hub:owner/name@{SHA}", "hub:gpt2@v1.0"]
    assert (said.max_parameters, said.memory_gb, said.folders) == (5_000_000, 1.5, False)
    assert said.devices == ("cpu", "cuda:1")


def test_without_a_file_a_laptop_offers_more_than_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    local = settings.current()
    assert [model.repo for model in local.hub] == ["openai-community/gpt2", "HuggingFaceTB/SmolLM2-135M"]
    assert all(COMMIT.fullmatch(model.revision) for model in local.hub) and local.folders
    monkeypatch.setenv("LM_LAB_MODE", "shared")
    assert settings.current().hub == () and not settings.current().folders


def test_a_shared_server_never_opens_folders() -> None:
    assert not parse("[models]\nfolders = true", shared=True).folders
    assert parse('[models]\nhub = [{repo = "gpt2", revision = "main"}]', shared=True).hub != ()
    assert parse("", shared=True).hub == ()


@pytest.mark.parametrize(("mode", "shared"), [("local", False), ("", False), ("shared", True), ("Shared", True)])
def test_a_misspelt_mode_is_the_careful_one(mode: str, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_LAB_MODE", mode)
    assert settings.is_shared() is shared


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[model]\n", "does not know 'model'; it knows device, models"),
        ("memory_gb = 3", "does not know 'memory_gb'; it knows device, models"),
        ("[models]\nhubs = []\nb = 1", "[models] does not know 'b', 'hubs'; it knows folders, hub, max_parameters"),
        ("[device]\noffer = []", "[device] does not know 'offer'; it knows offered"),
        ("models = 3", "models is not a table"),
        ("[models]\nhub = 'gpt2'", "models.hub is not a list"),
        ("[models]\nhub = ['gpt2']", "models.hub is not a list"),
        ("[models]\nhub = [{repo = 'gpt2'}]", "models.hub, entry 1: revision is missing"),
        ("[models]\nhub = [{revision = 'x'}]", "models.hub, entry 1: repo is missing"),
        ("[models]\nhub = [{repo = 'a/b', revision = 'x', rev = 1}]", "entry 1 does not know 'rev'"),
        ("[models]\nhub = [{repo = '../b', revision = 'x'}]", "'../b' at 'x' is not owner/name"),
        ("[models]\nhub = [{repo = 'a/b', revision = '../x'}]", "is not owner/name"),
        ("[models]\nhub = [{repo = 'a/b', revision = ''}]", "is not owner/name"),
        ("[models]\nhub = [{repo = 'a/b@c', revision = 'd'}]", "is not owner/name"),
        ("[models]\nhub = [{repo = 'a/b', revision = 'c', label = ' '}]", "label is not a text"),
        ("[models]\nhub = [{repo = 'a/b', revision = 'c', label = \"a\\u202eb\"}]", "label is not a text"),
        ("[models]\nhub = [{repo = 'a/b', revision = 'c'}, {repo = 'x/b', revision = 'c'}]", "names 'b' twice"),
        ("[models]\nmax_parameters = 0", "max_parameters is 0"),
        ("[models]\nmax_parameters = true", "max_parameters is True"),
        ("[models]\nmax_parameters = 1e9", "max_parameters is 1000000000.0: write a whole number"),
        ("[models]\nmemory_gb = 0", "memory_gb is 0"),
        ("[models]\nmemory_gb = nan", "memory_gb is nan"),
        ("[models]\nmemory_gb = inf", "memory_gb is inf"),
        ("[models]\nmemory_gb = '4'", "memory_gb is '4'"),
        ("[models]\nfolders = 'no'", "folders is 'no': write true or false"),
        ("[device]\noffered = []", "device.offered is []"),
        ("[device]\noffered = ['gpu']", "device.offered is ['gpu']"),
        ("[device]\noffered = 'cpu'", "device.offered is 'cpu'"),
        ("[models", "lab.toml is not TOML"),
    ],
)
def test_a_mistake_is_named(content: str, words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse(content)
    assert words in str(raised.value)


def test_the_file_is_found_and_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab.toml").write_text("[models]\nmemory_gb = 2")
    assert settings.current().memory_gb == 2
    (tmp_path / "lab.toml").write_text("[models]\nmemory_gb = 2.5")
    assert settings.current().memory_gb == 2.5
    other = tmp_path / "other.toml"
    monkeypatch.setenv("LM_LAB_CONFIG", str(other))
    with pytest.raises(SettingsError, match="names a file that is not there"):
        settings.current()
    other.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="not UTF-8"):
        settings.current()
    other.write_bytes(b"#" * (settings.MOST_BYTES + 1))
    with pytest.raises(SettingsError, match="the limit is"):
        settings.current()
    other.unlink()
    other.mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.current()


@pytest.mark.parametrize(
    ("platform", "variable", "value", "expected"),
    [
        ("linux", "XDG_DATA_HOME", "/data", "/data/lm-lab"),
        ("linux", "XDG_DATA_HOME", "relative", "/people/ann/.local/share/lm-lab"),
        ("linux", "XDG_DATA_HOME", "", "/people/ann/.local/share/lm-lab"),
        ("darwin", "XDG_DATA_HOME", "/data", "/people/ann/Library/Application Support/lm-lab"),
        ("win32", "LOCALAPPDATA", "/appdata", "/appdata/lm-lab"),
        ("win32", "LOCALAPPDATA", "", "/people/ann/AppData/Local/lm-lab"),
        ("linux", "LM_LAB_HOME", "~/mine", "/people/ann/mine"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="the expected paths are written as on Unix")
def test_home(platform: str, variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LM_LAB_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/people/ann")
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert str(settings.home()) == expected


def test_the_limits_of_runs() -> None:
    read = settings.parse("[runs]\nat_once = 3\nquota_gb = 2\nkeep_free_gb = 0").runs
    assert (read.at_once, read.quota_gb, read.keep_free_gb) == (3, 2, 0)
    assert read.minutes == settings.RunLimits().minutes, "what is left out keeps its default"


@pytest.mark.parametrize(
    "line",
    ["at_once = 0", "at_once = 1.5", "a_user = true", "minutes = '5'", "quota_gb = -1", "text_mb = nan", "hours = 1"],
)
def test_a_limit_of_runs_that_is_none_is_named(line: str) -> None:
    with pytest.raises(settings.SettingsError, match=line.split()[0]):
        settings.parse(f"[runs]\n{line}")
