"""What the self-attention lesson must show, computed without our code: `transformers`, its hooks, and plain torch.

Also the lesson as a test opens it, and what the page sent to its components, as the browser would read it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from streamlit.testing.v1 import AppTest
from tokenizers import Tokenizer

from lab import course
from lab.models import MODELS

BUNDLED = MODELS / "storyteller"
PAGE = course.lesson("self_attention").page
Array = NDArray[np.float32]
# Telling shapes: no two numbers alike, three query heads to a key head, a large eps.
LLAMA = {"hidden_size": 30, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4, "num_hidden_layers": 3,
         "intermediate_size": 27, "max_position_embeddings": 40, "rms_norm_eps": 0.1}  # fmt: skip
GPT2 = {"n_embd": 20, "n_head": 4, "n_layer": 2, "n_positions": 40, "layer_norm_epsilon": 0.1, "resid_pdrop": 0.0,
        "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # fmt: skip


def make_tiny(folder: Path, family: str) -> Path:
    """A random model of `family` (`llama`, grouped-query, or `gpt2`) in `folder`, reading with our tokenizer.

    Its numbers are large and every scale and offset is random, so that a forgotten one shows.
    """
    import transformers

    vocabulary = Tokenizer.from_file(str(BUNDLED / "tokenizer.json")).get_vocab_size()
    ids = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(7)
    model: Any
    if family == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA, **ids))
    else:
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2, **ids))
    with torch.no_grad():
        for name, values in model.named_parameters():
            is_scale = values.dim() == 1 and name.endswith("weight")
            values.copy_(torch.randn_like(values) * 0.4 + (1.0 if is_scale else 0.0))
    model.save_pretrained(folder, safe_serialization=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / file, folder / file)
    return folder


@dataclass(frozen=True)
class Truth:
    """One text in one model. Per layer and head: [L H T ·] with keys and values given to each query head."""

    token_ids: list[int]
    heads: dict[str, Array]
    layers: dict[str, Array]
    model: Any
    is_llama: bool

    def head(self, name: str, layer: int, head: int) -> Array:
        return self.heads[name][layer, head]


@cache
def truth(folder: Path, text: str) -> Truth:
    """Run `text`, with the document start before it, through the folder's model as `transformers` loads it."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    model.eval()
    ids = [0, *Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids]
    is_llama = model.config.model_type == "llama"
    blocks = model.model.layers if is_llama else model.transformer.h
    kept: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        kept.setdefault(name, []).append(value.detach()[0])

    def keep_both(before: torch.Tensor, after: torch.Tensor) -> None:
        keep("resid_pre", before)
        keep("attn_in", after)

    for block in blocks:
        norm, attention = (block.input_layernorm, block.self_attn) if is_llama else (block.ln_1, block.attn)
        norm.register_forward_hook(lambda _m, given, out: keep_both(given[0], out))
        attention.register_forward_hook(lambda _m, _given, out: keep("attn_out", out[0]))
        projections = ("q_proj", "k_proj", "v_proj") if is_llama else ("c_attn",)
        for name in projections:
            getattr(attention, name).register_forward_hook(lambda _m, _g, out, name=name: keep(name, out))
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_attentions=True)
    layers = {name: torch.stack(kept[name]) for name in ("resid_pre", "attn_in", "attn_out")}
    layers["resid_mid"] = layers["resid_pre"] + layers["attn_out"]
    heads = _heads(model, kept, is_llama)
    heads["weights"] = torch.stack([layer[0] for layer in out.attentions])
    heads["head_out"] = heads["weights"] @ heads["v"]
    return Truth(ids, _numpy(heads), _numpy(layers), model, is_llama)


def _numpy(tensors: dict[str, torch.Tensor]) -> dict[str, Array]:
    return {name: value.numpy() for name, value in tensors.items()}


