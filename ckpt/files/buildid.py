"""The build id of an ELF file (`--file-validation buildid`): what a linker wrote into its notes.

A file whose build id is what it was is the same program, though it was stripped or installed anew
meanwhile, and a file that has the same size as before need not be. Files are hostile: every offset
and size is bounded before it is read. Only what is a regular file is opened.

Source: elf(5); ld(1) on --build-id. In the images the bytes stand in 32 bit words, as they are.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEAD = struct.Struct("<16s2HI3QI6H")
_SEGMENT = struct.Struct("<2I6Q")
_NOTE = struct.Struct("<3I")
_MAGIC = b"\x7fELF\x02\x01"
"""64 bits, little-endian."""
_PT_NOTE, _NT_BUILD_ID = 4, 3
_SEGMENTS, _NOTES = 256, 1 << 16
LONGEST = 64
"""Bytes. The usual ones have 20."""


def build_id(lfd: int) -> bytes:
    """That of the file behind a readable descriptor, whose offset stays; b"" where it has none.
    Raises OSError."""
    head = os.pread(lfd, _HEAD.size, 0)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        return b""
    fields = _HEAD.unpack(head)
    at, size, number = fields[5], fields[9], fields[10]
    if size != _SEGMENT.size or number > _SEGMENTS or at >= 2**62:
        return b""
    table = os.pread(lfd, size * number, at)
    for segment in _SEGMENT.iter_unpack(table[: len(table) // size * size]):
        kind, offset, length = segment[0], segment[2], segment[5]
        if kind == _PT_NOTE and offset < 2**62:
            for name, number, text in _notes(os.pread(lfd, min(length, _NOTES), offset)):
                if (name, number) == (b"GNU\0", _NT_BUILD_ID) and 0 < len(text) <= LONGEST:
                    return text
    return b""


def build_id_of(path: str) -> bytes:
    """As `build_id`, of what a path leads to, symbolic links aside; b"" where it can't be read."""
    try:
        lfd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return build_id(lfd)
    except OSError:
        return b""
    finally:
        os.close(lfd)


def to_words(text: bytes) -> list[int]:
    """As the image has it."""
    padded = text.ljust((len(text) + 3) // 4 * 4, b"\0")
    return [word for (word,) in struct.iter_unpack("<I", padded)]


def from_words(words: Iterable[int]) -> bytes:
    """Back, with the padding."""
    return b"".join(struct.pack("<I", word) for word in words)


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    at = 0
    while at + _NOTE.size <= len(data):
        name_len, text_len, number = _NOTE.unpack_from(data, at)
        name = at + _NOTE.size
        text = name + (name_len + 3) // 4 * 4
        end = text + text_len
        if end > len(data):
            return
        yield data[name : name + name_len], number, data[text:end]
        at = text + (text_len + 3) // 4 * 4
