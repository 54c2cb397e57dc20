"""Stopping and going on: everything a training run needs to continue, as safetensors and JSON.

Nothing here is a pickle: loading a state can run no code. A state is written to a `.tmp` folder that is then renamed,
so a run that is killed while saving keeps its last whole one.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def save_state(
    folder: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    facts: dict[str, Any],
    may_save: Callable[[], None] | None = None,
) -> None:
    """Write what learns, optimizer moments and `facts` (step, seed, losses ... : JSON) to `folder`, replacing it whole.

    Frozen parameters are not written: they are those of the model that the run began with. `may_save` is asked before
    the first byte and again before the old state is replaced; what it raises leaves the old state as it is.
    """
    if may_save is not None:
        may_save()
    tensors = {f"model.{name}": p.detach().contiguous().cpu() for name, p in _learned(model)}
    for i, optimizer in enumerate(optimizers):
        for j, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                tensor = value if isinstance(value, Tensor) else torch.tensor(float(value))
                tensors[f"optimizer.{i}.{j}.{slot}"] = tensor.detach().contiguous().cpu()
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(tensors, temporary / "state.safetensors")
    (temporary / "state.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    for file in temporary.iterdir():
        with open(file, "rb+") as handle:
            os.fsync(handle.fileno())
    if may_save is not None:
        may_save()
    old = folder.with_name(folder.name + ".old")
    if folder.exists():  # otherwise `old` is the only whole state: keep it until the new one is in place
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _learned(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def find_state(folder: Path) -> Path | None:
    """Where the last whole state lies, or None: `folder`, or `<folder>.old` after a kill between two renames."""
    places = (folder, folder.with_name(folder.name + ".old"))
    return next((place for place in places if (place / "state.json").exists()), None)


def read_facts(place: Path) -> dict[str, Any]:
    """The facts of a state that `find_state` found."""
    facts: dict[str, Any] = json.loads((place / "state.json").read_text(encoding="utf-8"))
    return facts


@torch.no_grad()
def load_state(folder: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """Put model and optimizers back as they were saved and return the facts.

    A save cut short between its two renames has left `<folder>.old`; that one is read then (`find_state`).
    Raises FileNotFoundError when there is neither, ValueError when the weights do not fit the model.
    """
    found_in = find_state(folder)
    if found_in is None:
        raise FileNotFoundError(f"no saved state in {folder.name}")
    tensors = load_file(found_in / "state.safetensors")
    for name, parameter in _learned(model):
        saved = tensors.get(f"model.{name}")
        if saved is None or saved.shape != parameter.shape:
            found = "nothing" if saved is None else str(tuple(saved.shape))
            raise ValueError(f"{name} should be {tuple(parameter.shape)}, the saved state has {found}")
        parameter.copy_(saved)
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimizer.{i}."):
                _, _, index, slot = key.split(".")
                state.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return read_facts(found_in)
