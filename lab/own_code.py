"""A lesson's numbers, computed by the learner's own functions in a process of their own.

The answer is held against the reference: names, shapes and kinds of number, so that whatever comes back can be drawn.
It is kept by the hashes of the files: an edit shows at once, and nothing is computed twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lab import divergence, models
from lab.bounded_store import BoundedStore
from lab.divergence import Divergence
from lab.own_answers import Answer
from lab.sandbox import SandboxError, run_page
from lab.source import CODE_HASH
from lab.traces import TextTrace
from lm_core.generation import generate
from lm_core.model import Decoder
from lm_core.sampling import SamplingConfig, filter_stages

Arrays = dict[str, NDArray[Any]]
SECONDS = 10  # of a job, once its process is ready
WRITTEN = 24  # new tokens
MOST_MODEL_BYTES = 40 * 2**20  # the process that runs a learner's code gets the weights with its job
WRITING = SamplingConfig(temperature=0.8, top_p=0.95)
KEPT_BYTES = 2**28


@dataclass(frozen=True)
class Failure:
    """Why there are no numbers. kind: exception, unwritten, missing, shape, time, crash, output.

    file and line (from 1) are the learner's own, code is what stands there; type and message are the exception's.
    """

    kind: str
    file: str | None = None
    line: int | None = None
    code: str = ""
    type: str = ""
    message: str = ""
    function: str = ""
    part: str = ""
    returned: str = ""
    wanted: str = ""


@dataclass(frozen=True)
class Written:
    """What the model adds to the text: by the reference and by the learner. cut: the time for writing ran out."""

    reference: str
    yours: str
    cut: bool

    @property
    def common(self) -> int:
        """How many characters both begin with."""
        pairs = zip(self.reference, self.yours, strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(self.reference), len(self.yours)))


@dataclass(frozen=True)
class Result:
    """What came of the learner's code: arrays of a trace, stages of sampling, a text; or a failure.

    A failure while writing leaves the arrays that were there before it.
    """

    arrays: Arrays | None = None
    stages: NDArray[np.float32] | None = None
    written: Written | None = None
    failure: Failure | None = None
    divergence: Divergence | None = None


_KEPT: BoundedStore[Result] = BoundedStore(most_things=48)


def of_text(model: str, trace: TextTrace, used: Sequence[Answer], attempt: int = 0) -> Result:
    """The trace of a text by the learner's functions, and what the model writes after it."""
    ids = tuple(trace.token_ids)

    def make() -> Result:
        job = _job(model, ids, used) | {"trace": True, "write": _writing(model, WRITING, 0)}
        result, back = _run(model, job, used, _forms(trace))
        if back is None:
            return result
        yours = {name: back[name] for name in trace.arrays}
        found = divergence.of_traces(yours, trace.arrays)
        return replace(result, arrays=yours, divergence=found, written=_written(model, ids, WRITING, 0, back, job))

    size = sum(values.nbytes for values in trace.arrays.values())
    return _KEPT.get(_key(model, ids, used, attempt), lambda: size, make, most_bytes=KEPT_BYTES)


def of_sampling(
    model: str, ids: tuple[int, ...], logits: NDArray[np.floating], config: SamplingConfig, seed: int,
    used: Sequence[Answer], attempt: int = 0,
) -> Result:  # fmt: skip
    """The stages between logits [V] and the draw by the learner's functions, and what the model writes with them."""

    def make() -> Result:
        wish = {"logits": logits.tolist(), "config": asdict(config)}
        job = _job(model, ids, used) | {"stages": wish, "write": _writing(model, config, seed)}
        result, back = _run(model, job, used, {"stages": (len(divergence.OF_SAMPLING), len(logits))})
        if back is None:
            return result
        right = filter_stages(torch.from_numpy(logits.copy())[None], config, torch.tensor([ids]))
        reference = torch.cat(list(right.values())).numpy()
        found = divergence.of_sampling(back["stages"], reference)
        written = _written(model, ids, config, seed, back, job)
        return replace(result, stages=back["stages"], divergence=found, written=written)

    key = (*_key(model, ids, used, attempt), config, seed)
    return _KEPT.get(key, lambda: 24 * len(logits), make, most_bytes=KEPT_BYTES)


def _key(model: str, ids: tuple[int, ...], used: Sequence[Answer], attempt: int) -> tuple[Any, ...]:
    hashes = tuple((a.exercise.slug, hashlib.sha256(a.text.encode()).hexdigest()) for a in used)
    return model, models.fingerprint(model), CODE_HASH, ids, hashes, attempt


def _job(model: str, ids: tuple[int, ...], used: Sequence[Answer]) -> dict[str, Any]:
    files = [{"file": a.exercise.filename, "functions": a.functions, "text": a.text} for a in used]
    job = {"model": "model", "token_ids": list(ids), "answers": files, "seconds": SECONDS}
    return job | dict.fromkeys(("trace", "stages", "write"))


