"""A worker seen from outside: start it, hand it one job, take at most so much for at most so long, end it.

Nothing that the worker says is believed: its answer is bytes up to a limit, its prints are text up to a limit, and
the clock that counts is the one here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from lab.sandbox import isolation, walls
from lab.sandbox.failure import SandboxError
from lab.sandbox.inside import READY

MEMORY_BYTES = 2**30  # beyond what torch has mapped when the job comes
ANSWER_BYTES = 64 * 2**20
PRINTED_BYTES = 2**20
THREADS = 32
START_SECONDS = 60  # to import torch on a busy computer
GRACE_SECONDS = 2


class Worker:
    """One process for one job. Made early, it imports torch while nobody waits for it."""

    def __init__(self, profile: str) -> None:
        """Start it. Raises SandboxError "refused" where student code does not run."""
        self.profile, self.kind = profile, isolation.kind()
        self._folder: Path | None = None
        self._closed = threading.Lock()
        self.process = self._start()
        assert self.process.stdout is not None and self.process.stderr is not None
        self._answer = _Stream(self.process.stdout, len(READY) + ANSWER_BYTES, self.kill)
        self._printed = _Stream(self.process.stderr, PRINTED_BYTES, self.kill)

    def _start(self) -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        pipes |= {"start_new_session": True, "bufsize": 0}
        if self.kind == "bubblewrap":
            command, filter_ = walls.boxed(self.profile, isolation.uid())
            with filter_:
                # Its first process can be read from inside, /proc/1/environ too: it knows nothing of the server.
                return subprocess.Popen(command, cwd="/", env=walls.NO_SECRETS, pass_fds=[filter_.fileno()], **pipes)
        if self.kind == "refused":
            raise SandboxError("refused")
        self._folder = Path(tempfile.mkdtemp(prefix="lm-lab-bare-"))
        return subprocess.Popen(**walls.bare_process(self.profile, self._folder, isolation.uid()), **pipes)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether torch is imported and a job would be served at once."""
        return len(self._answer.data) >= len(READY)

    def run(self, job: Any, files: Mapping[str, bytes], seconds: float) -> bytes:
        """Hand over the job and wait for the answer; the worker is used up. Raises SandboxError."""
        try:
            if not self._answer.wait_for(len(READY), START_SECONDS):
                raise SandboxError("start", self.printed())
            self._send(job, files, seconds)
            ended = self._answer.ended.wait(seconds + GRACE_SECONDS)
            return self._judge(ended)
        finally:
            self.close()

    def _send(self, job: Any, files: Mapping[str, bytes], seconds: float) -> None:
        header = {
            "limit": seconds, "memory": MEMORY_BYTES, "processes": _processes(self.kind), "job": job,
            "files": {name: len(content) for name, content in files.items()},
        }  # fmt: skip
        text = json.dumps(header).encode()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone: the answer will say so
            _write_all(self.process.stdin, len(text).to_bytes(8, "big") + text + b"".join(files.values()))
            self.process.stdin.close()

    def _judge(self, ended: bool) -> bytes:
        answer = bytes(self._answer.data[len(READY) :])
        if self._printed.full:
            raise SandboxError("flood", self.printed())
        if self._answer.full:
            raise SandboxError("large", self.printed())
        if not ended or answer.startswith(b"Timeout ("):
            line = re.search(rb'student\.py", line (\d{1,7})', answer)
            raise SandboxError("time", self.printed(), int(line[1]) if line else None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_SECONDS)
        if self.process.poll() == -getattr(signal, "SIGXCPU", 0) or self.process.poll() == 128 + 24:
            raise SandboxError("time", self.printed())
        if self.process.poll() != 0 or not answer:
            self._printed.ended.wait(GRACE_SECONDS)
            raise SandboxError("crash", self.printed())
        return answer

    def printed(self, characters: int = 4000) -> str:
        """The beginning of what it printed."""
        return bytes(self._printed.data[: 4 * characters]).decode(errors="replace")[:characters]

    def kill(self) -> None:
        """End the process and all it started; in a box nothing survives its first process."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def close(self) -> None:
        """End it, wait for its end, and remove what it left. Safe to call twice and from two threads."""
        with self._closed:
            self.kill()
            with contextlib.suppress(OSError):
                if self.process.stdin:
                    self.process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_SECONDS)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


class _Stream:
    """A pipe read by a thread of its own, up to a limit; beyond it the worker is killed and `full` says so."""

    def __init__(self, pipe: IO[bytes], most: int, too_much: Any) -> None:
        self.data, self.full, self.ended = bytearray(), False, threading.Event()
        self._pipe, self._most, self._too_much = pipe, most, too_much
        self._grown = threading.Condition()
        threading.Thread(target=self._read, name="lab-sandbox-pipe", daemon=True).start()

    def _read(self) -> None:
        with self._pipe:
            while chunk := self._pipe.read(2**16):
                self.data += chunk[: self._most - len(self.data)]
                with self._grown:
                    self._grown.notify_all()
                if len(self.data) >= self._most:
                    self.full = True
                    self._too_much()
                    break
        self.ended.set()
        with self._grown:
            self._grown.notify_all()

    def wait_for(self, n: int, seconds: float) -> bool:
        """Wait for the first n bytes; False when the pipe ends or the time is up before."""
        deadline = time.monotonic() + seconds
        with self._grown:
            while len(self.data) < n and not self.ended.is_set() and time.monotonic() < deadline:
                self._grown.wait(max(0.0, deadline - time.monotonic()))
        return len(self.data) >= n


def _write_all(pipe: IO[bytes], content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[pipe.write(view) :]


def _processes(kind: str) -> int | None:
    """RLIMIT_NPROC: threads in a box of its own, or what the account has already and a few more; None: no limit.

    Since Linux 5.14 the number is counted in each user namespace; before, in the whole account, where a box would be
    refused its threads because of a learner's browser. The filter of system calls forbids processes in any case.
    """
    if kind == "bubblewrap":
        return THREADS if walls.counts_by_namespace() else None
    mine = walls.threads_of(isolation.uid())
    return None if mine is None else mine + THREADS
