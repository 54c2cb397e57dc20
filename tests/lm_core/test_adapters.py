"""LoRA, soft prompt and freezing: the same numbers as peft on the same weights, and nothing frozen moves."""

import math
from pathlib import Path

import peft
import pytest
import torch
import torch.nn.functional as F
import transformers

from lm_core.adapters import (
    LoraConfig,
    LoraLinear,
    PromptEmbedding,
    add_lora,
    add_soft_prompt,
    learn_last_layers,
    learned,
    lora_forward,
    lora_layers,
    lora_merge,
    merge_lora,
    n_learned,
    soft_prompt,
)
from lm_core.checkpoint import load_pretrained
from lm_core.encoder import Encoder
from lm_core.model import Decoder
from tests import tiny_models

TARGETS = ("w_q", "w_v", "w_gate", "w_out")
NAMES = {"w_q": "q_proj", "w_v": "v_proj", "w_gate": "gate_proj", "w_out": "down_proj"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("llama"), tiny_models.llama(d_model=24))


@pytest.fixture
def model(folder: Path) -> Decoder:
    loaded = load_pretrained(folder, trainable=True).model
    assert isinstance(loaded, Decoder)
    return loaded


def _ids(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 290, (3, 11), generator=torch.Generator().manual_seed(seed))


def _loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


# LoRA


def test_a_detour_is_the_merged_matrix() -> None:
    random = torch.Generator().manual_seed(1)
    x, w, bias = (torch.randn(*s, generator=random, dtype=torch.float64) for s in ((4, 5), (7, 5), (7,)))
    a, b = (torch.randn(*s, generator=random, dtype=torch.float64) for s in ((3, 5), (7, 3)))
    by_hand = x @ w.T + bias + 0.25 * (x @ (b @ a).T)
    torch.testing.assert_close(lora_forward(x, w, bias, a, b, 0.25), by_hand)
    torch.testing.assert_close(F.linear(x, lora_merge(w, a, b, 0.25), bias), by_hand)


def test_lora_equals_peft_in_values_and_gradients(folder: Path, model: Decoder) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=list(NAMES.values()), task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(theirs, config)
    add_lora(model, LoraConfig(rank=3, alpha=5, targets=TARGETS))
    random = torch.Generator().manual_seed(2)
    pairs = []
    for path, layer in lora_layers(model).items():
        _, number, part, target = path.split(".")
        part = "self_attn" if part == "attention" else part
        their_layer = theirs.get_submodule(f"base_model.model.model.layers.{number}.{part}.{NAMES[target]}")
        with torch.no_grad():
            layer.lora_b.normal_(0, 0.1, generator=random)
            their_layer.lora_A["default"].weight.copy_(layer.lora_a)
            their_layer.lora_B["default"].weight.copy_(layer.lora_b)
        pairs += [(layer.lora_a, their_layer.lora_A["default"].weight)]
        pairs += [(layer.lora_b, their_layer.lora_B["default"].weight)]
    assert len(pairs) == 2 * 2 * len(TARGETS)
    ids = _ids()
    ours, reference = model(ids), theirs(ids).logits
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)
    _loss(ours, ids).backward()
    _loss(reference, ids).backward()
    for mine, other in pairs:
        assert mine.grad is not None and mine.grad.abs().max() > 0
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-6)
    assert all(p.grad is None for n, p in model.named_parameters() if "lora" not in n)
    assert n_learned(model) == theirs.get_nb_trainable_parameters()[0]
    merged_before = model(ids).detach()
    assert merge_lora(model) == len(pairs) // 2
    torch.testing.assert_close(model(ids), merged_before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(ids), theirs.merge_and_unload()(ids).logits, rtol=1e-4, atol=1e-5)
    assert not lora_layers(model)


def test_a_fresh_lora_changes_nothing_and_starts_as_peft_does(model: Decoder) -> None:
    before = model(_ids())
    add_lora(model, LoraConfig(rank=2, targets=TARGETS), torch.Generator().manual_seed(0))
    assert torch.equal(model(_ids()), before)
    for layer in lora_layers(model).values():
        assert isinstance(layer, LoraLinear)
        bound = 1 / math.sqrt(layer.in_features)
        assert 0.5 * bound < layer.lora_a.abs().max() <= bound


