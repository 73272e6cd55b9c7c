"""The parasite's code as the build made it, and where a session's parts lie in its window.

Layout (parasite/include/wire.h): code, then the data area: `struct ckpt_session`, one stack, then
the place for batches.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

from ckpt._native import lib
from ckpt.errors import KernelError
from ckpt.record import record
from ckpt.units import Range, page_up

_HEADER = struct.Struct("<QIIQIIIIII")
_SESSION = struct.Struct("<QQQQQQiIiI")
_SESSION_SPACE = 64


@record(frozen=True)
class Blob:
    """Code and the offsets that its header names."""

    code: bytes
    entry: int
    syscall: int
    park: int
    stub: bytes
    stub_return: int
    """Offset in `stub`."""

    @property
    def code_len(self) -> int:
        """Bytes of whole pages that the code takes."""
        return page_up(len(self.code))


@cache
def blob() -> Blob:
    """The blob of this build. Raises KernelError when it is of another build than the extension."""
    code = Path(__file__).with_name("blob.bin").read_bytes()
    magic, version, size, wire_hash, entry, call, park, stub, stub_len, back = _HEADER.unpack_from(
        code
    )
    expected = (lib.CKPT_BLOB_MAGIC, lib.CKPT_WIRE_VERSION, len(code), lib.ckpt_wire_hash)
    if (magic, version, size, wire_hash) != expected:
        raise KernelError("the parasite is of another build than ckpt", hint="install ckpt again")
    return Blob(code, entry, call, park, code[stub : stub + stub_len], back - stub)


def seed_path() -> Path:
    """The program that a restored tree's root starts as."""
    return Path(__file__).with_name("seed")


@record(frozen=True)
class Layout:
    """The parts of one window. `room`: a data area that is only a part of what is behind the code,
    for one of several who use the window."""

    window: Range
    code_len: int
    room: Range | None = None

    @property
    def data(self) -> int:
        return self.window.start + self.code_len if self.room is None else self.room.start

    @property
    def stack_top(self) -> int:
        return self.data + _SESSION_SPACE + int(lib.CKPT_STACK_SIZE)

    @property
    def batches(self) -> Range:
        """Where batches are written."""
        return Range(self.stack_top, (self.room or self.window).end)

    def session(
        self,
        *,
        sock: int,
        exit_on_eof: bool,
        leave_to: int = 0,
        batch: int = 0,
        stack_top: int = 0,
        waits: bool = False,
    ) -> bytes:
        """The bytes of `struct ckpt_session` for this window. `waits`: who leaves it waits for its
        controller in the stub, whether it was told to leave or not."""
        return _SESSION.pack(
            self.window.start,
            len(self.window),
            self.data,
            stack_top or self.stack_top,
            leave_to,
            batch,
            sock,
            lib.CKPT_EOF_EXIT if exit_on_eof else lib.CKPT_EOF_RETURN,
            -1,
            waits,
        )


def layout_at(addr: int, data_len: int) -> Layout:
    """The window at `addr` whose data area has `data_len` bytes (whole pages)."""
    code_len = blob().code_len
    return Layout(Range(addr, addr + code_len + page_up(data_len)), code_len)
