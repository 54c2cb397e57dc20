"""tiny-Shakespeare, character level, by the trainer of `lm_core`: the figure that nanoGPT publishes, and our best.

    python -m benchmarks.tiny_shakespeare --data ../shared/data/tinyshakespeare/input.txt [--settings nanogpt|best]

`nanogpt` are the settings that nanoGPT's README states for a CPU (4 layers, 4 heads, 128 wide, context 64, batch 12,
2,000 steps, no dropout); it reports a validation loss of 1.88, one run, estimated on 20 random batches. Here each seed
is scored over the whole validation split. `best` sees the same number of tokens.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from lm_core import device as devices
from lm_core.config import DecoderConfig, gpt2_config, llama_config
from lm_core.data import TokenStream
from lm_core.model import Decoder
from lm_core.pretrain import PretrainConfig, next_token_loss, pretrain

PUBLISHED = 1.88
TOKENS = 2000 * 12 * 64


def nanogpt(vocab_size: int, seed: int) -> tuple[DecoderConfig, PretrainConfig]:
    """What nanoGPT's README runs on a laptop."""
    model = gpt2_config(vocab_size=vocab_size, d_model=128, n_layers=4, n_heads=4, context_length=64)
    return model, PretrainConfig(
        n_steps=2000, batch_size=12, n_tokens=64, seed=seed, optimizer="adamw", lr=1e-3, weight_decay=0.1, beta1=0.9,
        beta2=0.99, warmup=100, schedule="cosine", final_lr_share=0.1, validate_every=2000, validation_batches=1,
    )  # fmt: skip


def best(vocab_size: int, seed: int) -> tuple[DecoderConfig, PretrainConfig]:
    """The same tokens, spent better: RoPE, RMSNorm and SwiGLU, Muon, small batches, a straight line down."""
    model = llama_config(vocab_size=vocab_size, d_model=192, n_layers=4, n_heads=6, d_mlp=512, context_length=128)
    return model, PretrainConfig(
        n_steps=2000, batch_size=6, n_tokens=128, seed=seed, optimizer="muon", lr=4e-3, muon_lr=8e-3, weight_decay=0.1,
        warmup=50, schedule="linear", final_lr_share=0.0, validate_every=2000, validation_batches=1,
    )  # fmt: skip


@torch.no_grad()
def loss_on_all(model: Decoder, stream: TokenStream, n_tokens: int) -> float:
    """Mean nats a character over the whole stream, in windows side by side, each begun without context."""
    ids = torch.from_numpy(stream.token_ids.astype(np.int64))
    n_windows = (len(ids) - 1) // n_tokens
    inputs = ids[: n_windows * n_tokens].view(n_windows, n_tokens)
    targets = ids[1 : n_windows * n_tokens + 1].view(n_windows, n_tokens)
    device = model.embed_tokens.weight.device
    total = 0.0
    for x, y in zip(inputs.split(256), targets.split(256), strict=True):
        total += next_token_loss(model(x.to(device)), y.to(device)).item() * y.numel()
    return total / targets.numel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--settings", choices=("nanogpt", "best"), default="nanogpt")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    text = options.data.read_text(encoding="utf-8")
    alphabet = sorted(set(text))
    ids = np.array([alphabet.index(c) for c in text], dtype=np.uint16)
    cut = int(0.9 * len(ids))
    train, valid = TokenStream(ids[:cut]), TokenStream(ids[cut:])
    device, losses = devices.pick(options.device), []
    for seed in options.seeds:
        shape, config = {"nanogpt": nanogpt, "best": best}[options.settings](len(alphabet), seed)
        assert config.n_steps * config.batch_size * config.n_tokens == TOKENS
        model = Decoder(shape).init_weights(torch.Generator().manual_seed(seed)).to(device)
        for record in pretrain(model, train, valid, config):
            if record.step % 200 == 0:
                print(f"seed {seed}  step {record.step}  loss {record.loss:.3f}", flush=True)
        losses.append(loss_on_all(model, valid, config.n_tokens))
        print(f"seed {seed}: {losses[-1]:.4f} nats a character ({model.n_parameters():,} parameters)", flush=True)
    print(f"mean of {len(losses)} seeds: {sum(losses) / len(losses):.4f}   (nanoGPT publishes {PUBLISHED})")


if __name__ == "__main__":
    main()
