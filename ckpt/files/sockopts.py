"""Socket options of all families: sk_opts_entry.

Sizes of buffers are as getsockopt(2) says them, twice what was set. Those above the limits of the
system want CAP_NET_ADMIN. What is set last is what would change how queues are filled: the caller
applies options when those are.

Refused: options that are read but not written back here (see `obstacle`).

Source: socket(7), net/core/sock.c; CRIU's criu/sockets.c for what the image means.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from ckpt._native import ffi
from ckpt.errors import ImageError, RestoreError
from ckpt.files import sk_opts
from ckpt.files.anonymous import address, made
from ckpt.files.sk_opts import RECEIVE, SEND, set_buffer
from ckpt.files.sockqueue import borrowed

if TYPE_CHECKING:
    from ckpt.files.restoring import RestoreView

_SOL = socket.SOL_SOCKET
_BUF_LOCK, _NO_CHECK = 72, 11
_PASSSEC, _GET_FILTER = 34, 26
_TIMEVAL = struct.Struct("=qq")
_LINGER = struct.Struct("=ii")

FLAGS: dict[str, int] = {
    "reuseaddr": socket.SO_REUSEADDR,
    "so_passcred": socket.SO_PASSCRED,
    "so_passsec": _PASSSEC,
    "so_dontroute": socket.SO_DONTROUTE,
    "so_no_check": _NO_CHECK,
    "so_reuseport": socket.SO_REUSEPORT,
    "so_broadcast": socket.SO_BROADCAST,
    "so_keepalive": socket.SO_KEEPALIVE,
}
"""Fields that are on or off. A kernel without one of them answers with an error: then it is off."""
NUMBERS: dict[str, int] = {
    "so_priority": socket.SO_PRIORITY,
    "so_rcvlowat": socket.SO_RCVLOWAT,
    "so_mark": socket.SO_MARK,
    "so_oobinline": socket.SO_OOBINLINE,
    "so_buf_lock": _BUF_LOCK,
}
_TIMEOUTS = {"so_snd_tmo": socket.SO_SNDTIMEO, "so_rcv_tmo": socket.SO_RCVTIMEO}
_UNKEPT: dict[str, tuple[int, int]] = {
    "timestamps (SO_TIMESTAMP)": (29, 0),
    "timestamps (SO_TIMESTAMPNS)": (35, 0),
    "timestamps (SO_TIMESTAMPING)": (37, 0),
    "SO_PEEK_OFF": (42, -1),
    "SO_PASSPIDFD": (76, 0),
    "SO_PASSRIGHTS": (83, 1),
    "SO_RXQ_OVFL": (40, 0),
}
"""What has another value than a new socket has: option and that value."""


def obstacle(lfd: int) -> str:
    """Why the options of a socket can't be restored; "" if they can."""
    with borrowed(lfd) as sock:
        for name, (option, usual) in _UNKEPT.items():
            value = _read(sock, option)
            if value is not None and value != usual:
                return f"its option {name} is not restored yet"
        if _has_filter(lfd):
            return "its packet filter (SO_ATTACH_FILTER) is not restored yet"
    return ""


def look(lfd: int) -> dict[str, int]:
    """The fields of a sk_opts_entry of a socket. Raises OSError."""
    found: dict[str, int] = {}
    with borrowed(lfd) as sock:
        found["so_sndbuf"] = sock.getsockopt(_SOL, socket.SO_SNDBUF)
        found["so_rcvbuf"] = sock.getsockopt(_SOL, socket.SO_RCVBUF)
        for name, option in _TIMEOUTS.items():
            raw = sock.getsockopt(_SOL, option, _TIMEVAL.size)
            found[f"{name}_sec"], found[f"{name}_usec"] = _TIMEVAL.unpack(raw)
        for fields in (FLAGS, NUMBERS):
            for field, option in fields.items():
                value = _read(sock, option)
                if value is not None:
                    found[field] = bool(value) if fields is FLAGS else value & 0xFFFF_FFFF
        on, seconds = _LINGER.unpack(sock.getsockopt(_SOL, socket.SO_LINGER, _LINGER.size))
        if on:
            found["so_linger"] = seconds
    return found


def check(opts: Any, where: str) -> None:
    """Raises ImageError for what no socket can have, or what is not restored."""
    if opts.so_filter:
        raise ImageError("has a packet filter, which is not restored yet", resource=where)
    sk_opts.check(opts, where)


def apply(view: RestoreView, lfd: int, opts: Any, where: str) -> None:
    """Set all options of a checked entry. Raises RestoreError."""
    with borrowed(lfd) as sock:
        set_buffer(view.report, sock, SEND, opts.so_sndbuf, where)
        set_buffer(view.report, sock, RECEIVE, opts.so_rcvbuf, where)
        for field, option in (*FLAGS.items(), *NUMBERS.items()):
            if opts.HasField(field):
                wanted = int(getattr(opts, field))
                now = _read(sock, option)
                if now is not None and now & 0xFFFF_FFFF == wanted:
                    continue
                number = struct.unpack("=i", struct.pack("=I", wanted))[0]
                _set(where, field, sock, option, number)
        for name, option in _TIMEOUTS.items():
            timeout = (getattr(opts, f"{name}_{unit}") for unit in ("sec", "usec"))
            sock.setsockopt(_SOL, option, _TIMEVAL.pack(*timeout))
        if opts.HasField("so_linger"):
            sock.setsockopt(_SOL, socket.SO_LINGER, _LINGER.pack(1, opts.so_linger))
        if opts.so_bound_dev:
            device = opts.so_bound_dev.encode()
            _set(where, "device", sock, socket.SO_BINDTODEVICE, device)


def make_room(sock: socket.socket, nr_bytes: int) -> None:
    """Let a socket send at least so much without being read."""
    for option in reversed(SEND):
        try:
            sock.setsockopt(_SOL, option, nr_bytes)
        except PermissionError:
            continue
        return


def _set(where: str, what: str, sock: socket.socket, option: int, value: int | bytes) -> None:
    try:
        sock.setsockopt(_SOL, option, value)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise RestoreError(f"its option {what} can't be set", resource=where, why=why) from error


def _read(sock: socket.socket, option: int) -> int | None:
    try:
        return sock.getsockopt(_SOL, option)
    except OSError:
        return None


def _has_filter(lfd: int) -> bool:
    """A length of 0 asks how long it is; one of eBPF can't be read, EACCES tells that it is there.
    (socket.getsockopt can't ask: the kernel takes the length for instructions, not for bytes.)"""
    length = ffi.new("int32_t *", 0)
    try:
        made("getsockopt", lfd, _SOL, _GET_FILTER, 0, address(length))
    except PermissionError:
        return True
    except OSError:
        return False
    return bool(length[0])
