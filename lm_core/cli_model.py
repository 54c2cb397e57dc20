"""`python -m lm_core trace | score | generate`: one text through one model.

Bad input (no text, too long a text, a broken model folder, a temperature below 0) is a ValueError with a sentence,
which `__main__` prints; it never is a traceback.
"""

import argparse
import codecs
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lm_core import device as devices
from lm_core.checkpoint import LoadedModel, load_pretrained, resolve
from lm_core.generation import generate
from lm_core.model import Decoder
from lm_core.probability import BITS_PER_NAT, SequenceScore, score_sequence
from lm_core.sampling import SamplingConfig
from lm_core.token_spans import show
from lm_core.tokenizer import well_formed
from lm_core.trace_arrays import trace_arrays, trace_bytes

MAX_CHARACTERS = 1_000_000
MAX_TRACE_BYTES = 4 * 2**30
MAX_NEW = 100_000
NO_START = "This model has no document-start token: the first token has no condition, so scoring starts at the second."


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `trace`, `score` and `generate`."""
    trace = verbs.add_parser("trace", help="write every intermediate of one text to an .npz file")
    trace.add_argument("--out", type=Path, required=True, help="the .npz file to write")
    trace.set_defaults(run=run_trace)
    score = verbs.add_parser("score", help="how probable a model finds a text, token by token")
    score.add_argument("--json", action="store_true", help="print JSON, not a table")
    score.set_defaults(run=run_score)
    writer = verbs.add_parser("generate", help="let a model continue a text")
    writer.add_argument("--max-new", type=int, default=100, help="at most this many new tokens (default %(default)s)")
    writer.add_argument("--temperature", type=float, default=0.8, help="0 = always the favourite (default %(default)s)")
    writer.add_argument("--top-k", type=int, default=0, help="choose among the k most likely; 0 = off")
    writer.add_argument("--top-p", type=float, default=1.0, help="choose among the likeliest that reach p; 1 = off")
    writer.add_argument("--min-p", type=float, default=0.0, help="drop what is below min-p × the favourite; 0 = off")
    writer.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: repeat less; 1 = off")
    writer.add_argument("--seed", type=int, default=0, help="the same seed gives the same text")
    writer.add_argument("--json", action="store_true", help="print JSON at the end, not text as it comes")
    writer.set_defaults(run=run_generate)
    for parser in (trace, score, writer):
        parser.add_argument(
            "--model", required=True, help="bundled:NAME, folder:PATH, hub:owner/name@revision or the path of a folder"
        )
        parser.add_argument("--text", required=True)
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... or mps")


def checked_text(text: str) -> str:
    """The text as UTF-8 can hold it. ValueError when it is empty or too long to tokenize.

    >>> checked_text("")
    Traceback (most recent call last):
    ValueError: the text is empty
    """
    if not text:
        raise ValueError("the text is empty")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the text has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}")
    return well_formed(text)


def _load(options: argparse.Namespace) -> tuple[LoadedModel, list[int], torch.device]:
    text = checked_text(options.text)  # before the model, which takes longer
    device = devices.pick(options.device)
    folder = resolve(options.model, bare_path=True)
    loaded = load_pretrained(folder, device)
    return loaded, loaded.encode(text), device


def _decoder(loaded: LoadedModel, verb: str) -> Decoder:
    if not isinstance(loaded.model, Decoder):
        raise ValueError(f"{loaded.name} is an encoder: it fills gaps, and cannot {verb} a text from left to right")
    return loaded.model


# --- trace ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def run_trace(options: argparse.Namespace) -> None:
    """Write the arrays of `trace_arrays` to an .npz file, whole or not at all."""
    loaded, token_ids, device = _load(options)
    c = loaded.model.config
    if (size := trace_bytes(c.n_layers, c.n_heads, len(token_ids), c.d_model, c.d_mlp, c.vocab_size)) > MAX_TRACE_BYTES:
        raise ValueError(
            f"a trace of {len(token_ids):,} tokens takes about {size / 2**30:.1f} GiB; the limit is "
            f"{MAX_TRACE_BYTES / 2**30:.0f} GiB: use a shorter text"
        )
    arrays = trace_arrays(loaded.model.trace(torch.tensor([token_ids], device=device)))
    out: Path = options.out
    if not out.parent.is_dir():
        raise ValueError(f"there is no folder {str(out.parent)!r} to write {out.name} to")
    with tempfile.TemporaryDirectory(prefix=".trace-", dir=out.parent) as temporary:
        file = Path(temporary) / "trace.npz"
        np.savez(file, allow_pickle=False, **arrays)
        file.replace(out)
    print(f"{out}: {len(token_ids)} tokens, {c.n_layers} layers, {len(arrays)} arrays", file=sys.stderr)


# --- score ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def score_text(loaded: LoadedModel, text: str) -> dict[str, Any]:
    """What `score` reports, as plain data: each token's probability, surprisal (bits) and rank, and the sums.

    `log_prob_nats` is the sum of the log-probabilities, `total_bits` that of the surprisals: the same with the other
    sign, in bits.
    Bits per byte divide by the UTF-8 bytes of what was scored. Raises ValueError for an encoder, for a text that
    does not fit, and for one of a single token when the model has no document-start token.
    """
    model, token_ids = _decoder(loaded, "score"), loaded.encode(text)
    tokenizer = loaded.tokenizer
    assert tokenizer is not None  # `encode` has refused
    if len(token_ids) < 2:
        raise ValueError("the text is a single token, and this model has no document-start token: nothing to score")
    ids = torch.tensor(token_ids, device=model.embed_tokens.weight.device)
    score = score_sequence(ids, model(ids[None])[0])
    n_bytes = len(text.encode())
    if loaded.start_id is None:
        n_bytes = max(1, n_bytes - len(tokenizer.token_bytes(token_ids[0])))
    return {
        "model": loaded.name,
        "text": text,
        "start_token": None if loaded.start_id is None else tokenizer.decode([loaded.start_id]),
        "first_scored": score.first if loaded.start_id is None else 0,
        "note": NO_START if loaded.start_id is None else None,
        "tokens": _token_rows(tokenizer.labels(token_ids), token_ids, score),
        "log_prob_nats": score.total_nats,
        "total_bits": -score.total_nats * BITS_PER_NAT,
        "mean_nats": score.mean_nats,
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte(n_bytes),
        "scored_tokens": len(score.log_probs),
        "scored_bytes": n_bytes,
    }


def _token_rows(labels: list[str], token_ids: list[int], score: SequenceScore) -> list[dict[str, Any]]:
    """One row a scored token; a list of numbers becomes plain Python here, at the end, in one transfer."""
    columns = (score.probabilities, score.surprisal_bits, score.log_probs, score.ranks)
    probabilities, surprisals, log_probs, ranks = (column.tolist() for column in columns)
    return [
        {
            "token": labels[score.first + i],
            "id": token_ids[score.first + i],
            "probability": probabilities[i],
            "surprisal_bits": surprisals[i],
            "log_prob_nats": log_probs[i],
            "rank": ranks[i],
        }
        for i in range(len(ranks))
    ]


def run_score(options: argparse.Namespace) -> None:
    """Print the report of `score_text` as JSON or as a table."""
    loaded, _, _ = _load(options)
    report = score_text(loaded, checked_text(options.text))
    if options.json:
        print(json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False))
        return
    print(f"{'probability':>12}  {'bits':>7}  {'rank':>6}  token")
    for row in report["tokens"]:
        print(f"{row['probability']:12.6f}  {row['surprisal_bits']:7.2f}  {row['rank']:6d}  {row['token']}")
    print(
        f"\nlog P = {report['log_prob_nats']:.3f} nats, surprisal {report['total_bits']:.3f} bits over "
        f"{report['scored_tokens']} tokens\n"
        f"perplexity {report['perplexity']:.3f}, {report['bits_per_byte']:.3f} bits per byte"
    )
    if report["note"]:
        print(report["note"])


# --- generate ---------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    r"""Text that a terminal shows and does not obey: control characters become visible, newline and tab stay.

    >>> printable("one\n\x1b[31m")
    'one\n␛[31m'
    """
    return "".join(show(c) if _controls(c) and c not in "\n\t" else c for c in text)


def _controls(character: str) -> bool:
    """C0, DEL and C1: what terminals obey."""
    return character < " " or "\x7f" <= character <= "\x9f"


def run_generate(options: argparse.Namespace) -> None:
    """Print a text and its continuation as it comes; whole characters only."""
    sampling = SamplingConfig(
        options.temperature, options.top_k, options.top_p, options.repetition_penalty, options.min_p
    )
    if not 1 <= options.max_new <= MAX_NEW:
        raise ValueError(f"--max-new {options.max_new} is not between 1 and {MAX_NEW:,}")
    if not 0 <= options.seed < 2**63:
        raise ValueError(f"--seed {options.seed} is not between 0 and 2^63 − 1")
    loaded, token_ids, _ = _load(options)
    model, tokenizer = _decoder(loaded, "continue"), loaded.tokenizer
    assert tokenizer is not None  # `encode` has refused
    stop = frozenset() if tokenizer.eos_id is None else frozenset([tokenizer.eos_id])
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    if not options.json:
        print(printable(well_formed(options.text)), end="", flush=True)
    new: list[int] = []
    for token_id in generate(
        model, torch.tensor(token_ids), options.max_new, sampling, stop_ids=stop, seed=options.seed
    ):
        new.append(token_id)
        if not options.json and token_id not in stop:
            print(printable(decoder.decode(tokenizer.token_bytes(token_id))), end="", flush=True)
    ended = "end of text" if new[-1] in stop else "max_new" if len(new) == options.max_new else "context full"
    if options.json:
        continuation = tokenizer.decode([token_id for token_id in new if token_id not in stop])
        report = {"model": loaded.name, "text": well_formed(options.text), "continuation": continuation}
        print(json.dumps({**report, "token_ids": new, "ended": ended, "seed": options.seed}, ensure_ascii=False))
        return
    print(printable(decoder.decode(b"", final=True)))
    if ended == "context full":
        print(f"stopped: the context of {model.config.context_length} tokens is full", file=sys.stderr)
