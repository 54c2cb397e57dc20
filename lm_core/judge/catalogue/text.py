"""Exercises on text and positions: from bytes to tokens, and where each token stands."""

import torch

from lm_core import bpe_merges, positions
from lm_core.judge.exercise import Case, Draw, Exercise, Property, mutant

SYMBOL = 'Symbol = TypeVar("Symbol", int, bytes)  # a symbol is a number or a piece of text'
CPU = torch.device("cpu")


def _letters(word: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in word]


def _merge_cases(draw: Draw) -> list[Case]:
    some = [int(i) for i in draw.ids(3, 40)]
    return [
        Case("two_pairs", (_letters(b"lowlow"), b"o", b"w", b"ow")),
        Case("pair_at_the_end", (_letters(b"new"), b"e", b"w", b"ew")),
        Case("no_pair", (_letters(b"cat"), b"t", b"c", b"tc")),
        Case("three_in_a_row", (_letters(b"aaab"), b"a", b"a", b"aa")),
        Case("left_without_right", (_letters(b"abac"), b"a", b"b", b"ab")),
        Case("numbers", ([7, 8, 7, 8, 7], 7, 8, 256)),
        Case("one_symbol", ([b"a"], b"a", b"a", b"aa")),
        Case("empty", ([], b"a", b"a", b"aa")),
        Case("many", (some, 1, 1, 256)),
        Case("many_other", (some, 0, 2, 256)),
    ]


MERGE_PAIR = Exercise(
    number=1, slug="merge_pair", references=(bpe_merges.merge_pair,), cases=_merge_cases, device=False,
    topic="tokens", difficulty=1, importance=4, minutes=10,
    line="if symbols[i] == left and i + 1 < len(symbols) and symbols[i + 1] == right: append merged and step by 2",
    given=(SYMBOL,), imports=("from collections.abc import Sequence", "from typing import TypeVar"),
    mutants=(
        mutant("right_again", "i += 2", "i += 1"),
        mutant("last_lost", "while i < len(symbols):", "while i < len(symbols) - 1:"),
        mutant("first_only", "            i += 2\n", "            return result + list(symbols[i + 2 :])\n"),
        mutant("left_only", " and symbols[i + 1] == right", ""),
        mutant("from_the_right", "    result: list[Symbol] = []\n", "    symbols, left, right = symbols[::-1], right, left\n    result: list[Symbol] = []\n", "return result\n", "return result[::-1]\n"),
        mutant("order_ignored", "symbols[i] == left and i + 1 < len(symbols) and symbols[i + 1] == right", "i + 1 < len(symbols) and {symbols[i], symbols[i + 1]} == {left, right}"),
        mutant("past_the_end", " and i + 1 < len(symbols)", ""),
    ),
)  # fmt: skip


def _encode_cases(draw: Draw) -> list[Case]:
    ranks = {(b"e", b"r"): 0, (b"l", b"o"): 1, (b"lo", b"w"): 2, (b"w", b"er"): 3, (b"\xe7", b"\x8c"): 4}
    letters = [b"a", b"b", b"c"]
    pairs = [(x, y) for x in letters for y in letters]
    order = torch.randperm(len(pairs), generator=draw.generator).tolist()
    random = {pairs[place]: rank for rank, place in enumerate(order[:5])}
    longer = random | {(left + right, letters[int(draw.ids(3))]): 5 + i for i, (left, right) in enumerate(random)}
    word = b"".join(letters[int(i)] for i in draw.ids(3, 30))
    return [
        Case("rank_before_position", (b"lower", ranks)),
        Case("low_rank_spoils_another", (b"wer", {(b"w", b"e"): 1, (b"e", b"r"): 0, (b"we", b"r"): 2})),
        Case("rank_before_length", (b"abcd", {(b"c", b"d"): 0, (b"a", b"b"): 1, (b"ab", b"c"): 2, (b"ab", b"cd"): 3})),
        Case("nothing_known", (b"xyz", ranks)),
        Case("chinese", ("猫".encode(), ranks)),
        Case("one_byte", (b"a", ranks)),
        Case("twice", (b"lolo", ranks)),
        Case("random", (word, longer)),
    ]


