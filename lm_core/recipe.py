"""A model from a recipe: one TOML file names the data, the tokenizer, the shape and the training.

`python -m lm_core pretrain --config recipe.toml --data FOLDER --out FOLDER` runs it or resumes it; at the end it writes
a folder that `lm_core` and `transformers` load.
"""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lm_core.character_tokenizer import character_bpe, common_characters, frequent_characters
from lm_core.checkpoint import load_pretrained, resolve
from lm_core.config import DecoderConfig, EncoderConfig, gpt2_config, llama_config
from lm_core.corpus import Source, Text, read_texts, without_shared_lines
from lm_core.data import SEPARATOR, TokenStream
from lm_core.encoder import Encoder
from lm_core.encoder_rows import Frame, SentenceStream
from lm_core.masked_language import MaskedRows, MaskingConfig, masked_language_loss
from lm_core.model import Decoder
from lm_core.neighbour_heads import look_at_neighbours
from lm_core.pretrain import Batches, LossOf, PretrainConfig, Record, causal_loss, pretrain
from lm_core.token_kinds import TokenKinds
from lm_core.tokenizer import BPETokenizer, train_bpe
from lm_core.tokenizer_files import for_encoder, load_tokenizer, save_tokenizer_json
from lm_core.training_state import find_state

ModelConfig = DecoderConfig | EncoderConfig
FAMILIES: dict[str, Callable[..., ModelConfig]] = {"gpt2": gpt2_config, "llama": llama_config, "bert": EncoderConfig}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a model becomes. `held_out` is the share of books kept for choosing settings.

    `tested` is a further share for a last figure; with `unshared_lines` a held-out text that has a line in common with
    a training text is left out. `tokenizer_kind`: "bpe" learns pieces, "characters" makes each character a token.
    `start` names an earlier run, a folder beside this one's: its tokenizer and its finished weights are gone on from.
    `tokenizer_of` names a model whose tokenizer is taken instead of a new one. An encoder (family "bert") adds BERT's
    special tokens to it and learns by `masking`. With `embeddings_of_it` its first token vectors are that model's too.
    """

    name: str
    sources: tuple[Source, ...]
    held_out: float
    tokenizer_vocab: int
    model: ModelConfig
    train: PretrainConfig
    prompts: tuple[str, ...]
    start: str | None = None
    tokenizer_kind: str = "bpe"
    tested: float = 0.0
    unshared_lines: bool = False
    tokenizer_of: str | None = None
    embeddings_of_it: bool = False
    masking: MaskingConfig = field(default_factory=MaskingConfig)

    def __post_init__(self) -> None:
        if self.tokenizer_kind not in ("bpe", "characters"):
            raise ValueError(f"unknown tokenizer kind {self.tokenizer_kind!r}: use bpe or characters")


def read_recipe(path: Path) -> Recipe:
    """Parse and validate a recipe. Raises ValueError naming what is wrong, FileNotFoundError for a missing file."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        shape = dict(raw["model"])
        build = FAMILIES[shape.pop("family")]
        vocab = raw["tokenizer"]["vocab_size"]
        return Recipe(
            name=raw["name"],
            sources=tuple(Source(**source) for source in raw["data"]),
            held_out=raw.get("held_out", 0.02),
            tokenizer_vocab=vocab,
            model=build(vocab_size=vocab, **shape),
            train=PretrainConfig(**raw["train"]),
            prompts=tuple(raw.get("prompts", ())),
            start=raw.get("start"),
            tokenizer_kind=raw["tokenizer"].get("kind", "bpe"),
            tested=raw.get("tested", 0.0),
            unshared_lines=raw.get("unshared_lines", False),
            tokenizer_of=raw["tokenizer"].get("of"),
            embeddings_of_it=raw["tokenizer"].get("embeddings_too", False),
            masking=MaskingConfig(**raw.get("masking", {})),
        )
    except KeyError as error:
        raise ValueError(f"{path.name}: missing or unknown entry {error}") from error
    except TypeError as error:  # an argument that a config does not know
        raise ValueError(f"{path.name}: {error}") from error


