"""What a check found, in ids and numbers; `messages` says it in English or Chinese."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# In the order in which a check goes through them.
STAGES = (
    "start", "syntax", "import", "missing", "run", "time", "crash",
    "type", "shape", "dtype", "values", "refusal", "in_place", "gradient", "float64", "bfloat16", "device", "passed",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """One check. `hint_id` is a mutant ("attend.no_scale"), a property or a general hint; None when nothing fits.

    values fills the placeholders of the messages; `line` is a line of the student's file; `agreed` names the
    intermediates that are right; `help_id` explains a common error of Python or torch; `self_checked` says that the
    pass was reached with the reference in sight; `slow` that the answer is right but takes `slow` times as long.
    `tensors` are the first result that differs, as it should be and as it came back; `axes` names its axes ("B T").
    """

    slug: str
    passed: bool
    stage: str
    hint_id: str | None = None
    expected: str | None = None
    got: str | None = None
    seconds: float = 0.0
    values: Mapping[str, str] = field(default_factory=dict)
    agreed: tuple[str, ...] = ()
    line: int | None = None
    help_id: str | None = None
    printed: str = ""
    self_checked: bool = False
    slow: int | None = None
    tensors: "tuple[Tensor, Tensor] | None" = field(default=None, compare=False, repr=False)
    axes: str = ""
