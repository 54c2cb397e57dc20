"""Tokenizers in files, and the fast path: Hugging Face's `tokenizer.json`, GPT-2's `vocab.bpe` + `encoder.json`.

Two tokenizers share one interface, `Tokenizer`, and a test holds them to the same ids:
    BPETokenizer   readable Python, byte-level BPE with GPT-2's pretokens only; lessons show its steps
    FastTokenizer  Rust (the `tokenizers` library), any tokenizer.json: GPT-2, SmolLM2, Llama, BERT; models use it

In both file formats a token's bytes are written in GPT-2's alphabet of 256 visible characters
(`byte_alphabet`): a space is Ġ, a newline Ċ. A merge is two such strings; its place in the list is its rank.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_core.fast_tokenizer import FastTokenizer, Tokenizer, read_json_object, read_text, tokenizer_path
from lm_core.token_spans import from_alphabet, to_alphabet
from lm_core.tokenizer import BPETokenizer, Pair

__all__ = ["FastTokenizer", "Tokenizer", "for_encoder", "load_gpt2", "load_tokenizer", "save_tokenizer_json", "to_fast"]


# --- writing tokenizer.json -------------------------------------------------------------------------------------------


def save_tokenizer_json(bpe: BPETokenizer, folder: Path | str) -> Path:
    """Write `tokenizer.json` and `tokenizer_config.json`, which `tokenizers` and `transformers` load with equal ids.

    Returns the path of tokenizer.json; makes the folder if need be.

    >>> import tempfile
    >>> from lm_core.tokenizer import train_bpe
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_tokenizer_json(train_bpe(["low low lower"], 259), folder)
    ...     load_tokenizer(folder).encode("low")
    [257]
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    _write_json(path, _tokenizer_json(bpe))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(bpe))
    return path


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _tokenizer_json(bpe: BPETokenizer) -> dict[str, Any]:
    by_id = sorted(bpe.special_tokens.items(), key=lambda item: item[1])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    # Special tokens stand in the vocabulary too: that is how the library is told their ids. No merge makes them.
    vocab = {to_alphabet(token): token_id for token, token_id in bpe.vocab.items()}
    if clash := vocab.keys() & bpe.special_tokens.keys():
        raise ValueError(f"the special token {min(clash)!r} has the name of an ordinary token")
    vocab |= bpe.special_tokens
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token_id, "content": content, **flags} for content, token_id in by_id],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": _frame(bpe),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": [[to_alphabet(left), to_alphabet(right)] for left, right in bpe.merges],
        },
    }


def _frame(bpe: BPETokenizer) -> dict[str, Any] | None:
    """BERT's frame [CLS] text [SEP], pairs [CLS] A [SEP] B [SEP], for a vocabulary that has these two; else None."""
    ids = {name: bpe.special_tokens.get(name) for name in ("[CLS]", "[SEP]")}
    if None in ids.values():
        return None

    def special(name: str, segment: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": segment}}

    def text(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)]
    names = {name: {"id": name, "ids": [token_id], "tokens": [name]} for name, token_id in ids.items()}
    pair = [*single, text("B", 1), special("[SEP]", 1)]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": names}


def _tokenizer_config(bpe: BPETokenizer) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,  # else decoding would turn "do n't" into "don't"
    }
    if _frame(bpe) is not None:  # an encoder's texts are framed, and have no document start
        roles = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
        there = {role: name for role, name in roles.items() if name in bpe.special_tokens}
        return {**config, **there, "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    names = {token_id: name for name, token_id in bpe.special_tokens.items()}
    for role, token_id in (("bos_token", bpe.bos_id), ("eos_token", bpe.eos_id)):
        if token_id is not None:
            config[role] = names[token_id]
    return config


def to_fast(bpe: BPETokenizer) -> FastTokenizer:
    """The same vocabulary on the fast path: equal ids. English costs both about the same, since words come back and
    are remembered; a single "word" of 10,000 random letters takes the readable path a hundred times longer.

    >>> from lm_core.tokenizer import train_bpe
    >>> to_fast(train_bpe(["low low lower"], 259)).encode("low")
    [257]
    """
    return FastTokenizer(_tokenizer_json(bpe), _tokenizer_config(bpe))


def for_encoder(bpe: BPETokenizer) -> BPETokenizer:
    """The same vocabulary with [PAD], [CLS], [SEP] and [MASK] after the last id; every other id stays as it is.

    >>> from lm_core.tokenizer import train_bpe
    >>> to_fast(for_encoder(train_bpe([], 256))).encode("a", add_special_tokens=True)
    [257, 64, 258]
    """
    names = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
    added = {name: bpe.vocab_size + n for n, name in enumerate(names)}
    return BPETokenizer(bpe.vocab, bpe.merges, {**bpe.special_tokens, **added})


# --- reading into the readable tokenizer ------------------------------------------------------------------------------


def load_tokenizer(path: Path | str) -> BPETokenizer:
    """Read a byte-level BPE `tokenizer.json` (the file, or the folder that holds it) into the readable tokenizer.

    ValueError, in a sentence, for a file that is too large, is not JSON, lacks its merges, or cuts its text in
    another way than GPT-2 does (BERT, Llama, SmolLM2 …: those load as `FastTokenizer.from_file`).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    ...     load_tokenizer(folder)
    Traceback (most recent call last):
    ValueError: tokenizer.json holds a WordPiece model; the readable tokenizer reads BPE only
    """
    path = tokenizer_path(path)
    content = read_json_object(path)
    model = _part(content, "model", dict, path)
    if model.get("type", "BPE" if "merges" in model else None) != "BPE":
        raise ValueError(f"{path.name} holds a {model.get('type')} model; the readable tokenizer reads BPE only")
    _check_gpt2_like(content, path)
    specials = _special_tokens(content, path)
    vocab = _part(model, "vocab", dict, path)
    merges = [_parse_merge(merge, path) for merge in _part(model, "merges", list, path)]
    _check_ids(vocab, path)
    token_ids = {from_alphabet(token): token_id for token, token_id in vocab.items() if token not in specials}
    return BPETokenizer(token_ids, merges, specials)


def _part(content: Any, key: str, kind: type, path: Path) -> Any:
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"{path.name} has no {key!r}, or not in the shape of a tokenizer.json")
    return value


