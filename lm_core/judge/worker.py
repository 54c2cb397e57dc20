"""The student's process: load a file, call its functions with the inputs given, write down what they return.

It stands alone: started as `python -I worker.py` in an empty folder, it sees neither lm_core nor any answer. It waits
for a line on stdin (so that it can be started, torch imported, before there is work), serves one job, and ends.

    job.json, inputs.safetensors    ->    result.json, result.safetensors

A job is a list of students, {"source": text, "calls": [...]}; a check has one, the tests of this package many.
A call is {"function", "args", "kwargs", "device": bool, "cotangents": list or null}; see `run_call`.
"""

import dataclasses
import faulthandler
import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

Json = Any
# A device on which a function must not mix in tensors of the CPU; every build of torch can pretend to have it.
ACCELERATOR = torch.device("lazy:0")
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
}
MEMORY_BYTES = 8 * 2**30  # of addresses, of which torch alone takes about 1 GiB
FILE_BYTES = 64 * 2**20
NAME = "student.py"


# --- values to JSON and tensors ---------------------------------------------------------------------------------------


def pack(value: object, tensors: list[Tensor]) -> Json:
    """A value as JSON, its tensors put into the list; what has no place there becomes {"other": name of its type}."""
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if isinstance(value, Tensor):
        tensors.append(value.detach())
        return {"tensor": len(tensors) - 1}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [pack(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[pack(key, tensors), pack(item, tensors)] for key, item in value.items()]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"fields": {f.name: pack(getattr(value, f.name, None), tensors) for f in dataclasses.fields(value)}}
    for name, function in FUNCTIONS.items():
        if value is function:
            return {"function": name}
    return {"device": str(value)} if isinstance(value, torch.device) else {"other": type(value).__name__}


def unpack(packed: Json, tensors: list[Tensor]) -> Any:
    """The value again; a dataclass comes back as a dict of its fields, an unknown thing as `Other`."""
    if not isinstance(packed, dict):
        return packed
    ((kind, inner),) = packed.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind in ("tuple", "list"):
        items = [unpack(item, tensors) for item in inner]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict":
        return {unpack(key, tensors): unpack(item, tensors) for key, item in inner}
    if kind == "fields":
        return Fields({str(name): unpack(item, tensors) for name, item in inner.items()})
    if kind == "function":
        return FUNCTIONS[inner]
    return torch.device(inner) if kind == "device" else Other(str(inner))


