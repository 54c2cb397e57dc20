"""Coloured code is still the code: the parts join to the text, and the marked line is the one that was asked for."""

from __future__ import annotations

import pytest

from lab import source
from lab.ui.code_colours import coloured_lines, docstring_rest, source_payload
from lm_core import attention


def joined(text: str) -> str:
    return "\n".join("".join(part for part, _ in line) for line in coloured_lines(text))


def test_no_function_of_lm_core_loses_a_character() -> None:
    assert len(source._SOURCES) > 50
    for found in source._SOURCES.values():
        assert joined(found.text) == "\n".join(found.text.splitlines())


@pytest.mark.parametrize(
    "text", ["", "\n", "def broken(:", "'''open", "  x\n y", "a\\", "<b>&amp;</b>", "猫 = 'q'  # 猫", "if x:\n\ty"]
)
def test_text_that_is_no_python_stays_as_it_is(text: str) -> None:
    assert joined(text) == "\n".join(text.splitlines())


def test_names_take_the_colour_of_what_they_hold_but_not_in_comments_and_strings() -> None:
    (line,) = coloured_lines("scores = q @ k.mT  # q and k, 'v'")
    assert [part for part in line if part[1]] == [
        ("scores", "weights"), ("q", "q"), ("k", "k"), ("# q and k, 'v'", "said"),
    ]  # fmt: skip
    (line,) = coloured_lines("return qk, q2, 'q'")
    assert [part for part in line if part[1]] == [("return", "word"), ("'q'", "said")]


def test_the_rest_of_the_docstring_folds() -> None:
    assert docstring_rest('def f():\n    """One line."""\n    return 1') == range(0)
    assert docstring_rest("def f():\n    return 1") == range(0)
    assert docstring_rest('def f():\n    r"""One.\n\n    Two."""\n    return 1') == range(2, 4)


def test_the_message_marks_one_line_of_the_file() -> None:
    found = source.source_of(attention.attend)
    sent = source_payload(found, "weights = masked_softmax(masked)", label="x", more="m", less="l")
    marked = [line for line in sent["lines"] if line["marked"]]
    assert len(marked) == 1
    assert "".join(part for part, _ in marked[0]["parts"]).strip() == "weights = masked_softmax(masked)"
    in_file = (source.ROOT / found.file).read_text().splitlines()
    for line in sent["lines"]:
        assert in_file[line["number"] - 1] == "".join(part for part, _ in line["parts"])
    assert not any(line["marked"] and line["folded"] for line in sent["lines"])
    assert any(line["folded"] for line in sent["lines"])
    with pytest.raises(ValueError, match="does not stand"):
        source_payload(found, "no such line", label="x", more="m", less="l")
