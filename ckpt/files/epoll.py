"""epoll(7) instances and what they watch.

An instance knows a target by its description and by the number that it was added by. The number
says nothing of who has the target now: its descriptor may be closed and the target alive through a
duplicate, another file may stand under the number, or the instance may be shared by tasks whose
tables differ. kcmp(2) tells which description is meant (KCMP_EPOLL_TFD).

Dump: for each watch the descriptor of that number in the tables of those that hold the instance is
compared first, then every description of the tree. Of many watches on pipes, eventfds and timerfds
that is found out for all at once (see _native/src/epoll.h), since each answer of kcmp(2) takes the
longer the more there are. CRIU's entry has the number alone. Where a
reader of it would find another file (the rule: the first task by pid that has the instance and such
a number), ckpt-epoll.img names the target.

Restore: each watch is added by a task that has the target under that number; by the first holder,
with the target lent to it for a moment, where none has. It has to be a task of the tree: a signalfd
wakes whom it is asked by. A one-shot watch that has fired is disabled again by letting it fire; the
rare target that has nothing to tell is left armed for errors and hang-ups, with a warning.

Not kept: which of several tasks that share an instance and a signalfd had added it. A watch that is
triggered by edges reports what is there once more. Refused: targets that nobody in the tree has
open, and the settings for busy polling.

Source: epoll_ctl(2), kcmp(2), fs/eventpoll.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import check, ffi, lib
from ckpt.errors import ImageError, KernelError, Refusal
from ckpt.files.anonymous import AnonymousDump, AnonymousRestore, address, made
from ckpt.files.kind import FdType
from ckpt.images.types import message_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView

_EPOLL_CLOEXEC = 0o2000000
EPOLLONESHOT = 1 << 30
_PRIVATE = 0xF << 28
"""EPOLLEXCLUSIVE, EPOLLWAKEUP, EPOLLONESHOT, EPOLLET: all that is left of a disabled watch."""

_KCMP_EPOLL_TFD = 7
_MANY = 256
"""From so many watches on they are asked all at once."""
_ASKED_FREELY = frozenset({"anon_inode:[eventfd]", "anon_inode:[timerfd]"})
"""Besides pipes: files that lose nothing when they are asked for their events."""
_TOLD_ONCE = EPOLLONESHOT | 1 << 29
"""EPOLLWAKEUP, which we may not be allowed to set."""
_EPIOCGPARAMS = 0x80088A02
_LARGEST_FD = 1 << 30
_LINE = re.compile(
    rb"tfd: *([0-9]+) events: *([0-9a-f]+) data: *([0-9a-f]+)"
    rb"(?: *pos:(-?[0-9]+) ino:([0-9a-f]+) sdev:([0-9a-f]+))?"
)


class _Watched(NamedTuple):
    """One line of fdinfo. `nth`: how many lines before it have the same number."""

    tfd: int
    events: int
    data: int
    pos: int
    ino: int
    sdev: int
    nth: int


def _watched(d: Descriptor) -> list[_Watched]:
    found: list[_Watched] = []
    seen: dict[int, int] = {}
    for line in d.info.splitlines():
        if not line.startswith(b"tfd:"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise KernelError("fdinfo of epoll can't be read", resource=str(d), why=repr(line))
        tfd = int(match[1])
        nth = seen.get(tfd, 0)
        seen[tfd] = nth + 1
        place = (int(match[4] or b"0"), int(match[5] or b"0", 16), int(match[6] or b"0", 16))
        found.append(_Watched(tfd, int(match[2], 16), int(match[3], 16), *place, nth))
    return found


class _Tree(NamedTuple):
    """Who has what, of the whole tree."""

    tables: dict[int, dict[int, tuple[Descriptor, int]]]
    """By pid and number."""
    firsts: dict[int, Descriptor]
    """One descriptor of each description."""
    holders: dict[int, list[int]]
    """Pids, ascending, that have each instance."""


class EpollDump(AnonymousDump):
    type = FdType.EVENTPOLL
    links = frozenset({"anon_inode:[eventpoll]"})
    field = "epfd"

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._watched: dict[int, list[tuple[_Watched, int]]] = {}
        self._tree = _Tree({}, {}, {})

    def settle(self) -> Iterable[Refusal]:
        if not self.held:
            return
        for d, file_id in self.view.described:
            self._tree.tables.setdefault(d.pid, {})[d.fd] = d, file_id
            self._tree.firsts.setdefault(file_id, d)
            if self.claims(d):
                self._tree.holders.setdefault(file_id, []).append(d.pid)
        for pids in self._tree.holders.values():
            pids[:] = sorted(set(pids))
        for d, file_id in self.held:
            if _busy_polling(self.view.duplicate(d)):
                yield Refusal(d.pid, str(d), "its settings for busy polling are not restored yet")
            yield from self._settle_one(d, file_id)

    def _settle_one(self, d: Descriptor, file_id: int) -> Iterator[Refusal]:
        targets = self._watched[file_id] = []
        # One that is in flight only, which is refused, nobody holds.
        lines, holders = _watched(d), self._tree.holders.get(file_id, [])
        known = self._at_once(d, lines, holders[0]) if holders and len(lines) >= _MANY else {}
        for watched in lines:
            target = known.get(watched.tfd) or self._target(d, watched, holders)
            if target is None:
                why = f"it watches descriptor {watched.tfd}, which nobody in the tree has open"
                yield Refusal(d.pid, str(d), why, "dump a tree that holds it")
            else:
                targets.append((watched, target))

    def _at_once(self, d: Descriptor, lines: list[_Watched], pid: int) -> dict[int, int]:
        """By number, the descriptions that task `pid` has under the number they are watched by, as
        far as that can be told without changing anything. See _native/src/epoll.h."""
        table = self._tree.tables[pid]
        twice = {watched.tfd for watched in lines if watched.nth}
        asked = [
            watched
            for watched in lines
            if watched.tfd in table
            and watched.tfd not in twice
            and not watched.events & _TOLD_ONCE
            and _asked_freely(table[watched.tfd][0])
        ]
        slots = ffi.new(
            "struct ckpt_epoll_watch[]", [(w.tfd, w.events, w.data, 0, 0) for w in asked]
        )
        lfd = self.view.duplicate(d)
        check(lib.ckpt_epoll_watches(self.view.pidfds[pid], lfd, slots, len(asked)), str(d))
        return {slot.fd: table[slot.fd][1] for slot in slots if slot.present}

    def _target(self, d: Descriptor, watched: _Watched, holders: list[int]) -> int | None:
        """The id of the description that is watched."""
        tables, firsts, _ = self._tree
        tried = set()
        for pid in holders:
            found = tables[pid].get(watched.tfd)
            if found and found[1] not in tried:
                tried.add(found[1])
                if _is_watched(d, watched, found[0]):
                    return found[1]
        # The inode narrows it down, but not on file systems that show another number than theirs.
        for other in sorted(firsts, key=lambda i: firsts[i].ino != watched.ino):
            if other not in tried and _is_watched(d, watched, firsts[other]):
                return other
        return None

    def fill(self, message: Any, d: Descriptor, file_id: int) -> None:
        del d
        for watched, target in self._watched[file_id]:
            tfd = watched.tfd
            if self._reads_as(file_id, tfd) != target:
                tfd = self._number(file_id, target, tfd)
            message.tfd.add(
                id=file_id,
                tfd=tfd,
                events=watched.events,
                data=watched.data,
                dev=watched.sdev,
                inode=watched.ino,
                pos=watched.pos & 0xFFFF_FFFF_FFFF_FFFF,
            )

    def images(self) -> dict[str, Sequence[Any]]:
        own: Any = message_class("ckpt_epoll.ckpt_epoll_entry")
        entries = [
            own(id=file_id, index=index, tfd=watched.tfd, file_id=target)
            for file_id, targets in self._watched.items()
            for index, (watched, target) in enumerate(targets)
            if self._reads_as(file_id, watched.tfd) != target
        ]
        return {"ckpt-epoll": entries} if entries else {}

    def _reads_as(self, file_id: int, tfd: int) -> int | None:
        """Which description a reader takes the number for."""
        tables = self._tree.tables
        found = (tables[pid].get(tfd) for pid in self._tree.holders[file_id])
        return next((held[1] for held in found if held), None)

    def _number(self, file_id: int, target: int, tfd: int) -> int:
        """A number for CRIU, under which the first holder has the target; `tfd` if it has none."""
        table = self._tree.tables[self._tree.holders[file_id][0]]
        return next((fd for fd, held in table.items() if held[1] == target), tfd)


def _asked_freely(d: Descriptor) -> bool:
    return d.link in _ASKED_FREELY or d.format == stat.S_IFIFO


def _is_watched(d: Descriptor, watched: _Watched, other: Descriptor) -> bool:
    # A socket has one description only. The kernel looks through all watches for each answer: with
    # 10,000 connections that would take a second.
    if other.format == stat.S_IFSOCK and watched.ino:
        return other.ino == watched.ino
    slot = ffi.new("uint32_t[3]", [d.fd, watched.tfd, watched.nth])
    order = lib.ckpt_kcmp(other.pid, d.pid, _KCMP_EPOLL_TFD, other.fd, address(slot))
    if order < 0 and order != -errno.ENOENT:
        raise OSError(-order, os.strerror(-order))
    return bool(order == 0)


def _busy_polling(lfd: int) -> bool:
    try:
        return any(fcntl.ioctl(lfd, _EPIOCGPARAMS, bytes(8)))
    except OSError:
        return False  # a kernel without it


class Watch(NamedTuple):
    """One watch for a task to add to the instance `epoll_id`: the description `file_id` under the
    number `tfd`. `lent`: the task has not got it there."""

    epoll_id: int
    epoll_fd: int
    tfd: int
    file_id: int
    events: int
    data: int
    lent: bool

    @property
    def disabled(self) -> bool:
        """A one-shot watch that has fired."""
        return bool(self.events & EPOLLONESHOT) and not self.events & ~_PRIVATE

    def packed(self, events: int) -> bytes:
        """A struct epoll_event of x86-64."""
        return struct.pack("<IQ", events, self.data)


class EpollRestore(AnonymousRestore):
    type = FdType.EVENTPOLL
    field = "epfd"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self.watches: dict[int, list[Watch]] = {}

    def check(self, message: Any, where: str) -> None:
        for entry in message.tfd:
            if entry.tfd >= _LARGEST_FD:
                raise ImageError(f"watches descriptor {entry.tfd}", resource=where)

    def prepare(self, wanted: Iterable[int]) -> None:
        named: dict[tuple[int, int], tuple[int, int]] = {}
        for m in self.view.messages("ckpt-epoll"):
            if m.tfd >= _LARGEST_FD:
                raise ImageError(f"watches descriptor {m.tfd}", resource="ckpt-epoll.img")
            named[m.id, m.index] = m.tfd, m.file_id
        tables = {pid: self.view.tables[pid] for pid in sorted(self.view.tables)}
        known = {file_id for table in tables.values() for file_id in table.values()}
        for epoll_id in wanted:
            holders: dict[int, int] = {}
            for pid, table in tables.items():
                for fd in table:
                    if table[fd] == epoll_id:
                        holders.setdefault(pid, fd)
            for index, entry in enumerate(self.messages[epoll_id].tfd):
                tfd, file_id = named.get((epoll_id, index), (entry.tfd, None))
                if file_id is None:
                    found = (tables[pid].get(tfd) for pid in holders)
                    file_id = next((i for i in found if i is not None), None)
                if file_id not in known:
                    raise ImageError(
                        f"watches descriptor {tfd}, which no task has",
                        resource=f"epoll {epoll_id:#x} of files.img",
                    )
                has = [pid for pid in holders if tables[pid].get(tfd) == file_id]
                pid = has[0] if has else next(iter(holders))
                watch = Watch(
                    *(epoll_id, holders[pid], tfd, file_id),
                    *(entry.events, entry.data, not has),
                )
                self.watches.setdefault(pid, []).append(watch)

    def text(self, file_id: int) -> str:
        return f"make epoll instance, {len(self.messages[file_id].tfd)} watched"

    def make(self, file_id: int, message: Any) -> int:
        del file_id, message
        return made("epoll_create1", _EPOLL_CLOEXEC)
