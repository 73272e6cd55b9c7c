"""Socket options that all families have: from a socket into a sk_opts_entry, and back.

`ask` only asks, `write` encodes later. Buffer sizes are exact where CAP_NET_ADMIN allows it:
SO_SNDBUFFORCE takes half of what SO_SNDBUF tells; SO_BUF_LOCK says which of them the target had
chosen itself, the others go on growing by themselves. SO_REUSEADDR is given back by the caller,
since a restore needs it set meanwhile.

Source: socket(7); net/core/sock.c; sk-opts of CRIU for what the fields mean.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import ffi
from ckpt.errors import ImageError
from ckpt.files.anonymous import address, made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.report import Report

SEND, RECEIVE = (socket.SO_SNDBUF, 32), (socket.SO_RCVBUF, 33)
"""A size, and the option that sets it beyond the limits of the system."""

_SO_NO_CHECK, _SO_PASSSEC = 11, 34
_SO_ATTACH_FILTER, _SO_BUF_LOCK = 26, 72
_MOST_FILTER = 4096
_LARGEST_BUFFER = 1 << 31
_LONGEST_LINGER = 1 << 31
_UNSIGNED = 0xFFFF_FFFF
"""Python's numbers are signed, those of the image are not: a mark may have any bit."""
_FILTER = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("=H6xQ")
_TIMES = {"snd": socket.SO_SNDTIMEO, "rcv": socket.SO_RCVTIMEO}
_BOOLS = {
    "so_dontroute": socket.SO_DONTROUTE,
    "so_no_check": _SO_NO_CHECK,
    "so_broadcast": socket.SO_BROADCAST,
    "so_keepalive": socket.SO_KEEPALIVE,
    "so_reuseport": socket.SO_REUSEPORT,
    "so_passcred": socket.SO_PASSCRED,
    "so_passsec": _SO_PASSSEC,
}
_NUMBERS = {
    "so_rcvlowat": socket.SO_RCVLOWAT,
    "so_oobinline": socket.SO_OOBINLINE,
    "so_mark": socket.SO_MARK,
    # After all others: an IP_TOS sets it, too.
    "so_priority": socket.SO_PRIORITY,
}
_TELLS_SENDERS = (socket.AF_UNIX, socket.AF_NETLINK)
_OF_SENDERS = ("so_passcred", "so_passsec")


class SkOpts(NamedTuple):
    """As read; `times` are (seconds, microseconds), `linger` None where it is off."""

    sndbuf: int
    rcvbuf: int
    times: dict[str, tuple[int, int]]
    values: dict[str, int]
    linger: int | None
    buf_lock: int | None
    device: str
    filter: tuple[int, ...]


@contextmanager
def borrowed(lfd: int, family: int, kind: int, proto: int) -> Iterator[socket.socket]:
    """A socket object on a descriptor that stays its owner's."""
    sock = socket.socket(family, kind, proto, fileno=lfd)
    try:
        yield sock
    finally:
        sock.detach()


