"""The questions of the lesson on sampling: what is asked, and what the model answers. True: the answer may be seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lab.ui import cache_panels, panels
from lab.ui import sampling_numbers as numbers
from lab.ui import sampling_panels as figure
from lab.ui.panels import prose
from lab.ui.sampling_controls import named, t
from lab.ui.sampling_numbers import Prompt, Stages
from lm_core.beam_search import Beam

SLUG = "sampling"
MOST = 0.99  # of the probability, for the question how many tokens share it


def guess(p: Prompt, base: NDArray[np.float32]) -> bool:
    """How likely is the likeliest token?"""
    best = int(base.argmax())
    top = float(base[best])
    return panels.predict_first(
        SLUG, "guess", [t("under_10"), t("to_50"), t("over_50")], 0 if top < 0.1 else 1 if top <= 0.5 else 2,
        about=(p.model, p.token_ids), top=named(p, best), share=figure.share(top),
        entropy=f"{numbers.entropy_bits(base):.2f}",
    )  # fmt: skip


def repetition(p: Prompt, found: Stages) -> None:
    """What would dividing do to a negative logit? Asked where a token of the text has one."""
    logits = found.logits_of("model")
    negative = next((i for i in figure.seen_tokens(p, found, 99) if logits[i] < 0), None)
    prose(SLUG, "repetition_alike" if negative is None else "repetition_why")
    if negative is None:
        return
    z = float(logits[negative])
    logit, halved, doubled = (f"{value:.2f}".replace("-", "−") for value in (z, z / 2, z * 2))
    panels.predict_section(
        SLUG, "repetition", [t("more_likely"), t("less_likely"), t("as_likely")], 0, about=(p.model, p.token_ids),
        token=named(p, negative), logit=logit, halved=halved, doubled=doubled,
    )  # fmt: skip


def temperature(p: Prompt, found: Stages) -> None:
    """Which token is the favourite at a temperature of 2?"""
    logits = found.logits_of("repetition").astype(np.float64)
    hot = np.exp((logits - logits.max()) / 2)
    hot, best = hot / hot.sum(), int(logits.argmax())
    panels.predict_section(
        SLUG, "temperature", [t("same_favourite"), t("other_favourite")], int(int(hot.argmax()) != best),
        about=(p.model, p.token_ids, found.config.repetition_penalty), top=named(p, best),
        cold=figure.share(float(found.of("repetition")[best])), hot=figure.share(float(hot[best])),
    )  # fmt: skip


def cut(p: Prompt, found: Stages) -> None:
    """How many tokens share nearly all of the probability, before anything is cut?"""
    sums = np.sort(found.of("model").astype(np.float64))[::-1].cumsum()
    half, most = (int(np.searchsorted(sums, share)) + 1 for share in (0.5, MOST))
    options = sorted({most, max(1, most // 8), min(len(sums), most * 4), half})
    panels.predict_section(
        SLUG, "cut", [f"{n:,}" for n in options], options.index(most), about=(p.model, p.token_ids), n=f"{most:,}",
        half=f"{half:,}", vocab_size=f"{len(sums):,}",
    )  # fmt: skip


def draw(p: Prompt, found: Stages, seed: int, counts: NDArray[np.int64]) -> bool:
    """How often does the favourite come?"""
    shares, n = found.probabilities[-1], int(counts.sum())
    best = int(shares.argmax())
    times, expected = int(counts[best]), n * float(shares[best])
    return panels.predict_first(
        SLUG, "draw", [t("always"), t("about", n=round(expected)), t("about", n=round(expected / 3))],
        0 if times == n else 1, about=(p.model, p.token_ids, seed, found.config), top=named(p, best),
        n=n, times=times, expected=f"{expected:.1f}",
    )  # fmt: skip


def beams(
    p: Prompt, asked: tuple[int, int, float], best: Beam, greedy_ids: tuple[int, ...], greedy_total: float
) -> bool:
    """Is the best beam likelier than the greedy text? `asked`: how many beams, how many tokens, the penalty."""
    gap = best.total - greedy_total
    right = 2 if best.token_ids == greedy_ids else 0 if gap > 0 else 1
    return panels.predict_first(
        SLUG, "beams", [t("beam_wins"), t("greedy_wins"), t("same_text")], right,
        about=(p.model, p.token_ids, *asked), n=asked[0], beam=f"{best.total:.3f}",
        greedy=f"{greedy_total:.3f}",
    )  # fmt: skip


def cache(p: Prompt) -> None:
    """How does the work for a token grow without a cache?"""
    n = len(p.token_ids)
    panels.predict_section(
        SLUG, "cache", [t("grows"), t("constant"), t("falls")], 0, about=p.model, n=n,
        last=n + cache_panels.MEASURED - 1,
    )  # fmt: skip
