"""27. Write `clip_by_global_norm`.

Check it:  python -m lm_core check clip_gradients
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_by_global_norm(grads: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    """Shorten the gradient of ALL parameters, taken as one long vector, to at most `max_norm`; its direction stays.

    `g · min(1, max_norm/(‖g‖ + 10⁻⁶))`. Returns (the gradients, the norm ‖g‖ before). Raises ValueError for no
    gradients or max_norm ≤ 0. Pascanu et al. 2013, algorithm 1.

    >>> clip_by_global_norm([torch.tensor([3.0]), torch.tensor([4.0])], max_norm=1.0)
    ([tensor([0.6000]), tensor([0.8000])], tensor(5.))
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
