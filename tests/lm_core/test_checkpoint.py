"""The bridge to Hugging Face files: the same numbers as `transformers`, both ways, and no trust in folders.

Shapes are telling: B 2, T 7, H 3, Dh 4, D 12 (or 30 with a head width of its own), V 61 — no two alike, so that a
swapped pair of dimensions cannot pass.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lm_core.checkpoint import load_pretrained, resolve, save_pretrained
from lm_core.checkpoint_config import config_from_hugging_face, config_to_hugging_face
from lm_core.checkpoint_error import CheckpointError, HubUnreachableError
from lm_core.config import EncoderConfig, llama_config
from lm_core.encoder import Encoder
from lm_core.generation import generate
from lm_core.masks import padding_mask
from lm_core.model import Decoder
from lm_core.positions import RopeScaling
from lm_core.safetensors_file import read_header, read_tensor
from lm_core.tokenizer import train_bpe
from tests.honest_float64 import honest_float64
from tests.support import ROOT

GPT2 = {"n_embd": 12, "n_head": 3, "n_layer": 2, "n_positions": 19, "vocab_size": 61, "bos_token_id": 0,
        "eos_token_id": 0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # fmt: skip
LLAMA = {"hidden_size": 30, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4, "num_hidden_layers": 2,
         "intermediate_size": 27, "max_position_embeddings": 19, "vocab_size": 61, "bos_token_id": 0,
         "eos_token_id": None}  # fmt: skip
BERT = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 29,
        "max_position_embeddings": 19, "vocab_size": 61, "type_vocab_size": 2, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8}  # fmt: skip

# name -> (the model class, its config class, config arguments)
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt2-big-eps": ("GPT2LMHeadModel", "GPT2Config", {**GPT2, "layer_norm_epsilon": 0.1}),
    "gpt2-untied-inner-gelu": (
        "GPT2LMHeadModel", "GPT2Config",
        {**GPT2, "tie_word_embeddings": False, "n_inner": 31, "activation_function": "gelu"},
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA),
    "llama-big-eps-tied": (
        "LlamaForCausalLM", "LlamaConfig", {**LLAMA, "rms_norm_eps": 0.1, "tie_word_embeddings": True},
    ),
    "llama-biased": ("LlamaForCausalLM", "LlamaConfig", {**LLAMA, "attention_bias": True, "mlp_bias": True}),
    "llama-plain-heads": (
        "LlamaForCausalLM", "LlamaConfig",
        {**LLAMA, "hidden_size": 24, "head_dim": None, "num_key_value_heads": None,
         "rope_parameters": {"rope_type": "default", "rope_theta": 77.0}},
    ),
}  # fmt: skip
BERTS = {
    "bert": ("BertForMaskedLM", BERT),
    "bert-big-eps": ("BertForMaskedLM", {**BERT, "layer_norm_eps": 0.1}),
    "bert-pretraining": ("BertForPreTraining", {**BERT, "hidden_act": "gelu_new"}),
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def _their_model(model_class: str, config: transformers.PretrainedConfig, dtype: torch.dtype) -> Any:
    """A transformers model in which every number is random: with zero biases and norms of one, mistakes hide."""
    config._attn_implementation = "eager"
    model = getattr(transformers, model_class)(config).to(dtype).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name.lower() or ".ln_" in name else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.25 + centre)
    return model


def _make(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    if name in BERTS:
        model_class, arguments = BERTS[name]
        model = _their_model(model_class, transformers.BertConfig(**arguments), dtype)
    else:
        model_class, config_class, arguments = VARIANTS[name]
        model = _their_model(model_class, getattr(transformers, config_class)(**arguments), dtype)
    model.save_pretrained(folder)
    return model


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


TOKENS = torch.tensor([[5, 0, 60, 5, 5, 33, 2], [1, 1, 44, 9, 60, 7, 5]])  # with repeats, and the highest id


# --- the same numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_decoder_equals_transformers(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = _make(name, tmp_path, dtype)
    ours = load_pretrained(tmp_path, dtype=dtype).model
    assert isinstance(ours, Decoder)
    with honest_float64():
        expected = theirs(TOKENS, output_hidden_states=True, output_attentions=True)
    trace, limit = ours.trace(TOKENS), TOLERANCE[dtype]
    assert expected.logits.abs().max() > 0.5, "a model whose logits are nearly 0 compares nothing"
    assert _gap(trace.logits, expected.logits) <= limit
    assert _gap(ours(TOKENS), expected.logits) <= limit
    # Their hidden states: what enters each layer, then the last stream AFTER the final normalisation.
    for layer, theirs_in, weights in zip(trace.layers, expected.hidden_states[:-1], expected.attentions, strict=True):
        assert _gap(layer.resid_pre, theirs_in) <= limit
        assert _gap(layer.attention.weights, weights) <= limit
    assert _gap(trace.final, expected.hidden_states[-1]) <= limit


@torch.no_grad()
def test_llama3_scaling_equals_transformers(tmp_path: Path) -> None:
    """float32 only: both make the angles in float32, in another order of operations."""
    theirs = _their_model("LlamaForCausalLM", transformers.LlamaConfig(**LLAMA, rope_parameters=LLAMA3), torch.float32)
    theirs.save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path).model
    assert ours.config.rope_scaling == RopeScaling(4.0, 1.0, 4.0, 8)  # type: ignore[union-attr]
    assert _gap(ours(TOKENS), theirs(TOKENS).logits) <= 1e-5
    config = json.loads((tmp_path / "config.json").read_text())
    plain = {**config, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    (tmp_path / "config.json").write_text(json.dumps(plain))
    assert _gap(load_pretrained(tmp_path).model(TOKENS), theirs(TOKENS).logits) > 1e-3, "the scaling shows"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", BERTS)
@torch.no_grad()
def test_encoder_equals_transformers(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """With padding in the second text and two segments; positions that are padding themselves are not compared."""
    theirs = _make(name, tmp_path, dtype)
    ours = load_pretrained(tmp_path, dtype=dtype).model
    assert isinstance(ours, Encoder)
    lengths, segments = torch.tensor([7, 4]), torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0]])
    real = torch.arange(7) < lengths[:, None]
    expected = theirs(TOKENS, attention_mask=real.long(), token_type_ids=segments,
                      output_hidden_states=True, output_attentions=True)  # fmt: skip
    theirs_logits = expected.prediction_logits if name == "bert-pretraining" else expected.logits
    allowed, limit = padding_mask(lengths, 7), TOLERANCE[dtype]
    trace = ours.trace(TOKENS, allowed, segments)
    assert _gap(trace.logits[real], theirs_logits[real]) <= limit
    assert _gap(ours(TOKENS, allowed, segments)[real], theirs_logits[real]) <= limit
    streams = [trace.embedded, *(layer.resid_post for layer in trace.layers)]
    for stream, theirs_stream in zip(streams, expected.hidden_states, strict=True):
        assert _gap(stream[real], theirs_stream[real]) <= limit
    for layer, weights in zip(trace.layers, expected.attentions, strict=True):
        queries = real[:, None, :, None].expand_as(weights)
        assert _gap(layer.attention.weights[queries], weights[queries]) <= limit
    if name == "bert-pretraining":
        assert trace.next_sentence is not None
        assert _gap(trace.next_sentence, expected.seq_relationship_logits) <= limit
    else:
        assert trace.next_sentence is None


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_greedy_generation_equals_transformers(name: str, tmp_path: Path) -> None:
    theirs = _make(name, tmp_path)
    ours = load_pretrained(tmp_path).model
    assert isinstance(ours, Decoder)
    for prompt in (TOKENS[:1, :3], TOKENS[1:, :5]):
        theirs.generation_config.eos_token_id = None
        expected = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False,
                                   pad_token_id=0)[0, prompt.shape[1] :].tolist()  # fmt: skip
        assert len(expected) == 12
        for use_cache in (True, False):
            assert list(generate(ours, prompt[0], 12, use_cache=use_cache)) == expected


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*VARIANTS, *BERTS])
@torch.no_grad()
def test_round_trip(name: str, tmp_path: Path) -> None:
    """theirs -> ours -> a folder -> theirs: not one number changed; nothing missing, nothing left over."""
    theirs = _make(name, tmp_path / "theirs")
    loaded = load_pretrained(tmp_path / "theirs")
    save_pretrained(loaded.model, None, tmp_path / "ours", half=False)
    auto = transformers.AutoModelForCausalLM if name in VARIANTS else type(theirs)
    again, report = auto.from_pretrained(tmp_path / "ours", output_loading_info=True, attn_implementation="eager")
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    assert type(again) is type(theirs) and again.dtype == torch.float32
    for (key, saved), (_, original) in zip(again.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert torch.equal(saved, original), key
    assert torch.equal(again(TOKENS)[0], theirs(TOKENS)[0])
    assert load_pretrained(tmp_path / "ours").model.config == loaded.model.config


@torch.no_grad()
def test_half_files_compute_in_float32(tmp_path: Path) -> None:
    """Stored as float16, computed as float32, here and in transformers; the tokenizer comes along."""
    tokenizer = train_bpe(["low lower lowest"], 261, ["<|endoftext|>"])
    config = llama_config(vocab_size=261, d_model=12, n_layers=2, n_heads=3, n_kv_heads=1, d_head=4, d_mlp=17,
                          context_length=19, rope_theta=99.0)  # fmt: skip
    model = Decoder(config).init_weights(torch.Generator().manual_seed(3))
    (tmp_path / "card.md").write_text("stays")
    save_pretrained(model, tokenizer, tmp_path)
    assert {entry.dtype for entry in read_header(tmp_path / "model.safetensors").values()} == {"F16"}
    assert (tmp_path / "card.md").read_text() == "stays"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "config.json").stat().st_mode
    loaded = load_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.dtype == loaded.model.embed_tokens.weight.dtype == torch.float32
    token_ids = loaded.encode("low slow lowest")
    assert token_ids == [tokenizer.bos_id, *their_tokenizer("low slow lowest")["input_ids"]]
    assert theirs.config.bos_token_id == loaded.start_id == tokenizer.bos_id
    ids = torch.tensor([token_ids])
    assert _gap(loaded.model(ids), theirs(ids).logits) <= 1e-5
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    assert all(p.requires_grad for p in load_pretrained(tmp_path, trainable=True).model.parameters())
    assert loaded.model.unembed.weight is loaded.model.embed_tokens.weight


def test_save_copies_a_tokenizer_from_its_folder(tmp_path: Path) -> None:
    model = _storyteller(tmp_path / "first")
    save_pretrained(model, tmp_path / "first", tmp_path / "second")
    assert load_pretrained(tmp_path / "second").encode("low") == load_pretrained(tmp_path / "first").encode("low")
    written = json.loads((tmp_path / "second" / "config.json").read_text())
    assert written["bos_token_id"] == 0 and written["dtype"] == "float32"


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_save_refuses_what_float16_cannot_hold(value: float, tmp_path: Path) -> None:
    model = _storyteller(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with torch.no_grad():
        model.embed_tokens.weight[3, 2] = value
    with pytest.raises(ValueError, match=r"not finite|too large for float16"):
        save_pretrained(model, None, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


@torch.no_grad()
def test_shards_prefixes_and_old_spellings(tmp_path: Path) -> None:
    """Sharded files; GPT-2 without its prefix and with its old mask tables; BERT with gamma, beta and a lone pooler."""
    theirs = _make("gpt2", tmp_path / "a")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    assert torch.equal(
        load_pretrained(tmp_path / "shards").model(TOKENS), load_pretrained(tmp_path / "a").model(TOKENS)
    )

    def bare(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[name.removeprefix("transformer.")] = weights.pop(name)
        weights["h.0.attn.bias"] = torch.ones(1, 1, 19, 19, dtype=torch.uint8)
        weights["h.1.attn.masked_bias"] = torch.tensor(-1e4)
        weights["lm_head.weight"] = weights["wte.weight"].clone()

    expected = load_pretrained(tmp_path / "a").model(TOKENS)
    _edit_weights(tmp_path / "a", bare)
    assert torch.equal(load_pretrained(tmp_path / "a").model(TOKENS), expected)

    def second_matrix(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"] += 1

    _edit_weights(tmp_path / "a", second_matrix)
    with pytest.raises(ValueError, match="shared, but the file holds two different"):
        load_pretrained(tmp_path / "a")

    def old_bert(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            weights[new] = weights.pop(name)
        weights["bert.pooler.dense.weight"] = torch.zeros(12, 12)

    _make("bert", tmp_path / "b")
    expected = load_pretrained(tmp_path / "b").model(TOKENS)
    _edit_weights(tmp_path / "b", old_bert)
    assert torch.equal(load_pretrained(tmp_path / "b").model(TOKENS), expected)


def test_old_rope_fields_and_family_defaults() -> None:
    old = {"model_type": "llama", **LLAMA, "rope_theta": 500.0}
    config = config_from_hugging_face({**old, "rope_scaling": {**LLAMA3, "rope_theta": None}})
    assert config.rope_theta == 500.0  # type: ignore[union-attr]
    assert config.rope_scaling == RopeScaling(4.0, 1.0, 4.0, 8)  # type: ignore[union-attr]
    assert config.tie_embeddings is False  # type: ignore[union-attr]
    assert config_from_hugging_face(config_to_hugging_face(config, 1, 2)) == config
    assert config_from_hugging_face({"model_type": "gpt2", **GPT2}).tie_embeddings is True  # type: ignore[union-attr]
    encoder = config_from_hugging_face({"model_type": "bert", **BERT})
    assert encoder == EncoderConfig(vocab_size=61, d_model=12, n_layers=2, n_heads=3, d_mlp=29, context_length=19)
    assert config_from_hugging_face(config_to_hugging_face(encoder, None, None)) == encoder


# --- no trust ---------------------------------------------------------------------------------------------------------


def _storyteller(folder: Path) -> Decoder:
    """A tiny model of ours in a folder."""
    config = llama_config(vocab_size=257, d_model=8, n_layers=1, n_heads=2, d_mlp=12, context_length=16)
    model = Decoder(config).init_weights(torch.Generator().manual_seed(1))
    save_pretrained(model, train_bpe([], 257, ["<|endoftext|>"]), folder)
    return model


def _edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")


@contextmanager
def _refused(reason: str, sentence: str) -> Iterator[None]:
    """The block is refused with this sentence (a pattern), and with the reason that the app translates."""
    with pytest.raises(CheckpointError, match=sentence) as raised:
        yield
    assert raised.value.reason == reason


def _edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "sentence", "reason"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map", "unsafe"),
        ({"model_type": "mamba"}, "'mamba' are not supported", "unsupported"),
        ({"model_type": ["llama"]}, "not supported", "unsupported"),
        ({"quantization_config": {"bits": 4}}, "quantized", "unsupported"),
        ({"sliding_window": 4}, "sliding_window", "unsupported"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "'yarn' is not supported", "unsupported"),
        ({"rope_parameters": [1]}, "must be an object", "broken"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": float("nan")}}, "positive number", "broken"),
        ({"rope_parameters": {**LLAMA3, "low_freq_factor": 4.0}}, "must be below", "broken"),
        ({"hidden_act": "tanhexp"}, "'tanhexp' is not supported", "unsupported"),
        ({"hidden_act": ["silu"]}, "not supported", "unsupported"),
        ({"hidden_size": 2**70}, "whole number", "too_large"),
        ({"hidden_size": "8"}, "whole number", "broken"),
        ({"hidden_size": True}, "whole number", "broken"),
        ({"hidden_size": None}, "whole number", "broken"),
        ({"num_hidden_layers": 10**8}, "num_hidden_layers must be a whole number from 1 to 1,000", "too_large"),
        ({"num_attention_heads": 3}, "3 is not divisible|should be", "broken"),
        ({"rms_norm_eps": -1.0}, "positive number", "broken"),
        ({"tie_word_embeddings": "no"}, "true or false", "broken"),
        ({"tie_word_embeddings": False}, "lacks lm_head.weight", "broken"),
        ({"attention_bias": True}, "lacks layers.0.self_attn", "broken"),
        ({"intermediate_size": 13}, "should be", "broken"),
        ({"vocab_size": 10**8, "hidden_size": 10**8, "head_dim": 10**8, "num_attention_heads": 10**8}, "impossible",
         "too_large"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_configs_are_refused(changes: dict[str, Any], sentence: str, reason: str, tmp_path: Path) -> None:
    _storyteller(tmp_path)
    _edit_config(tmp_path, **changes)
    with _refused(reason, sentence):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "switch",
    [{"scale_attn_by_inverse_layer_idx": True}, {"reorder_and_upcast_attn": True}, {"scale_attn_weights": False},
     {"add_cross_attention": True}],
)  # fmt: skip
def test_unusual_gpt2_switches_are_refused(switch: dict[str, bool]) -> None:
    with _refused("unsupported", f"{next(iter(switch))} = .* is not supported"):
        config_from_hugging_face({"model_type": "gpt2", **GPT2, **switch})


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", "\xff", " " * 2**21])
def test_config_that_is_no_json_object(text: str, tmp_path: Path) -> None:
    _storyteller(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with _refused("too_large" if len(text) == 2**21 else "broken", r"config\.json"):
        load_pretrained(tmp_path)


def test_huge_vocabulary_is_refused_without_memory(tmp_path: Path) -> None:
    """50 million tokens beside a small file: refused at once, in a process that may not take 200 MB more."""
    _storyteller(tmp_path)
    _edit_config(tmp_path, vocab_size=50_000_000)
    code = (
        "import pathlib, resource, sys, time\n"
        "from lm_core.checkpoint import load_pretrained\n"
        "used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)\n"
        "start = time.perf_counter()\n"
        "try:\n    load_pretrained(pathlib.Path(sys.argv[1]))\n"
        "except ValueError as error:\n    print(time.perf_counter() - start, error)\n"
        "assert 'torch._dynamo' not in sys.modules, 'building on the meta device woke the compiler'\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc on this system: the memory limit is tested on Linux")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, sentence = done.stdout.split(" ", 1)
    assert "embed_tokens.weight should be (50000000, 8) by config.json, the file holds (257, 8)" in sentence
    assert float(seconds) < 1.0


def test_parameter_limit(tmp_path: Path) -> None:
    n = _storyteller(tmp_path).n_parameters()
    assert load_pretrained(tmp_path, max_parameters=n).model.n_parameters() == n
    with _refused("too_large", f"asks for {n:,} parameters; the limit is {n - 1:,}"):
        load_pretrained(tmp_path, max_parameters=n - 1)


def test_only_pickles_are_refused(tmp_path: Path) -> None:
    _storyteller(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with _refused("pickle", r"pytorch_model\.bin is refused: a pickle can run code"):
        load_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with _refused("missing", r"there is no model\.safetensors"):
        load_pretrained(tmp_path)


def _raw(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _line(begin: int, end: int, shape: list[Any] | None = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty or cut short"),
        (b"\x05\x00", "empty or cut short"),
        ((2**62).to_bytes(8, "little") + b"{}", "announces a header of"),
        ((2**64 - 1).to_bytes(8, "little"), "announces a header of"),
        (_raw(b"not json"), "not JSON"),
        (_raw(b"[" * 50_000), "not JSON"),
        (_raw([1]), "not a JSON object"),
        (_raw({"a": 3}), "nothing usable"),
        (_raw({"a": _line(0, 8)}, b"1234"), "cut short"),
        (_raw({"a": _line(0, 4)}, b"12345678"), "too long"),
        (_raw({"a": _line(0, 8), "b": _line(4, 12)}, b"x" * 12), "overlaps"),
        (_raw({"a": _line(0, 4), "b": _line(8, 12)}, b"x" * 12), "hole"),
        (_raw({"a": _line(0, 4, [2])}, b"1234"), "does not fill"),
        (_raw({"a": _line(0, 4, [-1, -1])}, b"1234"), "nothing usable"),
        (_raw({"a": _line(4, 0, [])}, b"1234"), "does not fill"),
        (_raw({"a": _line(0, 4, [2**40] * 9)}, b"1234"), "does not fill"),
        (_raw({"a": _line(0, 4, [1.0])}, b"1234"), "nothing usable"),
        (_raw({"a": _line(0, 4, dtype="F8_E4M3")}, b"1234"), "F8_E4M3"),
        (_raw({"a": _line(0, 4, dtype={})}, b"1234"), "nothing usable"),
    ],
    ids=range(19),
)
def test_lying_headers_are_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    _storyteller(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with _refused("unsupported" if sentence == "F8_E4M3" else "broken", sentence):
        load_pretrained(tmp_path)


def test_reading_equals_the_safetensors_library(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5), "b": torch.randn(7).double(), "c": torch.randn(2, 1, 4).half(),
        "d": torch.randn(6).bfloat16(), "scalar": torch.tensor(2.5), "nothing": torch.empty(0, 4),
    }  # fmt: skip
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    entries = read_header(tmp_path / "x.safetensors")
    assert entries.keys() == tensors.keys()
    for name, tensor in load_file(tmp_path / "x.safetensors").items():
        ours = read_tensor(entries[name])
        assert ours.dtype == tensor.dtype and torch.equal(ours, tensor)
    (tmp_path / "x.safetensors").write_bytes(b"")  # cut after its header was read
    with _refused("broken", "cut short while"):
        read_tensor(entries["a"])


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda w: w.pop("model.norm.weight"), "lacks norm.weight"),
        (lambda w: w.update({"score.weight": torch.zeros(2, 8)}), "no place for: score.weight"),
        (lambda w: w.update({"norm.weight": torch.zeros(8)}), "stands twice"),
        (lambda w: w["model.norm.weight"].fill_(float("nan")), "norm.weight holds numbers that are not finite"),
        (lambda w: w.update({"model.norm.weight": torch.zeros(8, dtype=torch.int8)}), "type I8 are not supported"),
        (lambda w: w.update({"model.norm.weight": torch.full((8,), 1e300, dtype=torch.float64)}), "not finite"),
    ],
    ids=["missing", "extra", "twice", "nan", "int8", "overflow"],
)
def test_wrong_tensors_are_refused(edit: Callable[[Any], object], sentence: str, tmp_path: Path) -> None:
    _storyteller(tmp_path)
    _edit_weights(tmp_path, edit)
    with _refused("unsupported" if "no place" in sentence or "I8" in sentence else "broken", sentence):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "..", "a/b.safetensors",
                                  "C:\\x.safetensors", "x\0.safetensors", "gone.safetensors", 7])  # fmt: skip
def test_index_stays_in_its_folder(name: Any, tmp_path: Path) -> None:
    _storyteller(tmp_path / "other")
    shutil.copytree(tmp_path / "other", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": name}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    gone = name == "gone.safetensors"
    with _refused("broken" if gone else "unsafe", "not there" if gone else "which is no file of this folder"):
        load_pretrained(tmp_path / "model")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_links_out_of_the_folder_are_refused(file: str, tmp_path: Path) -> None:
    _storyteller(tmp_path / "private")
    _storyteller(tmp_path / "model")
    (tmp_path / "model" / file).unlink()
    try:
        (tmp_path / "model" / file).symlink_to(tmp_path / "private" / file)
    except OSError:
        pytest.skip("this system does not let us make links")
    with _refused("unsafe", f"{file} leads out of its folder"):
        load_pretrained(tmp_path / "model")


def test_names(tmp_path: Path) -> None:
    _storyteller(tmp_path / "model")
    assert load_pretrained(f"folder:{tmp_path / 'model'}").name == f"folder:{tmp_path / 'model'}"
    assert resolve(str(tmp_path / "model"), bare_path=True) == tmp_path / "model"
    for name, sentence in {
        str(tmp_path / "model"): "names no model", "": "names no model", "ftp:x": "names no model",
        "bundled:nope": "there is no bundled model 'nope'", "bundled:../models/x": "not the name of a bundled",
        "bundled:a\n": "not the name of a bundled", "bundled:": "not the name of a bundled",
        "folder:/nowhere/at/all": "there is no folder", "folder:\0": "there is no folder", "run:3": "training runs",
        "hub:../../x": "not the name of a model on the hub", "hub:a/b/c": "not the name", "hub:a/b@": "not the name",
        "hub:a/b@../c": "not the name",
    }.items():  # fmt: skip
        with _refused("missing", sentence):
            resolve(name)


# --- the hub, without a network ---------------------------------------------------------------------------------------


def _snapshot(cache: Path) -> Path:
    """The hub's cache as it lies on disk: snapshots/REVISION holds links to blobs/."""
    repo, revision = cache / "models--someone--tiny", "0" * 40
    _storyteller(repo / "made")
    for folder in ("blobs", f"snapshots/{revision}", "refs"):
        (repo / folder).mkdir(parents=True)
    (repo / "refs" / "main").write_text(revision)
    for i, file in enumerate(sorted((repo / "made").iterdir())):
        blob = file.rename(repo / "blobs" / str(i))
        (repo / "snapshots" / revision / file.name).symlink_to(Path("../../blobs") / blob.name)
    return repo / "snapshots" / revision


