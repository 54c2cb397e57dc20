"""The fast path from text to ids: any Hugging Face `tokenizer.json`, run by the Rust library `tokenizers`.

Four kinds of vocabulary, told apart by the file, differ in what a token's name says:
    byte-level   GPT-2, SmolLM2   " low" is written "Ġlow": GPT-2's alphabet of 256 characters
    metaspace    Llama 2          "▁low": ▁ is a space; "<0xE7>" is one byte (byte fallback)
    wordpiece    BERT             "low", "##er": ## continues a word; the text itself is gone, only offsets keep it
    plain        anything else    the name is the text
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import regex

from lm_core import rust_tokenizer
from lm_core.checkpoint_error import CheckpointError
from lm_core.rust_tokenizer import LibraryError
from lm_core.token_spans import BYTE_OF, TokenSpan, from_alphabet, group_by_offsets, group_pieces, label_spans, show
from lm_core.tokenizer import well_formed

MAX_FILE_BYTES = 64 * 2**20  # Gemma's 256,000 tokens take about 33 MB
START_AND_END = (("<|endoftext|>", "<|endoftext|>"), ("<|begin_of_text|>", "<|end_of_text|>"), ("<s>", "</s>"))
BYTE_TOKEN = regex.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokenizer(Protocol):
    """What every tokenizer of the house can do. `bos_id` is the document-start token, None where there is none."""

    special_tokens: dict[str, int]

    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int | None: ...
    @property
    def eos_id(self) -> int | None: ...
    def encode(self, text: str, allow_special: bool = False) -> list[int]: ...
    def decode(self, token_ids: Iterable[int]) -> str: ...
    def token_bytes(self, token_id: int) -> bytes: ...
    def spans(self, token_ids: Iterable[int]) -> tuple[TokenSpan, ...]: ...
    def labels(self, token_ids: Iterable[int]) -> list[str]: ...


# --- files ------------------------------------------------------------------------------------------------------------


def tokenizer_path(path: Path | str) -> Path:
    """The tokenizer.json meant by a file or a folder. ValueError if there is none.

    >>> tokenizer_path("no-such-folder/tokenizer.json")
    Traceback (most recent call last):
    ValueError: there is no file tokenizer.json in the folder no-such-folder
    """
    path = Path(path)
    path = path / "tokenizer.json" if path.is_dir() else path
    _must_exist(path)
    return path


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"there is no file {path.name} in the folder {path.parent.name or '.'}")


def read_text(path: Path) -> str:
    """A UTF-8 file of at most MAX_FILE_BYTES. ValueError, naming the file, if it is absent, larger or no UTF-8."""
    _must_exist(path)
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        sentence = f"{path.name} has {size / 2**20:.1f} MiB; the limit is {MAX_FILE_BYTES // 2**20} MiB"
        raise CheckpointError(sentence, "too_large")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. ValueError, naming the file, if it is too large, not JSON or not an object."""
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__}, not a JSON object")
    return content


# --- the tokenizer ----------------------------------------------------------------------------------------------------


