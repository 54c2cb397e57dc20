"""A language so small that every string of it can be written down: the chain rule, checked by counting.

Notation:  V vocab_size (5 here) · n length. A string is a row of token ids; `END` stands before it and ends it.

A real, tiny language model (one layer, 16 wide) is trained in about a second on a handful of sentences. Its
conditionals then give every string a probability, and these must add up to 1: over all strings of one length, and over
all strings that have ended by length n, together with what has not ended yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lm_core.config import gpt2_config
from lm_core.model import Decoder
from lm_core.probability import log_softmax

WORDS = ("∎", "the", "cat", "dog", "sleeps")
END = 0  # before a string and after it, as `<|endoftext|>` in larger models
LONGEST = 6  # 5⁶ = 15,625 strings
SENTENCES = ("the cat sleeps", "the dog sleeps", "the cat", "the dog", "cat sleeps", "the dog sleeps the cat")


def sentence_ids(sentence: str) -> list[int]:
    """Words -> ids, with `END` before and after.

    >>> sentence_ids("the cat sleeps")
    [0, 1, 2, 4, 0]
    """
    return [END, *(WORDS.index(word) for word in sentence.split()), END]


@lru_cache(maxsize=1)
def trained_model(n_steps: int = 120, seed: int = 1) -> Decoder:
    """The tiny model, trained in float64 on `SENTENCES` by Adam: the same weights on every call.

    Loss: the mean −log P of the sentences' tokens, the end included. Kingma and Ba 2015 (Adam).
    """
    shape = gpt2_config(vocab_size=len(WORDS), d_model=16, n_layers=1, n_heads=2, context_length=LONGEST + 2)
    model = Decoder(shape).double().init_weights(torch.Generator().manual_seed(seed))
    rows = [sentence_ids(sentence) for sentence in SENTENCES]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [END] * (longest - len(row)) for row in rows])
    counted = torch.tensor([[t < len(row) for t in range(1, longest)] for row in rows])  # nothing after the end
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(n_steps):
        log_probs = log_softmax(model(ids[:, :-1]))
        loss = -log_probs.gather(-1, ids[:, 1:, None])[..., 0][counted].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.requires_grad_(False)


@dataclass(frozen=True)
class Level:
    """All strings of one length: token_ids int [V^n n], log_probs float64 [V^n] in nats, given the start."""

    token_ids: Tensor
    log_probs: Tensor


@torch.no_grad()
def all_strings(model: Decoder, longest: int) -> Iterator[Level]:
    """Every string of length 1, 2, … `longest`, each with its probability by the chain rule.

    A level is the level before, each string continued by each token: P(w₁…w_n) = P(w₁…w_{n−1}) · P(w_n | w_<n), added
    as logarithms. `END` is a token like others here.

    >>> [len(level.log_probs) for level in all_strings(trained_model(), 3)]
    [5, 25, 125]
    """
    vocab = model.config.vocab_size
    strings, log_probs = torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, dtype=torch.float64)
    for _ in range(longest):
        started = torch.cat([torch.full((len(strings), 1), END), strings], dim=1)
        following = log_softmax(model(started)[:, -1])
        strings = torch.cat([strings.repeat_interleave(vocab, 0), torch.arange(vocab).repeat(len(strings))[:, None]], 1)
        log_probs = (log_probs[:, None] + following).flatten()
        yield Level(strings, log_probs)


@dataclass(frozen=True)
class EndedMass:
    """Where the probability lies: `ended[k]` with strings of k words and then the end, `open` with what goes on."""

    ended: tuple[float, ...]
    open: float


def ended_mass(levels: list[Level]) -> EndedMass:
    """Split the whole probability by when a string ends.

    ended[k] sums P(w₁…w_k ∎) over all w without an end among them; what has not ended after n tokens is `open`.
    Together they are 1, for every n.

    >>> mass = ended_mass(list(all_strings(trained_model(), 4)))
    >>> round(sum(mass.ended) + mass.open, 12)
    1.0
    """
    ended: list[float] = []
    open_mass = 0.0
    for level in levels:
        words, last = level.token_ids[:, :-1], level.token_ids[:, -1]
        running = (words != END).all(dim=1)
        ended.append(float(level.log_probs[running & (last == END)].exp().sum()))
        open_mass = float(level.log_probs[running & (last != END)].exp().sum())
    return EndedMass(tuple(ended), open_mass)
