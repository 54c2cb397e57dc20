"""Probes: what the model says at one step of its training, always asked in the same words.

samples       the prompts continued, with the same drawn numbers at every step
next          what may follow the probe sentence: the likeliest 12, and whatever was among them before
attention     where one head looks while it reads the probe sentence
predictions   a classifier only: up to 60 validation texts and the probability of each class
change        how far each matrix is from where it began: ‖Wₜ − W₀‖ / ‖W₀‖
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lm_core.adapters import learned, lora_layers
from lm_core.batches import LabelledData
from lm_core.fast_tokenizer import Tokenizer
from lm_core.finetune_run import Prepared, frame_of
from lm_core.model import Decoder

LIKELIEST = 12
MOST_TEXTS = 60
MOST_TOKENS = 48  # of the probe sentence: a map of 48 × 48 weights is what a screen shows
DIGITS = 4  # behind the point


class Prober:
    """Takes the probes of one run. Make it before the run begins: it keeps the numbers of step 0."""

    def __init__(
        self, prepared: Prepared, sentence: str, layer: int = -1, head: int = 0, seen: Iterable[int] = ()
    ) -> None:
        """sentence: the words to read. layer, head: whose attention; the last layer, the first head. seen: ids of
        tokens that an earlier attempt has named among the likeliest.
        """
        self.prepared, self.sentence = prepared, sentence
        n_layers, n_heads = prepared.base.model.config.n_layers, prepared.base.model.config.n_heads
        self.layer, self.head = range(n_layers)[max(-n_layers, min(layer, n_layers - 1))], min(head, n_heads - 1)
        self.seen = list(seen)
        self.before = _matrices(prepared.learner, copy=True)

    @torch.no_grad()
    def take(self, step: int) -> dict[str, Any]:
        """The probe of this step, as plain values."""
        sampler = self.prepared.sampler
        probe: dict[str, Any] = {"step": step, "change": self._change()}
        if sampler is not None:
            probe["samples"] = [{"prompt": sample.prompt, "text": sample.text} for sample in sampler()]
        probe |= self._reading()
        if isinstance(self.prepared.data, LabelledData):
            probe["predictions"] = self._predictions(self.prepared.data)
        return probe

    def _reading(self) -> dict[str, Any]:
        """`next` and `attention`; without a sentence, or one without tokens, nothing."""
        body, tokenizer = self.prepared.learner.body, self.prepared.base.tokenizer
        assert tokenizer is not None  # `prepare_run` has asked
        before, after = frame_of(self.prepared.base)
        virtual = self.prepared.learner.virtual_ids
        room = min(MOST_TOKENS, body.config.context_length - len(virtual)) - len(before) - len(after)
        ids = tokenizer.encode(self.sentence)[: max(0, room)]
        if not ids:
            return {}
        row = [*before, *ids, *after]
        trace = body.trace(torch.tensor([[*virtual, *row]], device=self.prepared.learner.device))
        weights = trace.layers[self.layer].attention.weights[0, self.head]
        labels = [*(f"[{i + 1}]" for i in range(len(virtual))), *tokenizer.labels(row)]
        found: dict[str, Any] = {"attention": {
            "tokens": labels, "layer": self.layer, "head": self.head, "weights": rounded(weights),
        }}  # fmt: skip
        if isinstance(body, Decoder):
            found["next"] = self._next(trace.logits[0, -1], tokenizer)
        return found

    def _next(self, logits: Tensor, tokenizer: Tokenizer) -> dict[str, Any]:
        probabilities = logits.float().softmax(dim=-1)[: tokenizer.vocab_size]
        likeliest = probabilities.topk(min(LIKELIEST, len(probabilities))).indices.tolist()
        self.seen += [token for token in likeliest if token not in self.seen]
        labels = [tokenizer.labels([token])[0] for token in self.seen]
        return {"tokens": labels, "ids": list(self.seen), "probabilities": rounded(probabilities[self.seen], 6)}

    def _predictions(self, data: LabelledData) -> dict[str, Any]:
        tokenizer, learner = self.prepared.base.tokenizer, self.prepared.learner
        before, after = frame_of(self.prepared.base)
        rows = data.validation[:MOST_TEXTS]
        found = []
        for ids, _ in rows:
            row = torch.tensor([ids], device=learner.device)
            logits = learner(row, torch.tensor([len(ids)], device=learner.device))
            found.append(rounded(logits[0].float().softmax(dim=-1)))
        assert tokenizer is not None
        words = [ids[len(before) : len(ids) - len(after)] for ids, _ in rows]
        return {
            "texts": [tokenizer.decode(w) for w in words], "labels": list(data.labels),
            "true": [data.labels[label] for _, label in rows], "probabilities": found,
        }  # fmt: skip

    def _change(self) -> dict[str, float]:
        now = _matrices(self.prepared.learner)
        return {
            name: _round(float((now[name] - start).norm()) / size, 6)
            for name, start in self.before.items()
            if (size := float(start.norm())) > 0  # a head that starts at 0 has no length to compare with
        }


def _matrices(learner: nn.Module, copy: bool = False) -> dict[str, Tensor]:
    """What learns, by name; in place of a LoRA's two factors the matrix that they change, with them added."""
    found = {name: p for name, p in learned(learner).items() if not name.endswith((".lora_a", ".lora_b"))}
    found |= {
        f"{name}.weight": layer.weight + layer.scale * (layer.lora_b @ layer.lora_a)
        for name, layer in lora_layers(learner).items()
    }
    plain = {name.removeprefix("body."): tensor.detach() for name, tensor in found.items()}
    return {name: tensor.clone() for name, tensor in plain.items()} if copy else plain


def rounded(values: Tensor, digits: int = DIGITS) -> Any:
    """Plain numbers of a few digits: [[...]] or [...].

    >>> rounded(torch.tensor([[0.123456, 1.0]]))
    [[0.1235, 1.0]]
    """
    return _round(values.detach().float().cpu().tolist(), digits)


def _round(value: Sequence[Any] | float, digits: int) -> Any:
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return [_round(v, digits) for v in value]
