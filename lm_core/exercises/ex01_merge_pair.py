"""1. Write `merge_pair`.

Check it:  python -m lm_core check merge_pair
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

from collections.abc import Sequence
from typing import TypeVar

Symbol = TypeVar("Symbol", int, bytes)  # a symbol is a number or a piece of text


def merge_pair(symbols: Sequence[Symbol], left: Symbol, right: Symbol, merged: Symbol) -> list[Symbol]:
    """Replace every `left, right` in a row of symbols by `merged`, from the left. The one step BPE is made of.

    >>> merge_pair([b"a", b"a", b"a", b"b"], b"a", b"a", b"aa")
    [b'aa', b'a', b'b']
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
