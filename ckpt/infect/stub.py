"""The two pieces of parasite/x86-64/stub.S, filled in for one thread.

A piece is code and its data in one block. It says itself where its parts are; the fields that are
written here lie at fixed offsets. Everything is absolute addresses of the target.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ckpt.errors import KernelError
from ckpt.infect.blob import Layout, blob
from ckpt.infect.way import Way
from ckpt.record import record
from ckpt.units import Range

MAGIC = 0x3162757473747063
MAGIC_BYTES = MAGIC.to_bytes(8, "little")
HEAD = struct.Struct("<QIIIIII")
SV, READY, STATE = 64, 72, struct.Struct("<iiI")
"""In the data area until the blob runs: the ends of the socket, and whether they are there."""
NR_LIMITS, NR_CALLS = 4, 5
PARK_S, PARK_TIMES, PARK_TIMES_BLIND = 0.06, 100, 8
"""How long a thread waits in a stub before it looks whether its controller lives, and how often at
most; where it can't see the controller, how often without looking."""

_HOME, LEADER_AT, _THREAD = HEAD.size, 224, 224
MASK = _HOME + 8
"""Of a piece: the signal mask that its thread has at home."""
_HEAD_OF_HOME = struct.Struct("<5QiI")
_PID_AT, _NOBODY = 40, (1 << 31) - 1
_LIMIT = struct.Struct("<5Q")
_CALL = struct.Struct("<7Q")
_ALL_SIGNALS = (1 << 64) - 1


@record(frozen=True)
class Limit:
    """A resource limit for the time of the session: (soft, hard) then and afterwards."""

    resource: int
    now: tuple[int, int]
    after: tuple[int, int]


@record(frozen=True)
class Return:
    """How a thread comes home: by which way, with its signal frame where (0: by registers), and
    for whom it waits: our pid as it sees it, 0 if it can't."""

    way: Way
    frame_addr: int
    controller: int


@record(frozen=True)
class Piece:
    """One piece as the build made it. `enter`, `park` and `drive` are offsets in it: the first
    instruction, where a thread stands that has nothing left to undo, and the single call of a
    session without a socket, with the wait that follows it. `back`: where the blob leaves to."""

    code: bytes
    enter: int
    park: Range
    drive: Range
    back: int

    def __len__(self) -> int:
        return len(self.code)


def pieces() -> tuple[Piece, Piece]:
    """The leader's and the other threads'. Raises KernelError where the blob holds others."""
    code = blob().stub
    found: list[Piece] = []
    at = 0
    while at < len(code):
        magic, size, enter, park, park_end, drive, drive_end = HEAD.unpack_from(code, at)
        if magic != MAGIC or not HEAD.size < size <= len(code) - at or enter >= size:
            break
        found.append(
            Piece(
                code[at : at + size],
                enter,
                Range(park, park_end),
                Range(drive, drive_end),
                blob().stub_return - at,
            )
        )
        at += size
    if len(found) != 2:
        raise KernelError("the parasite's stub is not the one of this build")
    return found[0], found[1]


def alone(addr: int) -> tuple[int, bytes]:
    """Where to write what makes a thread in the piece at `addr` wait no more than PARK_S longer: a
    controller that does not exist."""
    return addr + _HOME + _PID_AT, struct.pack("<i", _NOBODY)


def _with_home(piece: Piece, back: Return) -> bytearray:
    code = bytearray(piece.code)
    _HEAD_OF_HOME.pack_into(
        code,
        _HOME,
        back.frame_addr,
        back.way.sigmask,
        _ALL_SIGNALS,
        0,
        int(PARK_S * 1e9),
        back.controller,
        PARK_TIMES if back.controller else PARK_TIMES_BLIND,
    )
    struct.pack_into("<18Q", code, _HOME + _HEAD_OF_HOME.size, *back.way.registers)
    return code


def leader_code(
    piece: Piece, back: Return, layout: Layout, limits: Sequence[Limit], *, driven: bool
) -> bytes:
    """The leader's piece. `driven`: without a socket, the controller drives. At most NR_LIMITS
    limits."""
    code = _with_home(piece, back)
    struct.pack_into(
        "<5Q",
        code,
        LEADER_AT,
        layout.window.start,
        len(layout.window),
        layout.data,
        layout.window.end - layout.data,
        0 if driven else layout.window.start + blob().entry,
    )
    if len(limits) > NR_LIMITS:
        raise ValueError(f"{len(limits)} limits for {NR_LIMITS} places")
    at = LEADER_AT + 40
    for i, limit in enumerate(limits):
        _LIMIT.pack_into(code, at + i * _LIMIT.size, limit.resource, *limit.now, *limit.after)
    struct.pack_into("<Q", code, at + NR_LIMITS * _LIMIT.size, len(limits))
    return bytes(code)


def thread_code(
    piece: Piece, addr: int, back: Return, calls: Sequence[tuple[int, Sequence[int]]]
) -> bytes:
    """Another thread's piece for address `addr`, with at most NR_CALLS calls (number, arguments)
    that must not wait."""
    if len(calls) > NR_CALLS:
        raise ValueError(f"{len(calls)} calls for {NR_CALLS} places")
    code = _with_home(piece, back)
    first = _THREAD + 8
    struct.pack_into("<Q", code, _THREAD, addr + first + len(calls) * _CALL.size)
    for i, (nr, args) in enumerate(calls):
        words = [a & _ALL_SIGNALS for a in args] + [0] * (6 - len(args))
        _CALL.pack_into(code, first + i * _CALL.size, nr, *words)
    return bytes(code)