def ask(sock: socket.socket) -> SkOpts:
    """Raises OSError; PermissionError for an eBPF filter, which nobody may read."""
    get = sock.getsockopt
    senders = sock.family in _TELLS_SENDERS
    on, seconds = struct.unpack("ii", get(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    values = {
        field: get(socket.SOL_SOCKET, name) & _UNSIGNED
        for field, name in (*_BOOLS.items(), *_NUMBERS.items())
        if senders or field not in _OF_SENDERS
    }
    values["reuseaddr"] = get(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    device = get(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    return SkOpts(
        get(socket.SOL_SOCKET, socket.SO_SNDBUF),
        get(socket.SOL_SOCKET, socket.SO_RCVBUF),
        {key: struct.unpack("qq", get(socket.SOL_SOCKET, n, 16)) for key, n in _TIMES.items()},
        values,
        seconds if on else None,
        _buf_lock(sock),
        device.rstrip(b"\0").decode(),
        _filter(sock.fileno()),
    )


def _buf_lock(sock: socket.socket) -> int | None:
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return None


def _filter(lfd: int) -> tuple[int, ...]:
    """The classic filter. Its length is told and asked in instructions, not in bytes."""
    length = ffi.new("unsigned int *", 0)
    args = (socket.SOL_SOCKET, _SO_ATTACH_FILTER)
    made("getsockopt", lfd, *args, 0, address(length))
    if not length[0]:
        return ()
    code = ffi.new("unsigned char[]", _FILTER.size * length[0])
    made("getsockopt", lfd, *args, address(code), address(length))
    return tuple(
        code << 48 | jt << 40 | jf << 32 | k
        for code, jt, jf, k in _FILTER.iter_unpack(bytes(ffi.buffer(code)))
    )


def write(opts: SkOpts, message: Any) -> None:
    """Encode into a sk_opts_entry."""
    message.so_sndbuf, message.so_rcvbuf = opts.sndbuf, opts.rcvbuf
    for key, (seconds, micros) in opts.times.items():
        setattr(message, f"so_{key}_tmo_sec", seconds)
        setattr(message, f"so_{key}_tmo_usec", micros)
    for field, value in opts.values.items():
        setattr(message, field, value)
    if opts.linger is not None:
        message.so_linger = opts.linger
    if opts.buf_lock is not None:
        message.so_buf_lock = opts.buf_lock
    if opts.device:
        message.so_bound_dev = opts.device
    message.so_filter.extend(opts.filter)


def check(message: Any, where: str) -> None:
    """Raise ImageError for what no socket has."""
    if max(message.so_sndbuf, message.so_rcvbuf) >= _LARGEST_BUFFER:
        raise ImageError("has a buffer larger than any", resource=where)
    if len(message.so_filter) > _MOST_FILTER or message.so_buf_lock > 3:
        raise ImageError("has a filter or lock that no socket has", resource=where)
    if message.so_linger >= _LONGEST_LINGER:
        raise ImageError("lingers longer than any socket can", resource=where)
    for key in _TIMES:
        seconds, micros = (getattr(message, f"so_{key}_tmo_{unit}") for unit in ("sec", "usec"))
        if micros >= 10**6 or seconds >= 1 << 62:
            raise ImageError("has a time limit that no socket has", resource=where)
    if len(message.so_bound_dev.encode()) > 15 or "\0" in message.so_bound_dev:
        raise ImageError("is bound to a device that can't have this name", resource=where)


def apply(report: Report, sock: socket.socket, message: Any, where: str) -> None:
    """Everything but SO_REUSEADDR, on a new socket, before it is bound. Raises OSError."""
    put = sock.setsockopt
    apply_buffers(report, sock, message, where)
    for key, name in _TIMES.items():
        pair = [getattr(message, f"so_{key}_tmo_{unit}") for unit in ("sec", "usec")]
        if any(pair):
            put(socket.SOL_SOCKET, name, struct.pack("qq", *pair))
    for field, name in (*_BOOLS.items(), *_NUMBERS.items()):
        wanted = int(getattr(message, field))
        if message.HasField(field) and wanted != sock.getsockopt(1, name) & _UNSIGNED:
            put(socket.SOL_SOCKET, name, struct.pack("=I", wanted))
    if message.HasField("so_linger"):
        put(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, message.so_linger))
    if message.so_bound_dev:
        put(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, message.so_bound_dev.encode())
    if message.so_filter:
        _attach(sock, message.so_filter)


def apply_buffers(report: Report, sock: socket.socket, message: Any, where: str) -> None:
    """Sizes of buffers, and who chose them. Raises OSError."""
    set_buffer(report, sock, SEND, message.so_sndbuf, where)
    set_buffer(report, sock, RECEIVE, message.so_rcvbuf, where)
    if message.HasField("so_buf_lock"):
        sock.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, message.so_buf_lock)


def set_buffer(
    report: Report, sock: socket.socket, options: tuple[int, int], wanted: int, where: str
) -> None:
    """`options`: SEND or RECEIVE. Without CAP_NET_ADMIN there may be less; that is only warned of.
    Raises OSError."""
    option, force = options
    if sock.getsockopt(socket.SOL_SOCKET, option) == wanted:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, wanted // 2)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, option, wanted // 2)
    got = sock.getsockopt(socket.SOL_SOCKET, option)
    if got != wanted:
        report.warn(f"{where}: a buffer has {got} bytes, before the dump {wanted}")


def _attach(sock: socket.socket, code: Any) -> None:
    packed = b"".join(
        _FILTER.pack(v >> 48, v >> 40 & 0xFF, v >> 32 & 0xFF, v & 0xFFFFFFFF) for v in code
    )
    held = ffi.from_buffer(packed)
    program = _PROGRAM.pack(len(code), address(held))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def unreadable(error: OSError) -> str:
    """Why `ask` failed, for a refusal."""
    if error.errno == errno.EACCES:
        return "it has an eBPF filter, which can't be read"
    return f"its options can't be read: {os.strerror(error.errno or 0)}"