class FastTokenizer:
    """Any tokenizer.json behind the interface `Tokenizer`.

    Special tokens are those that the file marks `special`; the start and end tokens come from
    `tokenizer_config.json` beside it, else from their usual names (BERT's [CLS] and [SEP] are neither).

    >>> from lm_core.tokenizer import train_bpe
    >>> from lm_core.tokenizer_files import to_fast
    >>> fast = to_fast(train_bpe(["low low low lower lower"], 260, ["<|endoftext|>"]))
    >>> fast.encode("lower low"), fast.labels(fast.encode("lower low")), fast.bos_id
    ([258, 69, 82, 259], ['low', 'e', 'r', '␣low'], 0)
    """

    def __init__(self, content: dict[str, Any], config: dict[str, Any] | None = None) -> None:
        """content: parsed tokenizer.json; config: parsed tokenizer_config.json. ValueError if the library objects."""
        # A file may ask to cut or fill every text to one length: whoever needs that does it in the open.
        self._content = {**content, "truncation": None, "padding": None}
        self._plain = rust_tokenizer.build(self._content)
        self._plain.encode_special_tokens = True  # special tokens in a text are text
        self._reading_specials: Any = None
        self._kind = _kind(content)
        self._strips_first_space = self._kind == "metaspace" and _puts_space_in_front(content)
        added = self._plain.get_added_tokens_decoder()
        self.special_tokens = {token.content: token_id for token_id, token in added.items() if token.special}
        self._added = {token_id: token.content for token_id, token in added.items()}
        self._size = max(self._plain.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self._bos, self._eos = self._start_and_end(config)

    @classmethod
    def from_file(cls, path: Path | str) -> "FastTokenizer":
        """Load a tokenizer.json (the file, or the folder that holds it). ValueError if it is no good."""
        path = tokenizer_path(path)
        config = path.with_name("tokenizer_config.json")
        try:
            return cls(read_json_object(path), read_json_object(config) if config.is_file() else None)
        except LibraryError as error:
            raise ValueError(f"{path.name} is not a tokenizer that can be used: {error}") from None

    def _start_and_end(self, config: dict[str, Any] | None) -> tuple[int | None, int | None]:
        if config is not None:
            names = [config.get(role) for role in ("bos_token", "eos_token")]
            names = [name.get("content") if isinstance(name, dict) else name for name in names]
            bos, eos = (self._plain.token_to_id(name) if isinstance(name, str) else None for name in names)
            return bos, eos
        for start, end in START_AND_END:
            if start in self.special_tokens:
                return self.special_tokens[start], self.special_tokens.get(end)
        return None, None

    @property
    def vocab_size(self) -> int:
        """Rows an embedding needs: the highest id + 1."""
        return self._size

    @property
    def bos_id(self) -> int | None:
        """The document-start token, or None."""
        return self._bos

    @property
    def eos_id(self) -> int | None:
        """The document-end token, or None."""
        return self._eos

    def encode(self, text: str, allow_special: bool = False, add_special_tokens: bool = False) -> list[int]:
        """Text -> token ids. A special token in the text is plain text unless allow_special.

        add_special_tokens puts the model's own frame around the text: [CLS] … [SEP] for BERT, <s> for Llama.

        >>> model = {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##",
        ...          "max_input_chars_per_word": 100, "vocab": {"?": 0, "cat": 1, "##s": 2}}
        >>> FastTokenizer({"model": model}).encode("cats")
        [1, 2]
        """
        return list(self._encoding(text, allow_special, add_special_tokens).ids)

    def _encoding(self, text: str, allow_special: bool, add_special_tokens: bool) -> Any:
        if allow_special and self._reading_specials is None:
            self._reading_specials = rust_tokenizer.build(self._content)
        rust = self._reading_specials if allow_special else self._plain
        assert rust is not None
        try:
            return rust_tokenizer.encode(rust, well_formed(text), add_special_tokens)
        except LibraryError as error:
            raise ValueError(f"this tokenizer cannot encode the text: {error}") from None

    def _name(self, token_id: int) -> str:
        name = self._plain.id_to_token(token_id) if 0 <= token_id < self._size else None
        if name is None:
            raise ValueError(f"token id {token_id} is not in this vocabulary of {self._size} tokens")
        return name

    def piece(self, token_id: int) -> bytes | str:
        """What one id stands for: bytes, or the name (str) of a special token. ValueError for an unknown id."""
        name = self._name(token_id)
        if self.special_tokens.get(name) == token_id:
            return name
        if token_id in self._added or self._kind == "plain":
            return name.encode()
        if self._kind == "byte-level":
            return from_alphabet(name) if set(name) <= BYTE_OF.keys() else name.encode()
        if self._kind == "wordpiece":
            return name.removeprefix("##").encode()
        byte = BYTE_TOKEN.fullmatch(name)
        return bytes([int(byte[1], 16)]) if byte else name.replace("▁", " ").encode()

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one id stands for; for a special token, its name in UTF-8. ValueError for an unknown id."""
        piece = self.piece(token_id)
        return piece.encode() if isinstance(piece, str) else piece

    def _pieces(self, token_ids: Sequence[int]) -> list[bytes | str]:
        """The pieces as they join to a text: with the spaces that WordPiece leaves out, without the one Llama adds."""
        pieces: list[bytes | str] = []
        for token_id in token_ids:
            piece = self.piece(token_id)
            if isinstance(piece, bytes):
                if self._kind == "wordpiece" and pieces and not self._name(token_id).startswith("##"):
                    piece = b" " + piece
                elif self._strips_first_space and not any(isinstance(before, bytes) for before in pieces):
                    piece = piece.removeprefix(b" ")
            pieces.append(piece)
        return pieces

    def spans(self, token_ids: Iterable[int], text: str | None = None) -> tuple[TokenSpan, ...]:
        """Token ids -> spans of whole characters.

        With `text`, from which the ids were encoded, a span is the user's own text by the library's offsets: WordPiece
        lowers capitals, and drops spaces and unknown words. ValueError if the ids are another text's.
        """
        token_ids = list(token_ids)
        if text is None or self._kind == "byte-level":
            return group_pieces(self._pieces(token_ids))
        text = well_formed(text)
        for allow_special in (False, True):
            for add_special_tokens in (False, True):
                encoding = self._encoding(text, allow_special, add_special_tokens)
                if encoding.ids == token_ids:
                    pieces = list(map(self.piece, token_ids))
                    return group_by_offsets(text, pieces, encoding.offsets, encoding.special_tokens_mask)
        raise ValueError("these token ids are not what this text is encoded to")

    def decode(self, token_ids: Iterable[int]) -> str:
        r"""Token ids -> text. Bytes that are no UTF-8 are written `\xe7`; special tokens by their names.

        >>> from lm_core.tokenizer import train_bpe
        >>> from lm_core.tokenizer_files import to_fast
        >>> fast = to_fast(train_bpe([], 256))
        >>> fast.decode(fast.encode("猫")), fast.decode(fast.encode("猫")[:1])
        ('猫', '\\xe7')
        """
        return "".join(span.text for span in self.spans(token_ids))

    def labels(self, token_ids: Iterable[int]) -> list[str]:
        """One short, visible label a token (`label_spans`); WordPiece keeps its ## to show that a word goes on."""
        if self._kind == "wordpiece":
            return [show(self._name(token_id)) for token_id in token_ids]
        return label_spans(group_pieces(map(self.piece, token_ids)))


# --- what a tokenizer.json says ---------------------------------------------------------------------------------------


def _parts(content: dict[str, Any], *sections: str) -> list[dict[str, Any]]:
    """The steps of some sections of the file, those inside a Sequence included."""
    parts: list[dict[str, Any]] = []
    waiting = [content.get(section) for section in sections]
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, dict):
            parts.append(part)
            for value in part.values():
                if isinstance(value, list):
                    waiting.extend(value)
    return parts


def _kind(content: dict[str, Any]) -> str:
    parts = _parts(content, "pre_tokenizer", "decoder", "normalizer")
    if any(part.get("type") == "ByteLevel" for part in parts):
        return "byte-level"
    if content["model"].get("type") == "WordPiece":
        return "wordpiece"
    if content["model"].get("byte_fallback") or any(part.get("type") == "Metaspace" for part in parts):
        return "metaspace"
    return "plain"


def _puts_space_in_front(content: dict[str, Any]) -> bool:
    parts = _parts(content, "pre_tokenizer", "normalizer")
    metaspace = [part for part in parts if part.get("type") == "Metaspace"]
    return any(part.get("type") == "Prepend" for part in parts) or any(
        part.get("prepend_scheme", "always") != "never" for part in metaspace
    )
