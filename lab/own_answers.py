"""Which of a learner's functions a lesson's figures can run on, and their text."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from lab import models, workspaces
from lm_core.judge.catalogue import BY_SLUG
from lm_core.judge.exercise import Exercise

OF_LESSON: dict[str, tuple[str, ...]] = {
    "self_attention": ("scaled_scores", "causal_mask", "attend"),
    "multi_head": ("split_heads", "attend"),
    "masking": ("causal_mask", "bug_rows"),
    "positions": ("rope",),
    "block": ("layer_norm", "rms_norm", "feed_forward"),
    "sampling": ("top_k", "top_p"),
}
STEPS_OF_ATTEND = ("attention_scores", "scale_scores", "apply_mask", "masked_softmax", "mix_values")


@dataclass(frozen=True)
class Answer:
    """An exercise and what the learner has written for it. problem: the file could not be read, and why."""

    exercise: Exercise
    text: str
    problem: str | None = None

    @property
    def is_there(self) -> bool:
        """Whether it is more than the file as it was handed out."""
        return self.problem is None and not workspaces.is_untouched(self.exercise, self.text)

    @property
    def functions(self) -> list[str]:
        """The names of what the exercise asks for."""
        return [function.__name__ for function in self.exercise.references]


def answers(owner: str, lesson: str, shape: models.Shape) -> list[Answer]:
    """The learner's answers that the figures of a lesson can run on, for a model of this shape, in lesson order."""
    found = []
    for slug in OF_LESSON[lesson]:
        if (slug == "rope" and not shape.has_rope) or (slug in ("layer_norm", "rms_norm") and slug != shape.norm):
            continue
        exercise = BY_SLUG[slug]
        try:
            found.append(Answer(exercise, workspaces.text_of(owner, exercise)))
        except (OSError, ValueError) as error:
            found.append(Answer(exercise, "", getattr(error, "strerror", None) or str(error)))
    return found


@dataclass(frozen=True)
class OwnSource:
    """A function in a learner's file: the file's name, the line where it begins (from 1), its text."""

    file: str
    line: int
    text: str


def sources(used: Sequence[Answer]) -> dict[str, OwnSource]:
    """Which of the learner's functions stand where a function of the reference stood: its name -> theirs.

    A whole `attend` stands for the steps of the reference's as well.
    """
    found: dict[str, OwnSource] = {}
    for answer in used:
        lines = answer.text.splitlines()
        for node in ast.parse(answer.text).body:
            if isinstance(node, ast.FunctionDef) and node.name in answer.functions and node.end_lineno:
                text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                found[node.name] = OwnSource(answer.exercise.filename, node.lineno, text)
    if "attend" in found:
        found |= dict.fromkeys(STEPS_OF_ATTEND, found["attend"])
    return found
