"""The panel shows the code that ran: its text is that of the import, whatever happens to the file afterwards."""

from __future__ import annotations

import ast
import inspect
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lab.course import ROOT
from lab.source import CODE_HASH, Source, source_of
from lm_core import attention, block, layers, masks, positions, pretrain


@pytest.mark.parametrize(
    ("function", "fragment"),
    [
        (attention.attend, "weights = masked_softmax(masked)"),
        (attention.attention_scores, "return q @ k.mT"),
        (masks.causal_mask, "return key <= query"),
        (layers.rms_norm, "return x / torch.sqrt"),
        (positions.rotate, "return torch.cat"),
        (block.SelfAttention.project, "split_heads(self.w_k(x)"),
        (block.Block.trace, "resid_mid = resid_pre + attn_out"),
    ],
)
def test_text_and_line_numbers_are_those_of_the_file(function: object, fragment: str) -> None:
    found = source_of(function)  # type: ignore[arg-type]
    of_file = (ROOT / found.file).read_text(encoding="utf-8").splitlines()
    assert fragment in of_file[found.find(fragment) - 1]
    length = len(found.text.splitlines())
    shown = of_file[found.line - 1 : found.line - 1 + length]
    assert textwrap.dedent("\n".join(shown)).splitlines() == found.text.splitlines()
    assert shown[0].strip().startswith(("def ", "@")) and not found.text.startswith(" ")


def test_find_names_what_is_missing() -> None:
    source = Source("lm_core/x.py", 10, "def f():\n    return 1\n")
    assert source.find("return") == 11
    with pytest.raises(ValueError, match=r"lm_core/x\.py: 'yield' does not stand in the function at line 10"):
        source.find("yield")


def test_a_function_from_elsewhere_is_refused() -> None:
    with pytest.raises(KeyError):
        source_of(textwrap.dedent)


def test_every_line_that_the_page_marks_exists() -> None:
    """All `source(function, "line")` calls of the page and of the toy numbers, read from their code."""
    named = {"attention": attention, "block": block, "layers": layers, "masks": masks, "positions": positions}
    marked = 0
    for file in ("pages/attention/self_attention.py", "lab/ui/toy.py"):
        for call in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "source"):
                continue
            function, line = call.args
            if isinstance(function, ast.Attribute) and isinstance(line, ast.Constant):
                module, *path = ast.unparse(function).split(".")
                target = named[module]
                for name in path:
                    target = getattr(target, name)
                assert source_of(target).find(str(line.value)) > 0  # type: ignore[arg-type]
                marked += 1
    assert marked >= 9
    for part in "qkv":
        source_of(block.SelfAttention.project).find(f"split_heads(self.w_{part}(x)")
    source_of(layers.rms_norm).find("return x / torch.sqrt")
    source_of(layers.layer_norm).find("normal = centred / torch.sqrt")


def test_generated_methods_are_left_out_and_written_ones_are_in() -> None:
    with pytest.raises(KeyError):
        source_of(attention.AttentionTrace.__init__)  # written by @dataclass
    assert source_of(block.MLP.forward).text == textwrap.dedent(inspect.getsource(block.MLP.forward))


EDIT = """
import pathlib, sys
from lab import source
from lm_core import attention
before = source.source_of(attention.scale_scores)
file = pathlib.Path(attention.__file__)
file.write_text("# one more line\\n" + file.read_text().replace("scores / math.sqrt(d_head)", "scores * 7"))
after = source.source_of(attention.scale_scores)
import torch
assert before == after and "scores / math.sqrt(d_head)" in after.text and "scores * 7" in file.read_text()
assert attention.scale_scores(torch.tensor([8.0]), 16).item() == 2.0
print(source.CODE_HASH, after.line)
"""


def test_an_edit_on_disk_changes_neither_panel_nor_hash_until_the_next_import(tmp_path: Path) -> None:
    """In a copy, so that the repository is left alone: edit after import, then import anew."""
    for package in ("lab", "lm_core"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def run(code: str) -> list[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()

    first_hash, first_line = run(EDIT)
    assert first_hash == CODE_HASH
    fresh = "from lab import source; from lm_core import attention as a; s = source.source_of(a.scale_scores)"
    second_hash, second_line, is_new = run(f"{fresh}; print(source.CODE_HASH, s.line, 'scores * 7' in s.text)")
    assert second_hash != first_hash
    assert (int(second_line), is_new) == (int(first_line) + 1, "True")


def test_a_decorated_function_shows_the_text_under_its_decorator() -> None:
    found = source_of(pretrain.validation_loss)
    assert found.text.startswith("@torch.no_grad()\ndef validation_loss(")
    lines = (ROOT / found.file).read_text(encoding="utf-8").splitlines()
    assert lines[found.line - 1] == "@torch.no_grad()"
