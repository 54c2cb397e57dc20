"""The one door to the Rust library `tokenizers`, which may meet files and texts that it was not written for.

It answers most of them with a bare `Exception`; some make it panic, which is no `Exception` and would end the thread;
one kind is known to abort the whole process, and is refused before the library sees it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tokenizers


class LibraryError(ValueError):
    """The library refused a file or a text."""


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        # pyo3_runtime.PanicException cannot be imported, and does not derive from Exception.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise LibraryError(str(error)) from None
        raise


def build(content: dict[str, Any]) -> tokenizers.Tokenizer:
    """The library's tokenizer of a parsed tokenizer.json. LibraryError if it cannot be one.

    >>> build({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}).get_vocab_size()
    1
    """
    _check_prefix(content.get("model"))
    with _refusals():
        return tokenizers.Tokenizer.from_str(json.dumps(content))


def encode(tokenizer: tokenizers.Tokenizer, text: str, add_special_tokens: bool) -> tokenizers.Encoding:
    """The library's encoding of a text. LibraryError for a text it has no token for, or a file that fails only now."""
    with _refusals():
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)


def _check_prefix(model: Any) -> None:
    """Every second half of a merge must begin with the prefix: the library cuts off that many *bytes* unseen, and
    half a character in the name that it then reports as unknown aborts the process (seen in tokenizers 0.23.3).
    """
    prefix = model.get("continuing_subword_prefix") if isinstance(model, dict) else None
    merges = model.get("merges") if isinstance(model, dict) else None
    if not (isinstance(prefix, str) and prefix and isinstance(merges, list)):
        return
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if isinstance(parts, list) and parts and not str(parts[-1]).startswith(prefix):
            raise LibraryError(f"the merge {merge!r} does not go on with {prefix!r}")