def _check_ids(vocab: Mapping[str, Any], path: Path) -> None:
    for token, token_id in vocab.items():
        if not isinstance(token_id, int) or isinstance(token_id, bool) or token_id < 0:
            raise ValueError(f"{path.name}: the id of {token!r} is {token_id!r}, not a whole number from 0")


def _check_gpt2_like(content: Mapping[str, Any], path: Path) -> None:
    """Refuse what the readable tokenizer would read wrongly, rather than give ids the model never saw."""
    model, cut = content["model"], content.get("pre_tokenizer")
    cut = cut if isinstance(cut, dict) else {}
    gpt2_cut = cut.get("type") == "ByteLevel" and not cut.get("add_prefix_space") and cut.get("use_regex", True)
    if not gpt2_cut or content.get("normalizer"):
        raise ValueError(f"{path.name} does not cut text as GPT-2 does: load it with FastTokenizer.from_file")
    for option in ("dropout", "byte_fallback", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise ValueError(f"{path.name} sets {option!r}: load it with FastTokenizer.from_file")


def _special_tokens(content: Mapping[str, Any], path: Path) -> dict[str, int]:
    try:
        added = [(str(token["content"]), int(token["id"]), token) for token in content.get("added_tokens") or []]
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{path.name}: 'added_tokens' is not a list of tokens with 'content' and 'id'") from None
    for name, _, token in added:
        if not token.get("special") or any(token.get(flag) for flag in ("lstrip", "rstrip", "single_word")):
            raise ValueError(f"{path.name} adds {name!r} by a rule of its own: load it with FastTokenizer.from_file")
    return {name: token_id for name, token_id, _ in added}


def _parse_merge(merge: Any, path: Path) -> Pair:
    """A merge is ["Ġ", "t"], or, in files before 2024, "Ġ t"."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) and part for part in parts)):
        raise ValueError(f"{path.name}: the merge {merge!r} is not a pair of tokens")
    return from_alphabet(parts[0]), from_alphabet(parts[1])


def load_gpt2(vocab_bpe: Path | str, encoder_json: Path | str) -> BPETokenizer:
    """Read GPT-2's own two files: merges, one a line under a version line; and the ids, with `<|endoftext|>` last.

    ValueError, in a sentence, if one is absent, too large, broken, or if they do not fit each other.

    >>> import tempfile
    >>> from lm_core.token_spans import byte_alphabet
    >>> with tempfile.TemporaryDirectory() as name:
    ...     merges, ids = Path(name) / "vocab.bpe", Path(name) / "encoder.json"
    ...     _ = merges.write_text("#version: 0.2\\nl o\\nlo w\\n")
    ...     tokens = [*byte_alphabet().values(), "lo", "low"]
    ...     _ = ids.write_text(json.dumps({token: token_id for token_id, token in enumerate(tokens)}))
    ...     load_gpt2(merges, ids).encode("low lo")
    [257, 220, 256]
    """
    vocab_bpe, encoder_json = Path(vocab_bpe), Path(encoder_json)
    encoder = read_json_object(encoder_json)
    _check_ids(encoder, encoder_json)
    lines = read_text(vocab_bpe).split("\n")
    if lines[0].startswith("#version"):
        del lines[0]
    merges = [_parse_merge(line, vocab_bpe) for line in lines if line]
    if not merges:
        raise ValueError(f"{vocab_bpe.name} holds no merges")
    specials = {token: token_id for token, token_id in encoder.items() if token == "<|endoftext|>"}
    vocab = {from_alphabet(token): token_id for token, token_id in encoder.items() if token not in specials}
    return BPETokenizer(vocab, merges, specials)