def test_hub_models_come_from_the_cache_when_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(repo: str, *, dry_run: bool = False, **options: Any) -> Any:
        if dry_run:
            raise huggingface_hub.errors.DryRunError("no network")
        return real(repo, cache_dir=tmp_path, **options)

    real, snapshot = huggingface_hub.snapshot_download, _snapshot(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    loaded = load_pretrained("hub:someone/tiny")
    assert loaded.folder.resolve() == snapshot.resolve() and loaded.encode("low")[0] == 0
    with pytest.raises(ConnectionError, match="cannot be reached now, and someone/other has not been downloaded") as e:
        resolve("hub:someone/other")
    assert isinstance(e.value, HubUnreachableError) and e.value.reason == "offline"


def test_hub_refuses_large_downloads_and_explains_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    calls: list[dict[str, Any]] = []

    def answer(repo: str, **options: Any) -> Any:
        calls.append(options)
        return [mock.Mock(file_size=30 * 2**30, will_download=True)]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    with _refused("too_large", r"has 30\.0 GiB to download"):
        resolve("hub:someone/huge@v1")
    assert [call.get("dry_run") for call in calls] == [True] and calls[0]["revision"] == "v1"
    assert not any(".bin" in pattern or pattern.endswith("*") for pattern in calls[0]["allow_patterns"])

    for kind, sentence in {
        errors.GatedRepoError: "accepted its terms", errors.RepositoryNotFoundError: "there is no open model",
    }.items():  # fmt: skip

        def refuse(repo: str, kind: Any = kind, dry_run: bool = False, **options: Any) -> Any:
            if dry_run:
                raise errors.DryRunError("no") from kind("no", response=mock.Mock())
            raise errors.LocalEntryNotFoundError("not here")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with _refused("missing", sentence):
            resolve("hub:someone/closed")
