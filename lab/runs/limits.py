"""The limits of a run that a disk sets: how much is free, and how much of it a user may fill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from lab import settings, store
from lab.store import QuotaError

GIB = 2**30


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder; 0 where there is none. Files may vanish meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(place) / name).st_size
            except OSError:
                continue
    return total


def used_by(owner: str, runs_folder: Path) -> int:
    """The bytes of all run folders of an owner."""
    ids = store.current().ids_of(owner)
    return sum(size_of(runs_folder / run_id) for run_id in ids)


def check_disk(owner: str, folder: Path, more: int = 0, limits: settings.RunLimits | None = None) -> None:
    """Whether `more` bytes may be written under `folder`, which exists, for this owner. Raises QuotaError.

    `disk_full` when less than keep_free_gb would be left, `quota` when the owner's runs would exceed quota_gb.
    """
    limits = limits or settings.current().runs
    free = shutil.disk_usage(folder).free
    if free - more < limits.keep_free_gb * GIB:
        raise QuotaError("disk_full", free_gb=round(free / GIB, 2), keep_gb=limits.keep_free_gb)
    used = used_by(owner, settings.home() / "runs")
    if used + more > limits.quota_gb * GIB:
        raise QuotaError("quota", used_gb=round(used / GIB, 2), most_gb=limits.quota_gb)


def sweep(folder: Path, keep: Iterable[str]) -> list[str]:
    """Remove the run folders that no run belongs to; returns their names."""
    kept, gone = set(keep), []
    for place in sorted(folder.iterdir()) if folder.is_dir() else []:
        if place.is_dir() and not place.is_symlink() and place.name.split(".")[0] not in kept:
            shutil.rmtree(place, ignore_errors=True)
            gone.append(place.name)
    return gone
