"""The heart of byte-pair encoding: what a merge does, and how a list of merges is learned from counted words.

Words are sequences of symbols; here a symbol is a number: 0 … 255 a byte, from 256 on what a merge made.
A merge glues two neighbouring symbols together wherever they stand side by side.

Source:  Sennrich, Haddow & Birch 2016, "Neural Machine Translation of Rare Words with Subword Units", algorithm 1.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

Symbol = TypeVar("Symbol", int, bytes)


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
    symbols = [bytes([byte]) for byte in word]
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        left, right = min(known, key=ranks.__getitem__)
        symbols = merge_pair(symbols, left, right, left + right)
    return symbols


def learn_merges(word_counts: Mapping[bytes, int], n_new: int) -> list[tuple[bytes, bytes]]:
    """Merge the most frequent pair of neighbours, again and again, until `n_new` new tokens are made.

    word_counts: how often each word occurs; no merge crosses a word's end. Of equally frequent pairs the greater
    one wins, compared as byte strings, left symbol first. Stops early when every word is a single symbol.

    >>> learn_merges({b"low": 3, b"lower": 2, b"new": 1}, 3)
    [(b'o', b'w'), (b'l', b'ow'), (b'low', b'e')]
    """
    tokens = [bytes([byte]) for byte in range(256)]
    id_of = {token: symbol for symbol, token in enumerate(tokens)}
    pairs = PairCounts(word_counts, tokens)
    merges: list[tuple[bytes, bytes]] = []
    while len(tokens) < 256 + n_new and (best := pairs.most_frequent()) is not None:
        left, right = (tokens[symbol] for symbol in best)
        merges.append((left, right))
        merged = id_of.setdefault(left + right, len(tokens))
        if merged == len(tokens):  # else these bytes were made before, from other parts: a second way to one token
            tokens.append(left + right)
        pairs.merge(best, merged)
    return merges


class PairCounts:
    """How often each pair of neighbours occurs in the words, kept true while the words are merged.

    Counting anew after each merge would read all words thousands of times; a merge changes only the words that
    hold its pair. The heap hands out the most frequent pair; counts sink without telling it, so that an entry
    whose count is out of date is put back, corrected, when it comes up. Counts that rise are entered at once.
    """

    def __init__(self, word_counts: Mapping[bytes, int], tokens: list[bytes]) -> None:
        """tokens: symbol -> bytes, shared with the caller, who appends to it before each `merge`."""
        self.tokens = tokens
        self.words: list[list[int]] = [list(word) for word in word_counts]  # a bytes object is a row of 0 … 255
        self.times = list(word_counts.values())
        self.counts: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)  # pair -> words that may hold it
        self.heap: list[tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, int]]] = []
        for word in range(len(self.words)):
            self._add(word)
        for pair in self.counts:
            self._push(pair)

    def most_frequent(self) -> tuple[int, int] | None:
        """The next pair to merge, or None when every word is one symbol."""
        while self.heap:
            negative_count, *_, pair = heapq.heappop(self.heap)
            count = self.counts.get(pair, 0)
            if count == -negative_count > 0:
                return pair
            if count > 0:
                self._push(pair)
        return None

    def merge(self, pair: tuple[int, int], merged: int) -> None:
        """Carry a merge out in every word that holds the pair. Only pairs with the new symbol can become more."""
        risen: set[tuple[int, int]] = set()
        for word in self.where.pop(pair):
            symbols, times = self.words[word], self.times[word]
            for old_pair in pairwise(symbols):
                self.counts[old_pair] -= times
            self.words[word] = merge_pair(symbols, *pair, merged)
            self._add(word)
            risen.update(new_pair for new_pair in pairwise(self.words[word]) if merged in new_pair)
        del self.counts[pair]
        for new_pair in risen:
            self._push(new_pair)

    def _add(self, word: int) -> None:
        for pair in pairwise(self.words[word]):
            self.counts[pair] += self.times[word]
            self.where[pair].add(word)

    def _push(self, pair: tuple[int, int]) -> None:
        left, right = (_greatest_first(self.tokens[symbol]) for symbol in pair)
        heapq.heappush(self.heap, (-self.counts[pair], left, right, pair))


def _greatest_first(token: bytes) -> tuple[int, ...]:
    """A key that sorts byte strings backwards; the 256 puts a string before its own beginnings ("ab" before "a")."""
    return (*(255 - byte for byte in token), 256)
