"""From what came back to a verdict: the first thing that is wrong, and the name of the mistake where it has one.

Everything here happens outside the student's process, on values. A wrong result is looked up in this order:
a mutant that gives the same wrong numbers, a property of every right answer that it breaks, the first intermediate that
differs, the cell that differs most.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lm_core.judge import worker
from lm_core.judge.calls import Call, answer
from lm_core.judge.compare import Difference, close, difference, flatten, number
from lm_core.judge.exercise import Exercise, Mutant
from lm_core.judge.files import module_of, mutant_text
from lm_core.judge.verdict import Verdict

SLOW_TIMES, SLOW_SECONDS = 100, 0.1
Result = dict[str, Any]


def grade(exercise: Exercise, calls: Sequence[Call], results: Any, tensors: list[Tensor]) -> Verdict:
    """The verdict on one student: `results` as the worker wrote them, one a call, or one error for the whole file."""
    if isinstance(results, dict):
        return _broken_file(exercise, results)
    if not isinstance(results, list) or len(results) != len(calls):
        return Verdict(exercise.slug, False, "crash")
    returned = [_unpacked(result, tensors) for result in results]
    by_variant = {
        "value": _grade_value, "fresh": _grade_value, "gradient": _grade_gradient, "float64": _grade_precision,
        "bfloat16": _grade_precision, "device": _grade_device, "speed": _grade_value,
    }  # fmt: skip
    for call, result in zip(calls, returned, strict=True):
        found = by_variant[call.variant](exercise, calls, returned, call, result)
        if found is not None:
            return found
    return Verdict(exercise.slug, True, "passed", slow=_slow(calls, returned))


def _unpacked(result: Any, tensors: list[Tensor]) -> Result:
    """A result with its tensors in place; nonsense becomes an error, since a student's process can write anything."""
    try:
        return {
            key: worker.unpack(item, tensors) if key in ("value", "after", "grads") else item
            for key, item in dict(result).items()
        }
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return {"error": "ValueError", "message": "the result cannot be read", "line": None}


def _broken_file(exercise: Exercise, error: Result) -> Verdict:
    if "lm_core" in str(error["message"]) and error["error"] == "ModuleNotFoundError":
        return Verdict(exercise.slug, False, "import", "general.import_reference", line=error["line"])
    return _raised(exercise, error, "import")


def _raised(exercise: Exercise, error: Result, stage: str, case: str = "") -> Verdict:
    kind, message = str(error["error"]), str(error.get("message", ""))
    values = {"error": kind, "text": message, "case": case}
    if kind == "NotImplementedError" and "TODO" in message:
        return Verdict(exercise.slug, False, "start", "general.todo", values=values, line=error["line"])
    if kind == "ModuleNotFoundError" and "lm_core" in message:
        return Verdict(exercise.slug, False, "import", "general.import_reference", values=values, line=error["line"])
    if kind == "AttributeError" and "module 'student' has no attribute" in message:
        name = message.rsplit("'", 2)[1]
        return Verdict(exercise.slug, False, "missing", "general.missing", values={"name": name})
    return Verdict(exercise.slug, False, stage, values=values, line=error["line"])


# --- values -----------------------------------------------------------------------------------------------------------


def _grade_value(
    exercise: Exercise, calls: Sequence[Call], returned: list[Result], call: Call, result: Result
) -> Verdict | None:
    axes = dict(exercise.axes)
    if "error" in result:
        if call.error is not None and result["error"] == call.error:
            return None
        found = _raised(exercise, result, "run", call.case.name)
        if found.stage != "run":
            return found
        hint = _mutant_hint(exercise, calls, returned, call)
        return Verdict(
            exercise.slug, False, "run", hint, values=found.values, line=found.line, got=f"{result['error']}"
        )
    if call.error is not None:
        hint = _mutant_hint(exercise, calls, returned, call) or "general.must_refuse"
        return Verdict(exercise.slug, False, "refusal", hint, call.error, "-", values={"case": call.case.name})
    found_difference = difference(call.expected, result["value"], axes)
    if found_difference is None:
        return _in_place(exercise, call, result)
    return _wrong(exercise, calls, returned, call, found_difference)


