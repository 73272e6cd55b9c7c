"""Rings of io_uring_setup(2), on the way into the images.

A ring is dumped when it is idle: as many completions as submissions, and nothing that waits for an
event. Completions that nobody has taken yet are in its memory. All else is refused by name: what is
registered with it (files, buffers, buffer rings, an eventfd; of its own descriptor see
ckpt.dump.rings), a thread of the kernel that polls it, a ring for one thread only, a disabled or
restricted one, one that has taken more submissions than a restore makes up for (MOST_SUBMITTED).

Not seen, since they leave no trace: IORING_SETUP_IOPOLL, SUBMIT_ALL, COOP_TASKRUN and TASKRUN_FLAG;
a request that posts several completions (multishot) for one that posts none; SQE128 and CQE32 where
nothing was written behind what they share with others; groups of provided buffers from 4,096 on;
limits of workers; registered credentials, which newer kernels show no more.

Source: io_uring_setup(2), io_uring_register(2), proc_pid_fdinfo(5), io_uring/fdinfo.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import lib
from ckpt.errors import Refusal
from ckpt.files import uringring
from ckpt.files.anonymous import made, value
from ckpt.files.kind import DumpKind, FdType, Obstacle
from ckpt.images.types import message_class
from ckpt.procfs.fdinfo import parse_fdinfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.uringring import Layout

LINK = "anon_inode:[io_uring]"
MOST_SUBMITTED = 1 << 20
_EVENTFD, _RESTRICTIONS = 4, 11
_NR_GROUPS = 1 << 12
_NOWHERE = 8
_BY_NAME = {
    "UserFiles": "registered files",
    "UserBufs": "registered buffers",
}
_WAITING = {"PollList": "requests that wait for events", "CqOverflowList": "lost completions"}


class _Ring(NamedTuple):
    d: Descriptor
    id: int
    layout: Layout
    submitted: int
    rings: bytes
    sqes: bytes


class UringDump(DumpKind):
    type = FdType.EXT

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self.held: list[tuple[Descriptor, int]] = []
        self._rings: list[_Ring] = []

    def claims(self, d: Descriptor) -> bool:
        return d.link == LINK

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        if not d.info:
            return None  # the kernel tells nothing while the ring is at work; `_look` comes later
        info = parse_fdinfo(d.info)
        for key, what in _BY_NAME.items():
            if value(info, key):
                return _refused(f"an io_uring with {what}")
        if value(info, "SqThread") != -1:
            return _refused("an io_uring that a thread of the kernel polls (SQPOLL)")
        if info.values("Personalities"):
            return _refused("an io_uring with registered credentials")
        return None

    def hold(self, d: Descriptor, file_id: int) -> None:
        self.held.append((d, file_id))

    def id_of(self, ino: int) -> int:
        """The entry of the ring that a mapping with this inode number shows; 0 if there is none."""
        return next((file_id for d, file_id in self.held if d.ino == ino), 0)

    def settle(self) -> Iterable[Refusal]:
        for d, file_id in self.held:
            try:
                obstacle = self._look(d, file_id)
            except OSError as error:
                obstacle = Obstacle(f"an io_uring that can't be looked at: {error}")
            if obstacle:
                yield Refusal(d.pid, str(d), obstacle.why, obstacle.hint)

    def _look(self, d: Descriptor, file_id: int) -> Obstacle | None:
        if not d.info:
            return _busy("work under way")
        info = parse_fdinfo(d.info)
        for key, what in _WAITING.items():
            if _lines_behind(d.info, key):
                return _busy(what)
        keys = ("SqHead", "SqTail", "CachedSqHead", "CqTail", "CachedCqTail")
        head, tail, cached_head, cq_tail, cached_tail = (value(info, key) for key in keys)
        if not head == tail == cached_head:
            return _busy("submissions that were not taken")
        if not head == cq_tail == cached_tail:
            return _busy("requests in flight")
        if head > MOST_SUBMITTED:
            return _refused(
                f"an io_uring that has taken {head} submissions, over {MOST_SUBMITTED},"
            )
        lfd = self.view.duplicate(d)
        if why := _registered(lfd):
            return _refused(why)
        entries = [value(info, key, 16) + 1 for key in ("SqMask", "CqMask")]
        layout = uringring.layout_here(*entries)
        rings = uringring.read_region(lfd, layout.rings_size, uringring.SQ_RING)
        sqes = uringring.read_region(lfd, layout.sqes_size, uringring.SQES)
        if any(rings[layout.array_at + layout.array_size :]):
            return _refused("an io_uring with large completions (CQE32)")
        if any(sqes[uringring.SQE_SIZE * layout.sq_entries :]):
            return _refused("an io_uring with large submissions (SQE128)")
        self._rings.append(_Ring(d, file_id, layout, head, rings, sqes))
        return None

    def entries(self) -> Iterator[Any]:
        for ring in self._rings:
            entry = self.entry(ring.id)
            entry.ext.id = ring.id
            entry.ext.fown.CopyFrom(self.view.fown(ring.d))
            yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        entry: Any = message_class("ckpt_uring.ckpt_uring_entry")
        ours = [
            entry(
                id=ring.id,
                flags=ring.d.flags,
                sq_entries=ring.layout.sq_entries,
                cq_entries=ring.layout.cq_entries,
                submitted=ring.submitted,
                offsets=ring.layout.offsets,
                rings=ring.rings,
                sqes=ring.sqes,
            )
            for ring in self._rings
        ]
        return {"ckpt-uring": ours} if ours else {}


def _refused(what: str) -> Obstacle:
    return Obstacle(f"{what} is not restored yet", "most programs have an option that avoids it")


def _busy(what: str) -> Obstacle:
    return Obstacle(f"an io_uring with {what} can't be restored", "dump it when it is idle")


def _lines_behind(info: bytes, key: str) -> bool:
    """Whether the list under `key:` has any lines, which are indented."""
    _, found, rest = info.partition(f"{key}:".encode())
    return bool(found) and rest.partition(b"\n")[2][:1] in (b" ", b"\t")


def _registered(lfd: int) -> str:
    """What is registered with a ring, or else in the way. Every question fails: that of the wrong
    error is the answer."""
    error = _error(lfd, _EVENTFD, _NOWHERE)
    if error == errno.EEXIST:
        return "an io_uring for one thread only (SINGLE_ISSUER)"
    if error == errno.EBUSY:
        return "an io_uring with an eventfd"
    if error != errno.EFAULT or _error(lfd, _RESTRICTIONS, _NOWHERE) != errno.EBADFD:
        return "a disabled or restricted io_uring"
    if lib.ckpt_ring_group(lfd, _NR_GROUPS) != -errno.ENOENT:
        return "an io_uring with provided buffers"
    return ""


def _error(lfd: int, operation: int, argument: int) -> int:
    try:
        made("io_uring_register", lfd, operation, argument, 1)
    except OSError as error:
        return error.errno or 0
    return 0
