"""What a fine-tune leaves behind: folders that this package and `transformers` or `peft` load.

    model/      the whole model; a LoRA is merged into it. A classifier's head lies in it too (`score`, `classifier`)
    adapter/    a LoRA or a soft prompt alone, in peft's format

`classifier.json` beside a classifier's weights says what `transformers` has no word for: the labels in order, the
pooling, and what stands before and after each text.
"""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lm_core.adapter_files import load_adapter, save_adapter
from lm_core.adapters import lora_layers, merge_lora, soft_prompt
from lm_core.checkpoint import LoadedModel, load_pretrained, save_pretrained
from lm_core.encoder import Encoder
from lm_core.learner import Learner

CLASSIFIER = "classifier.json"
THEIR_CLASS = {"gpt2": "GPT2", "llama": "Llama", "bert": "Bert"}


@dataclass(frozen=True)
class ClassifierCard:
    """labels in the order of the head's rows; pooling; the ids that stand before and after each text."""

    labels: tuple[str, ...]
    pooling: str
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path) -> "ClassifierCard":
        """From a folder. FileNotFoundError where it holds no classifier."""
        content = json.loads((folder / CLASSIFIER).read_text(encoding="utf-8"))
        return cls(tuple(content["labels"]), content["pooling"], tuple(content["before"]), tuple(content["after"]))


def _heads(learner: Learner) -> dict[str, nn.Module]:
    """The modules of a classifier's head by the names that `transformers` gives them."""
    if learner.head is None:
        return {}
    if isinstance(learner.body, Encoder):
        return ({} if learner.pooler is None else {"bert.pooler": _named(learner.pooler)}) | {
            "classifier": learner.head
        }
    return {"score": learner.head}


def _named(pooler: nn.Linear) -> nn.Module:
    """BERT's pooler is a module that holds a layer `dense`."""
    return nn.ModuleDict({"dense": pooler})


def is_their_pooling(learner: Learner) -> bool:
    """Whether `transformers` has a class that pools as this learner does: the last token, or an encoder's first."""
    return learner.pooling == ("first" if isinstance(learner.body, Encoder) else "last")


def export(learner: Learner, base: LoadedModel, folder: Path, card: ClassifierCard | None = None) -> list[Path]:
    """Write the folders that this learner makes (see the top) and return them.

    Weights are float32: what is loaded is exactly what was trained. `card` belongs to a classifier. A pooling that
    `transformers` does not know is written for this package only. ValueError for weights that are not finite.
    """
    written = []
    if soft_prompt(learner.body) is not None or lora_layers(learner.body):
        save_adapter(learner.body, folder / "adapter", base.name, _heads(learner))
        _write_card(card, folder / "adapter")
        written.append(folder / "adapter")
    if soft_prompt(learner.body) is None:  # a soft prompt stands before the text: no weight can hold it
        body = learner.body
        if lora_layers(body):
            body = copy.deepcopy(body)
            merge_lora(body)
        place = folder / "model"
        save_pretrained(body, base.folder if base.tokenizer else None, place, half=False)
        if card is not None:
            _add_head(learner, card, place)
            _write_card(card, place)
        written.append(place)
    return written


def _write_card(card: ClassifierCard | None, folder: Path) -> None:
    if card is not None:
        text = json.dumps(asdict(card), ensure_ascii=False, indent=1) + "\n"
        (folder / CLASSIFIER).write_text(text, encoding="utf-8")


def _add_head(learner: Learner, card: ClassifierCard, folder: Path) -> None:
    """Put the head into the weights and say so in config.json."""
    weights = folder / "model.safetensors"
    head: dict[str, Tensor] = {}
    for name, module in _heads(learner).items():
        head |= {f"{name}.{key}": value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    tensors = {n: t for n, t in load_file(weights).items() if not n.startswith(("cls.seq_relationship", "bert.pooler"))}
    partial = weights.with_suffix(".partial")
    save_file(tensors | head, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(weights)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    numbers = dict(enumerate(card.labels))
    config |= {"id2label": numbers, "label2id": {label: i for i, label in numbers.items()}}
    if is_their_pooling(learner):
        config["architectures"] = [f"{THEIR_CLASS[config['model_type']]}ForSequenceClassification"]
    if config.get("pad_token_id") is None:  # needed there to find the last token of a row; never the end of a text
        config["pad_token_id"] = config.get("eos_token_id") or 0
    (folder / "config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class LoadedClassifier:
    """A trained classifier: the learner, its base model's tokenizer, and its card."""

    learner: Learner
    base: LoadedModel
    card: ClassifierCard

    @torch.no_grad()
    def probabilities(self, text: str) -> dict[str, float]:
        """How probable each label is for a text, which loses its end if it is too long. ValueError for an empty one."""
        room = self.learner.body.config.context_length - len(self.card.before + self.card.after)
        room -= len(self.learner.virtual_ids)
        ids = [] if self.base.tokenizer is None else self.base.tokenizer.encode(text)[:room]
        if not ids:
            raise ValueError("the text is empty: there is nothing to classify")
        row = torch.tensor([[*self.card.before, *ids, *self.card.after]], device=self.learner.device)
        logits = self.learner(row, torch.tensor([row.shape[1]], device=self.learner.device))
        return dict(zip(self.card.labels, logits[0].softmax(dim=-1).tolist(), strict=True))


def load_classifier(folder: Path, base: LoadedModel | None = None) -> LoadedClassifier:
    """A classifier from a `model` folder, or from an `adapter` folder and its base model (changed by it).

    Raises ValueError where the folder holds none, and as `load_pretrained` and `load_adapter`.
    """
    try:
        card = ClassifierCard.read(folder)
    except FileNotFoundError:
        raise ValueError(f"{folder.name} holds no classifier: there is no {CLASSIFIER}") from None
    if base is None:
        base = load_pretrained(folder)
        head = load_file(folder / "model.safetensors")
    else:
        head = load_adapter(base.model, folder)
    learner = Learner(base.model, len(card.labels), card.pooling)
    for name, module in _heads(learner).items():
        state: dict[str, Tensor] = {key: head[f"{name}.{key}"] for key in module.state_dict()}
        module.load_state_dict(state)
    return LoadedClassifier(learner.requires_grad_(False).eval(), base, card)
