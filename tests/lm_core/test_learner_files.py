"""What a fine-tune leaves behind loads in transformers and in peft, and computes the same there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from lm_core.adapter_files import load_adapter, save_adapter
from lm_core.adapters import LoraConfig, add_lora, lora_layers
from lm_core.checkpoint import LoadedModel, load_pretrained
from lm_core.config import DecoderConfig, EncoderConfig
from lm_core.finetune_config import FinetuneConfig
from lm_core.learner import Learner, make_learner
from lm_core.learner_files import ClassifierCard, export, load_classifier
from tests import tiny_models

CAUSAL = FinetuneConfig(task="causal")
CLASSES = FinetuneConfig(task="classification", learns="whole")
CARD = ClassifierCard(("bad", "fair", "good"), "last", (0,), ())
FAMILIES: dict[str, DecoderConfig | EncoderConfig] = {
    "llama": tiny_models.llama(d_model=24), "untied": tiny_models.llama(d_model=24, tie_embeddings=False),
    "gpt2": tiny_models.gpt2(), "bert": tiny_models.bert(),
}  # fmt: skip
TARGETS = {"llama": ("w_q", "w_v", "w_gate", "w_out"), "gpt2": ("w_q", "w_v", "w_o", "w_in"), "bert": ("w_k", "w_out")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tiny_models.save(tmp_path_factory.mktemp(name), config) for name, config in FAMILIES.items()}


def _trained(folder: Path, config: FinetuneConfig, n_classes: int = 0, seed: int = 3) -> tuple[LoadedModel, Learner]:
    """As if trained: every number that learns is moved."""
    base = load_pretrained(folder, trainable=True)
    learner = make_learner(base.model, config, n_classes)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=random) * 0.2)
    return base, learner.eval()


def _ids() -> torch.Tensor:
    return torch.randint(1, 290, (3, 9), generator=torch.Generator().manual_seed(0))


def _close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5)


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(ids, attention_mask=torch.ones_like(ids)).logits


def _ours(learner: Learner, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return learner(ids, torch.full((len(ids),), ids.shape[1]))


def _settings(family: str, learns: str) -> dict[str, Any]:
    return {
        "learns": learns,
        "lora_rank": 2,
        "lora_alpha": 3.0,
        "lora_targets": TARGETS.get(family, ("w_q",)),
        "n_virtual": 4,
    }


@pytest.mark.parametrize("family", ["llama", "untied", "gpt2"])
@pytest.mark.parametrize("learns", ["whole", "lora", "soft_prompt"])
def test_a_style_loads_where_it_is_said_to(folders: dict[str, Path], tmp_path: Path, family: str, learns: str) -> None:
    base, learner = _trained(folders[family], replace(CAUSAL, **_settings(family, learns)))
    ids = _ids()
    wanted = _ours(learner, ids)
    written = {folder.name for folder in export(learner, base, tmp_path)}
    assert written == {"whole": {"model"}, "lora": {"adapter", "model"}, "soft_prompt": {"adapter"}}[learns]
    if "model" in written:
        _close(_logits(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model"), ids), wanted)
        _close(load_pretrained(tmp_path / "model").model(ids), wanted)
        assert transformers.AutoTokenizer.from_pretrained(tmp_path / "model")("king").input_ids
    if "adapter" in written:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folders[family], dtype=torch.float32)
        theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
        _close(_logits(theirs, ids)[:, -9:], wanted)
        again = load_pretrained(folders[family])
        assert load_adapter(again.model, tmp_path / "adapter") == {}
        _close(_ours(Learner(again.model), ids), wanted)
    _close(_ours(learner, ids), wanted)  # and saving has changed nothing


@pytest.mark.parametrize(
    ("family", "learns"),
    [
        *((family, learns) for family in FAMILIES for learns in ("whole", "head", "lora")),
        *((family, "soft_prompt") for family in ("llama", "untied", "gpt2")),
    ],
)
def test_a_classifier_loads_where_it_is_said_to(
    folders: dict[str, Path], tmp_path: Path, family: str, learns: str
) -> None:
    config = replace(CLASSES, pooling="first" if family == "bert" else "last", **_settings(family, learns))
    base, learner = _trained(folders[family], config, 3)
    ids = _ids()
    wanted = _ours(learner, ids)
    card = replace(CARD, pooling=config.pooling)
    export(learner, base, tmp_path, card)
    kind = transformers.AutoModelForSequenceClassification
    if learns != "soft_prompt":
        theirs = kind.from_pretrained(tmp_path / "model", dtype=torch.float32)
        assert theirs.config.id2label == {0: "bad", 1: "fair", 2: "good"}
        _close(_logits(theirs, ids), wanted)
        again = load_classifier(tmp_path / "model")
        assert again.card == card
        _close(_ours(again.learner, ids), wanted)
    if learns in ("lora", "soft_prompt"):
        theirs = kind.from_pretrained(folders[family], dtype=torch.float32, num_labels=3, pad_token_id=0)
        theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
        _close(_logits(theirs, ids[:1]), wanted[:1])  # one row: with a soft prompt peft does not see what fills rows up
        _close(_ours(load_classifier(tmp_path / "adapter", load_pretrained(folders[family])).learner, ids), wanted)


def test_a_pooling_that_transformers_does_not_know_comes_back_here(folders: dict[str, Path], tmp_path: Path) -> None:
    base, learner = _trained(folders["llama"], replace(CLASSES, pooling="mean"), 3)
    wanted = _ours(learner, _ids())
    export(learner, base, tmp_path, replace(CARD, pooling="mean"))
    again = load_classifier(tmp_path / "model")
    _close(_ours(again.learner, _ids()), wanted)
    architectures = json.loads((tmp_path / "model" / "config.json").read_text())["architectures"]
    assert architectures == ["LlamaForCausalLM"]  # and does not pretend to be a classifier of theirs


def test_a_classifier_names_the_class_of_a_text(folders: dict[str, Path], tmp_path: Path) -> None:
    base, learner = _trained(folders["llama"], CLASSES, 3)
    export(learner, base, tmp_path, CARD)
    classifier = load_classifier(tmp_path / "model")
    assert base.tokenizer is not None
    row = torch.tensor([[0, *base.tokenizer.encode("The old king")]])
    wanted = _ours(learner, row)[0].softmax(-1)
    found = classifier.probabilities("The old king")
    assert list(found) == ["bad", "fair", "good"] and list(found.values()) == pytest.approx(wanted.tolist(), rel=1e-3)
    assert sum(classifier.probabilities("x" * 5000).values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="the text is empty"):
        classifier.probabilities("")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_adapter_that_peft_made_loads_here(folders: dict[str, Path], tmp_path: Path, family: str) -> None:
    """Also a LoRA over all of GPT-2's fused matrix, which no three of ours would have written."""
    targets = {"llama": ["k_proj", "down_proj"], "gpt2": ["c_attn", "mlp.c_proj"]}[family]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folders[family], dtype=torch.float32)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False)
    theirs = peft.get_peft_model(theirs, config)
    theirs.save_pretrained(tmp_path)
    model = load_pretrained(folders[family]).model
    load_adapter(model, tmp_path)
    assert len(lora_layers(model)) == (4 if family == "llama" else 8)
    _close(model(_ids()), _logits(theirs, _ids()))