def _texts(recipe: Recipe, data: Path) -> list[Text]:
    texts = read_texts(recipe.sources, data, recipe.held_out, recipe.tested)
    return without_shared_lines(texts) if recipe.unshared_lines else list(texts)


def training_texts(recipe: Recipe, data: Path) -> list[str]:
    """The texts that training reads, each once."""
    return [text.text for text in _texts(recipe, data) if text.split == "train"]


def held_back_texts(recipe: Recipe, data: Path) -> list[str]:
    """The texts that neither training nor the choice of settings ever saw: for a last figure.

    Raises ValueError when the recipe keeps none (`tested` is 0).
    """
    kept = [text.text for text in _texts(recipe, data) if text.split == "test"]
    if not kept:
        raise ValueError(f"the recipe {recipe.name} keeps no texts for a test")
    return kept


def source_hashes(recipe: Recipe, data: Path) -> dict[str, str]:
    """sha256 of every source file, for the model card."""
    return {s.path: hashlib.sha256((data / s.path).read_bytes()).hexdigest() for s in recipe.sources}


def _new_tokenizer(recipe: Recipe, texts: list[str]) -> BPETokenizer:
    """Pieces learned from the texts, their characters (`kind = "characters"`: what occurs twice, then what is common),
    or those of the model that the recipe names; an encoder's with BERT's special tokens.
    """
    encoder = isinstance(recipe.model, EncoderConfig)
    if recipe.tokenizer_of is not None:
        tokenizer = load_tokenizer(resolve(recipe.tokenizer_of))
    elif recipe.tokenizer_kind == "characters":
        tokenizer = character_bpe([*frequent_characters(texts, at_least=2), *common_characters()], [SEPARATOR])
    else:
        tokenizer = train_bpe(texts, recipe.tokenizer_vocab - (4 if encoder else 0), [SEPARATOR])
    tokenizer = for_encoder(tokenizer) if encoder else tokenizer
    if tokenizer.vocab_size > recipe.tokenizer_vocab:
        raise ValueError(f"vocab_size {recipe.tokenizer_vocab} is too small: the tokenizer has {tokenizer.vocab_size}")
    return tokenizer


