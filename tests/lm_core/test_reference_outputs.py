"""Numbers that nobody in this project wrote: a trained nano-GPT with all its activations, GPT-2 small's attention,
and the worked examples of two courses. Their origins stand in the folder's SOURCE.md.
"""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lm_core.attention import (
    apply_mask,
    attend,
    attention_scores,
    fused_attend,
    masked_softmax,
    mix_values,
    scale_scores,
)
from lm_core.block import LayerTrace
from lm_core.config import gpt2_config
from lm_core.masks import causal_mask
from lm_core.model import Decoder, ModelTrace
from lm_core.probability import softmax
from lm_core.sampling import SamplingConfig, filter_logits


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    path = shared_data / "reference-outputs"
    if not path.is_dir():
        pytest.skip("no folder shared/data/reference-outputs beside the checkout")
    return path


def _json(path: Path) -> Any:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


# The nano-GPT of llm-viz: it sorts six letters A, B, C. 3 layers, 3 heads, 48 wide, LayerNorm eps 1e-5.


def _decode(entry: dict[str, Any]) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(entry["data"]), np.float32).reshape(entry["shape"]).copy())


def _load_nano(tensors: dict[str, Tensor]) -> Decoder:
    """minGPT's names to ours; its matrices are stored [out in], as nn.Linear wants them, and Q, K, V lie in one."""
    config = gpt2_config(
        vocab_size=3, d_model=48, n_layers=3, n_heads=3, context_length=11, tie_embeddings=False, norm_eps=1e-5
    )
    ours = {
        "embed_tokens.weight": tensors["transformer.wte.weight"],
        "embed_positions.weight": tensors["transformer.wpe.weight"],
        "unembed.weight": tensors["lm_head.weight"],
    }
    names = {"ln_1": "norm_1", "ln_2": "norm_2", "attn.c_proj": "attention.w_o"}
    names |= {"mlp.c_fc": "mlp.w_in", "mlp.c_proj": "mlp.w_out"}
    for kind in ("weight", "bias"):
        ours[f"final_norm.{kind}"] = tensors[f"transformer.ln_f.{kind}"]
        for layer in range(3):
            for theirs, name in names.items():
                ours[f"blocks.{layer}.{name}.{kind}"] = tensors[f"transformer.h.{layer}.{theirs}.{kind}"]
            parts = tensors[f"transformer.h.{layer}.attn.c_attn.{kind}"].chunk(3)
            for part, value in zip("qkv", parts, strict=True):
                ours[f"blocks.{layer}.attention.w_{part}.{kind}"] = value
    model = Decoder(config)
    model.load_state_dict(ours, strict=True)
    return model


@pytest.fixture(scope="module")
def nano(folder: Path) -> tuple[Decoder, dict[str, Tensor], ModelTrace]:
    saved = _json(folder / "gpt-nano-sort-model.json.gz")
    model = _load_nano({name: _decode(entry) for name, entry in saved.items() if name != "config"})
    saved = _json(folder / "gpt-nano-sort-t0-partials.json.gz")
    expected = {name: _decode(entry) for name, entry in saved.items() if name != "config"}
    with torch.no_grad():
        return model, expected, model.trace(expected["idx"].long())


def _of_block_0(layer: LayerTrace) -> dict[str, Tensor]:
    a = layer.attention
    merged = [x.transpose(1, 2).flatten(2) for x in (a.q, a.k, a.v, a.head_out)]
    return {
        "x": layer.resid_pre, "ln1": layer.attn_in, "q": a.q, "k": a.k, "v": a.v, "qkv": torch.cat(merged[:3], dim=-1),
        "att": a.masked, "attSm": a.weights, "y": merged[3], "yProj": layer.attn_out, "attnResid": layer.resid_mid,
        "ln2": layer.mlp_in, "gelu": layer.mlp_hidden, "mlp": layer.mlp_out, "mlpResid": layer.resid_post,
        "block0": layer.resid_post,
    }  # fmt: skip


