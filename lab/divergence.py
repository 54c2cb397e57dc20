"""Where two computations of the same thing part: the first stage that differs, not a share of all numbers.

What comes after the first stage differs because of it, so one stage and one cell say more than a count of everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
# In the order in which a layer with the norm in front computes them.
OF_LAYER = (
    "attn_in", "q_proj", "k_proj", "v", "q", "k", "scores", "scaled", "masked", "weights", "head_out", "attn_out",
    "resid_mid", "mlp_in", "mlp_hidden", "mlp_out", "resid_post",
)  # fmt: skip
OF_SAMPLING = ("model", "repetition", "temperature", "top_k", "top_p", "min_p")
TOLERANCE = 1e-4  # another order of the same sums gives about 1e-6 of the largest number a layer


@dataclass(frozen=True)
class Divergence:
    """The first stage that differs.

    layer and stage name it; cell is the index in it of the largest difference, yours and reference are the numbers
    there. n of n_all cells differ. factor: what every number is multiplied by, where that is all the difference.
    kind: number, nan (not a number), opened (should be −∞), closed (−∞ where there should be a number).
    layers counts from 0, and is None where there is none (sampling).
    """

    stage: str
    layer: int | None
    cell: tuple[int, ...]
    yours: float
    reference: float
    n: int
    n_all: int
    factor: float | None
    kind: str


def differs(yours: Array, reference: Array) -> NDArray[np.bool_]:
    """Which cells are not the same number, but for rounding; NaN never is, −∞ equals −∞.

    >>> differs(np.array([1.0, 2.0, np.nan, -np.inf]), np.array([1.0, 2.1, 0.0, -np.inf])).tolist()
    [False, True, True, False]
    """
    finite = reference[np.isfinite(reference)]
    most = TOLERANCE * max(1.0, float(np.abs(finite).max()) if finite.size else 0.0)
    both = np.isfinite(yours) & np.isfinite(reference)
    apart = np.abs(np.where(both, yours, 0.0) - np.where(both, reference, 0.0)) > most
    same: NDArray[np.bool_] = np.where(both, ~apart, yours == reference)
    return ~same


def common_factor(yours: Array, reference: Array) -> float | None:
    """The one number c with yours = c · reference, where there is one and it is not 1.

    >>> common_factor(np.array([2.0, -4.0, 0.0]), np.array([1.0, -2.0, 0.0])), common_factor(np.ones(2), np.arange(2.0))
    (2.0, None)
    """
    seen = np.isfinite(yours) & np.isfinite(reference)
    a, b = yours[seen].astype(np.float64), reference[seen].astype(np.float64)
    if not np.array_equal(np.isfinite(yours), np.isfinite(reference)) or a.size < 2 or not (norm := float(b @ b)):
        return None
    factor = float(a @ b) / norm
    rest, scale = np.abs(a - factor * b).max(), float(np.abs(a).max())
    return round(factor, 6) if scale and rest <= TOLERANCE * scale and abs(factor - 1) > TOLERANCE else None


def of_stage(stage: str, layer: int | None, yours: Array, reference: Array) -> Divergence | None:
    """How one stage differs; None where it does not."""
    wrong = differs(yours, reference)
    if not wrong.any():
        return None
    kind, candidates = "number", wrong
    for name, cells in (
        ("nan", np.isnan(yours) | np.isposinf(yours)),
        ("opened", np.isfinite(yours) & np.isneginf(reference)),
        ("closed", np.isneginf(yours) & np.isfinite(reference)),
    ):
        if cells.any():
            kind, candidates = name, cells
            break
    with np.errstate(invalid="ignore"):
        gap = np.abs(yours.astype(np.float64) - reference)
    ranked = np.where(candidates, np.where(np.isfinite(gap), gap, np.inf), -1.0)
    cell = tuple(int(k) for k in np.unravel_index(int(ranked.argmax()), ranked.shape))
    factor = common_factor(yours, reference) if kind == "number" else None
    return Divergence(
        stage, layer, cell, float(yours[cell]), float(reference[cell]), int(wrong.sum()), wrong.size, factor, kind
    )


def of_traces(yours: Mapping[str, Array], reference: Mapping[str, Array]) -> Divergence | None:
    """The first stage, layer by layer, in which two traces differ; None where none does."""
    for layer in range(len(reference["weights"])):
        for stage in OF_LAYER:
            if found := of_stage(stage, layer, yours[stage][layer], reference[stage][layer]):
                return found
    return of_stage("logits", None, yours["logits"], reference["logits"])


def of_sampling(yours: Array, reference: Array) -> Divergence | None:
    """The first stage of sampling that differs; rows [6 V] in the order of OF_SAMPLING."""
    for row, stage in enumerate(OF_SAMPLING):
        if found := of_stage(stage, None, yours[row], reference[row]):
            return found
    return None


def differing_stages(yours: Mapping[str, Array], reference: Mapping[str, Array], layer: int) -> dict[str, bool]:
    """Of one layer: stage -> whether it differs."""
    return {stage: bool(differs(yours[stage][layer], reference[stage][layer]).any()) for stage in OF_LAYER}
