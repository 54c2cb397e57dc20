"""What an exercise is: the functions to write, the inputs they are tried on, and the mistakes that have a name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


class Draw:
    """Random inputs of one seed, in the order asked for."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        """Float32 with mean 0 and deviation 1."""
        return torch.randn(shape, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        """Float32 in [0, 1)."""
        return torch.rand(shape, generator=self.generator)

    def ids(self, below: int, *shape: int) -> Tensor:
        """Whole numbers 0 … below − 1."""
        return torch.randint(below, shape, generator=self.generator)

    def allowed(self, *shape: int) -> Tensor:
        """A mask in which about two thirds are True, and the first key always is."""
        mask = self.uniform(*shape) < 0.67
        return mask | (torch.arange(shape[-1]) == 0)


@dataclass(frozen=True)
class Case:
    """One input. `function` is the index of the reference it is for; without `variants` it is tried as it is only."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    function: int = 0
    variants: bool = True


@dataclass(frozen=True)
class Mutant:
    """A mistake with a name, as edits of the solution's text: (what stands there, what the mistaken student wrote)."""

    name: str
    edits: tuple[tuple[str, str], ...]


def mutant(name: str, *texts: str) -> Mutant:
    """`mutant("no_scale", "/ math.sqrt(d)", "")`; more edits follow as further pairs."""
    return Mutant(name, tuple(zip(texts[::2], texts[1::2], strict=True)))


@dataclass(frozen=True)
class Property:
    """Something true of every right answer, told when an unknown mistake breaks it; `holds` gets the cases' results."""

    name: str
    cases: tuple[str, ...]
    holds: Callable[..., bool]


@dataclass(frozen=True)
class Exercise:
    """One file to write. Its texts (title, hints, what to notice) stand in `texts/` under its slug.

    references     the functions of lm_core that the student writes, in the order of the file
    cases          inputs, of telling shapes, for a given source of random numbers
    mutants        named mistakes: a student's wrong answer that equals a mutant's gets that mutant's hint
    line           the last hint: the line of code that matters most
    given          what the file already holds: functions and classes of lm_core, or lines of text
    uses           further functions of lm_core that stand in the solution only
    imports        further import lines of the file
    axes           names of the axes of each result, such as {"weights": "B H Tq Tk"}; "" is an only result
    broken         for spot-the-bug: edits that turn the solution into the file as it is handed out
    difficulty, importance   1 … 5;   minutes   for somebody who knows PyTorch
    bf16           how far a result in bfloat16 may be off; 1.0: only its dtype counts; None: not tried
    device         whether it is tried on another device as well
    """

    number: int
    slug: str
    references: tuple[Callable[..., Any], ...]
    cases: Callable[[Draw], list[Case]]
    mutants: tuple[Mutant, ...]
    topic: str
    difficulty: int
    importance: int
    minutes: int
    line: str
    prerequisites: tuple[str, ...] = ()
    given: tuple[Any, ...] = ()
    uses: tuple[Any, ...] = ()
    imports: tuple[str, ...] = ()
    axes: Mapping[str, str] = field(default_factory=dict)
    properties: tuple[Property, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()
    speed: Callable[[Draw], Case] | None = None
    bf16: float | None = 0.05
    device: bool = True

    @property
    def filename(self) -> str:
        """`ex09_attend.py`"""
        return f"ex{self.number:02d}_{self.slug}.py"

    @property
    def is_bug_hunt(self) -> bool:
        """Whether the file holds wrong code to repair, not a gap to fill."""
        return bool(self.broken)
