"""Writing text: predict, choose, append, repeat.

Notation:  T positions · V vocab_size. One text at a time.
"""

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lm_core.fast_tokenizer import Tokenizer
from lm_core.model import Decoder, KVCache
from lm_core.ops import REFERENCE, Ops
from lm_core.sampling import SamplingConfig


def next_token(
    model: Decoder, text: Tensor, cache: KVCache | None, sampling: SamplingConfig, uniform: Tensor, ops: Ops
) -> Tensor:
    """One step of writing: the id that follows `text`, chosen with the drawn numbers; all on the model's device.

    text int [B T], of which the cache holds the first `cache.length`; uniform [B] -> int64 [B 1].
    """
    if ops is not REFERENCE:
        logits = model.trace(text, ops=ops).logits
    else:
        logits = model(text if cache is None else text[:, cache.length :], cache=cache)
    seen = {} if sampling.repetition_penalty == 1 else {"seen": text}  # your `sample` need not know of penalties
    return ops.sample(logits[:, -1], sampling, uniform, **seen)[:, None]


@torch.no_grad()
def generate(
    model: Decoder,
    token_ids: Tensor,
    max_new: int,
    sampling: SamplingConfig = SamplingConfig(temperature=0.0),  # noqa: B008  (frozen, so sharing it is safe)
    *,
    stop_ids: frozenset[int] = frozenset(),
    seed: int = 0,
    use_cache: bool = True,
    ops: Ops = REFERENCE,
) -> Iterator[int]:
    """Continue `token_ids` (int [T], T ≥ 1), yielding one new token id at a time.

    Ends after `max_new` tokens, after yielding one of `stop_ids`, or when the context is full. The same seed gives the
    same text on every device: the random numbers are drawn on the CPU before they are used. `use_cache=False` computes
    every position again at each step: the same tokens, slower. With other `ops` than the reference everything is
    computed by them, so without a cache. Raises ValueError for an empty prompt or one longer than the context.
    """
    random = torch.Generator().manual_seed(seed)
    device, room = model.embed_tokens.weight.device, model.config.context_length
    text = token_ids.to(device)[None]
    if text.shape[1] > room:
        raise ValueError(f"the prompt has {text.shape[1]} tokens, but this model sees at most {room}")
    cached = use_cache and ops is REFERENCE
    cache = model.new_cache(1, min(room, text.shape[1] + max_new)) if cached else None
    for _ in range(max_new):
        uniform = torch.rand(1, generator=random).to(device)
        new = next_token(model, text, cache, sampling, uniform, ops)
        token = int(new)
        yield token
        if token in stop_ids or text.shape[1] == room:
            return
        text = torch.cat([text, new], dim=1)


def token_times(model: Decoder, token_ids: Tensor, max_new: int, use_cache: bool) -> Iterator[float]:
    """Write greedily, yielding the seconds (wall clock) that each new token took; the first one reads the prompt.

    Stop asking to stop measuring. Every token is brought to the CPU, so a GPU's work is waited for.
    """
    writing, before = generate(model, token_ids, max_new, use_cache=use_cache), time.perf_counter()
    for _ in writing:
        now = time.perf_counter()
        yield now - before
        before = time.perf_counter()  # what the caller does meanwhile is not counted


def positions_computed(n_prompt: int, n_new: int, use_cache: bool) -> int:
    """How many positions go through the model while n_new tokens are written after n_prompt.

    With a cache each position once, `n_prompt + n_new − 1` (the last token is not read); without, at every step all
    of them: `Σ_i (n_prompt + i)` for i = 0 … n_new − 1.

    >>> positions_computed(5, 3, use_cache=True), positions_computed(5, 3, use_cache=False)
    (7, 18)
    """
    if use_cache:
        return n_prompt + n_new - 1
    return n_new * n_prompt + n_new * (n_new - 1) // 2


def continuation(
    model: Decoder, tokenizer: Tokenizer, prompt: str, max_new: int, seed: int, before: Sequence[int] = ()
) -> str:
    """The prompt and what the model adds at temperature 0.8, top-p 0.95; `before` are ids that stand before it all.

    Always the same text for the same seed. Raises ValueError for a prompt longer than the context.
    """
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    token_ids = [*before, *start, *tokenizer.encode(prompt)]
    stop = frozenset() if tokenizer.eos_id is None else frozenset([tokenizer.eos_id])
    sampling = SamplingConfig(temperature=0.8, top_p=0.95)
    new = list(generate(model, torch.tensor(token_ids), max_new, sampling, stop_ids=stop, seed=seed))
    # A vocabulary may be wider than its tokenizer, rounded up for speed; training can make such an id likely.
    return prompt + tokenizer.decode([token for token in new if token not in stop and token < tokenizer.vocab_size])
