"""A vocabulary of whole characters, as a special case of byte-level BPE.

Chinese has no spaces, so BPE's usual pieces are runs of characters that happen to be frequent. Here the merges are not
learned but built: each character of a given alphabet is put together from its bytes, and nothing beyond characters is
ever merged. A character outside the alphabet is still written, as its bytes. Because it is plain byte-level BPE, the
same `tokenizer.json` serves this package, `tokenizers` and `transformers`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from lm_core.token_spans import byte_alphabet
from lm_core.tokenizer import BPETokenizer, Pair


def common_characters() -> list[str]:
    """The 3,755 most used characters of modern written Chinese: level 1 of the standard GB 2312-80, rows 16-55.

    >>> characters = common_characters()
    >>> len(characters), "爱" in characters, "愛" in characters
    (3755, True, False)
    """
    rows = (bytes([0xA0 + row, 0xA0 + cell]) for row in range(16, 56) for cell in range(1, 95))
    return [pair.decode("gb2312") for pair in rows if pair < bytes([0xD7, 0xFA])]  # row 55 ends five cells early


def frequent_characters(texts: Iterable[str], at_least: int) -> list[str]:
    """The characters that occur `at_least` times in the texts, the most frequent first, ties in Unicode's order.

    >>> frequent_characters(["床前明月光", "低头思故乡", "举头望明月"], at_least=2)
    ['头', '明', '月']
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return [c for c, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= at_least]


def character_bpe(characters: Iterable[str], special_tokens: Sequence[str] = ()) -> BPETokenizer:
    """A tokenizer in which each of `characters` is one token, and any other character its UTF-8 bytes.

    A character of three bytes takes two merges, bytes 1 + 2 and then + 3. They cannot go wrong on running text: no
    first byte of a character is ever a later byte of another (UTF-8 is self-synchronising, RFC 3629 section 1).
    Ids: special tokens, the 256 bytes, then each character, preceded by beginnings that it is the first to need.
    Raises ValueError for an entry that is not one character.

    >>> tokenizer = character_bpe("我爱自然语言", ["<|endoftext|>"])
    >>> tokenizer.labels(tokenizer.encode("我爱猫"))
    ['我', '爱', '猫¹⁄₃', '猫²⁄₃', '猫³⁄₃']
    """
    merges: dict[bytes, Pair] = {}
    for character in dict.fromkeys(characters):
        if len(character) != 1:
            raise ValueError(f"{character!r} is not one character")
        encoded = character.encode()
        for end in range(2, len(encoded) + 1):
            merges.setdefault(encoded[:end], (encoded[: end - 1], encoded[end - 1 : end]))
    specials = list(dict.fromkeys(special_tokens))
    tokens = [bytes([byte]) for byte in byte_alphabet()] + list(merges)
    vocab = {token: token_id for token_id, token in enumerate(tokens, start=len(specials))}
    return BPETokenizer(vocab, list(merges.values()), {special: token_id for token_id, special in enumerate(specials)})