class Fields(dict[str, Any]):
    """The fields of a dataclass, in order; as arguments they are read like the dataclass, `draws.select`."""

    def __getattr__(self, name: str) -> Any:
        """A field by its name."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no field {name!r}, only {', '.join(self)}") from None


@dataclasses.dataclass(frozen=True)
class Other:
    """Something that is no tensor, number, text or list; only the name of its type is known."""

    type_name: str


def encode(content: Json, tensors: list[Tensor]) -> tuple[bytes, bytes]:
    """JSON and safetensors; tensors are copied, since the format refuses shared memory."""
    copies = {str(i): t.resolve_conj().resolve_neg().contiguous().clone() for i, t in enumerate(tensors)}
    return json.dumps(content).encode(), save(copies)


def decode(text: bytes, numbers: bytes) -> tuple[Json, list[Tensor]]:
    """The inverse of `encode`. Raises ValueError for what is too large, cannot be read, or misses a number."""
    if max(len(text), len(numbers)) > FILE_BYTES:
        raise ValueError(f"more than {FILE_BYTES >> 20} MiB were returned")
    try:
        content, named = json.loads(text), load(numbers)
    except (SafetensorError, RecursionError) as error:
        raise ValueError(f"the result cannot be read: {error}") from None
    if set(named) != {str(i) for i in range(len(named))}:
        raise ValueError("the tensors are not numbered from 0")
    return content, [named[str(i)] for i in range(len(named))]


def write(stem: Path, content: Json, tensors: list[Tensor]) -> None:
    """`stem.safetensors`, then `stem.json`."""
    text, numbers = encode(content, tensors)
    stem.with_suffix(".safetensors").write_bytes(numbers)
    stem.with_suffix(".json").write_bytes(text)


def read(stem: Path) -> tuple[Json, list[Tensor]]:
    """What `write` wrote. Raises ValueError as `decode` does."""
    paths = [stem.with_suffix(suffix) for suffix in (".json", ".safetensors")]
    if any(path.stat().st_size > FILE_BYTES for path in paths):
        raise ValueError(f"more than {FILE_BYTES >> 20} MiB were returned")
    text, numbers = (path.read_bytes() for path in paths)
    return decode(text, numbers)


# --- running ----------------------------------------------------------------------------------------------------------


def load_student(source: str, folder: Path) -> ModuleType:
    """Import a student's text as a module of its own, from a file named `student.py` so that its lines can be told."""
    path = folder / NAME
    path.write_text(source, encoding="utf-8")
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location("student", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["student"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def describe(error: BaseException) -> Json:
    """Type, message, and the last line of the student's own file that was running."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == NAME]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    return {"error": type(error).__name__, "message": str(error)[:500], "line": line}


def leaves(value: object) -> list[Tensor]:
    """All tensors inside a result, in order."""
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [leaf for f in dataclasses.fields(value) for leaf in leaves(getattr(value, f.name, None))]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [leaf for item in items for leaf in leaves(item)]


def gradients(inputs: list[Tensor], result: object, cotangents: list[Tensor | None]) -> list[Tensor | None] | None:
    """∂(Σ result · cotangent)/∂inputs; None when the result does not hang on them at all."""
    pairs = [(out, c) for out, c in zip(leaves(result), cotangents, strict=False) if c is not None]
    pairs = [(out, c) for out, c in pairs if out.shape == c.shape and out.requires_grad]
    if not pairs:
        return None
    outs, given = zip(*pairs, strict=True)
    return list(torch.autograd.grad(outs, inputs, given, allow_unused=True))


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same value with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_map(item, change) for item in value)
    return type(value)({key: _map(item, change) for key, item in value.items()}) if isinstance(value, dict) else value


def run_call(module: ModuleType, call: Json, tensors_in: list[Tensor], tensors: list[Tensor]) -> Json:
    """Make one call. {"value", "after": the arguments afterwards, "grads", "seconds"} or {"error", "message", "line"}.

    With `device` the tensors are fakes: without numbers, but every operation checks that all live on one device.
    With `cotangents` the result is differentiated back to the float arguments.
    """
    args, kwargs = (unpack(call[name], tensors_in) for name in ("args", "kwargs"))
    fake: AbstractContextManager[Any] = nullcontext()
    if call["device"]:
        from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

        mode = fake = FakeTensorMode()
        args, kwargs = _map((args, kwargs), lambda t: FakeTensor(mode, torch.empty_like(t, device="meta"), ACCELERATOR))
    else:
        args, kwargs = _map((args, kwargs), torch.Tensor.clone)
    inputs: list[Tensor] = []
    if call["cotangents"] is not None:
        inputs = [t.requires_grad_() for t in leaves([args, list(kwargs.values())]) if t.is_floating_point()]
    try:
        with fake:
            begun = time.process_time()
            result = getattr(module, call["function"])(*args, **kwargs)
            seconds = time.process_time() - begun
            if call["device"]:
                return {"devices": sorted({str(leaf.device) for leaf in leaves(result)})}
            grads = gradients(inputs, result, unpack(call["cotangents"], tensors_in)) if inputs else None
        after = None if inputs else pack([args, kwargs], tensors)
        return {"value": pack(result, tensors), "after": after, "grads": pack(grads, tensors), "seconds": seconds}
    except (Exception, SystemExit) as error:
        return describe(error)


def run_student(source: str, calls: list[Json], tensors_in: list[Tensor], tensors: list[Tensor], folder: Path) -> Json:
    """All calls of one student: a list of results, or one error when the file cannot even be imported."""
    try:
        module = load_student(source, folder)
    except (Exception, SystemExit) as error:
        return describe(error)
    return [run_call(module, call, tensors_in, tensors) for call in calls]


def _limit(seconds: int) -> None:
    """Ask the system to end this process when it takes too much; the parent watches the clock as well."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for what, most in (
        (resource.RLIMIT_CPU, seconds + 5),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _warm_up(device: bool) -> None:
    """The first gradient and the first fake tensor each import hundreds of modules: better before the clock runs."""
    torch.ones(1, requires_grad=True).sum().backward()
    if device:
        from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

        mode = FakeTensorMode()
        with mode:
            torch.exp(FakeTensor(mode, torch.empty(1, device="meta"), ACCELERATOR))


def main() -> None:
    """Get ready, wait for the word, serve one job."""
    torch.set_num_threads(1)
    _warm_up("--device" in sys.argv)
    if not sys.stdin.readline():
        return  # the parent went away, or had nothing to do
    folder = Path.cwd()
    job, tensors_in = read(folder / "job")
    _limit(job["limit"])
    # Shortly before the end: which line never came back? The parent reads it from the error stream.
    faulthandler.dump_traceback_later(max(0.1, job["limit"] - 0.5), exit=True)
    tensors: list[Tensor] = []
    results = [run_student(s["source"], s["calls"], tensors_in, tensors, folder) for s in job["students"]]
    reached = sorted(name for name in list(sys.modules) if name.split(".")[0] == "lm_core")
    write(folder / "result", {"students": results, "reached": reached}, tensors)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # the answer is written: tearing torch down politely would keep the learner waiting