def _model_files(model: str) -> dict[str, bytes]:
    """The model's shape and weights, for a process that sees nothing of this computer. Raises SandboxError "large"."""
    folder = models.load(model).folder
    files = [f for f in folder.iterdir() if f.name == "config.json" or ".safetensors" in f.suffixes]
    if sum(file.stat().st_size for file in files) > MOST_MODEL_BYTES:
        raise SandboxError("large")
    return {f"model/{file.name}": file.read_bytes() for file in files}


def _writing(model: str, config: SamplingConfig, seed: int) -> dict[str, Any]:
    """The wish for a text."""
    loaded = models.load(model)
    assert loaded.tokenizer is not None  # or `load` had raised
    stop = [] if loaded.tokenizer.eos_id is None else [loaded.tokenizer.eos_id]
    return {"n": WRITTEN, "seed": seed, "config": asdict(config), "stop_ids": stop}


def _forms(trace: TextTrace) -> dict[str, tuple[int, ...]]:
    return {name: values.shape for name, values in trace.arrays.items()}


def _run(
    model: str, job: dict[str, Any], used: Sequence[Answer], forms: Mapping[str, tuple[int, ...]]
) -> tuple[Result, Arrays | None]:
    """Run the job and hold its answer to the shapes asked for; arrays are None where they are not all there."""
    try:
        back = run_page(job, _model_files(model))
        report = json.loads(back["report"].tobytes())
        failure = _failure(report["error"], used)
        job["cut"] = bool(report["cut"])
    except SandboxError as error:
        return Result(failure=Failure(error.reason)), None
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, RecursionError):  # forged by the learner
        return Result(failure=Failure("output")), None
    if failure is not None and not forms.keys() <= back.keys():
        return Result(failure=failure), None
    for name, shape in forms.items():
        if name not in back or back[name].shape != shape or back[name].dtype.kind not in "fi":
            return Result(failure=failure or Failure("output")), None
        if name != "token_ids":
            back[name] = back[name].astype(np.float32)
        back[name].flags.writeable = False
    return Result(failure=failure), back


def _failure(error: dict[str, Any] | None, used: Sequence[Answer]) -> Failure | None:
    """The worker's report, its line looked up in the learner's own text. Raises ValueError for one that is none."""
    if error is None:
        return None
    names = ("kind", "type", "message", "function", "part", "returned", "wanted")
    words = {name: str(error.get(name, ""))[:500] for name in names}
    file, line = error.get("file"), error.get("line")
    lines = next((a.text.splitlines() for a in used if a.exercise.filename == file), None)
    if lines is None or not isinstance(line, int) or not 0 < line <= len(lines):
        line, code = None, ""
    else:
        code = lines[line - 1].strip()[:200]
    return replace(_failure_of(words), file=file if lines is not None else None, line=line, code=code)


def _failure_of(words: Mapping[str, str]) -> Failure:
    return Failure(
        words["kind"], type=words["type"], message=words["message"], function=words["function"], part=words["part"],
        returned=words["returned"], wanted=words["wanted"],
    )  # fmt: skip


def _written(
    model: str, ids: tuple[int, ...], config: SamplingConfig, seed: int, back: Arrays, job: dict[str, Any]
) -> Written | None:
    """Both continuations as texts; None where there is none to show."""
    wish, new = job["write"], back.get("written")
    if wish is None or new is None or new.ndim != 1 or len(new) > wish["n"] or new.dtype.kind != "i":
        return None
    loaded = models.load(model)
    decoder, tokenizer = loaded.model, loaded.tokenizer
    assert isinstance(decoder, Decoder) and tokenizer is not None
    if len(new) and (int(new.min()) < 0 or int(new.max()) >= decoder.config.vocab_size):
        return None
    stop = frozenset(wish["stop_ids"])
    with models.compute_slots():
        right = list(generate(decoder, torch.tensor(ids), wish["n"], config, stop_ids=stop, seed=seed))
    texts = [tokenizer.decode([t for t in found if t not in stop]) for found in (right, new.tolist())]
    return Written(texts[0], texts[1], job["cut"])


def as_trace(reference: TextTrace, result: Result) -> TextTrace:
    """The reference's trace with the learner's numbers in it; the reference's where there are none."""
    return reference if result.arrays is None else replace(reference, arrays=result.arrays)


def can_be_drawn(result: Result) -> bool:
    """Whether a lesson's figures can show these numbers: all finite, but for −∞ in `masked`."""
    if result.arrays is None:
        return False
    return all(
        bool((np.isfinite(values) | (np.isneginf(values) & (name == "masked"))).all())
        for name, values in result.arrays.items()
    )
