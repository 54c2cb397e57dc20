"""26. Write `warmup_cosine`.

Check it:  python -m lm_core check warmup_cosine
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math


def warmup_cosine(step: int, n_steps: int, warmup: int, floor: float) -> float:
    """The share of the peak learning rate to use at `step`: a line up, then half a cosine down to `floor`.

    Loshchilov and Hutter 2017 (SGDR), eq. 5, with linear warm-up (Goyal et al. 2017).

    >>> [round(warmup_cosine(s, 10, 2, 0.1), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