def _wrong(exercise: Exercise, calls: Sequence[Call], returned: list[Result], call: Call, found: Difference) -> Verdict:
    index = calls.index(call)
    stage = "values" if found.kind == "value" else found.kind
    hint = _mutant_hint(exercise, calls, returned, call)
    if hint is None and found.kind == "type":
        hint = "general.no_return" if returned[index]["value"] is None else None
    if hint is None and found.kind == "dtype":
        hint = "general.wrong_dtype"
    if hint is None and found.kind == "shape":
        hint = _shape_hint(found)
    if hint is None and found.kind == "value":
        hint = _broken_property(exercise, calls, returned) or ("general.fixed" if call.variant == "fresh" else None)
    return Verdict(
        exercise.slug, False, stage, hint, found.expected, found.got,
        values={"case": call.case.name, "what": found.path}, agreed=found.agreed,
        tensors=_pair(call.expected, returned[index]["value"], found.path), axes=exercise.axes.get(found.path, ""),
    )  # fmt: skip


def _pair(expected: Any, got: Any, path: str) -> tuple[Tensor, Tensor] | None:
    """The leaf of both results under this name, where both are tensors: what a picture of the difference needs."""
    e, g = dict(flatten(expected)).get(path), dict(flatten(got)).get(path)
    return (e, g) if isinstance(e, Tensor) and isinstance(g, Tensor) else None


def _shape_hint(found: Difference) -> str | None:
    """Two axes the wrong way round have the same sizes in another order."""
    sizes = [
        sorted(part.split()[-1] for part in text.strip("[]").split(",") if part) for text in (found.expected, found.got)
    ]
    return "general.axes_swapped" if sizes[0] == sizes[1] else None


def _in_place(exercise: Exercise, call: Call, result: Result) -> Verdict | None:
    before = flatten([call.case.args, dict(call.case.kwargs)])
    after = result.get("after")
    if after is None:
        return None
    changed = [
        path for (path, b), (_, a) in zip(_tensors(before), _tensors(flatten(after)), strict=False) if not close(b, a)
    ]
    if not changed:
        return None
    return Verdict(exercise.slug, False, "in_place", "general.in_place", values={"case": call.case.name})


def _tensors(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(path, leaf) for path, leaf in pairs if isinstance(leaf, Tensor | list)]


# --- names for mistakes -----------------------------------------------------------------------------------------------


def _mutant_hint(exercise: Exercise, calls: Sequence[Call], returned: list[Result], call: Call) -> str | None:
    """The mutant whose mistake is the student's: same wrong leaf in the failing call, and most alike in all others."""
    index = calls.index(call)
    best, best_score = None, 0
    shown = [i for i, other in enumerate(calls) if other.variant == "value"]
    for mutant in exercise.mutants:
        if not _same_mistake(exercise, mutant, call, returned[index]):
            continue
        score = 1 + sum(_same_mistake(exercise, mutant, calls[i], returned[i], whole=True) for i in shown)
        if score > best_score:
            best, best_score = mutant, score
    return None if best is None else f"{exercise.slug}.{best.name}"


def _same_mistake(exercise: Exercise, mutant: Mutant, call: Call, result: Result, whole: bool = False) -> bool:
    """Whether mutant and student agree on the call's first wrong leaf (`whole`: on everything)."""
    function = getattr(module_of(mutant_text(exercise, mutant)), call.function)
    theirs, error = answer(function, call.case)
    if error is not None or "error" in result:
        return error is not None and error != call.error and error == result.get("error")
    if whole or call.error is not None:
        return difference(theirs, result["value"]) is None
    wrong = difference(call.expected, theirs)
    mine = difference(call.expected, result["value"])
    if wrong is None or mine is None or wrong.path != mine.path or wrong.kind != mine.kind:
        return False
    if wrong.kind == "type":
        return difference(theirs, result["value"]) is None
    leaf_theirs, leaf_mine = dict(flatten(theirs))[wrong.path], dict(flatten(result["value"]))[wrong.path]
    return difference(leaf_theirs, leaf_mine) is None