BPE_ENCODE = Exercise(
    number=2, slug="bpe_encode", references=(bpe_merges.apply_merges,), cases=_encode_cases, device=False,
    topic="tokens", difficulty=2, importance=4, minutes=20, prerequisites=("merge_pair",),
    line="known = [pair for pair in pairwise(symbols) if pair in ranks];  left, right = min(known, key=ranks.__getitem__)",
    given=(SYMBOL, bpe_merges.merge_pair),
    imports=("from collections.abc import Mapping, Sequence", "from itertools import pairwise", "from typing import TypeVar"),
    properties=(Property("keeps_bytes", ("rank_before_position",), lambda symbols: b"".join(symbols) == b"lower"),),
    mutants=(
        mutant("leftmost", "min(known, key=ranks.__getitem__)", "known[0]"),
        mutant("highest_rank", "min(known, key=ranks.__getitem__)", "max(known, key=ranks.__getitem__)"),
        mutant("rightmost", "min(known, key=ranks.__getitem__)", "known[-1]"),
        mutant("one_merge", "while known :=", "if known :="),
        mutant("one_pass", "    while known := [pair for pair in pairwise(symbols) if pair in ranks]:\n        left, right = min(known, key=ranks.__getitem__)\n", "    for left, right in sorted({p for p in pairwise(symbols) if p in ranks}, key=ranks.__getitem__):\n"),
        mutant("characters", "[bytes([byte]) for byte in word]", "[character.encode() for character in word.decode()]"),
    ),
)  # fmt: skip


SINUSOIDAL = Exercise(
    number=3, slug="sinusoidal_positions", references=(positions.sinusoidal_positions,),
    cases=lambda draw: [
        Case("plain", (7, 6), {"device": CPU}),
        Case("wide", (3, 16)),
        Case("one_pair", (5, 2)),
        Case("one_position", (1, 4)),
        Case("any", (2 + int(draw.ids(20)), 2 + 2 * int(draw.ids(20)))),
        Case("odd_width", (3, 5)),
    ],
    topic="positions", difficulty=2, importance=3, minutes=15,
    line="angles = position[:, None] / 10000 ** (torch.arange(0, d_model, 2) / d_model);  stack sin and cos on a new last axis, flatten",
    axes={"": "T D"},
    mutants=(
        mutant("halves", "torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)", "torch.cat([angles.sin(), angles.cos()], dim=-1)"),
        mutant("swapped", "[angles.sin(), angles.cos()]", "[angles.cos(), angles.sin()]"),
        mutant("half_exponent", "torch.arange(0, d_model, 2, device=device, dtype=torch.float32)", "torch.arange(d_model // 2, device=device, dtype=torch.float32)"),
        mutant("multiplied", "1.0 / 10000.0 **", "10000.0 **"),
        mutant("from_one", "torch.arange(n_positions, device=device)", "torch.arange(1, n_positions + 1, device=device)"),
        mutant("whole_exponent", "/ d_model)\n    angles", "/ (d_model // 2))\n    angles"),
        mutant("not_refused", '    if d_model % 2:\n        raise ValueError(f"d_model {d_model} is odd: sines and cosines come in pairs")\n', "", "angles.cos()], dim=-1).flatten(-2)", "angles.cos()], dim=-1).flatten(-2)[:, :d_model]"),
    ),
)  # fmt: skip


def _rope_cases(draw: Draw) -> list[Case]:
    x, angles = draw.normal(2, 3, 5, 8), 3 * draw.normal(5, 4)
    return [
        Case("plain", (x, angles)),
        Case("no_turn", (x, torch.zeros(5, 4))),
        Case("one_position", (x[:, :, :1], angles[:1])),
        Case("angles_per_text", (x, 3 * draw.normal(2, 1, 5, 4))),
        Case("one_pair", (draw.normal(5, 2), draw.normal(5, 1))),
    ]


def _same_length(turned: torch.Tensor, still: torch.Tensor) -> bool:
    return bool((turned.norm(dim=-1) - still.norm(dim=-1)).abs().max() < 1e-3)


ROPE = Exercise(
    number=4, slug="rope", references=(positions.rotate,), cases=_rope_cases,
    topic="positions", difficulty=3, importance=4, minutes=20,
    line="first, second = x.chunk(2, dim=-1);  torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)",
    axes={"": "B H T Dh"},
    properties=(Property("keeps_length", ("plain", "no_turn"), _same_length),),
    mutants=(
        mutant("neighbours", "first, second = x.chunk(2, dim=-1)", "first, second = x[..., 0::2], x[..., 1::2]", "torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)", "torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2)"),
        mutant("turned_back", "first * cos - second * sin, first * sin + second * cos", "first * cos + second * sin, second * cos - first * sin"),
        mutant("sign", "first * cos - second * sin", "first * cos + second * sin"),
        mutant("sin_and_cos_swapped", "cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)", "sin, cos = angles.cos().to(x.dtype), angles.sin().to(x.dtype)"),
        mutant("put_back_mixed", "torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)", "torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2)"),
        mutant("one_half_only", "first * sin + second * cos", "second"),
    ),
)  # fmt: skip

EXERCISES = (MERGE_PAIR, BPE_ENCODE, SINUSOIDAL, ROPE)
