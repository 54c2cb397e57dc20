"""What one step of fine-tuning says: the value that a page plots, a worker stores and a log keeps."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from lm_core.doctor import Finding
from lm_core.metrics import ClassificationReport


@dataclass(frozen=True)
class Sample:
    """A prompt and what the model makes of it: a continuation, or the class and its probability."""

    prompt: str
    text: str


@dataclass(frozen=True)
class Validation:
    """How good the model is on what it does not learn from: nats a token (causal) or a text (classification)."""

    loss: float
    perplexity: float
    n_targets: int
    report: ClassificationReport | None = None

    @property
    def score(self) -> tuple[float, float]:
        """What the best checkpoint is best in: accuracy, then loss; both larger is better."""
        return (0.0 if self.report is None else self.report.accuracy, -self.loss)


@dataclass(frozen=True)
class FinetuneRecord:
    """What is known after one step; step 0 is the model before any.

    loss is the mean over all targets of the step, before its update, whatever `accumulate` is; None at step 0.
    tokens_per_second counts no filling. seconds: since the run began, pauses not counted; seconds_left: an estimate.
    update: ‖Δθ‖/‖θ‖ of what learns (without a head), where it was measured. best: this validation is the best so far.
    saved: the state of this very step is on disk. stopped: why the run ends here before its time, else empty.
    """

    step: int
    n_steps: int
    loss: float | None = None
    n_targets: int = 0
    grad_norm: float | None = None
    lr: float = 0.0
    update: float | None = None
    tokens_per_second: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    peak_memory: int | None = None
    validation: Validation | None = None
    best: bool = False
    findings: tuple[Finding, ...] = ()
    samples: tuple[Sample, ...] = ()
    saved: bool = False
    stopped: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a line of JSON: what is absent or no finite number is left out or null."""
        return {k: _plain(v) for k, v in asdict(self).items() if v not in (None, "", (), [])}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
