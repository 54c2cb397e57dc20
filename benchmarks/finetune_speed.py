"""How fast the fine-tune engine learns, against `transformers.Trainer` and a plain nanoGPT-style loop, in one run.

    python benchmarks/finetune_speed.py --task classification --data ../shared/data/sst2
    python benchmarks/finetune_speed.py --task causal --data ../shared/data/tinyshakespeare/input.txt

Same model, same data, same batch size, same optimizer (fused AdamW), same precision, same clipping, nothing saved,
nothing validated. Counted are real tokens a second, none that only fill a row up. The contenders take turns, round by
round, so that a busy machine is busy for all; each figure is the median over rounds, with the lowest and the highest.
Ours is the whole engine with its records, its doctor and its measured updates, not a bare loop.

Below stand our own choices, each taken away alone, and the share of this machine's matrix-product peak that is reached.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lm_core import batches as batching
from lm_core import device as devices
from lm_core.batches import CausalData, LabelledData, causal_data, labelled_data, parts_of, split_text
from lm_core.checkpoint import load_pretrained
from lm_core.data import decode_text, parse_examples, read_glue, read_limited
from lm_core.finetune import finetune
from lm_core.finetune_config import FinetuneConfig
from lm_core.finetune_run import frame_of
from lm_core.learner import Learner, make_learner
from lm_core.masks import causal_mask, padding_mask

WARM_UP = 3
Timed = list[tuple[int, float]]  # (real tokens, seconds) of each step


def read_data(options: argparse.Namespace, base: Any) -> CausalData | LabelledData:
    """The set or the text, tokenized."""
    path = Path(options.data)
    if options.task == "causal":
        train, kept = split_text(decode_text(read_limited(path), path.name), 0.1)
        return causal_data(train, kept, base.tokenizer, options.n_tokens)
    found = read_glue(path)[0] if path.is_dir() else parse_examples(read_limited(path), path.name)
    train, kept = parts_of(found, 0.05)
    return labelled_data(train[: options.examples], kept[:100], base.tokenizer, options.n_tokens, frame_of(base))


# --- ours


def fresh(options: argparse.Namespace, data: CausalData | LabelledData, config: FinetuneConfig) -> Learner:
    """A new learner on the model, so that every round starts alike."""
    body = load_pretrained(options.model, devices.pick(options.device), trainable=True).model
    return make_learner(body, config, len(data.labels) if isinstance(data, LabelledData) else 0)


def ours(options: argparse.Namespace, data: CausalData | LabelledData, config: FinetuneConfig) -> Timed:
    """Seconds between records: everything between two steps counts."""
    learner, timed, before = fresh(options, data, config), [], 0.0
    for record in finetune(learner, _without_validation(data), config):
        now = time.perf_counter()
        if record.step > 0:
            tokens = data.batch(record.step - 1, config.seed, config.batch_size).n_tokens
            timed.append((tokens, now - before))
        before = time.perf_counter()
    return timed


def _without_validation(data: CausalData | LabelledData) -> Any:
    """The same data with next to nothing to validate on: no contender validates."""
    if isinstance(data, CausalData):
        return replace(data, validation=batching.TokenStream(data.validation.token_ids[:3]))
    return replace(data, validation=data.validation[:1])


# --- transformers.Trainer


def trainer(options: argparse.Namespace, data: CausalData | LabelledData, config: FinetuneConfig) -> Timed:
    """Well configured: fused AdamW, rows grouped by length, the same autocast, SDPA, no saving, no logging."""
    import transformers

    folder = load_pretrained(options.model).folder
    kind = transformers.AutoModelForCausalLM
    if isinstance(data, LabelledData):
        kind = transformers.AutoModelForSequenceClassification
        rows: list[dict[str, Any]] = [
            {"input_ids": ids, "labels": label, "length": len(ids)} for ids, label in data.train
        ]
    else:
        starts = range(0, len(data.train) - config.n_tokens, config.n_tokens)
        windows = (data.train.token_ids[s : s + config.n_tokens].tolist() for s in starts)
        rows = [{"input_ids": ids, "labels": ids, "length": len(ids)} for ids in windows]
    extra = {"num_labels": len(data.labels), "pad_token_id": 0} if isinstance(data, LabelledData) else {}
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa", **extra)
    timed: Timed = []
    sizes: list[int] = []

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids, lengths = batching.fill_up([row["input_ids"] for row in batch])
        sizes.append(int(lengths.sum()))
        labels = ids if isinstance(data, CausalData) else torch.tensor([row["labels"] for row in batch])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    class Clock(transformers.TrainerCallback):
        before = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.before = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            now = time.perf_counter()
            timed.append((sizes[len(timed)], now - self.before))
            self.before = now

    arguments = transformers.TrainingArguments(
        output_dir=str(Path(tempfile.gettempdir()) / "finetune-speed"),
        max_steps=config.n_steps, per_device_train_batch_size=config.batch_size,
        learning_rate=config.lr, lr_scheduler_type="cosine", warmup_steps=config.warmup,
        weight_decay=config.weight_decay, adam_beta1=config.beta1, adam_beta2=config.beta2,
        max_grad_norm=config.clip_norm, optim="adamw_torch_fused", seed=config.seed,
        bf16=uses_bf16(options, config), train_sampling_strategy="group_by_length", length_column_name="length",
        save_strategy="no", eval_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
        dataloader_num_workers=0, dataloader_pin_memory=devices.pick(options.device).type == "cuda",
        use_cpu=devices.pick(options.device).type == "cpu", remove_unused_columns=False,
    )  # fmt: skip
    engine = transformers.Trainer(
        model=model, args=arguments, train_dataset=_Rows(rows), data_collator=collate, callbacks=[Clock()]
    )
    engine.remove_callback(transformers.trainer_callback.PrinterCallback)
    engine.train()
    return timed


class _Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.rows[i]


# --- a plain loop, as in nanoGPT's train.py


def plain(
    options: argparse.Namespace,
    data: CausalData | LabelledData,
    config: FinetuneConfig,
    *,
    grouped: bool = False,
    mask: bool = True,
    fused: bool = True,
    zero_by: str = "none",
) -> Timed:
    """Random batch, forward, backward, clip, step. On OUR model, so that only the loop differs."""
    learner = fresh(options, data, config)
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay,
        fused=fused, foreach=None if fused else False,
    )  # fmt: skip
    random, timed = np.random.default_rng(config.seed), []
    for step in range(config.n_steps):
        tick = time.perf_counter()
        if grouped or isinstance(data, CausalData):
            batch = data.batch(step, config.seed, config.batch_size)
        else:
            chosen = random.integers(len(data.train), size=config.batch_size)
            batch = batching._labelled_batch([data.train[i] for i in chosen])
        batch = batch.to(learner.device)
        with _autocast(learner.device, uses_bf16(options, config)):
            if isinstance(data, LabelledData) and mask and learner.head is not None:
                t = batch.token_ids.shape[1]
                allowed = padding_mask(batch.lengths, t) & causal_mask(t, device=learner.device)
                hidden = learner.body.hidden(batch.token_ids, allowed)
                logits = learner.head(hidden[torch.arange(len(hidden)), batch.lengths - 1])
            else:
                logits = learner(batch.token_ids, batch.lengths)
        loss = F.cross_entropy(logits.float().flatten(0, -2), batch.targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=zero_by == "none")
        loss.item()
        timed.append((batch.n_tokens, time.perf_counter() - tick))
    return timed


def uses_bf16(options: argparse.Namespace, config: FinetuneConfig) -> bool:
    """Whether this run computes products in bfloat16: asked for, or measured to be faster."""
    if config.precision == "auto":
        return devices.bf16_speedup(devices.pick(options.device)) >= 1.3
    return config.precision == "bfloat16"


def _autocast(device: torch.device, enabled: bool) -> Any:
    return torch.autocast(device.type, dtype=torch.bfloat16) if enabled else nullcontext()


# --- figures


def speed(timed: Timed) -> float:
    """Real tokens a second after the warm-up, without the last step, where ours validates."""
    counted = timed[WARM_UP:-1]
    return sum(tokens for tokens, _ in counted) / sum(seconds for _, seconds in counted)


def peak_flops(device: torch.device, bf16: bool) -> float:
    """FLOP/s of one large matrix product, the best of 8: what this machine can do at most, measured."""
    size = 1024 if device.type == "cpu" else 8192
    dtype = torch.bfloat16 if bf16 else torch.float32
    return 2 * size**3 / devices._matmul_seconds(device, dtype, size, 8)


def flops_a_token(learner: Learner, n_tokens: float, causal: bool) -> float:
    """Forward and backward: 6 for each weight of a matrix that a token meets, 12·L·T·H·Dh/2 for causal attention."""
    c = learner.body.config
    inner = sum(p.numel() for n, p in learner.body.named_parameters() if p.dim() == 2 and "embed" not in n)
    unembed = c.vocab_size * c.d_model if causal else 0
    return 6 * (inner + unembed) + 6 * c.n_layers * n_tokens * c.n_heads * c.d_head


def contenders(data: CausalData | LabelledData) -> Iterator[tuple[str, Callable[..., Timed]]]:
    """(name, how to run it)."""
    yield "ours", ours
    yield "transformers.Trainer", trainer
    yield "nanoGPT-style loop", plain
    if isinstance(data, LabelledData):
        yield "  ours without length groups", lambda *a: plain(*a, grouped=False, mask=False)
        yield "  ours with a mask in place of none", lambda *a: plain(*a, grouped=True, mask=True)
    yield "  our loop, bare", lambda *a: plain(*a, grouped=True, mask=False)
    yield "  our loop, bare, optimizer not fused", lambda *a: plain(*a, grouped=True, mask=False, fused=False)
    yield (
        "  our loop, bare, float32",
        lambda o, d, c: plain(o, d, replace(c, precision="float32"), grouped=True, mask=False),
    )


def main() -> None:
    """Run all contenders in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["causal", "classification"], default="classification")
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="bundled:storyteller")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--n-tokens", type=int, default=128)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--only", default="", help="words of the contenders to run beside ours, parted by commas")
    options = parser.parse_args()
    if options.steps <= WARM_UP + 1:
        parser.error(f"--steps must be more than the {WARM_UP} of the warm-up and the last one")
    config = FinetuneConfig(
        task=options.task, n_steps=options.steps, batch_size=options.batch_size, n_tokens=options.n_tokens,
        validate_every=10**6, precision=options.precision, lr=1e-4,
    )  # fmt: skip
    base = load_pretrained(options.model)
    data = read_data(options, base)
    device, bf16 = devices.pick(options.device), uses_bf16(options, config)
    print(f"{options.model}, {options.task}, {device}, {torch.get_num_threads()} threads, "
          f"{'bfloat16 products' if bf16 else 'float32'}, batch {config.batch_size}", flush=True)  # fmt: skip
    found: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for name, run in contenders(data):
            if options.only and name != "ours" and not any(w in name for w in options.only.split(",")):
                continue
            found.setdefault(name, []).append(speed(run(options, data, config)))
        print(f"round {number + 1} of {options.rounds}", flush=True)
    best = statistics.median(found["ours"])
    print(f"\n{'real tokens a second':40}{'median':>9}{'lowest':>9}{'highest':>9}{'ours is':>9}")
    for name, speeds in found.items():
        middle = statistics.median(speeds)
        print(f"{name:40}{middle:9,.0f}{min(speeds):9,.0f}{max(speeds):9,.0f}{best / middle:8.2f}×")
    lengths = [data.batch(i, 1, config.batch_size).n_tokens / config.batch_size for i in range(20)]
    work = flops_a_token(fresh(options, data, config), statistics.fmean(lengths), options.task == "causal")
    peak = peak_flops(device, bf16)
    print(f"\n{work / 1e6:.1f} MFLOP a token; ours reaches {best * work / 1e9:.1f} GFLOP/s, "
          f"{best * work / peak:.0%} of the measured matmul peak of {peak / 1e9:.1f} GFLOP/s")  # fmt: skip


if __name__ == "__main__":
    main()