def prepare(recipe: Recipe, data: Path, out: Path) -> tuple[BPETokenizer, TokenStream, TokenStream]:
    """Tokenizer and the two token streams, made on the first call and read back from `out` afterwards."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer_file, train_file, selection_file = (out / n for n in ("tokenizer.json", "train.npy", "selection.npy"))
    if not selection_file.exists():  # written last
        rows = _texts(recipe, data)
        if recipe.start is not None:
            save_tokenizer_json(load_tokenizer(_finished(recipe, out)), out)
        elif not tokenizer_file.exists():
            save_tokenizer_json(_new_tokenizer(recipe, [row.text for row in rows if row.split == "train"]), out)
        tokenizer = load_tokenizer(out)
        for file, wanted in ((train_file, "train"), (selection_file, "selection")):
            ids: list[int] = []
            for row in rows:
                if row.split == wanted:
                    ids.extend([tokenizer.bos_id or 0, *tokenizer.encode(row.text)] * row.repeat)
            partial = file.with_suffix(".partial.npy")  # a kill while writing must not leave half a stream
            np.save(partial, np.array(ids, dtype=np.uint16 if recipe.tokenizer_vocab <= 65536 else np.int32))
            partial.replace(file)
    tokenizer = load_tokenizer(out)
    return (
        tokenizer,
        TokenStream(np.load(train_file, mmap_mode="r")),
        TokenStream(np.load(selection_file, mmap_mode="r")),
    )


def _finished(recipe: Recipe, out: Path) -> Path:
    """The finished model of the run that the recipe starts from. Raises FileNotFoundError naming it."""
    folder = out.resolve().parent / str(recipe.start) / "model"
    if not folder.is_dir():
        raise FileNotFoundError(f"{recipe.name} starts from the run {recipe.start!r}: make it first, beside --out")
    return folder


def first_model(recipe: Recipe, out: Path) -> Decoder | Encoder:
    """The model before the first step: random weights (the same for the same seed), or those of the run `start`.

    Raises ValueError when that run's model has another shape.
    """
    if recipe.start is None:
        model = Encoder(recipe.model) if isinstance(recipe.model, EncoderConfig) else Decoder(recipe.model)
        generator = torch.Generator().manual_seed(recipe.train.seed)
        model.init_weights(generator)
        model = _with_embeddings(model, recipe.tokenizer_of) if recipe.embeddings_of_it else model
        if recipe.masking.neighbours_first and isinstance(model, Encoder):
            return look_at_neighbours(model, generator)
        return model
    loaded = load_pretrained(_finished(recipe, out), trainable=True)
    if loaded.model.config != recipe.model:
        raise ValueError(f"the model of run {recipe.start!r} has another shape than {recipe.name} asks for")
    return loaded.model.train()


@torch.no_grad()
def _with_embeddings(model: Decoder | Encoder, donor: str | None) -> Decoder | Encoder:
    """Copy the token vectors of another model with the same tokenizer; tokens that it lacks keep their random ones.
    Raises ValueError when there is no such model, or its vectors have another width.
    """
    if donor is None:
        raise ValueError("embeddings_too needs a model to take them from: [tokenizer] of = …")
    theirs, ours = load_pretrained(resolve(donor)).model.embed_tokens.weight, model.embed_tokens.weight
    if theirs.shape[1] != ours.shape[1] or theirs.shape[0] > ours.shape[0]:
        raise ValueError(f"the embeddings of {donor} are {tuple(theirs.shape)}, this model's {tuple(ours.shape)}")
    ours[: len(theirs)] = theirs
    return model


def objective(
    recipe: Recipe, tokenizer: BPETokenizer, train: TokenStream, selection: TokenStream
) -> tuple[Batches, Batches, LossOf]:
    """What the model of a recipe learns from: batches to train on, batches to choose settings on, and the loss.

    An encoder is judged on hidden words alone: the rows for choosing settings hold no pairs.
    """
    if isinstance(recipe.model, DecoderConfig):
        return train, selection, causal_loss
    kinds, frame = TokenKinds.of(tokenizer), Frame.of(tokenizer.special_tokens)
    rows = MaskedRows(SentenceStream(train.token_ids, kinds), frame, recipe.masking)
    judged = MaskedRows(SentenceStream(selection.token_ids, kinds), frame, replace(recipe.masking, pair_share=0.0))
    return rows, judged, masked_language_loss


def train_recipe(
    recipe: Recipe, data: Path, out: Path, device: torch.device
) -> Iterator[tuple[Record, Decoder | Encoder]]:
    """Run or resume the recipe; every record also goes to `out/log.jsonl`."""
    tokenizer, train, selection = prepare(recipe, data, out)
    batches, judged, loss_of = objective(recipe, tokenizer, train, selection)
    model = first_model(recipe, out).to(device)
    facts: dict[str, Any] = {"recipe": recipe.name, "train_tokens": len(train)}
    state = out / "state"
    saved = find_state(state)
    done = json.loads((saved / "state.json").read_text(encoding="utf-8"))["step"] if saved else 0
    log = out / "log.jsonl"
    kept = log.read_text().splitlines()[:done] if log.exists() else []  # drop what a killed run wrote past its save
    log.write_text("".join(line + "\n" for line in kept))
    with log.open("a", encoding="utf-8") as file:
        for record in pretrain(model, batches, judged, recipe.train, state, facts, loss_of):
            file.write(json.dumps({k: v for k, v in vars(record).items() if v is not None}) + "\n")
            file.flush()
            yield record, model


def shorter(recipe: Recipe, n_steps: int) -> Recipe:
    """The same recipe for fewer (or more) steps: for a quick comparison."""
    return replace(recipe, train=replace(recipe.train, n_steps=n_steps))
