"""The student's file and the solution, both written from the reference itself, so that they cannot drift from it."""

import ast
import importlib.abc
import importlib.util
import inspect
import textwrap
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from lm_core.judge.exercise import Exercise, Mutant

FOLDER = Path(__file__).resolve().parents[1] / "exercises"
TODO = "    # TODO: write this function. It gets its arguments in the order above and returns its result.\n"
TODO += '    raise NotImplementedError("TODO")\n'
IMPORTS = ("import math", "import torch", "import torch.nn.functional as F", "from torch import Tensor")


def source(thing: Any) -> str:
    """The text of a function or class, or the text itself."""
    if isinstance(thing, str):
        return thing.rstrip() + "\n"
    return textwrap.dedent(inspect.getsource(thing))


def skeleton(function: Callable[..., Any]) -> str:
    """Signature and docstring of a function, with a TODO where its body was."""
    text = source(function)
    definition = ast.parse(text).body[0]
    assert isinstance(definition, ast.FunctionDef) and ast.get_docstring(definition)
    end = definition.body[0].end_lineno
    return "".join(text.splitlines(keepends=True)[:end]) + TODO


def _header(exercise: Exercise) -> str:
    names = ", ".join(f"`{function.__name__}`" for function in exercise.references)
    task = "Find and repair the mistake in" if exercise.is_bug_hunt else "Write"
    return (
        f'"""{exercise.number}. {task} {names}.\n\n'
        f"Check it:  python -m lm_core check {exercise.slug}\n"
        "Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).\n"
        '"""\n'
    )


def _file(exercise: Exercise, parts: list[str]) -> str:
    """Header, imports (the same for stub and solution) and the parts, spaced as a formatter would."""
    whole = "".join(map(source, (*exercise.given, *exercise.uses, *exercise.references)))
    names = {node.id for node in ast.walk(ast.parse(whole)) if isinstance(node, ast.Name)}
    torch_used = names & {"torch", "Tensor", "F"}
    standard = ["import math"] if torch_used or "math" in names else []
    standard += [line for line in exercise.imports if line.startswith("import ")]
    standard += sorted(line for line in exercise.imports if line.startswith("from "))
    blocks = ["\n".join(standard), "\n".join(IMPORTS[1:]) if torch_used else ""]
    imports = "\n\n".join(filter(None, blocks))
    space = "\n\n" if parts[0].startswith(("def ", "class ", "@")) or not imports else "\n"
    return _header(exercise) + ("\n" + imports + "\n" if imports else "") + space + "\n\n".join(parts)


def solution_text(exercise: Exercise) -> str:
    """A whole file that passes."""
    return _file(exercise, [source(part) for part in (*exercise.given, *exercise.uses, *exercise.references)])


def stub_text(exercise: Exercise) -> str:
    """The file as it is handed out: a gap to fill, or, for spot-the-bug, wrong code to repair."""
    if exercise.is_bug_hunt:
        return edit(solution_text(exercise), exercise.broken)
    given = [source(part) for part in exercise.given]
    return _file(exercise, given + [skeleton(function) for function in exercise.references])


def edit(text: str, edits: tuple[tuple[str, str], ...]) -> str:
    """Replace each old text, which must stand there exactly once, by the new one. Raises ValueError otherwise."""
    for old, new in edits:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands {text.count(old)} times in the solution, not once")
        text = text.replace(old, new)
    return text


def mutant_text(exercise: Exercise, mutant: Mutant) -> str:
    """The solution with one mistake in it."""
    return edit(solution_text(exercise), mutant.edits)


def write_all(folder: Path = FOLDER) -> list[Path]:
    """Write every exercise as it is handed out: after a reference changed. Returns what was written anew."""
    from lm_core.judge.catalogue import EXERCISES

    written = []
    for exercise in EXERCISES:
        path, text = folder / exercise.filename, stub_text(exercise)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


class _TextLoader(importlib.abc.InspectLoader):
    """Imports a module from a text of ours."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:
        return self.text


@lru_cache(maxsize=512)
def module_of(text: str) -> ModuleType:
    """A module from OUR text (a mutant or a solution, never a student's file)."""
    spec = importlib.util.spec_from_loader("lm_core_judge_text", _TextLoader(text))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    write_all()
