"""Messages between the keeper and its client, on a stream socket of the UNIX domain.

A message is a u32, little-endian, the length of its head; the head, a JSON object; then blobs
(`Extents.to_bytes`), whose lengths are the head's list "blobs", so that all of them are one read:
the last round of a dump is answered while the target stands. Descriptors come with the first byte,
as many as the head's "fds" says; those of an answer stay the sender's.

Both sides take what they receive for hostile: lengths are bounded, types are checked, descriptors
that nobody asked for are closed. A message that has begun must be whole in MESSAGE_S seconds.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import time
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from ckpt.record import field, record

VERSION = 3
MESSAGE_S = 10.0
HEAD_MAX = 1 << 22
BLOBS_MAX = 1 << 20
BYTES_MAX = 1 << 30
FDS_MAX = 2

_LENGTH = struct.Struct("<I")
_INT = array.array("i").itemsize
_NR_VECTORS = 512

T = TypeVar("T", str, int, bool)


class ProtocolError(Exception):
    """What was received is no message, or not all of one."""


@record
class Message:
    """One message as it was received. Whoever has it owns its descriptors."""

    head: dict[str, object]
    blobs: list[memoryview] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)

    def get(self, key: str, kind: type[T]) -> T:
        """A field of the head of just this type (a bool is no int)."""
        return checked(self.head.get(key), kind, key)

    def rows(self, key: str, *kinds: type) -> list[list[Any]]:
        """A list of lists of just these types."""
        rows = self.head.get(key)
        if not isinstance(rows, list):
            raise ProtocolError(f"{key} is no list")
        for row in rows:
            if not isinstance(row, list) or [type(value) for value in row] != list(kinds):
                raise ProtocolError(f"{key} has an odd element")
        return rows

    def close(self) -> None:
        """Close the descriptors that nobody took."""
        while self.fds:
            os.close(self.fds.pop())


def checked(value: object, kind: type[T], what: str) -> T:
    if type(value) is not kind:
        raise ProtocolError(f"{what} is no {kind.__name__}")
    return value


def send(
    sock: socket.socket,
    head: dict[str, object],
    blobs: Sequence[bytes] = (),
    fds: Sequence[int] = (),
    *,
    timeout_s: float = MESSAGE_S,
) -> None:
    """Send one message. Raises OSError: the other side is gone, or did not take it in time."""
    sizes = [len(blob) for blob in blobs]
    text = json.dumps({**head, "blobs": sizes, "fds": len(fds)}).encode()
    parts = [_LENGTH.pack(len(text)) + text, *blobs]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    until = time.monotonic() + timeout_s
    views = [memoryview(part) for part in parts if part]
    while views:
        sock.settimeout(max(0.001, until - time.monotonic()))
        sent = sock.sendmsg(views[:_NR_VECTORS], rights)
        rights = []
        while views and sent >= len(views[0]):
            sent -= len(views.pop(0))
        if sent:
            views[0] = views[0][sent:]


def receive(
    sock: socket.socket, *, first_s: float | None = None, rest_s: float = MESSAGE_S
) -> Message | None:
    """The next message; None where the other side has closed between two of them.

    `first_s`: how long to wait for its first byte, `rest_s` for the rest. Raises
    ProtocolError, TimeoutError, OSError.
    """
    sock.settimeout(first_s)
    fds: list[int] = []
    try:
        raw = _first(sock, fds)
        if not raw:
            return None
        until = time.monotonic() + rest_s
        (length,) = _LENGTH.unpack(raw + _exactly(sock, _LENGTH.size - len(raw), until))
        head = _head(_exactly(sock, _bounded(length, HEAD_MAX, "head"), until))
        sizes = _sizes(head.pop("blobs", []))
        if checked(head.pop("fds", 0), int, "fds") != len(fds):
            raise ProtocolError("descriptors are missing, or too many")
        message = Message(head, _cut(_exactly(sock, sum(sizes), until), sizes), fds)
        fds = []
    finally:
        while fds:
            os.close(fds.pop())
    return message


def _first(sock: socket.socket, fds: list[int]) -> bytes:
    """The first bytes with the descriptors, which are put into `fds`."""
    space = socket.CMSG_SPACE(FDS_MAX * _INT)
    raw, controls, flags, _ = sock.recvmsg(_LENGTH.size, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in controls:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % _INT])
            fds += numbers
    if flags & socket.MSG_CTRUNC:
        raise ProtocolError("too many descriptors")
    return raw


def _exactly(sock: socket.socket, size: int, until: float) -> bytearray:
    whole = bytearray(size)
    view = memoryview(whole)
    while view:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise ProtocolError("a message is not whole in time")
        sock.settimeout(left_s)
        try:
            got = sock.recv_into(view)
        except TimeoutError as error:
            raise ProtocolError("a message is not whole in time") from error
        if not got:
            raise ProtocolError("a message ends in the middle")
        view = view[got:]
    return whole


def _bounded(value: int, most: int, what: str) -> int:
    if not 0 <= value <= most:
        raise ProtocolError(f"{what}: {value} is too many")
    return value


def _head(raw: bytearray) -> dict[str, object]:
    try:
        head = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the head is no JSON") from error
    if not isinstance(head, dict):
        raise ProtocolError("the head is no object")
    return head


def _sizes(value: object) -> list[int]:
    if not isinstance(value, list) or len(value) > BLOBS_MAX:
        raise ProtocolError("blobs is no list, or too long")
    sizes = [
        _bounded(checked(size, int, "the size of a blob"), BYTES_MAX, "bytes") for size in value
    ]
    _bounded(sum(sizes), BYTES_MAX, "bytes")
    return sizes


def _cut(whole: bytearray, sizes: list[int]) -> list[memoryview]:
    view = memoryview(whole)
    ends = list(accumulate(sizes, initial=0))
    return [view[start:end] for start, end in pairwise(ends)]
