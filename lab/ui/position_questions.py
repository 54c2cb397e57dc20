"""The questions of the lesson on positions: what is asked, and what the model answers."""

from __future__ import annotations

import numpy as np

from lab.ui import panels
from lab.ui import position_data as data
from lab.ui import position_panels as show
from lab.ui.position_data import Array, Shuffled
from lab.ui.position_panels import t
from lab.ui.reading import Reading

SLUG = "positions"


def compared(before: float, after: float) -> int:
    """0 larger, 1 smaller, 2 the same: as float32 can tell."""
    return 2 if abs(after - before) <= 1e-5 * max(1.0, abs(before)) else 0 if after > before else 1


def three() -> list[str]:
    """The answers that `compared` chooses from."""
    return [t("larger"), t("smaller"), t("same")]


def shuffle(r: Reading, found: Shuffled) -> None:
    """What does shuffling do to a weight, without positions and without a mask?"""
    cell = r.view.head, r.view.query, r.view.key
    before, after = float(found.straight["none"][cell]), float(found.back["none"][cell])
    panels.predict_section(
        SLUG, "shuffle", three(), compared(before, after), about=(r.view, tuple(r.labels), show.chosen_seed()),
        query=r.query, key=r.key, before=f"{before:.6f}", after=f"{after:.6f}",
    )  # fmt: skip


def relative(r: Reading, scores: Array, here: tuple[int, int]) -> None:
    """What does moving both words do to their score? Asked where there is room to move them."""
    (m, n), side = here, len(scores)
    home = max(m - n, 0), max(n - m, 0)
    by = min(3, side - 1 - max(home))
    if by <= 0:
        return
    before, after = float(scores[home]), float(scores[home[0] + by, home[1] + by])
    panels.predict_section(
        SLUG, "relative", three(), compared(before, after), about=(r.view, tuple(r.labels), m - n), query=r.query,
        key=r.key, by=by, before=f"{before:.4f}", after=f"{after:.4f}",
    )  # fmt: skip


def beyond(r: Reading, found: data.Beyond) -> None:
    """Is the loss larger in one long run than in windows of the trained length?"""
    context = r.shape.context_length
    assert found.one_run is not None  # the page has told of the refusal instead
    one, windows = (float(x[context:].mean()) for x in (found.one_run, found.windows))
    answer = 2 if abs(one - windows) < 0.05 else 0 if one > windows else 1
    panels.predict_section(
        SLUG, "beyond", three(), answer, about=(r.model, found.n_tokens), context=context, one=f"{one:.3f}",
        windows=f"{windows:.3f}", times=f"{np.exp(one - windows):.2f}",
    )  # fmt: skip
