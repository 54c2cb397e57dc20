"""An `Ops` made of somebody's own functions: the model then computes with them, right or wrong.

A wrong number may pass: seeing what it does is the point. What has another shape than the reference's result cannot
pass, because the model could not go on; `WrongResultError` says which function returned what.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lm_core import attention, ops, sampling
from lm_core.ops import REFERENCE, Ops, attend_with, sample_with
from lm_core.sampling import SamplingSteps

WHOLE = (
    "attend", "causal_mask", "layer_norm", "rms_norm", "feed_forward", "rotate", "split_heads", "merge_heads",
)  # fmt: skip
OF_ATTEND = ("attention_scores", "scale_scores", "masked_softmax")
OF_SAMPLING = ("apply_temperature", "keep_top_k", "keep_top_p")
Functions = Mapping[str, Callable[..., Any]]


@dataclass(eq=False)
class WrongResultError(ValueError):
    """What a function returned does not fit. part: which piece of the result, "" for all of it; both sides in words."""

    function: str
    part: str
    returned: str
    wanted: str

    def __str__(self) -> str:
        part = f" as {self.part}" if self.part else ""
        return f"{self.function} returned {self.returned}{part}; {self.wanted} is needed"


def ops_from(functions: Functions) -> Ops:
    """The reference with these functions in their places; names are those of the reference's functions.

    A whole `attend` is taken before its steps. Raises ValueError for a name that has no place.

    >>> ops_from({}) == REFERENCE
    True
    """
    if strange := set(functions) - {*WHOLE, *OF_ATTEND, *OF_SAMPLING}:
        raise ValueError(f"no place in a model for {', '.join(sorted(strange))}")
    held = {name: _held(name, function) for name, function in functions.items()}
    own = replace(REFERENCE, **{name: held[name] for name in WHOLE if name in held})
    if "attend" not in held and (steps := {name: held[name] for name in OF_ATTEND if name in held}):
        own = replace(own, attend=attend_with(**steps))
    if any(name in held for name in OF_SAMPLING):
        own = replace(own, sample=sample_with(steps_from(functions)))
    return own


def steps_from(functions: Functions) -> SamplingSteps:
    """The stages of sampling with these functions in their places; other names are left aside."""
    return SamplingSteps(**{name: _held(name, functions[name]) for name in OF_SAMPLING if name in functions})


def _held(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, its result held to the form of what the reference returns for the same arguments."""
    home = ops if name in WHOLE else attention if name in OF_ATTEND else sampling
    reference: Callable[..., Any] = getattr(home, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        like = reference(*args, **kwargs)
        return fitted(function(*args, **kwargs), like, name)

    return called


def fitted(result: object, like: object, function: str, part: str = "") -> Any:
    """`result` in the form of `like`: the same fields, shapes and kinds of number. Raises WrongResultError.

    A float of another precision is converted. Names of fields are compared, not classes: a student's file has an
    `AttentionTrace` of its own.
    """
    if isinstance(like, Tensor):
        if not isinstance(result, Tensor):
            raise WrongResultError(function, part, _words(result), _words(like))
        if result.shape != like.shape or _kind(result) != _kind(like):
            raise WrongResultError(function, part, _words(result), _words(like))
        return result.detach().to(like)
    if isinstance(like, tuple):
        if not isinstance(result, tuple | list) or len(result) != len(like):
            raise WrongResultError(function, part, _words(result), _words(like))
        return tuple(fitted(a, b, function, f"[{i}]") for i, (a, b) in enumerate(zip(result, like, strict=True)))
    assert dataclasses.is_dataclass(like) and not isinstance(like, type)
    fields = {f.name: getattr(like, f.name) for f in dataclasses.fields(like)}
    missing = [name for name in fields if not hasattr(result, name)]
    if missing:
        raise WrongResultError(function, part, _words(result), _words(like))
    return type(like)(**{name: fitted(getattr(result, name), value, function, name) for name, value in fields.items()})


def _kind(tensor: Tensor) -> str:
    return "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")


def _words(value: object) -> str:
    """`float [1, 8, 9, 9]`, `a tuple of 3`, `NoneType`."""
    if isinstance(value, Tensor):
        return f"{_kind(value)} {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else type(value).__name__