def test_adapters_that_do_not_fit(folders: dict[str, Path], tmp_path: Path) -> None:
    base, learner = _trained(folders["llama"], replace(CAUSAL, **_settings("llama", "lora")))
    save_adapter(learner.body, tmp_path / "lora", "base", {})
    _, prompted = _trained(folders["llama"], replace(CAUSAL, **_settings("llama", "soft_prompt")))
    save_adapter(prompted.body, tmp_path / "prompt", "base", {})
    other = load_pretrained(folders["gpt2"]).model
    with pytest.raises(ValueError, match="no place for"):
        load_adapter(other, tmp_path / "lora")
    with pytest.raises(ValueError, match=r"vectors of 24 numbers, the model's have 12"):
        load_adapter(other, tmp_path / "prompt")
    with pytest.raises(ValueError, match=r"holds no adapter: there is no adapter_config.json"):
        load_adapter(other, tmp_path)
    with pytest.raises(ValueError, match="neither a LoRA nor a soft prompt"):
        save_adapter(other, tmp_path / "x", "base", {})
    config = tmp_path / "prompt" / "adapter_config.json"
    config.write_text(config.read_text().replace("PROMPT_TUNING", "IA3"))
    with pytest.raises(ValueError, match="kind IA3 cannot be read"):
        load_adapter(base.model, tmp_path / "prompt")
    with pytest.raises(ValueError, match="holds no classifier"):
        load_classifier(tmp_path / "lora")


def test_broken_weights_are_not_written(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_pretrained(folders["llama"], trainable=True).model
    add_lora(model, LoraConfig(rank=1))
    with torch.no_grad():
        next(iter(lora_layers(model).values())).lora_b[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        save_adapter(model, tmp_path / "a", "base", {})
    assert not (tmp_path / "a").exists()