def _broken_property(exercise: Exercise, calls: Sequence[Call], returned: list[Result]) -> str | None:
    values = {
        call.case.name: result["value"]
        for call, result in zip(calls, returned, strict=True)
        if call.variant == "value" and "value" in result
    }
    for check in exercise.properties:
        if all(name in values for name in check.cases):
            try:
                holds = check.holds(*(values[name] for name in check.cases))
            except (TypeError, KeyError, RuntimeError, AttributeError, IndexError, ValueError):
                continue  # the result has another form: no property can be read off it
            if not holds:
                return f"property.{check.name}"
    return None


# --- gradients, precision, device, speed ------------------------------------------------------------------------------


def _grade_gradient(
    exercise: Exercise, calls: Sequence[Call], returned: list[Result], call: Call, result: Result
) -> Verdict | None:
    name = {"case": call.case.name}
    if "error" in result:
        return _raised(exercise, result, "gradient", call.case.name)
    grads = result["grads"]
    if not isinstance(grads, list) or len(grads) != len(call.grads):
        return Verdict(exercise.slug, False, "gradient", "general.no_gradient", values=name)
    for i, (expected, got) in enumerate(zip(call.grads, grads, strict=True)):
        want = call.grads[i] if expected is not None else None
        if want is None and (got is None or float(got.abs().max()) == 0):
            continue
        if want is None or not isinstance(got, Tensor) or got.shape != want.shape:
            return Verdict(exercise.slug, False, "gradient", "general.cut_gradient", values=name)
        found = difference(want, got, tolerance=1e-3)
        if found is not None:
            hint = "general.gradient_nan" if bool(got.isnan().any()) else "general.cut_gradient"
            largest = (want - got).abs().nan_to_num(nan=1e30).argmax()
            numbers = number(want.flatten()[largest]), number(got.flatten()[largest])
            return Verdict(exercise.slug, False, "gradient", hint, *numbers, values=name, tensors=(want, got))
    return None


def _grade_precision(
    exercise: Exercise, calls: Sequence[Call], returned: list[Result], call: Call, result: Result
) -> Verdict | None:
    name = {"case": call.case.name, "dtype": call.variant}
    if "error" in result:
        return None if call.error is not None else _raised(exercise, result, call.variant, call.case.name)
    if call.error is not None:
        return None
    tolerance = exercise.bf16 if call.variant == "bfloat16" else 1e-8
    found = difference(call.expected, result["value"], dict(exercise.axes), tolerance)
    if found is None:
        return None
    hint = "general.dtype_kept" if found.kind == "dtype" else "general.precision"
    return Verdict(
        exercise.slug, False, call.variant, hint, found.expected, found.got, values=name,
        tensors=_pair(call.expected, result["value"], found.path), axes=exercise.axes.get(found.path, ""),
    )  # fmt: skip


def _grade_device(
    exercise: Exercise, calls: Sequence[Call], returned: list[Result], call: Call, result: Result
) -> Verdict | None:
    name = {"case": call.case.name}
    if "error" in result:
        mixed = "FakeTensorDeviceMismatch" in result["error"] or "Propagation" in result["error"]
        mixed = mixed or "on the same device" in str(result.get("message"))
        return (
            Verdict(exercise.slug, False, "device", "general.device", values=name, line=result["line"])
            if mixed
            else None
        )
    if any(device.startswith("cpu") for device in result.get("devices", [])):
        return Verdict(exercise.slug, False, "device", "general.device", values=name)
    return None


def _slow(calls: Sequence[Call], returned: list[Result]) -> int | None:
    """How many times as long as the reference, where that is much."""
    for call, result in zip(calls, returned, strict=True):
        taken = result.get("seconds", 0.0)
        if (
            call.variant == "speed"
            and isinstance(taken, float)
            and taken > max(SLOW_SECONDS, SLOW_TIMES * call.seconds)
        ):
            return round(taken / max(call.seconds, 1e-6))
    return None
