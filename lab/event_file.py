"""TensorBoard's event files, written without TensorBoard: scalars over steps.

A file is a row of records; a record is `length (8 bytes) · checksum of it (4) · content · checksum of it (4)`, all
little-endian; the checksum is CRC-32C, rotated and shifted so that a checksum of checksums stays meaningful. Content
is a protocol-buffer message `Event`: wall_time = 1 (double), step = 2 (varint), file_version = 3 (string) or
summary = 5, which holds values = 1, each with tag = 1 (string) and simple_value = 2 (float).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

VERSION = "brain.Event:2"
MASK_DELTA = 0xA282EAD8


def _table() -> tuple[int, ...]:
    """CRC-32C of every byte: the polynomial 0x1EDC6F41, its bits in reverse (RFC 3720, appendix B.4)."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _table()


def crc32c(content: bytes) -> int:
    """The CRC-32C of some bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value = 0xFFFFFFFF
    for byte in content:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """A checksum as the file stores it: rotated right by 15 bits, plus a constant, modulo 2³²."""
    return (((checksum >> 15) | (checksum << 17)) + MASK_DELTA) & 0xFFFFFFFF


def record(content: bytes) -> bytes:
    """One record of the file."""
    length = struct.pack("<Q", len(content))
    return b"".join(
        (length, struct.pack("<I", masked(crc32c(length))), content, struct.pack("<I", masked(crc32c(content))))
    )


def varint(number: int) -> bytes:
    """A number from 0 in groups of seven bits, the lowest first; the top bit says that more follow.

    >>> varint(300)
    b'\\xac\\x02'
    """
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _field(number: int, content: bytes) -> bytes:
    """A field that holds bytes: its number and kind (2), how many bytes, the bytes."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def event(wall_time: float, step: int, scalars: Mapping[str, float]) -> bytes:
    """The message of one step with its scalars."""
    values = [_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value) for tag, value in scalars.items()]
    summary = b"".join(_field(1, value) for value in values)
    return b"\x09" + struct.pack("<d", wall_time) + b"\x10" + varint(step) + _field(5, summary)


def event_file(steps: Iterable[tuple[float, int, Mapping[str, float]]]) -> bytes:
    """A whole file: (wall time in seconds since 1970, step, tag -> value) for each step that has values."""
    rows = list(steps)
    first = rows[0][0] if rows else 0.0
    records = [record(b"\x09" + struct.pack("<d", first) + _field(3, VERSION.encode()))]
    records += [record(event(*row)) for row in rows if row[2]]
    return b"".join(records)
