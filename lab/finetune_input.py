"""What a learner brings to a fine-tune, checked before anything starts, and what is wrong with it as the id of a text.

The engine (`lm_core.data`, `labels`, `batches`) refuses with exact English sentences. `explain` finds the id and the
numbers of such a sentence, so that a page says the same in the reader's language; tests hold the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lab import models
from lab.finetune_presets import Kind
from lm_core.adapters import lora_places
from lm_core.batches import CausalData, LabelledData, causal_data, labelled_data, parts_of, split_text
from lm_core.checkpoint import LoadedModel
from lm_core.data import MAX_FILE_BYTES, SEPARATOR, decode_text, parse_examples
from lm_core.encoder import Encoder
from lm_core.finetune_config import FinetuneConfig
from lm_core.finetune_run import frame_of
from lm_core.model import Decoder

VALIDATION_SHARE = 0.1  # of a text that comes without a validation part, as `lm_core.finetune_run` keeps
ENDINGS = {"text": ("txt", "md"), "examples": ("csv", "tsv", "jsonl")}


class InputError(ValueError):
    """What is wrong, as the id of a text in `[finetune.trouble]` and its values."""

    def __init__(self, reason: str, why: str = "", **values: object) -> None:
        super().__init__(why or reason)
        self.reason, self.values = reason, values


# A sentence of the engine -> the id of our text; the named parts are its values. The first that fits counts.
_SENTENCES = [
    (re.compile(pattern, re.DOTALL), reason)
    for pattern, reason in (
        (r"has (?P<mb>[\d.]+) MB; the limit is (?P<limit>\d+) MB", "large"),
        (r"is UTF-16, not UTF-8|is not UTF-8 text", "encoding"),
        (r"is no text: it holds zero bytes", "binary"),
        (r"is empty: there is nothing to learn from", "empty"),
        (r"has (?P<n>[\d,]+) examples; the limit is (?P<most>[\d,]+)", "many_examples"),
        (r"line (?P<line>\d+): the text is empty", "empty_text"),
        (r"line (?P<line>\d+): the label is empty", "empty_label"),
        (r"has a first row and nothing below it", "header_only"),
        (r"line (?P<line>\d+) is no JSON", "json"),
        (r"line (?P<line>\d+): need an object with a text and a label", "json_fields"),
        (r"line (?P<line>\d+) has (?P<n>\d+) columns, the first row (?P<first>\d+)", "columns"),
        (r"which column is which\?.*found: (?P<found>.+)$", "which_column"),
        (r"all (?P<n>\d+) examples are called (?P<label>.+): a classifier", "one_class"),
        (r"there are no examples", "no_examples"),
        (r"^(?P<pairs>.+ looks like .+): correct the labels", "misspelt"),
        (r"(?P<classes>\d+) different labels among (?P<n>\d+) examples", "many_labels"),
        (r"only one training example is called (?P<label>.+): give", "alone"),
        (r"validation has examples called (?P<label>.+), training has none", "unknown_label"),
        (r"the text is a single line", "single_line"),
        (r"has (?P<n>\d+) training tokens; windows of (?P<window>\d+) need (?P<need>\d+)", "short"),
        (r"(?P<n>\d+) validation tokens are too few", "short_validation"),
        (r"there are no validation examples", "no_validation"),
        (r"n_tokens (?P<n>\d+) leaves no room", "no_room"),
        (r"lora rank (?P<rank>\d+) is more than .* has rank (?P<most>\d+) at most", "lora_rank"),
        (r"this model has no (?P<names>.+) to put a LoRA on", "lora_targets"),
        (r", line (?P<line>\d+):", "row"),
    )
]


def explain(error: Exception) -> tuple[str, dict[str, object]]:
    """(id of a text, its values) for a sentence of the engine or an `InputError`; ("other", {}) for what is unknown.

    >>> explain(ValueError("all 3 examples are called 'good': a classifier needs at least two classes"))
    ('one_class', {'n': '3', 'label': "'good'"})
    """
    if isinstance(error, InputError):
        return error.reason, error.values
    for pattern, reason in _SENTENCES:
        if (match := pattern.search(str(error))) is not None:
            return reason, dict(match.groupdict())
    return "other", {}


def own_files(kind: Kind, pasted: str, upload: tuple[str, bytes] | None) -> dict[str, bytes]:
    """A learner's own words by the names that `lab.runs.submit` expects: the upload where there is one, else the paste.

    What is pasted for the task of labels is JSON lines, TSV or CSV, whichever its first line looks like. Raises
    InputError where there is nothing, or a file that this task does not read.
    """
    if upload is None:
        if not pasted.strip():
            raise InputError("nothing")
        return {f"train.{_ending(kind, pasted)}": pasted.encode("utf-8", "ignore")}
    name, content = upload
    ending = name.rpartition(".")[2].lower()
    if ending not in ENDINGS[kind]:
        raise InputError("ending", name=name, known=", ".join(f".{known}" for known in ENDINGS[kind]))
    return {f"train.{'txt' if kind == 'text' else ending}": content}


def _ending(kind: Kind, pasted: str) -> str:
    if kind == "text":
        return "txt"
    first = pasted.lstrip().split("\n", 1)[0]
    return "jsonl" if first.startswith("{") else "tsv" if "\t" in first else "csv"


@dataclass(frozen=True)
class Facts:
    """What will be learned from. n_train and n_validation count tokens (text) or texts (examples)."""

    n_train: int
    n_validation: int
    labels: tuple[str, ...] = ()
    n_cut: int = 0


def check(model: str, kind: Kind, files: Mapping[str, bytes], config: FinetuneConfig) -> Facts:
    """Whether this model can learn these words in this way; what a worker would find out later is said now.

    Raises InputError, the engine's ValueError (see `explain`), and what `lab.models.load` raises.
    """
    loaded = models.load(model)
    if kind == "text" and isinstance(loaded.model, Encoder):
        raise InputError("encoder")
    context, virtual = loaded.model.config.context_length, config.n_virtual if config.learns == "soft_prompt" else 0
    if kind == "text" and config.n_tokens + virtual > context:
        raise InputError("window", n=config.n_tokens, most=context - virtual)
    if config.learns == "last_layers" and config.n_last_layers > loaded.model.config.n_layers:
        raise InputError("layers", n=config.n_last_layers, most=loaded.model.config.n_layers)
    _check_adapter(loaded, config)
    data = (
        _text(loaded, files, config)
        if kind == "text"
        else _labelled(loaded, files, min(config.n_tokens, context - virtual))
    )
    rows = config.batch_size * config.accumulate
    if rows > data.n_units:
        raise InputError("few", rows=rows, n=data.n_units, most=max(1, data.n_units // config.accumulate))
    if isinstance(data, CausalData):
        return Facts(len(data.train), len(data.validation))
    return Facts(len(data.train), len(data.validation), data.labels, data.n_cut)


def _check_adapter(loaded: LoadedModel, config: FinetuneConfig) -> None:
    if config.learns == "soft_prompt" and isinstance(loaded.model, Encoder):
        raise InputError("soft_encoder")
    if config.learns != "lora":
        return
    places = list(lora_places(loaded.model, config.lora_targets))
    if absent := set(config.lora_targets) - {target for _, _, target, _ in places}:
        raise InputError("lora_targets", names=", ".join(sorted(absent)))
    most = min(min(layer.weight.shape) for _, _, _, layer in places)
    if config.lora_rank > most:
        raise InputError("lora_rank", rank=config.lora_rank, most=most)


def _text(loaded: LoadedModel, files: Mapping[str, bytes], config: FinetuneConfig) -> CausalData:
    assert loaded.tokenizer is not None  # `models.load` has looked
    text = decode_text(files["train.txt"], "train.txt", MAX_FILE_BYTES)
    if "validation.txt" in files:
        train = [document.strip("\n") for document in text.split(SEPARATOR) if document.strip()]
        validation = [decode_text(files["validation.txt"], "validation.txt")]
    else:
        train, validation = split_text(text, VALIDATION_SHARE)
    return causal_data(train, validation, loaded.tokenizer, config.n_tokens)


def _labelled(loaded: LoadedModel, files: Mapping[str, bytes], longest: int) -> LabelledData:
    assert loaded.tokenizer is not None
    name, content = next(iter(files.items()))
    train, validation = parts_of(parse_examples(content, name), VALIDATION_SHARE)
    return labelled_data(train, validation, loaded.tokenizer, longest, frame_of(loaded))


def n_learned(model: str, config: FinetuneConfig, n_classes: int = 2) -> tuple[int, int]:
    """(how many numbers learn, how many the model has), counted without building anything.

    Raises what `lab.models.load` raises.
    """
    body = models.load(model).model
    total, d_model, encoder = body.n_parameters(), body.config.d_model, isinstance(body, Encoder)
    head = 0 if config.task == "causal" else n_classes * d_model + (n_classes if encoder else 0)
    if encoder and head and config.pooling == "first":
        head += d_model * (d_model + 1)
    inside = total
    if isinstance(body, Encoder):  # heads of pre-training, which no task here uses
        unused = (body.mlm_transform, body.mlm_norm, body.pooler, body.next_sentence)
        inside -= sum(p.numel() for part in unused if part is not None for p in part.parameters())
    if config.learns == "head":
        inside = 0
    elif config.learns == "soft_prompt":
        inside = config.n_virtual * d_model
    elif config.learns == "lora":
        places = lora_places(body, config.lora_targets)
        inside = sum(config.lora_rank * sum(layer.weight.shape) for _, _, _, layer in places)
    elif config.learns == "last_layers":
        blocks = list(body.blocks)[max(0, len(body.blocks) - config.n_last_layers) :]
        inside = sum(p.numel() for block in blocks for p in block.parameters())
        if config.n_last_layers and isinstance(body, Decoder):
            inside += sum(p.numel() for p in body.final_norm.parameters())
    return inside + head, total + head
