"""The baselines that a neural model must beat: counting symbols, and counting pairs of neighbours.

Notation:  symbols are anything hashable: characters, words, token ids. Probabilities are plain floats.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

START = object()  # stands before every text


class BigramModel:
    """P(b | a) by counting pairs, smoothed with the counts of single symbols; nothing to tune.

    Witten-Bell: `P(b | a) = (c(a b) + t(a) · P(b)) / (c(a) + t(a))`, t(a) the number of different followers of a. After
    a symbol with many followers a new one is likely. `P(b) = (c(b) + 1) / (N + V + 1)`: one added to each of V known
    symbols and to one more, which stands for all unknown ones (so these cost the baseline less than they should).
    Witten and Bell 1991, method C; Chen and Goodman 1999, section 2.5.

    >>> model = BigramModel(["abab"])
    >>> round(model.unigram("a"), 4), round(model.bigram("a", "b"), 4)
    (0.4286, 0.8095)
    """

    def __init__(self, texts: Iterable[Sequence[Hashable]]) -> None:
        self.counts: Counter[Hashable] = Counter()
        self.followers: defaultdict[Hashable, Counter[Hashable]] = defaultdict(Counter)
        for text in texts:
            self.counts.update(text)
            previous: Hashable = START
            for symbol in text:
                self.followers[previous][symbol] += 1
                previous = symbol
        self.total = self.counts.total()
        self.totals = {previous: followers.total() for previous, followers in self.followers.items()}

    def unigram(self, symbol: Hashable) -> float:
        """P(symbol) wherever it stands."""
        return (self.counts[symbol] + 1) / (self.total + len(self.counts) + 1)

    def bigram(self, previous: Hashable, symbol: Hashable) -> float:
        """P(symbol | previous); after a symbol never seen, P(symbol)."""
        if previous not in self.followers:
            return self.unigram(symbol)
        followers = self.followers[previous]
        kinds = len(followers)
        return (followers[symbol] + kinds * self.unigram(symbol)) / (self.totals[previous] + kinds)

    def bits(self, text: Sequence[Hashable], *, pairs: bool = True) -> float:
        """−log₂ P of a whole text, by pairs, or (`pairs=False`) symbol by symbol without their order.

        >>> BigramModel(["ab"]).bits("ab") < BigramModel(["ab"]).bits("ab", pairs=False)
        True
        """
        total, previous = 0.0, START
        for symbol in text:
            total -= math.log2(self.bigram(previous, symbol) if pairs else self.unigram(symbol))
            previous = symbol
        return total
