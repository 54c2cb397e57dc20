"""2. Write `apply_merges`.

Check it:  python -m lm_core check bpe_encode
Add --watch to check at every save, --hint for a hint, --lang zh for Chinese (加 --lang zh 用中文).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

Symbol = TypeVar("Symbol", int, bytes)  # a symbol is a number or a piece of text


def merge_pair(symbols: Sequence[Symbol], left: Symbol, right: Symbol, merged: Symbol) -> list[Symbol]:
    """Replace every `left, right` in a row of symbols by `merged`, from the left. The one step BPE is made of.

    >>> merge_pair([b"a", b"a", b"a", b"b"], b"a", b"a", b"aa")
    [b'aa', b'a', b'b']
    """
    result: list[Symbol] = []
    i = 0
    while i < len(symbols):
        if symbols[i] == left and i + 1 < len(symbols) and symbols[i + 1] == right:
            result.append(merged)
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


def apply_merges(word: bytes, ranks: Mapping[tuple[bytes, bytes], int]) -> list[bytes]:
    """Encode one word: while any neighbours form a known pair, merge the pair of lowest rank, wherever it stands.

    ranks: pair -> the order in which training learned it. `BPETokenizer.merge_steps` does the same and keeps the steps.

    >>> apply_merges(b"lower", {(b"e", b"r"): 0, (b"l", b"o"): 1, (b"lo", b"w"): 2})
    [b'low', b'er']
    """
    # TODO: write this function. It gets its arguments in the order above and returns its result.
    raise NotImplementedError("TODO")
