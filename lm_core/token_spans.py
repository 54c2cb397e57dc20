r"""Showing tokens to people: whole characters, never halves of them, and nothing invisible.

A token of a byte-level vocabulary is a few bytes, and may stop in the middle of a character: 猫 is the three bytes
E7 8C AB, and GPT-2 has a token for each. Decoding such a token alone gives rubbish; so neighbouring tokens that
share a character are shown as one *span*, and bytes that belong to no character as `\xe7`.
"""

import codecs
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\x7f": "␡"}


@dataclass(frozen=True)
class TokenSpan:
    r"""The tokens `start` … `end − 1`, which together make `text`: whole characters, or hex escapes such as `\xe7`.

    special: the span is one special token and `text` is its name, not something the user wrote.
    """

    start: int
    end: int
    text: str
    special: bool = False


def group_pieces(pieces: Iterable[bytes | str]) -> tuple[TokenSpan, ...]:
    r"""Group tokens into the shortest spans of whole characters. A piece is a token's bytes, or a special's name.

    Every token is in exactly one span, in order. Joined, the texts are the decoded text.

    >>> group_pieces([b"a", b"\xe7\x8c", b"\xab", "<|end|>"])[1:]
    (TokenSpan(start=1, end=3, text='猫', special=False), TokenSpan(start=3, end=4, text='<|end|>', special=True))
    >>> [span.text for span in group_pieces([b"\xe7", b"b"])]
    ['\\xe7', 'b']
    """
    spans: list[TokenSpan] = []
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    start, text = 0, ""  # of the span that is being built
    for i, piece in enumerate(pieces):
        # An unfinished character ends here if what follows cannot continue it (continuation bytes are 10xxxxxx).
        if start < i and (isinstance(piece, str) or (piece and piece[0] & 0b1100_0000 != 0b1000_0000)):
            spans.append(TokenSpan(start, i, text + decoder.decode(b"", final=True)))
            start, text = i, ""
        if isinstance(piece, str):
            spans.append(TokenSpan(i, i + 1, piece, special=True))
            start = i + 1
            continue
        text += decoder.decode(piece)
        if not decoder.getstate()[0]:  # no bytes wait for the rest of their character
            spans.append(TokenSpan(start, i + 1, text))
            start, text = i + 1, ""
        end = i + 1
    if (rest := text + decoder.decode(b"", final=True)) != "":
        spans.append(TokenSpan(start, end, rest))
    return tuple(spans)


def group_by_offsets(
    text: str, pieces: Sequence[bytes | str], offsets: Sequence[tuple[int, int]], framing: Sequence[int]
) -> tuple[TokenSpan, ...]:
    """Group tokens whose character ranges in `text` overlap; white space between two ranges is in no span.

    framing: 1 for a special token put around the text, which stands for none of it. An unknown word's token is
    special too, but it stands for something the user wrote, and is shown as that.

    >>> group_by_offsets("a猫", [b"a", b"\\xe7\\x8c", b"\\xab"], [(0, 1), (1, 2), (1, 2)], [0, 0, 0])[1]
    TokenSpan(start=1, end=3, text='猫', special=False)
    """
    spans: list[TokenSpan] = []
    begin, end = 0, 0  # characters of the span before
    for i, (piece, (first, last), frame) in enumerate(zip(pieces, offsets, framing, strict=True)):
        if frame:
            spans.append(TokenSpan(i, i + 1, str(piece), special=True))
            begin = end = 0
        elif first < end and spans and not spans[-1].special:
            end = max(end, last)
            spans[-1] = TokenSpan(spans[-1].start, i + 1, text[begin:end])
        else:
            begin, end = first, last
            spans.append(TokenSpan(i, i + 1, text[begin:end], special=text[begin:end] == piece))
    return tuple(spans)


def show(text: str) -> str:
    r"""Text with nothing invisible: `␣` space, `⏎` newline, `⇥` tab, control pictures, other unseen signs as `\u200d`.

    An accent without a letter under it is set on a dotted circle.

    >>> show(" a\n\x00\u200b")
    '␣a⏎␀\\u200b'
    """
    shown = "".join(map(_show_character, text))
    return "◌" + shown if shown and unicodedata.category(shown[0]).startswith("M") else shown


def _show_character(character: str) -> str:
    if character in VISIBLE:
        return VISIBLE[character]
    if character < " ":
        return chr(0x2400 + ord(character))
    # Control, format (bidi marks, joiners), private use, other spaces. Unassigned stays: it may be a new emoji.
    if unicodedata.category(character) in ("Cc", "Cf", "Co", "Zs", "Zl", "Zp"):
        return character.encode("ascii", "backslashreplace").decode()
    return character


def label_spans(spans: Iterable[TokenSpan]) -> list[str]:
    """One label a token: what it says, made visible; `猫¹⁄₂` for the first of two tokens that make 猫.

    A special token is shown in angle brackets: `<|endoftext|>` as `⟨endoftext⟩`, `<s>` as `⟨s⟩`; `[CLS]` as it is.

    >>> label_spans([TokenSpan(0, 1, "<|end|>", special=True), TokenSpan(1, 3, " 猫")])
    ['⟨end⟩', '␣猫¹⁄₂', '␣猫²⁄₂']
    """
    labels: list[str] = []
    for span in spans:
        count = span.end - span.start
        if span.special:
            labels.append(_special_label(span.text))
        elif count == 1:
            labels.append(show(span.text))
        else:
            total = str(count).translate(SUBSCRIPT)
            labels += [f"{show(span.text)}{str(k + 1).translate(SUPERSCRIPT)}⁄{total}" for k in range(count)]
    return labels


def _special_label(name: str) -> str:
    for opening, closing in (("<|", "|>"), ("<", ">")):
        if name.startswith(opening) and name.endswith(closing):
            return f"⟨{show(name[len(opening) : -len(closing)])}⟩"
    return show(name)


# --- bytes in files: GPT-2's alphabet ---------------------------------------------------------------------------------


def byte_alphabet() -> dict[int, str]:
    """GPT-2's visible character for each byte, in the order in which GPT-2 numbers the bytes.

    Printable bytes stand for themselves; the other 68 take the characters from U+0100 on. Files hold tokens so.

    >>> alphabet = byte_alphabet()
    >>> alphabet[ord("a")], alphabet[ord(" ")], len(alphabet)
    ('a', 'Ġ', 256)
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


CHARACTER_OF = byte_alphabet()
BYTE_OF = {character: byte for byte, character in CHARACTER_OF.items()}


def to_alphabet(token: bytes) -> str:
    """Bytes -> GPT-2's visible characters.

    >>> to_alphabet(b" low\\n")
    'ĠlowĊ'
    """
    return "".join(CHARACTER_OF[byte] for byte in token)


def from_alphabet(token: str) -> bytes:
    """GPT-2's visible characters -> bytes. ValueError for a character outside the alphabet of 256.

    >>> from_alphabet("ĠlowĊ")
    b' low\\n'
    """
    try:
        return bytes(BYTE_OF[character] for character in token)
    except KeyError as error:
        raise ValueError(f"{token!r} is not written in the byte alphabet: {error} stands for no byte") from None
