"""Rules of the whole house that no linter knows: where pages lie, what assets may fetch, how long a module grows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

LINES = 300
LONGER_WITH_A_REASON: set[str] = set()
OUR_CODE = ("lm_core", "lab", "pages")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".css", ".js", ".html", ".json", ".cfg", ".yml", ".yaml", ""}
NAMESPACES = ("http://www.w3.org/", "https://www.w3.org/")


def _tracked() -> list[Path]:
    """The files of the repository: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def _texts() -> Iterator[tuple[str, str]]:
    """(name, content) of every text file we wrote."""
    for path in _tracked():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix in TEXT_SUFFIXES and name != "LICENSE" and not name.startswith("assets/models/"):
            yield name, path.read_text(encoding="utf-8")


def _modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_flat_page() -> None:
    """One file beside the folders of pages/ revives Streamlit's old router, and deep links then bypass app.py."""
    assert list((ROOT / "pages").glob("*.py")) == []
    assert _modules("pages"), "there are pages"


def test_assets_fetch_nothing() -> None:
    """Styles and components hold no address but XML namespaces: the room may be offline, and stays private."""
    for name, content in _texts():
        if name.endswith((".js", ".css", ".html", ".svg")):
            addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", content)
            assert [address for address in addresses if not address.startswith(NAMESPACES)] == [], name
            assert "@import" not in content, name


def test_no_path_of_one_machine() -> None:
    """A path such as a home folder or a temporary one works on one machine only."""
    places = re.compile(r"(?<![\w.])/(?:work|tmp|root|home|Users)/\w|\b[A-Z]:\\Users\\")
    inside = {"lab/sandbox/walls.py", "tests/lab/test_sandbox.py"}  # they speak of folders inside the box
    found = [(name, match[0]) for name, content in _texts() for match in places.finditer(content)]
    assert [(name, place) for name, place in found if name not in inside] == []


def test_no_package_index_is_named() -> None:
    """Where packages come from is the business of each machine's pip settings."""
    option = re.compile(r"--(?:extra-)?index-url|--find-links|--trusted-host")
    ours = Path(__file__).relative_to(ROOT).as_posix()
    assert [name for name, content in _texts() if name != ours and option.search(content)] == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned(name: str) -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    wanted = [line for line in lines if line and line != "-r requirements.txt"]
    assert wanted
    assert [
        line
        for line in wanted
        if not re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[\w.]+(; sys_platform == \"linux\")?", line)
    ] == []


def test_modules_stay_short() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): length
        for path in _modules(*OUR_CODE)
        if (length := len(path.read_text(encoding="utf-8").splitlines())) > LINES
    }
    assert {name: n for name, n in long.items() if name not in LONGER_WITH_A_REASON} == {}
    assert long.keys() >= LONGER_WITH_A_REASON, "an exception that is no longer needed"


def test_pages_never_import_each_other() -> None:
    for path in _modules("pages", "lab", "lm_core"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                assert not (node.level and path.is_relative_to(ROOT / "pages")), path
            assert not any(name.split(".")[0] in ("pages", "app") for name in names), path


def test_no_pickle_no_eval() -> None:
    """Nothing that runs what a file or a learner says."""
    for path in [ROOT / "app.py", *_modules(*OUR_CODE)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{path}:{node.lineno}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "marshal", "shelve", "dill"} & set(names), f"{path}:{node.lineno}"
            if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "unsafe_allow_html"):
                assert isinstance(node.value, ast.Constant) and node.value.value is False, f"{path}:{node.value.lineno}"


def test_lm_core_wakes_transformers_only_when_asked() -> None:
    """Importing every module of lm_core brings in neither transformers nor a screen: a second saved at every start."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in _modules("lm_core")
        if path.name != "__init__.py" and "exercises" not in path.parts
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print(sorted({'transformers', 'datasets', 'streamlit', 'plotly', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_server_options() -> None:
    """The options that keep a class fast and a laptop closed. PLATFORM measurements stand behind each."""
    options = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    server, client = options["server"], options["client"]
    assert server["address"] == "127.0.0.1"
    assert set(server["allowedHosts"]) == {"localhost", "127.0.0.1"}
    assert server["maxUploadSize"] <= 10 and server["maxMessageSize"] <= 50
    assert server["enableAgentApi"] is False and server["showEmailPrompt"] is False
    assert options["browser"]["gatherUsageStats"] is False
    assert options["runner"]["postScriptGC"] is False
    assert client["toolbarMode"] == "minimal"
    assert client["showErrorDetails"] in ("type", "none") and client["showErrorLinks"] is False


def test_streamlit_knows_every_option() -> None:
    """A misspelt option is ignored with a warning only; here it fails."""
    code = (
        "import logging; logging.disable(logging.CRITICAL)\n"
        "from streamlit import config\nconfig.get_config_options(force_reparse=True)\n"
        "print(config.get_option('runner.postScriptGC'), config.get_option('server.allowedHosts'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "False ['localhost', '127.0.0.1']"
    assert "not a valid config option" not in done.stdout + done.stderr
