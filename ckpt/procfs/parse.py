"""The numbers and lines that all files of /proc are made of, read strictly.

Python's int() takes signs, blanks, underscores and digits of every script; the kernel writes none
of these. Each function here takes one token exactly as printf made it and raises ProcfsError with
the line that it stood in.

Text is decoded as the file system's names are (`os.fsdecode`): bytes that are no UTF-8 survive as
surrogates and can be given back to the kernel unchanged.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NoReturn

from ckpt.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

U64_MAX = 2**64 - 1
_SHOWN = 200
_DEC = re.compile(rb"[0-9]{1,20}")
_SIGNED = re.compile(rb"-?[0-9]{1,20}")
_HEX = re.compile(rb"(?:0x)?[0-9a-fA-F]{1,16}")
_OCT = re.compile(rb"[0-7]{1,22}")
_MASK = re.compile(rb"[0-9a-f]{1,8}(?:,[0-9a-f]{8}){0,4095}|[0-9a-f]{1,16}")
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")


class ProcfsError(KernelError, ValueError):
    """A file of /proc does not read as its documentation says. `line` is what did not fit."""

    def __init__(self, file: str, line: bytes, why: str) -> None:
        self.file = file
        self.line = bytes(line)
        shown = self.line[:_SHOWN]
        more = "" if len(self.line) <= _SHOWN else f" and {len(self.line) - _SHOWN} bytes more"
        super().__init__(f"can't read {shown!r}{more}", resource=f"/proc {file}", why=why)


def fail(file: str, line: bytes, why: str) -> NoReturn:
    """Raise ProcfsError: for use inside expressions."""
    raise ProcfsError(file, line, why)


def dec(token: bytes, file: str, line: bytes) -> int:
    """A decimal number of 0 to 2**64 - 1."""
    if not _DEC.fullmatch(token) or (value := int(token)) > U64_MAX:
        fail(file, line, f"{token[:32]!r} is not a number")
    return value


def signed(token: bytes, file: str, line: bytes) -> int:
    """A decimal number of 64 bits that may be negative."""
    if not _SIGNED.fullmatch(token) or not -(2**63) <= (value := int(token)) <= U64_MAX:
        fail(file, line, f"{token[:32]!r} is not a signed number")
    return value


def hexa(token: bytes, file: str, line: bytes) -> int:
    """A hexadecimal number of at most 64 bits, with or without 0x."""
    if not _HEX.fullmatch(token):
        fail(file, line, f"{token[:32]!r} is not a hexadecimal number")
    return int(token, 16)


def octal(token: bytes, file: str, line: bytes) -> int:
    """An octal number of at most 64 bits."""
    if not _OCT.fullmatch(token) or (value := int(token, 8)) > U64_MAX:
        fail(file, line, f"{token[:32]!r} is not an octal number")
    return value


def mask(token: bytes, file: str, line: bytes) -> int:
    """A bitmap as %*pb prints it: words of 32 bits, highest first, with commas between."""
    if not _MASK.fullmatch(token):
        fail(file, line, f"{token[:32]!r} is not a bitmap")
    return int(token.replace(b",", b""), 16)


def unescape(token: bytes) -> bytes:
    """Undo the kernel's mangle_path(): a backslash and three octal digits are one byte."""
    if b"\\" not in token:
        return token
    return _ESCAPE.sub(lambda m: bytes((int(m[1], 8),)), token)


def text(token: bytes) -> str:
    """A name as os.fsdecode gives it."""
    return os.fsdecode(token)


def lines(data: bytes, file: str) -> Iterator[bytes]:
    """Each line without its end; a last line without an end means a torn read and is refused."""
    if data and not data.endswith(b"\n"):
        fail(file, data[data.rfind(b"\n") + 1 :], "the last line has no end")
    return iter(data.split(b"\n")[:-1])


def keyed(data: bytes, file: str) -> dict[bytes, bytes]:
    """`Key:<blanks>value` lines. Of equal keys the first counts: no later line can hide it."""
    found: dict[bytes, bytes] = {}
    for line in lines(data, file):
        key, colon, value = line.partition(b":")
        if not colon or not key:
            fail(file, line, "no key and colon")
        found.setdefault(key, value.strip(b" \t"))
    return found