def _heads(model: Any, kept: dict[str, list[torch.Tensor]], is_llama: bool) -> dict[str, torch.Tensor]:
    """q, k, v, the scores and what becomes of them, by the book."""
    n_heads = model.config.num_attention_heads

    def split(values: torch.Tensor, width: int) -> torch.Tensor:  # [L T H·Dh] -> [L n_heads T Dh]
        own = values.unflatten(-1, (-1, width)).transpose(1, 2)
        return own.repeat_interleave(n_heads // own.shape[1], dim=1)

    if is_llama:
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        width = model.config.head_dim
        q, k, v = (split(torch.stack(kept[name]), width) for name in ("q_proj", "k_proj", "v_proj"))
        cos, sin = model.model.rotary_emb(q, torch.arange(q.shape[2])[None])
        turned_q, turned_k = apply_rotary_pos_emb(q, k, cos, sin)
    else:
        width = model.config.n_embd // n_heads
        q, k, v = (split(part, width) for part in torch.stack(kept["c_attn"]).chunk(3, dim=-1))
        turned_q, turned_k = q, k
    scores = turned_q @ turned_k.mT
    scaled = scores / width**0.5
    masked = torch.where(torch.ones(scores.shape[-2:]).tril().bool(), scaled, -torch.inf)
    return {"q_proj": q, "k_proj": k, "q": turned_q, "k": turned_k, "v": v, "scores": scores, "scaled": scaled,
            "masked": masked}  # fmt: skip


def open_lesson(language: str = "en", model: Path | None = None, **view: Any) -> AppTest:
    """The lesson through `app.py`, as if a link named `view` (layers, heads, positions, steps count from 1)."""
    app = AppTest.from_file(str(course.ROOT / "app.py"), default_timeout=30)
    app.query_params["lang"] = language  # before the first run, as in a link: a visit keeps its language
    app.run()
    if model is not None and model != BUNDLED:
        app.session_state["model_menu"] = "folder"
        app.session_state["model_folder"] = str(model)
    app.switch_page(str(PAGE))
    if model == BUNDLED:
        view["model"] = "bundled:storyteller"  # also where the language's usual model is another
    app.query_params.update({name: str(value) for name, value in view.items()})
    return app.run()


def sent(app: AppTest, key: str) -> dict[str, Any]:
    """What the page sent to the component called `key`."""
    found = [c.proto for c in app.main.get("bidi_component") if c.proto.id.endswith(f"-{key}")]
    assert len(found) == 1, f"{key} is there {len(found)} times"
    return json.loads(found[0].json)


def components_of(app: AppTest) -> list[str]:
    """The keys of all our components on the page."""
    return [c.proto.id.rsplit("-", 1)[1] for c in app.main.get("bidi_component")]


def charts_of(app: AppTest) -> list[dict[str, Any]]:
    """The Plotly figures on the page."""
    return [json.loads(chart.proto.spec) for chart in app.main.get("plotly_chart")]


def last_number(lines: str) -> float:
    """The bold number in which a formula ends."""
    bold = re.findall(r"\\mathbf\{(-?\\infty|-?[0-9.]+)\}", lines)
    assert len(bold) == 1, lines
    return float(bold[0].replace("\\infty", "inf"))


def plain(line: str) -> str:
    """A formula without its colours."""
    return re.sub(r"\\textcolor\{#[0-9a-f]{6}\}\{([^{}]*)\}", r"\1", line)


def numbers(line: str) -> list[float]:
    """Every decimal number of a line, in order; those in brackets are negative already."""
    return [float(found) for found in re.findall(r"-?\d+\.\d+", line)]


def cells(data: dict[str, Any]) -> Array:
    """The values sent to a matrix; a masked cell is minus infinity again."""
    return np.array([[-np.inf if x is None else x for x in row] for row in data["values"]], dtype=np.float64)


def places(truth: Truth) -> Iterator[tuple[int, int, int, int]]:
    """Some (layer, head, query, key) of a model: first and last heads, open, masked and diagonal pairs."""
    n_layers, n_heads, n_tokens, _ = truth.heads["q"].shape
    yield n_layers - 1, n_heads - 1, n_tokens - 1, 2
    yield 0, 1, 3, 3
    yield n_layers - 1, n_heads // 2, 2, n_tokens - 2
    yield 1, 0, 0, 0
