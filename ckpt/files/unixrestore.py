"""UNIX sockets on the way out of the images: what is checked, and what is planned.

They are made all together, when all tasks are there (ckpt.files.unixbuild): a connection has two
ends, and a name must be free.
"""

from __future__ import annotations

import os
import socket
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError, RestoreError
from ckpt.files import sockopts, sockqueue, unixnames
from ckpt.files.kind import FdType, Opener, RestoreKind, Stage
from ckpt.files.openflags import checked
from ckpt.files.unixbuild import STREAMS, Builder
from ckpt.files.unixdiag import CLOSE, ESTABLISHED, LISTEN
from ckpt.files.unixfill import Checked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.files.restoring import RestoreView
    from ckpt.files.sockqueue import Queued
    from ckpt.files.unixnames import Name

_KINDS = {
    socket.SOCK_STREAM: "stream",
    socket.SOCK_DGRAM: "datagram",
    socket.SOCK_SEQPACKET: "seqpacket",
}
_EXTERN = 1
_PID_MAX = 1 << 22
_MOST_GROUPS = 256
_LONGEST_ADDRESS = 110


class UnixRestore(RestoreKind):
    type = FdType.UNIXSK
    field = "usk"
    opener = Opener.TASK
    stage = Stage.TASKS

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._sockets: dict[int, Checked] = {}
        self._by_ino: dict[int, int] = {}
        self._ours: dict[int, Any] = {}
        self._outside: dict[int, Name] = {}
        self._wanted: list[int] = []
        self._builder: Builder | None = None

    @cached_property
    def _queues(self) -> dict[int, list[Queued]]:
        return sockqueue.read_queues(self.view)

    def take(self, file_id: int, message: Any) -> None:
        where = f"UNIX socket {file_id:#x} of files.img"
        if message.uflags == _EXTERN:
            name = unixnames.read(message, where)
            if name is None or message.type != socket.SOCK_DGRAM or message.name_dir:
                raise ImageError(
                    "is outside the tree, but has no name to find it by", resource=where
                )
            self._outside[message.ino] = name
            return
        listens = message.state == LISTEN and message.type in STREAMS
        if message.type not in _KINDS or not (listens or message.state in (ESTABLISHED, CLOSE)):
            raise ImageError(
                f"is of type {message.type} in state {message.state}, which is not restored yet",
                resource=where,
            )
        if message.uflags:
            raise RestoreError(
                f"has flags {message.uflags:#x}, which are not restored yet", resource=where
            )
        sockopts.check(message.opts, where)
        flags = checked(message.flags, where)
        signum = self.view.signum(message.fown, where)
        name = unixnames.read(message, where)
        self._sockets[file_id] = Checked(file_id, message, flags, signum, name, where)

    def refers_to(self, file_id: int) -> Iterable[int]:
        return [right for queued in self._queues.get(file_id, ()) for right in queued.rights]

    def prepare(self, wanted: Iterable[int]) -> None:
        for m in self.view.messages("ckpt-unix"):
            if m.pid >= _PID_MAX:
                raise ImageError(f"shows pid {m.pid}", resource="ckpt-unix.img")
            if len(m.groups) > _MOST_GROUPS:
                raise ImageError(f"shows {len(m.groups)} groups", resource="ckpt-unix.img")
            if any(len(address) > _LONGEST_ADDRESS for address in m.senders):
                raise ImageError("has a sender's address too long", resource="ckpt-unix.img")
            self._ours[m.id] = m
        self._wanted = sorted(wanted)
        for file_id in wanted:
            if file_id not in self._sockets:
                where = f"UNIX socket {file_id:#x} of files.img"
                raise ImageError("is outside the tree, but a task has it", resource=where)
            checked_one = self._sockets[file_id]
            if checked_one.message.ino in self._by_ino:
                raise ImageError("is there twice", resource=checked_one.where)
            self._by_ino[checked_one.message.ino] = file_id
            ours = self._ours.get(file_id)
            if ours is not None and ours.HasField("moved"):
                name = unixnames.read_moved(checked_one.name, ours.moved, checked_one.where)
                self._sockets[file_id] = checked_one._replace(name=name)
        for file_id in wanted:
            self._check_peer(file_id)

    def _check_peer(self, file_id: int) -> None:
        one = self._sockets[file_id]
        m = one.message
        if not m.peer:
            lonely = m.state != ESTABLISHED and (m.type in STREAMS or not one.name)
            if self._queues.get(file_id) and lonely:
                raise ImageError("has data in flight, but no peer", resource=one.where)
            return
        other = self._by_ino.get(m.peer)
        if other is None and m.peer in self._outside and m.type == socket.SOCK_DGRAM:
            return
        if other is None:
            raise RestoreError("its peer was outside the tree", resource=one.where)
        theirs = self._sockets[other]
        wrong = theirs.message.type != m.type or m.state != ESTABLISHED
        if m.type in STREAMS:
            waits = theirs.message.state == LISTEN and theirs.name is not None
            wrong |= other == file_id or not (waits or theirs.message.peer == m.ino)
            if waits and self._queues.get(file_id):
                raise ImageError("has data of a peer that was not accepted", resource=one.where)
        else:
            wrong |= theirs.message.peer != m.ino and theirs.name is None
            wrong |= other == file_id and theirs.name is None
        if wrong:
            raise ImageError("is connected to a socket that is not to it", resource=one.where)

    def text(self, file_id: int) -> str:
        one = self._sockets[file_id]
        m = one.message
        named = f" {one.name}" if one.name else ""
        text = f"make {_KINDS[m.type]} UNIX socket{named}"
        if m.state == LISTEN:
            return f"{text} that listens ({m.backlog})"
        nr_bytes = sum(len(q.data) for q in self._queues.get(file_id, ()))
        if m.peer or m.state == ESTABLISHED:
            text += f" connected to {f'socket:[{m.peer}]' if m.peer else 'a closed one'}"
        return f"{text}, {nr_bytes} bytes in flight to it" if nr_bytes else text

    def open(self, file_id: int) -> int:
        if self._builder is None:
            wanted = {i: self._sockets[i] for i in self._wanted}
            self._builder = Builder(self.view, wanted, self._queues, self._ours, self._outside)
            self._builder.build()
        return self._builder.open.pop(file_id)

    def release(self) -> None:
        if self._builder is not None:
            self._builder.binder.keep()

    def abandon(self) -> None:
        if self._builder is not None:
            self._builder.binder.undo()

    def close(self) -> None:
        if self._builder is not None:
            opened, self._builder.open = self._builder.open, {}
            for lfd in opened.values():
                os.close(lfd)