def test_the_same_seed_gives_the_same_lora(folder: Path) -> None:
    layers = []
    for seed in (1, 1, 2):
        fresh = load_pretrained(folder, trainable=True).model
        add_lora(fresh, LoraConfig(rank=2), torch.Generator().manual_seed(seed))
        layers.append(next(iter(lora_layers(fresh).values())).lora_a)
    assert torch.equal(layers[0], layers[1]) and not torch.equal(layers[0], layers[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "lora rank 0 must be at least 1"),
        ({"alpha": 0.0}, r"lora alpha must be a positive number, not 0\.0"),
        ({"alpha": math.nan}, "lora alpha must be a positive number, not nan"),
        ({"targets": ("w_q", "w_x")}, "unknown lora targets w_x"),
        ({"targets": ()}, "no lora targets"),
    ],
)
def test_impossible_loras(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**settings)  # type: ignore[arg-type]


def test_a_lora_that_does_not_fit_leaves_the_model_as_it_was(model: Decoder) -> None:
    with pytest.raises(
        ValueError, match=r"lora rank 17 is more than blocks.0.attention.w_k can use: .* rank 16 at most"
    ):
        add_lora(model, LoraConfig(rank=17, targets=("w_k",)))
    assert all(p.requires_grad for p in model.parameters()) and not lora_layers(model)
    gpt2 = Decoder(tiny_models.gpt2())
    with pytest.raises(ValueError, match="this model has no w_gate"):
        add_lora(gpt2, LoraConfig(rank=1, targets=("w_gate", "w_q")))
    add_lora(model, LoraConfig(rank=1))
    with pytest.raises(ValueError, match="has a LoRA already"):
        add_lora(model, LoraConfig(rank=1))


# Soft prompt


def test_a_soft_prompt_equals_peft_in_values_and_gradients(folder: Path, model: Decoder) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = peft.get_peft_model(theirs, peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"))
    prompt = add_soft_prompt(model, [7, 8, 9, 7])
    weight = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        prompt.prompt.normal_(0, 0.5, generator=torch.Generator().manual_seed(3))
        weight.copy_(prompt.prompt)
    ids = _ids()
    ours = model(torch.cat([torch.tensor(prompt.virtual_ids).expand(3, -1), ids], dim=1))
    reference = theirs(ids).logits
    assert ours.shape == reference.shape == (3, 15, 290)
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)
    _loss(ours[:, 4:], ids).backward()
    _loss(reference[:, 4:], ids).backward()
    assert prompt.prompt.grad is not None and prompt.prompt.grad.abs().max() > 0
    torch.testing.assert_close(prompt.prompt.grad, weight.grad, rtol=1e-3, atol=1e-6)
    assert list(learned(model)) == ["embed_tokens.prompt"]
    assert n_learned(model) == theirs.get_nb_trainable_parameters()[0]


def test_a_soft_prompt_starts_as_the_words_it_copies(model: Decoder) -> None:
    text = torch.tensor([[7, 8, 9, 1, 2]])
    before = model(text)
    prompt = add_soft_prompt(model, [7, 8, 9])
    assert prompt is soft_prompt(model) and isinstance(prompt, PromptEmbedding)
    assert torch.equal(model(torch.tensor([[290, 291, 292, 1, 2]])), before)
    assert torch.equal(model(text), before)  # real ids go on as they were
    assert model.unembed.weight is model.embed_tokens.weight


def test_impossible_soft_prompts(model: Decoder) -> None:
    with pytest.raises(ValueError, match="0 virtual tokens"):
        add_soft_prompt(model, [])
    with pytest.raises(ValueError, match=r"40 virtual tokens: .* fewer than the context of 40"):
        add_soft_prompt(model, [1] * 40)
    with pytest.raises(ValueError, match="this one is an encoder"):
        add_soft_prompt(Encoder(tiny_models.bert()), [1])  # type: ignore[arg-type]
    add_soft_prompt(model, [1])
    with pytest.raises(ValueError, match="has a soft prompt already"):
        add_soft_prompt(model, [1])


# Last layers


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_only_the_last_layers_learn(model: Decoder, n_layers: int) -> None:
    learn_last_layers(model, n_layers)
    wanted = {
        n for n, _ in model.named_parameters() if n.startswith(tuple(f"blocks.{i}." for i in range(2 - n_layers, 2)))
    }
    assert set(learned(model)) == wanted | ({"final_norm.weight"} if n_layers else set())


def test_more_layers_than_there_are(model: Decoder) -> None:
    with pytest.raises(ValueError, match="the last 3 layers, but this model has 2"):
        learn_last_layers(model, 3)
