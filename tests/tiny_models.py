"""Small random models in folders, and folders spoilt in every way that a learner, or a stranger, can think of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lm_core.checkpoint import save_pretrained
from lm_core.config import DecoderConfig, EncoderConfig, gpt2_config, llama_config
from lm_core.encoder import Encoder
from lm_core.model import Decoder
from lm_core.tokenizer import BPETokenizer, train_bpe

TEXTS = ["The old king looked at the little bird. The little bird looked at the old king."]


def tokenizer(vocab_size: int = 290) -> BPETokenizer:
    """A byte-level BPE that reads any text."""
    return train_bpe(TEXTS, vocab_size, ["<|endoftext|>"])


def gpt2(**changes: Any) -> DecoderConfig:
    """H 3, Dh 4, D 12: no two alike."""
    sizes = {"vocab_size": 290, "d_model": 12, "n_layers": 2, "n_heads": 3, "context_length": 40}
    return gpt2_config(**(sizes | changes))


def llama(**changes: Any) -> DecoderConfig:
    """Grouped queries: 6 heads share 2 keys and values; 6 · Dh is not D."""
    sizes = {"vocab_size": 290, "d_model": 20, "n_layers": 2, "n_heads": 6, "n_kv_heads": 2, "d_head": 8, "d_mlp": 27,
             "context_length": 40}  # fmt: skip
    return llama_config(**(sizes | changes))


def deep() -> DecoderConfig:
    """SmolLM2 135M in layers and heads: 30 layers of 9 heads that share 3 keys and values; 9 · Dh is not D."""
    return llama(n_layers=30, n_heads=9, n_kv_heads=3, d_head=4, d_model=20)


def save(folder: Path, config: DecoderConfig | EncoderConfig, vocab_size: int | None = 290, seed: int = 7) -> Path:
    """Write a random model of this shape, with a tokenizer of `vocab_size` tokens, or without."""
    torch.manual_seed(seed)
    model = Decoder(config) if isinstance(config, DecoderConfig) else Encoder(config)
    save_pretrained(model, None if vocab_size is None else tokenizer(vocab_size), folder)
    return folder


def save_startless(folder: Path, seed: int = 7) -> Path:
    """A random GPT-2 whose tokenizer has no special token, so that nothing stands before a text."""
    words = train_bpe(TEXTS, 289, [])
    torch.manual_seed(seed)
    save_pretrained(Decoder(gpt2(vocab_size=words.vocab_size)), words, folder)
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Change some lines of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def bert() -> EncoderConfig:
    """An encoder."""
    return EncoderConfig(vocab_size=290, d_model=12, n_layers=2, n_heads=3, d_mlp=29, context_length=40)


def _tokenizer_model(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"] |= changes
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _fifo(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return make


def _loop(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("model.safetensors")


def _led_out(folder: Path) -> None:
    secret = folder.parent / "secret.json"
    (folder / "config.json").rename(secret)
    (folder / "config.json").symlink_to(secret)


def _million_heads(folder: Path) -> None:
    """Few parameters, and maps of 128 × 128 numbers for each of 20,000 heads."""
    save(folder, llama(n_layers=1, n_heads=20_000, n_kv_heads=1, d_head=2, d_model=4, context_length=128))


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


# name -> (what to do to a good GPT-2 folder, the reason that must be given)
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty folder": (_empty, "missing"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "missing"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no_tokenizer"),
    "pickle": (_pickled, "pickle"),
    "own code": (lambda f: edit_config(f, auto_map={"AutoModel": "evil.Model"}), "unsafe"),
    "link out of the folder": (_led_out, "unsafe"),
    "other family": (lambda f: edit_config(f, model_type="mamba"), "unsupported"),
    "quantized": (lambda f: edit_config(f, quantization_config={"bits": 4}), "unsupported"),
    "too many layers": (lambda f: edit_config(f, n_layer=10**6), "too_large"),
    "too many parameters": (lambda f: edit_config(f, n_embd=30_000, n_head=1), "too_large"),
    "too many heads": (_million_heads, "too_large"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "broken"),
    "heads do not divide": (lambda f: edit_config(f, n_head=5), "broken"),
    "weights cut short": (_cut_short, "broken"),
    "vocabulary of 50 million": (lambda f: edit_config(f, vocab_size=50_000_000), "broken"),
    "tokenizer no JSON": (lambda f: (f / "tokenizer.json").write_text("nothing"), "broken"),
    "tokenizer too large": (lambda f: save(f, gpt2(vocab_size=270)), "broken"),
    # Without a guard this panics in Rust, and with é it aborts the process.
    "tokenizer that aborts": (lambda f: _tokenizer_model(f, continuing_subword_prefix="x"), "broken"),
    "tokenizer that panics": (lambda f: _tokenizer_model(f, continuing_subword_prefix="xxxxxxxx"), "broken"),
    "fifo for config": (_fifo("config.json"), "missing"),
    "fifo for weights": (_fifo("model.safetensors"), "missing"),
    "fifo for tokenizer": (_fifo("tokenizer.json"), "no_tokenizer"),
    "links in a circle": (_loop, "missing"),
    "encoder": (lambda f: save(f, bert()), "not_causal"),
}


def spoil(folder: Path, how: str) -> str:
    """A good GPT-2 folder, spoilt; returns the reason that must be given."""
    spoiling, reason = SPOILT[how]
    save(folder, gpt2())
    spoiling(folder)
    return reason


def bad_paths(folder: Path) -> dict[str, str]:
    """Paths that name no folder, made under `folder`."""
    file = folder / "file"
    file.write_text("a file")
    link = folder / "circle"
    link.symlink_to(link)
    os.mkfifo(folder / "pipe")
    return {
        "nowhere": str(folder / "nowhere"), "file": str(file), "circle": str(link), "fifo": str(folder / "pipe"),
        "null": "a\0b", "control": "a\x1b[31m\u202eb\nc", "surrogate": "a\ud800b", "long": "x" * 400,
        "deep": "x/" * 250, "device": "/dev/zero", "no user": "~nobody-of-this-name/models", "bare ~user": "~root\0",
        "processes": "/proc", "root": "/", "dots": "../" * 40, "html": "<img src=x onerror=alert(1)>",
    }  # fmt: skip
