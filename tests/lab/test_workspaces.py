"""Where a learner's files lie, in both modes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import workspaces
from lm_core.judge.catalogue import BY_SLUG
from lm_core.judge.files import FOLDER, solution_text, stub_text

ATTEND = BY_SLUG["attend"]


def test_at_home_it_is_the_checkout_or_the_folder_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    monkeypatch.delenv("LM_LAB_EXERCISES", raising=False)
    assert workspaces.folder("local") == FOLDER
    assert workspaces.is_untouched(ATTEND, workspaces.text_of("local", ATTEND))
    monkeypatch.setenv("LM_LAB_EXERCISES", str(tmp_path))
    assert workspaces.folder("local") == tmp_path


@pytest.mark.parametrize("owner", ["../../etc", "user:abc", "/root", "", "A B", "x" * 65, ".", "a/b"])
def test_no_owner_leaves_the_workspaces(owner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LM_LAB_MODE", "shared")
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LM_LAB_EXERCISES", "/")  # means nothing on a shared server
    folder = workspaces.folder(owner)
    assert folder.parent == tmp_path / "workspaces" and folder.name.startswith("u-")
    assert folder != workspaces.folder(owner + "x")
    assert workspaces.folder("anna-1") == tmp_path / "workspaces" / "anna-1"


def test_reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LM_LAB_MODE", raising=False)
    monkeypatch.setenv("LM_LAB_EXERCISES", str(tmp_path))
    assert workspaces.text_of("local", ATTEND) == stub_text(ATTEND)
    assert not list(tmp_path.iterdir()), "reading writes nothing"
    path = tmp_path / ATTEND.filename
    path.write_bytes(solution_text(ATTEND).replace("\n", "\r\n").encode())
    assert workspaces.text_of("local", ATTEND) == solution_text(ATTEND)
    path.write_text(stub_text(ATTEND).replace("\n", " \n") + "\n\n")
    assert workspaces.is_untouched(ATTEND, workspaces.text_of("local", ATTEND))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="utf-8"):
        workspaces.text_of("local", ATTEND)
    path.write_bytes(b"#" * (workspaces.MOST_BYTES + 1))
    with pytest.raises(ValueError, match="more than 65,536 bytes"):
        workspaces.text_of("local", ATTEND)
