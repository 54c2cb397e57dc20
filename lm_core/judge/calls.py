"""Which calls a check makes, and what the references answer; all on this side, before the student's code runs."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lm_core.judge import worker
from lm_core.judge.compare import plain
from lm_core.judge.exercise import Case, Draw, Exercise

SHOWN_SEED = 0  # the numbers of the messages stay the same from save to save
# A file that makes no tensor and moves none cannot put one on the wrong device.
MAKES_TENSORS = re.compile(
    r"\b(arange|zeros|ones|full|tensor|eye|empty|tril_indices|triu_indices|linspace|as_tensor|from_numpy|rand\w*|new_\w+"
    r"|FloatTensor|LongTensor|one_hot)\b\s*\(|\.(cpu|numpy|tolist)\(|['\"]cpu['\"]"
)


@dataclass(frozen=True)
class Call:
    """One call of the student's function, with the right answer (`expected`) or how the reference refuses (`error`).

    variant: value (shown), fresh (other random numbers), gradient, float64, bfloat16, device, speed.
    """

    case: Case
    variant: str
    function: str
    expected: Any = None
    error: str | None = None
    cotangents: list[Tensor | None] | None = None
    grads: list[Tensor | None] = field(default_factory=list)
    seconds: float = 0.0

    def job(self, tensors: list[Tensor]) -> Any:
        """The call as the worker reads it; the answers are not in it."""
        kwargs = dict(self.case.kwargs)
        if self.variant == "device" and "device" in kwargs:
            kwargs["device"] = worker.ACCELERATOR
        return {
            "function": self.function,
            "args": worker.pack(self.case.args, tensors),
            "kwargs": worker.pack(kwargs, tensors),
            "device": self.variant == "device",
            "cotangents": worker.pack(self.cotangents, tensors),
        }


def answer(function: Callable[..., Any], case: Case) -> tuple[Any, str | None]:
    """What a function of ours makes of a case: (result, None), or (None, name of the error it raises)."""
    args, kwargs = change(case.args, torch.Tensor.clone), change(dict(case.kwargs), torch.Tensor.clone)
    try:
        return plain(function(*args, **kwargs)), None
    except Exception as error:  # a mutant may fail in any way
        return None, type(error).__name__


def change(value: Any, how: Callable[[Tensor], Tensor]) -> Any:
    """The same value with every tensor changed."""
    if isinstance(value, Tensor):
        return how(value)
    if isinstance(value, list | tuple):
        return type(value)(change(item, how) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{name: change(item, how) for name, item in vars(value).items()})
    return {key: change(item, how) for key, item in value.items()} if isinstance(value, dict) else value


def as_dtype(case: Case, dtype: torch.dtype) -> Case:
    """The same case with its float tensors in another precision."""

    def cast(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() else x

    return Case(case.name, change(case.args, cast), change(dict(case.kwargs), cast), case.function, case.variants)


def float_inputs(case: Case) -> list[Tensor]:
    """The float tensors among the arguments, in the worker's order."""
    return [t for t in worker.leaves([case.args, list(case.kwargs.values())]) if t.is_floating_point()]


def build_calls(exercise: Exercise, source: str, fresh_seed: int) -> list[Call]:
    """Every call of a check. The student's process cannot tell the shown cases from the fresh ones."""
    shown, fresh = exercise.cases(Draw(SHOWN_SEED)), exercise.cases(Draw(fresh_seed))
    calls = [_value(exercise, case, "value") for case in shown]
    calls += [_value(exercise, case, "fresh") for case in fresh]
    for case in fresh:
        if case.variants and float_inputs(case):
            calls += _variants(exercise, case)
    calls += device_calls(exercise, source)
    if exercise.speed is not None:
        calls.append(_timed(exercise, exercise.speed(Draw(fresh_seed))))
    return calls


def device_calls(exercise: Exercise, source: str) -> list[Call]:
    """The first case of each function on a device that is not the CPU, where the text could get that wrong."""
    if not exercise.device or not MAKES_TENSORS.search(source):
        return []
    first_of_each = {case.function: case for case in reversed(exercise.cases(Draw(SHOWN_SEED)))}
    return [Call(case, "device", _name(exercise, case)) for case in first_of_each.values()]


def _name(exercise: Exercise, case: Case) -> str:
    return str(exercise.references[case.function].__name__)


def _value(exercise: Exercise, case: Case, variant: str) -> Call:
    expected, error = answer(exercise.references[case.function], case)
    return Call(case, variant, _name(exercise, case), expected, error)


def _variants(exercise: Exercise, case: Case) -> Iterator[Call]:
    """The same numbers differentiated, in float64 and in bfloat16."""
    reference, name = exercise.references[case.function], _name(exercise, case)
    found = differentiate(reference, case)
    if found is not None:
        yield Call(case, "gradient", name, cotangents=found[0], grads=found[1])
    double = as_dtype(case, torch.float64)
    yield Call(double, "float64", name, *answer(reference, double))
    if exercise.bf16 is not None:
        half = as_dtype(case, torch.bfloat16)
        rough, error = answer(reference, half)
        exact, _ = answer(reference, as_dtype(half, torch.float64))
        yield Call(half, "bfloat16", name, _cast_like(exact, rough), error)


def _cast_like(exact: Any, rough: Any) -> Any:
    """The exact numbers in the dtypes that the reference returns."""
    if isinstance(exact, Tensor) and isinstance(rough, Tensor):
        return exact.to(rough.dtype)
    if isinstance(exact, dict):
        return type(exact)({key: _cast_like(item, rough[key]) for key, item in exact.items()})
    if isinstance(exact, tuple):
        return tuple(_cast_like(e, r) for e, r in zip(exact, rough, strict=True))
    return exact


def differentiate(reference: Callable[..., Any], case: Case) -> tuple[list[Tensor | None], list[Tensor | None]] | None:
    """Random weights for the sum of the results, and its gradients; None where the result cannot be differentiated."""
    copy = Case(case.name, change(case.args, torch.Tensor.clone), change(dict(case.kwargs), torch.Tensor.clone))
    inputs = [t.requires_grad_() for t in float_inputs(copy)]
    result = reference(*copy.args, **copy.kwargs)
    outputs = worker.leaves(result)
    draw = Draw(7)
    usable = [out.is_floating_point() and bool(out.isfinite().all()) for out in outputs]
    cotangents = [draw.normal(*out.shape) if use else None for out, use in zip(outputs, usable, strict=True)]
    grads = worker.gradients(inputs, result, cotangents)
    return None if grads is None else (cotangents, grads)


def _timed(exercise: Exercise, case: Case) -> Call:
    reference, times = exercise.references[case.function], []
    for _ in range(3):
        begun = time.process_time()
        reference(*case.args, **case.kwargs)
        times.append(time.process_time() - begun)
    expected, error = answer(reference, case)
    return Call(case, "speed", _name(exercise, case), expected, error, seconds=min(times))
