"""Sockets made by the task whose credentials others shall see (SO_PEERCRED, SO_PEERGROUPS).

The kernel takes pid, ids and groups of whoever calls socketpair(2), listen(2) or connect(2), and
keeps them. So the task makes the socket, with those ids for as long as the call takes, and we take
a duplicate of it; its own is closed again. Without tasks, or without the one that is named, the
nearest does it: an owner of the socket, or this process.

Source: unix(7); copy_peercred() and init_peercred() of net/unix/af_unix.c.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import RestoreError
from ckpt.files.anonymous import made
from ckpt.files.sockqueue import borrowed
from ckpt.infect.batch import SOCK, Batch

if TYPE_CHECKING:
    from ckpt.files.restoring import RestoreView
    from ckpt.files.unixnames import Name

_SAME = (1 << 32) - 1
_AT_FDCWD = -100


class Maker(NamedTuple):
    """By whom. `near` does it where `pid` is not of the tree; ids of -1 are those at hand."""

    pid: int
    near: int
    uid: int = -1
    gid: int = -1
    groups: tuple[int, ...] | None = None


def made_pair(view: RestoreView, kind: int, maker: Maker) -> tuple[int, int]:
    """A socketpair of ours, close-on-exec. Raises OSError, RestoreError, KernelError."""
    pid = _who(view, maker)
    if view.tasks is None or pid is None:
        pair = socket.socketpair(socket.AF_UNIX, kind)
        return pair[0].detach(), pair[1].detach()
    batch = Batch()
    numbers = batch.space(8)
    _become(batch, maker)
    batch.call("socketpair", socket.AF_UNIX, kind | socket.SOCK_CLOEXEC, 0, numbers)
    _return(batch, maker)
    fds = struct.unpack("=ii", view.tasks.run(pid, batch).read(numbers, 8))
    lfds: list[int] = []
    try:
        lfds = [view.tasks.duplicate(pid, fd) for fd in fds]
    except OSError as error:
        raise RestoreError(
            "what it made can't be taken", pid=pid, why=os.strerror(error.errno or 0)
        ) from error
    finally:
        closing = Batch()
        for fd in fds:
            closing.call("close", fd)
        view.tasks.run(pid, closing)
    return lfds[0], lfds[1]


def listen_as(view: RestoreView, maker: Maker, lfd: int, backlog: int) -> None:
    """listen(2) on a socket of ours. Raises OSError, KernelError."""
    pid = _who(view, maker)
    if view.tasks is None or pid is None:
        made("listen", lfd, backlog)
        return
    batch = Batch()
    (slot,) = batch.receive_fds(SOCK, 1)
    _become(batch, maker)
    batch.call("listen", slot, backlog, note="UNIX socket")
    _return(batch, maker)
    batch.call("close", slot)
    view.tasks.run(pid, batch, [lfd])


def connect_as(view: RestoreView, maker: Maker, lfd: int, name: Name) -> None:
    """connect(2) of a socket of ours, which must not have to wait. Raises OSError, KernelError.

    A file is looked up from its folder: the task may have another root, and a long path does not
    fit into an address."""
    pid = _who(view, maker)
    folder, _, last = os.fsencode(name.at).rpartition(b"/")
    address_of = name.given if name.file is None else last + b"\0"
    packed = struct.pack("=H", socket.AF_UNIX) + address_of
    lent = [lfd]
    if name.file is not None:
        lent.append(os.open(folder or b"/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        if view.tasks is None or pid is None:
            _connect_here(lfd, name, lent)
            return
        batch = Batch()
        slots = batch.receive_fds(SOCK, len(lent))
        for slot in slots[1:]:
            back = batch.call("openat", _AT_FDCWD, batch.text("."), os.O_PATH | os.O_CLOEXEC)
            batch.call("fchdir", slot)
        _become(batch, maker)
        batch.call("connect", slots[0], batch.put(packed), len(packed), note=f"UNIX socket {name}")
        _return(batch, maker)
        if slots[1:]:
            batch.call("fchdir", back)
            batch.call("close", back)
        for slot in slots:
            batch.call("close", slot)
        view.tasks.run(pid, batch, lent)
    finally:
        for folder_lfd in lent[1:]:
            os.close(folder_lfd)


def _who(view: RestoreView, maker: Maker) -> int | None:
    """The task that does it; None: this process."""
    if view.tasks is None:
        return None
    return next((pid for pid in (maker.pid, maker.near) if pid in view.tasks), None)


def _connect_here(lfd: int, name: Name, lent: list[int]) -> None:
    with borrowed(lfd) as sock:
        if len(lent) == 1:
            sock.connect(name.given)
        else:
            last = os.fsencode(name.at).rpartition(b"/")[2]
            sock.connect(b"/proc/self/fd/%d/%s" % (lent[1], last))


def _become(batch: Batch, maker: Maker) -> None:
    """The user last: nothing of this may be done once it is not root any more."""
    note = "credentials that the peer shows"
    if maker.groups is not None and list(maker.groups) != os.getgroups():
        packed = struct.pack(f"={len(maker.groups)}I", *maker.groups)
        batch.call("setgroups", len(maker.groups), batch.put(packed), note=note)
    if maker.gid not in (-1, os.getegid()):
        batch.call("setresgid", _SAME, maker.gid, _SAME, note=note)
    if maker.uid not in (-1, os.geteuid()):
        batch.call("setresuid", _SAME, maker.uid, _SAME, note=note)
        # The name of the peer is looked up with our rights: those of its file may be others now.
        batch.call("setfsuid", os.geteuid(), any_result=True)


def _return(batch: Batch, maker: Maker) -> None:
    if maker.uid not in (-1, os.geteuid()):
        batch.call("setresuid", _SAME, os.geteuid(), _SAME)
    if maker.gid not in (-1, os.getegid()):
        batch.call("setresgid", _SAME, os.getegid(), _SAME)
    groups = os.getgroups()
    if maker.groups is not None and list(maker.groups) != groups:
        batch.call("setgroups", len(groups), batch.put(struct.pack(f"={len(groups)}I", *groups)))
