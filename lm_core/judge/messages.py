"""A verdict in words, English or Chinese. The words stand in `texts/`, by id; this module only puts them together."""

import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_core.judge.verdict import Verdict

TEXTS = Path(__file__).with_name("texts")
LANGUAGES = ("en", "zh")
# What torch and Python say, and the id of our explanation: the first that fits.
COMMON_ERRORS = (
    (r"mat1 and mat2 shapes cannot be multiplied|Expected size for first two dimensions|inner dimension", "matmul"),
    (r"The size of tensor a \(\d+\) must match", "broadcast"),
    (r"shape '.*' is invalid for input of size", "view_size"),
    (r"view size is not compatible", "view_layout"),
    (r"Dimension out of range", "dimension"),
    (r"Boolean value of Tensor with more than one value", "truth"),
    (r"expected.*(dtype|scalar type).*but|must have the same dtype|expected m1 and m2 to have the same dtype", "dtype"),
    (r"masked_fill.*bool|value cannot be converted to type|bitwise_not|only supports boolean masks", "bool_mask"),
    (r"Can't call numpy\(\) on Tensor that requires grad", "numpy_grad"),
    (r"leaf Variable that requires grad is being used in an in-place|modified by an inplace", "leaf_in_place"),
    (r"only integer tensors of a single element|tensors used as indices must be", "index_type"),
    (r"index .* is out of bounds|index out of range|selected index k out of range", "index_range"),
    (r"'NoneType' object", "none"),
    (r"NoneType", "none"),
    (r"name '.*' is not defined", "name"),
    (r"takes .* positional argument|unexpected keyword argument|missing .* required", "arguments"),
    (r"has no attribute", "attribute"),
    (r"maximum recursion depth", "recursion"),
    (r"mean\(\): could not infer output dtype|mean\(\): input dtype", "mean_dtype"),
    (r"argument 'dim'|dim\(\)|dim must be", "dim_argument"),
    (r"cannot be cast to the desired output type|result type .* can't be cast", "cast"),
    (r"out of memory|can't allocate memory", "memory"),
    (r"too many values to unpack|not enough values to unpack", "unpack"),
    (r"unhashable|unsupported operand type", "operand"),
)  # fmt: skip


@lru_cache(maxsize=4)
def texts(language: str) -> dict[str, Any]:
    """All texts of a language. Raises ValueError for another than en and zh."""
    if language not in LANGUAGES:
        raise ValueError(f"language {language!r} is not one of {', '.join(LANGUAGES)}")
    found: dict[str, Any] = {}
    for part in ("judge", "exercises"):
        with (TEXTS / f"{part}.{language}.toml").open("rb") as file:
            found |= tomllib.load(file)
    return found


def say(text_id: str, language: str, **values: object) -> str:
    """The text with this dotted id, `{placeholders}` filled. Raises KeyError for an unknown id."""
    entry: Any = texts(language)
    for name in text_id.split("."):
        entry = entry[name]
    return str(entry).format(**values) if values else str(entry)


def help_id(verdict: Verdict) -> str | None:
    """The explanation of a common error, if this is one."""
    message = verdict.values.get("text", "")
    return next((name for pattern, name in COMMON_ERRORS if re.search(pattern, message)), None)


def hint_text(hint_id: str, language: str) -> str:
    """What a hint says: of a mutant ("attend.no_scale"), a property or a general one."""
    group, name = hint_id.split(".")
    return say(hint_id if group in ("general", "property") else f"{group}.mistake.{name}", language)


def message(verdict: Verdict, language: str, source: str = "") -> str:
    """Everything the judge has to say about a check, in a few lines. `source` is the file, to quote a line of it."""
    values = {name: value for name, value in verdict.values.items() if value}
    lines = []
    if verdict.passed:
        lines.append(say("stage.passed", language))
        if verdict.self_checked:
            lines.append(say("general.self_checked", language))
        if verdict.slow is not None:
            lines.append(say("general.slow", language, times=verdict.slow))
        lines.append(say(f"{verdict.slug}.notice", language))
        return "\n".join(lines)
    if verdict.agreed:
        lines.append(say("part.agreed", language, names=", ".join(verdict.agreed), what=values.get("what", "")))
    what = values.get("what") or say("part.result", language)
    if verdict.stage not in ("start", "missing"):
        lines.append(say(f"stage.{verdict.stage}", language, **{"error": "", "text": "", **values, "what": what}))
    if verdict.line is not None:
        lines.append(say("part.line", language, line=verdict.line) + _quoted(source, verdict.line))
    if verdict.expected is not None and verdict.got is not None:
        lines.append(say("part.expected", language, expected=verdict.expected, got=verdict.got))
    if verdict.stage == "values" and values.get("case"):
        lines.append(say("part.case", language, case=_case_name(values["case"])))
    if verdict.hint_id is not None:
        text = hint_text(verdict.hint_id, language)
        lines.append(text.format(**values) if verdict.hint_id.startswith("general.") else text)
    explanation = help_id(verdict)
    if explanation is not None:
        lines.append(say("part.help", language) + say(f"error.{explanation}", language))
    return "\n".join(lines)


def _case_name(name: str) -> str:
    return name.replace("_", " ")


def _quoted(source: str, line: int) -> str:
    lines = source.splitlines()
    return f"  {lines[line - 1].strip()}" if 0 < line <= len(lines) else ""


def hint(slug: str, rung: int, line_of_code: str, language: str) -> str:
    """One rung of the ladder, from 1: the question, the idea, the line."""
    if rung == 3:
        return say("ladder.line", language, line=line_of_code)
    return say(f"{slug}.{('question', 'idea')[rung - 1]}", language)
