"""The strongest activations, held to a search through each text by itself."""

from __future__ import annotations

import pytest
import torch

from lm_core.model import Decoder
from lm_core.neurons import strongest_activations
from tests import tiny_models

TEXTS = [[1, 5, 9, 33], [1, 2], [1, 7, 7, 7, 8, 20, 3], [1, 40, 41], [1, 9, 5, 250, 2]]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize(("skip", "batch"), [(0, 16), (1, 2), (1, 1)])
def test_it_finds_what_a_plain_search_finds(family: str, skip: int, batch: int) -> None:
    model = Decoder(getattr(tiny_models, family)()).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.6, generator=generator)
        alone = [model.trace(torch.tensor([text])) for text in TEXTS]
    high, low = strongest_activations(model, TEXTS, count=3, skip=skip, batch=batch)
    assert high.values.shape == low.values.shape == (2, 3, model.config.d_mlp)
    for layer in range(2):
        for neuron in range(0, model.config.d_mlp, 5):
            found = [
                (float(trace.layers[layer].mlp_hidden[0, t, neuron]), b, t)
                for b, trace in enumerate(alone)
                for t in range(skip, len(TEXTS[b]))
            ]
            for end, ordered in ((high, sorted(found, reverse=True)), (low, sorted(found))):
                for k in range(3):
                    value, b, t = ordered[k]
                    assert end.values[layer, k, neuron].item() == pytest.approx(value, abs=1e-9)
                    where = int(end.texts[layer, k, neuron]), int(end.positions[layer, k, neuron])
                    if skip:  # the first token is the same in all texts; no other two activations are alike
                        assert where == (b, t)
                    again = alone[where[0]].layers[layer].mlp_hidden[0, where[1], neuron]
                    assert float(again) == pytest.approx(value, abs=1e-9)


def test_a_small_corpus_gives_fewer_and_none_an_error() -> None:
    model = Decoder(tiny_models.gpt2()).init_weights()
    high, _ = strongest_activations(model, [[1, 2], [3]], count=8)
    assert high.values.shape[1] == 3
    with pytest.raises(ValueError, match="no texts"):
        strongest_activations(model, [])
