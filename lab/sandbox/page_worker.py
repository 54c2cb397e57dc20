"""The process that runs a lesson's numbers on a learner's functions: one job from stdin, arrays to stdout, end.

    job     JSON: {"model": folder, "token_ids": [...], "answers": [{"file", "functions", "text"}], "seconds",
                   "trace": bool, "stages": null or {"logits", "config"}, "write": null or {"n", "seed", "config",
                   "stop_ids"}}
    answer  safetensors: the arrays of `lm_core.trace_arrays`, `stages` [6 V], `written` [n], and `report`, the bytes
            of a JSON text: {"error": null or {...}, "cut": whether the time for writing ran out}

The learner's functions are put into the model as an `Ops`; nothing is patched. What they print goes to stderr.
"""

import importlib.abc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from lm_core.checkpoint import load_pretrained
from lm_core.generation import generate
from lm_core.model import Decoder
from lm_core.own_ops import WrongResultError, ops_from, steps_from
from lm_core.sampling import SamplingConfig, filter_stages
from lm_core.trace_arrays import trace_arrays

Json = Any
Arrays = dict[str, NDArray[Any]]
LONGEST_MESSAGE = 500


class OutOfTimeError(BaseException):
    """Raised wherever the learner's code happens to be; no `except Exception` of theirs holds it."""


class TextLoader(importlib.abc.InspectLoader):
    """Runs a module's text; tracebacks name the file that the text came from."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file

    def get_source(self, fullname: str) -> str:
        """The text."""
        return self.text

    def get_code(self, fullname: str) -> CodeType:
        """The text, compiled. Raises SyntaxError."""
        return compile(self.text, self.file, "exec")


def load_answers(answers: list[Json]) -> dict[str, Callable[..., Any]]:
    """Run each file as a module of its own; the functions asked for, by name. Raises what the files raise."""
    functions: dict[str, Callable[..., Any]] = {}
    for answer in answers:
        name = answer["file"].removesuffix(".py")
        module = sys.modules[name] = ModuleType(name)  # dataclasses look their module up
        TextLoader(answer["text"], answer["file"]).exec_module(module)
        for wanted in answer["functions"]:
            found = getattr(module, wanted, None)
            if not callable(found):
                raise MissingFunctionError(answer["file"], wanted)
            functions[wanted] = found
    return functions


class MissingFunctionError(ValueError):
    """A file without the function that it is there for."""

    def __init__(self, file: str, function: str) -> None:
        super().__init__(f"{file} has no function {function}")
        self.file, self.function = file, function


def describe(error: BaseException, files: set[str]) -> Json:
    """What went wrong: its kind, its words, and the last line of a learner's own file on the way there."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    file, line = (frames[-1].filename, frames[-1].lineno) if frames else (None, None)
    found: Json = {"kind": "exception", "type": type(error).__name__, "message": str(error)[:LONGEST_MESSAGE]}
    if isinstance(error, SyntaxError) and error.filename in files:
        file, line, found["message"] = error.filename, error.lineno, error.msg
    if isinstance(error, OutOfTimeError):
        found |= {"kind": "time"}
    elif isinstance(error, MissingFunctionError):
        found |= {"kind": "missing", "function": error.function}
        file = error.file
    elif isinstance(error, NotImplementedError):
        found |= {"kind": "unwritten"}
    elif isinstance(error, WrongResultError):
        found |= {"kind": "shape", "function": error.function, "part": error.part}
        found |= {"returned": error.returned, "wanted": error.wanted}
    return found | {"file": file, "line": line}


@torch.no_grad()
def compute(job: Json, functions: dict[str, Callable[..., Any]], arrays: Arrays, report: Json) -> None:
    """Fill `arrays` and `report` with what the job asks for, in its order; what is done stays if the rest fails."""
    own = ops_from(functions)
    if job["stages"]:
        logits = torch.tensor([job["stages"]["logits"]])
        config = SamplingConfig(**job["stages"]["config"])
        seen = torch.tensor([job["token_ids"]])
        stages = filter_stages(logits, config, seen, steps=steps_from(functions))
        arrays["stages"] = torch.cat(list(stages.values())).float().numpy()
    if not (job["trace"] or job["write"]):
        return
    model = load_pretrained(Path(job["model"]), device="cpu").model
    assert isinstance(model, Decoder)
    if job["trace"]:
        arrays |= trace_arrays(model.trace(torch.tensor([job["token_ids"]]), ops=own))
    if job["write"]:
        arrays["written"] = write(model, job, own, report)


def write(model: Decoder, job: Json, own: Any, report: Json) -> NDArray[np.int64]:
    """The ids that the model adds, computed by the learner's functions; fewer when half of the time is over."""
    wish, begun, new = job["write"], time.monotonic(), []
    config = SamplingConfig(**wish["config"])
    text, stop = torch.tensor(job["token_ids"]), frozenset(wish["stop_ids"])
    for token in generate(model, text, wish["n"], config, stop_ids=stop, seed=wish["seed"], ops=own):
        new.append(token)
        if time.monotonic() - begun > job["seconds"] / 2:
            report["cut"] = True
            break
    return np.array(new, dtype=np.int64)


def answer(job: Json) -> bytes:
    """The whole job, whatever the learner's code does: an error is an answer too."""
    arrays: Arrays = {}
    report: Json = {"error": None, "cut": False}

    def out_of_time(signum: int, frame: FrameType | None) -> None:
        raise OutOfTimeError(f"not done after {job['seconds']} s")

    files = {a["file"] for a in job["answers"]}
    try:
        if hasattr(signal, "setitimer"):  # elsewhere whoever started this process watches the clock
            signal.signal(signal.SIGALRM, out_of_time)
            signal.setitimer(signal.ITIMER_REAL, job["seconds"])
        compute(job, load_answers(job["answers"]), arrays, report)
    except BaseException as error:
        report["error"] = describe(error, files)
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
    arrays["report"] = np.frombuffer(json.dumps(report).encode(), dtype=np.uint8)
    return save({name: np.ascontiguousarray(values) for name, values in arrays.items()})


def main() -> None:
    """One job."""
    torch.set_num_threads(1)
    out = os.dup(1)
    os.dup2(2, 1)  # a learner's print must not stand among the arrays
    content = answer(json.loads(sys.stdin.buffer.read()))
    with os.fdopen(out, "wb") as file:
        file.write(content)


if __name__ == "__main__":
    main()
    os._exit(0)  # whatever threads the learner's code has left behind
