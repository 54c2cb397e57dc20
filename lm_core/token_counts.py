"""How much of a text a token holds: the counts by which tokenizers are compared.

    character   one Unicode code point: a letter, 猫; a family emoji is several
    byte        of the text in UTF-8: 1 for an English letter, 3 for most Chinese characters, 4 for most emoji
    word        a run of letters or digits between spaces or signs; scripts written without spaces count as one run

Source:  Petrov et al. 2023, "Language Model Tokenizers Introduce Unfairness Between Languages".
"""

from dataclasses import dataclass

import regex

from lm_core.tokenizer import well_formed

WORD = regex.compile(r"[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*|\p{N}+")


@dataclass(frozen=True)
class TokenCounts:
    """The sizes of one text, and of the tokens it was cut into."""

    n_characters: int
    n_bytes: int
    n_words: int
    n_tokens: int

    @property
    def bytes_per_token(self) -> float:
        """How many bytes a token holds on average: more is cheaper. 0 for no tokens."""
        return self.n_bytes / self.n_tokens if self.n_tokens else 0.0

    @property
    def tokens_per_word(self) -> float | None:
        """How many tokens a word takes on average ("fertility"); None for a text without words."""
        return self.n_tokens / self.n_words if self.n_words else None


def count_tokens(text: str, n_tokens: int) -> TokenCounts:
    """The sizes of `text`, which some tokenizer cut into `n_tokens` tokens.

    >>> counts = count_tokens("It's 3 cats", 4)
    >>> counts, counts.bytes_per_token, round(counts.tokens_per_word, 2)
    (TokenCounts(n_characters=11, n_bytes=11, n_words=3, n_tokens=4), 2.75, 1.33)
    >>> count_tokens("猫", 3).bytes_per_token
    1.0
    """
    text = well_formed(text)
    return TokenCounts(len(text), len(text.encode()), len(WORD.findall(text)), n_tokens)


def character_tokens(text: str) -> list[int]:
    """The tokenizer that has nothing to learn: one token a character, its id the character's Unicode number.

    >>> character_tokens("a猫")
    [97, 29483]
    """
    return [ord(character) for character in well_formed(text)]
