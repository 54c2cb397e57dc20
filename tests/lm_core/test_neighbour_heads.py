"""An encoder that looks at its neighbours from the first step."""

from __future__ import annotations

import pytest
import torch

from lm_core.config import EncoderConfig
from lm_core.encoder import Encoder
from lm_core.neighbour_heads import look_at_neighbours, offsets

CONFIG = EncoderConfig(vocab_size=97, d_model=128, n_layers=2, n_heads=4, d_mlp=40, context_length=50)


def _models() -> tuple[Encoder, Encoder]:
    plain, looking = (Encoder(CONFIG).init_weights(torch.Generator().manual_seed(1)) for _ in range(2))
    return plain, look_at_neighbours(looking, torch.Generator().manual_seed(2))


def test_each_head_of_the_first_layer_attends_to_its_neighbour() -> None:
    plain, looking = _models()
    ids = torch.randint(97, (3, 40), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        before, after = (model.trace(ids).layers[0].attention.weights for model in (plain, looking))
    for head, offset in enumerate(offsets(CONFIG.n_heads)):
        place = torch.arange(max(0, -offset), min(40, 40 - offset))
        assert before[:, head, place, place + offset].mean() < 0.05
        assert after[:, head, place, place + offset].mean() > 0.5
        assert (after[:, head, place].argmax(-1) == place + offset).float().mean() > 0.8


def test_only_positions_and_two_matrices_are_set() -> None:
    plain, looking = _models()
    changed = [
        name
        for (name, a), b in zip(plain.named_parameters(), looking.parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert changed == ["embed_positions.weight", "blocks.0.attention.w_q.weight", "blocks.0.attention.w_k.weight"]


def test_waves_come_in_pairs() -> None:
    config = EncoderConfig(vocab_size=9, d_model=9, n_layers=1, n_heads=3, d_mlp=4, context_length=5)
    with pytest.raises(ValueError, match="d_head 3 is odd"):
        look_at_neighbours(Encoder(config), torch.Generator())
