"""The process in the box. It stands alone: started as a file, it imports nothing of ours but what its profile needs.

    check    the judge's worker, mounted alone: inputs in, values out; no lm_core, no answers
    page     lm_core and the page worker: a program with `main()` that imports torch

stdin brings one job, stdout takes the answer, stderr is what the box may say. Torch is imported before the job is
there, and the line READY says so. One job, then the end: nothing of one learner is left for the next.

    job:     8 bytes length, JSON {"limit", "memory", "processes", "job", "files": {name: size}}, the files
    answer:  check: 8 bytes length, JSON, safetensors; page: what the page worker wrote
"""

import faulthandler
import json
import math
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

READY = b"READY\n"
FILE_BYTES = 64 * 2**20
OPEN_FILES = 64


def read_job(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The header and the files of a job; EOFError when the stream ends before."""
    header = json.loads(_exactly(stream, int.from_bytes(_exactly(stream, 8), "big")))
    return header, {name: _exactly(stream, size) for name, size in header["files"].items()}


def _exactly(stream: BinaryIO, n: int) -> bytes:
    read = stream.read(n)
    if len(read) < n:
        raise EOFError(f"{n} bytes were announced, {len(read)} came")
    return read


def limit(memory: int, cpu_seconds: int, processes: int | None) -> None:
    """Ask the system to refuse more; a limit once lowered cannot be raised again."""
    try:
        import resource
    except ImportError:  # Windows
        return
    seconds = math.ceil(time.process_time()) + cpu_seconds  # beyond what importing torch has taken
    same = {
        "RLIMIT_AS": _addresses() + memory,
        "RLIMIT_FSIZE": FILE_BYTES,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": processes,
    }
    wanted = {name: (most, most) for name, most in same.items() if most is not None}
    wanted["RLIMIT_CPU"] = seconds, seconds + 1  # at the first a signal that tells why, at the second the end
    for name, (soft, hard) in wanted.items():
        what = getattr(resource, name, None)
        if what is None:
            continue
        _, most = resource.getrlimit(what)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        try:
            resource.setrlimit(what, (soft, hard))
        except (ValueError, OSError):  # macOS refuses some
            print(f"no {name} on this system", file=sys.__stderr__)


def _addresses() -> int:
    """Bytes of address space taken now: torch maps about one GiB of which it uses little."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 4 * 2**30


def ready_for_check() -> Callable[[dict[str, Any], int], None]:
    """Import the judge's worker and torch; returns what serves the job."""
    import worker  # type: ignore[import-not-found]  # the judge's, mounted beside this file

    worker.torch.set_num_threads(1)
    worker._warm_up(True)
    return lambda job, answer: _check(worker, answer)


def _check(worker: ModuleType, answer: int) -> None:
    """The judge's job from job.json and job.safetensors, its answer to the file descriptor."""
    folder = Path.cwd()
    job, given = worker.read(folder / "job")
    tensors: list[Any] = []
    results = [worker.run_student(s["source"], s["calls"], given, tensors, folder) for s in job["students"]]
    reached = sorted(name for name in list(sys.modules) if name.split(".")[0] == "lm_core")
    try:  # not by way of the disk: the student may have filled it
        parts = worker.encode({"students": results, "reached": reached}, tensors)
    except (MemoryError, RuntimeError) as error:  # what was returned leaves no room for the copy that is sent
        failed = [[worker.describe(error)] * len(student["calls"]) for student in job["students"]]
        parts = worker.encode({"students": failed, "reached": reached}, [])
    faulthandler.cancel_dump_traceback_later()
    with open(answer, "wb") as out:
        out.write(len(parts[0]).to_bytes(8, "big") + b"".join(parts))


def ready_for_page() -> Callable[[dict[str, Any], int], None]:
    """Load page_worker.py, and torch and the model with it, without running it; returns what runs its `main`."""
    program = runpy.run_path(os.environ["LM_LAB_PAGE_WORKER"], run_name="page_worker")
    program["torch"].set_num_threads(1)
    program["torch"].ones(1, requires_grad=True).sum().backward()
    return lambda job, answer: _page(program["main"], job, answer)


def _page(program: Callable[[], None], job: dict[str, Any], answer: int) -> None:
    """As `python -m lab.sandbox.page_worker` would: the job on its stdin, the answer is its stdout."""
    path = Path.cwd() / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    os.dup2(answer, 1)
    sys.stdin, sys.stdout = (os.fdopen(fd, mode, encoding="utf-8", closefd=False) for fd, mode in ((0, "r"), (1, "w")))
    program()
    sys.stdout.flush()


def filter_of(path: str | None) -> Any:
    """The filter of system calls that this process takes upon itself without bubblewrap; None where there is none."""
    if path is None:
        return None
    try:
        return runpy.run_path(path)["forbid"]()
    except Exception as error:  # no libseccomp, or another system
        print(f"no filter of system calls: {error}", file=sys.__stderr__)
        return None


def find_packages() -> None:
    """Where to look: our files first, then the packages that are installed."""
    sys.path[:0] = os.environ["LM_LAB_SANDBOX_PATHS"].split(os.pathsep)


def main(profile: str, forbid: str | None = None) -> None:
    """Get ready, say so, serve one job."""
    answer, told = os.dup(1), os.dup(2)
    os.dup2(2, 1)  # what a student prints goes where the box speaks, not into the answer
    find_packages()
    calls = filter_of(forbid)
    serve = {"check": ready_for_check, "page": ready_for_page}[profile]()
    os.write(answer, READY)
    try:
        header, files = read_job(sys.stdin.buffer)
    except EOFError:
        return  # the parent went away, or had nothing to do
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    if profile == "check":
        os.dup2(nothing, 2)  # the judge shows what was printed, not torch's warnings
    os.close(told)
    for name, content in files.items():
        path = Path.cwd() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    del files
    # The line that never came back is told in place of the answer; this thread starts before threads are counted.
    with os.fdopen(os.dup(answer), "wb", 0) as out:
        faulthandler.dump_traceback_later(max(0.1, header["limit"]), exit=True, file=out)
        limit(header["memory"], int(header["limit"]) + 2, header["processes"])
        if calls is not None:
            calls.load()
        serve(header["job"], answer)
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # the answer is written: tearing torch down politely would keep the learner waiting
