"""A page's job in a plain process with a limit on its time: what stands in where there is no sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS = 40  # starting, importing torch and the job itself


class SandboxError(RuntimeError):
    """A job without an answer. `reason`: time, crash, output."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def run_page(job: dict[str, Any], files: Mapping[str, bytes]) -> dict[str, NDArray[Any]]:
    """The arrays that `lab.sandbox.page_worker` answers with. Raises SandboxError."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMP", "PATH") if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="lm-lab-page-") as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.sandbox.page_worker"],
            cwd=folder,
            env=kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": folder},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            out, _ = process.communicate(json.dumps(job).encode(), timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            raise SandboxError("time") from None
        finally:
            with contextlib.suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
            process.wait()
    if process.returncode or not out:
        raise SandboxError("crash")
    try:
        return dict(load(out))
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise SandboxError("output") from None
