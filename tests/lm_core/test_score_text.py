"""`python -m lm_core score` against the loss of transformers: the storyteller, and a GPT-2 without a start token."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lm_core.__main__ import main
from lm_core.checkpoint import load_pretrained, save_pretrained
from lm_core.config import gpt2_config
from lm_core.model import Decoder
from lm_core.tokenizer import train_bpe

STORYTELLER = Path(__file__).parents[2] / "assets" / "models" / "storyteller"
SENTENCES = [
    "The old king looked at the little bird.",
    "Once upon a time, there was a girl.",
    "Colorless green ideas sleep furiously.",
    "no  CAPITALS,   odd   spaces",
    "1 + 1 = 2",
    "床前明月光，疑是地上霜。",
    "从前有一个国王。",
    "A 猫 and a cat",
    "🙂",
    "He said: 👩‍👩‍👧 hello 🎉!",
]


@pytest.fixture(scope="module", params=["storyteller", "startless"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "storyteller":
        if not STORYTELLER.exists():
            pytest.skip("the storyteller is not in this checkout")
        return STORYTELLER
    path = tmp_path_factory.mktemp("startless")
    tokenizer = train_bpe(["The old king looked at the little bird."], 280, [])
    shape = gpt2_config(vocab_size=tokenizer.vocab_size, d_model=12, n_layers=2, n_heads=3, context_length=128)
    torch.manual_seed(3)
    save_pretrained(Decoder(shape), tokenizer, path)
    return path


@pytest.fixture(scope="module")
def theirs(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_mean_is_transformers_loss(
    sentence: str, folder: Path, theirs: torch.nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "--model", str(folder), "--text", sentence, "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    loaded = load_pretrained(folder)
    ids = torch.tensor([loaded.encode(sentence)])
    with torch.no_grad():
        loss = theirs(ids, labels=ids).loss.item()
    assert report["mean_nats"] == pytest.approx(loss, abs=1e-5)
    n = ids.shape[1] - 1
    assert report["scored_tokens"] == n
    assert report["perplexity"] == pytest.approx(math.exp(loss), rel=2e-5)
    n_bytes = len(sentence.encode())
    if loaded.start_id is None:
        n_bytes -= len(loaded.tokenizer.token_bytes(int(ids[0, 0])))
    assert report["bits_per_byte"] == pytest.approx(n * loss / math.log(2) / n_bytes, rel=2e-5)
    assert math.fsum(row["surprisal_bits"] for row in report["tokens"]) == pytest.approx(report["total_bits"], abs=1e-3)
