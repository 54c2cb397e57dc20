"""Where the numbers are computed (cuda, mps or cpu), and in which precision.

Nothing else in `lm_core` names a device: tensors are made on the device of the tensors
they meet, so the same lines run everywhere.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch


def pick(name: str = "auto") -> torch.device:
    """The device to compute on: `name` itself, or the best one this machine has.

    `auto` prefers cuda, then mps (Apple), then cpu.
    Raises ValueError when `name` asks for a device that is not there.

    >>> pick("cpu")
    device(type='cpu')
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:0 ... or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device {name!r} is none that lm_core computes on: use auto, cpu, cuda, cuda:0 ... or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} asked for, but {torch.cuda.device_count()} CUDA devices are visible")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device 'mps' asked for, but this PyTorch or this machine has no Metal support")
    return device


def _matmul_seconds(device: torch.device, dtype: torch.dtype, size: int, repeats: int) -> float:
    """Best time of one [size size] @ [size size] product, in seconds."""
    left = torch.ones(size, size, device=device, dtype=dtype)

    def finish() -> None:  # a GPU answers before it has computed: wait for it
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    best = float("inf")
    for _ in range(repeats):
        finish()
        start = time.perf_counter()
        left @ left
        finish()
        best = min(best, time.perf_counter() - start)
    return best


@lru_cache(maxsize=8)
def bf16_speedup(device: torch.device) -> float:
    """How many times faster a bfloat16 matrix product is than a float32 one, measured here and now.

    torch's own "supported" also counts emulation, which is slower than float32, so we time it:
    about 3-4 on CPUs with avx512_bf16 or AMX, below 1 on most others. 0.0 where bf16 fails.
    """
    size, repeats = (512, 5) if device.type == "cpu" else (2048, 8)
    try:
        return _matmul_seconds(device, torch.float32, size, repeats) / _matmul_seconds(
            device, torch.bfloat16, size, repeats
        )
    except (RuntimeError, TypeError):
        return 0.0


def autocast(device: torch.device, enabled: bool | None = None) -> AbstractContextManager[None]:
    """Mixed precision for training: matrix products in bf16, everything delicate in float32.

    `enabled=None` decides by measurement (a speed-up of at least 1.3). Parameters stay float32.
    Source: Micikevicius et al. 2018, with bfloat16's float32 range, so no loss scaling.

    >>> with autocast(torch.device("cpu"), enabled=True):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.bfloat16
    """
    if enabled is None:
        enabled = bf16_speedup(device) >= 1.3
    if not enabled:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