def _of_the_whole(model: Decoder, trace: ModelTrace) -> dict[str, Tensor]:
    assert model.embed_positions is not None
    return {
        "tok_emb": model.embed_tokens(trace.token_ids), "pos_emb": model.embed_positions.weight[None],
        "fc": model.blocks[0].mlp.w_in(trace.layers[0].mlp_in), "block1": trace.layers[1].resid_post,
        "block2": trace.layers[2].resid_post, "ln_f": trace.final, "lm_head": trace.logits,
        "probs": softmax(trace.logits),
    }  # fmt: skip


def test_every_activation_of_a_trained_nano_gpt(nano: tuple[Decoder, dict[str, Tensor], ModelTrace]) -> None:
    """float32 of another program and machine: within 2e-6 + 2e-6 · |value| for block 0, 1e-5 behind three blocks."""
    model, expected, trace = nano
    with torch.no_grad():
        ours = {**_of_block_0(trace.layers[0]), **_of_the_whole(model, trace)}
    assert set(ours) == set(expected) - {"idx"}  # nothing that the file holds is left out
    for name, value in ours.items():
        tolerance = 1e-5 if name in ("block1", "block2", "ln_f", "lm_head") else 2e-6
        torch.testing.assert_close(
            value, expected[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_the_fast_path_gives_the_nano_gpts_logits(nano: tuple[Decoder, dict[str, Tensor], ModelTrace]) -> None:
    model, expected, _ = nano
    with torch.no_grad():
        torch.testing.assert_close(model(expected["idx"].long()), expected["lm_head"], rtol=1e-5, atol=1e-5)


def test_the_nano_gpt_sorts(nano: tuple[Decoder, dict[str, Tensor], ModelTrace]) -> None:
    """What it was trained for: after six letters it writes them in order. It gets at least 95 % of 60 texts right."""
    model, _, _ = nano
    text = torch.randint(3, (60, 6), generator=torch.Generator().manual_seed(0))
    whole = text
    for _ in range(6):
        with torch.no_grad():
            whole = torch.cat([whole, model(whole[:, :11])[:, -1:].argmax(dim=-1)], dim=1)
    assert (whole[:, 6:] == text.sort(dim=1).values).all(dim=1).float().mean() >= 0.95


# GPT-2 small, 12 layers of 12 heads, on two sentences (Transformer Explainer)


@pytest.fixture(scope="module", params=["ex0", "ex1"])
def gpt2(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    return _json(folder / f"gpt2-small-{request.param}.json.gz")


def _stage(gpt2: dict[str, Any], stage: str) -> Tensor:
    """[144 T T]; null in the file is −∞."""
    rows = [gpt2["outputs"][f"block_{b}_attn_head_{h}_attn{stage}"]["data"] for b in range(12) for h in range(12)]
    as_numbers = [[[-np.inf if x is None else x for x in row] for row in head] for head in rows]
    return torch.tensor(as_numbers, dtype=torch.float32)


def test_all_144_heads_of_gpt2_small_from_raw_scores_to_weights(gpt2: dict[str, Any]) -> None:
    scores = _stage(gpt2, "")
    n_tokens = len(gpt2["tokens"])
    assert scores.shape == (144, n_tokens, n_tokens)
    scaled = scale_scores(scores, d_head=64)
    assert torch.equal(scaled, _stage(gpt2, "_scaled"))  # /8 is exact
    masked = apply_mask(scaled, causal_mask(n_tokens))
    assert torch.equal(masked, _stage(gpt2, "_masked"))
    # Four units in the last place of a float32 just below 1: another program summed in another order.
    torch.testing.assert_close(masked_softmax(masked), _stage(gpt2, "_softmax"), rtol=0.0, atol=2.4e-7)


def test_gpt2_smalls_probabilities_from_its_50257_logits(gpt2: dict[str, Any]) -> None:
    """Temperature 0.8 and top-k 5; the file lists 50 tokens, of which five have a probability."""
    logits = torch.tensor(gpt2["logits"])
    assert logits.shape == (50257,)
    probabilities = softmax(filter_logits(logits[None], SamplingConfig(temperature=0.8, top_k=5)))[0]
    listed = gpt2["probabilities"]
    ids = [entry["tokenId"] for entry in listed]
    assert ids == logits.topk(50).indices.tolist()
    torch.testing.assert_close(
        probabilities[ids], torch.tensor([float(entry["probability"]) for entry in listed]), rtol=0.0, atol=2e-6
    )
    assert (probabilities > 0).sum() == 5
    scaled = torch.tensor([entry["scaledLogit"] for entry in listed])
    torch.testing.assert_close(logits[ids] / 0.8, scaled, rtol=1e-6, atol=0.0)


# Worked examples of two courses


def test_the_masked_attention_snapshot_of_cs336(folder: Path) -> None:
    with np.load(folder / "cs336-sdpa-expected.npz") as file:
        expected = torch.from_numpy(file["array"])

    def drawn(seed: int, *shape: int) -> Tensor:
        torch.manual_seed(seed)  # the inputs are defined by the global generator
        return torch.randn(*shape)

    with torch.random.fork_rng():
        q, k, v = drawn(1, 4, 12, 64), drawn(2, 4, 16, 64), drawn(3, 4, 16, 64)
        allowed = drawn(5, 4, 12, 16) > 0.5
    assert allowed.float().mean() < 0.4  # with the other polarity this would be 0.7
    for ours in (attend(q, k, v, allowed).head_out, fused_attend(q, k, v, allowed)):
        torch.testing.assert_close(ours, expected, rtol=0.0, atol=1e-6)


def _close_to_print(ours: Tensor, printed: list[Any]) -> None:
    """The notebook prints four decimals: half a unit of the last one, and float32's own rounding."""
    torch.testing.assert_close(ours.detach(), torch.tensor(printed, dtype=ours.dtype), rtol=0.0, atol=5.1e-5)


@pytest.fixture(scope="module")
def raschka(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "raschka-self-attention.json").read_text(encoding="utf-8"))


def test_raschkas_attention_without_weights(raschka: dict[str, Any]) -> None:
    x, expected = torch.tensor(raschka["inputs"]), raschka["simple"]
    scores = attention_scores(x, x)
    weights = masked_softmax(scores)
    _close_to_print(scores[1], expected["scores_row2"])
    _close_to_print(weights[1], expected["weights_row2"])
    _close_to_print(mix_values(weights, x), expected["context_all"])
    _close_to_print(attend(x, x, x, scale=1.0).head_out[1], expected["context_row2"])


def test_raschkas_attention_with_drawn_weights(raschka: dict[str, Any]) -> None:
    x, expected = torch.tensor(raschka["inputs"]), raschka["trainable_seed123_torch_rand_3x2_Wq_Wk_Wv"]
    with torch.random.fork_rng():
        torch.manual_seed(123)
        q, k, v = (x @ torch.rand(3, 2) for _ in range(3))
    trace = attend(q, k, v)
    _close_to_print(trace.q[1], expected["query_2"])
    _close_to_print(trace.scores[1], expected["scores_row2"])
    _close_to_print(trace.weights[1], expected["weights_row2"])
    _close_to_print(trace.head_out[1], expected["context_row2"])


def test_raschkas_causal_weights(raschka: dict[str, Any]) -> None:
    x, expected = torch.tensor(raschka["inputs"]), raschka["linear_seed789_nn_Linear_3_2_nobias_q_k_v"]
    with torch.random.fork_rng():
        torch.manual_seed(789)
        q, k, v = (nn.Linear(3, 2, bias=False)(x) for _ in range(3))
    _close_to_print(attend(q, k, v).head_out, expected["context_all"])
    _close_to_print(attend(q, k, v, causal_mask(6)).weights, expected["causal_weights"])
