"""What a task does with its descriptors when every task and thread is there.

Order, and it is one for the whole tree, not for each task:

1. descriptors that could not be opened before (ckpt.files.kind.Stage.TASKS) are placed;
2. one-shot watches of epoll instances that have fired are added and disabled again, while nothing
   else in their instances can fire;
3. all other watches are added;
4. owners (F_SETOWN) and O_ASYNC are set, and locks are taken: closing any descriptor of a file, as
   lending one in step 3 does, would drop the record locks of a process on it.

A watch whose target the task has not got under its number: the target is lent to it there, and what
stands there meanwhile waits elsewhere.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from ckpt._native import check, lib
from ckpt.errors import KernelError, RestoreError
from ckpt.files.kind import Stage
from ckpt.files.locks import F_SETLEASE
from ckpt.infect.batch import SOCK, Batch
from ckpt.restore import rings
from ckpt.restore.state import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ckpt.files.epoll import Watch
    from ckpt.files.restore import FilesRestore
    from ckpt.infect.batch import Arg, Load, Outcome, Result
    from ckpt.report import Report
    from ckpt.restore.build import Built, Site

_O_CLOEXEC = 0o2000000
_F_SETFL, _F_SETLK, _F_SETOWN_EX, _F_DUPFD_CLOEXEC = 4, 6, 15, 1030
_EPOLL_CTL_ADD, _EPOLL_CTL_MOD = 1, 3
_ALL_EVENTS = 0x2FDF
_EVENT_SIZE = 12
_NR_AT_ONCE = 1000
_SAME = (1 << 32) - 1


def restore_late(site: Site, files: FilesRestore, report: Report) -> None:
    """All steps, for every task of the tree."""
    tasks = [site.tasks[pid] for pid in site.loaded.tasks]
    files.open_late(_Hands(site))
    for built in tasks:
        late = files.placements(built.pid, Stage.TASKS)
        place(built, files, [p for p in late if files.sendable(p.file_id)])
        rings.place(built, files, [p for p in late if not files.sendable(p.file_id)])
        rings.map_all(built, site.loaded, files)
    for built in tasks:
        _watch_disabled(built, files, report)
    for built in tasks:
        _add(built, files, (w for w in files.watches(built.pid) if not w.disabled), _add_one)
    for built in tasks:
        _own(built, files)
        _lock(built, files)


class _Hands:
    """What ckpt.files asks of the tasks (ckpt.files.restoring.Tasks)."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __contains__(self, pid: int) -> bool:
        return pid in self._site.loaded.tasks

    def run(self, pid: int, batch: Batch, lfds: Sequence[int] = ()) -> Outcome:
        return self._site.tasks[pid].session.run(batch, fds=list(lfds))

    def duplicate(self, pid: int, fd: int) -> int:
        built = self._site.tasks[pid]
        return check(lib.ckpt_pidfd_getfd(built.pidfd, fd), f"descriptor {fd} of {pid}")


def _watch_disabled(built: Built, files: FilesRestore, report: Report) -> None:
    disabled = [w for w in files.watches(built.pid) if w.disabled]
    fired = _add(built, files, disabled, _add_and_fire)
    armed = [w for w, nr_events in zip(disabled, fired, strict=True) if not nr_events]
    if armed:
        _add(built, files, armed, _disarm)
        numbers = ", ".join(str(w.tfd) for w in armed)
        report.warn(
            f"pid {built.pid}: one-shot watches of epoll that have fired are armed for errors and "
            f"hang-ups again (descriptors {numbers})"
        )


def _control(batch: Batch, epoll: Arg, what: int, fd: Arg, watch: Watch, events: int) -> Result:
    event = batch.put(watch.packed(events))
    return batch.call("epoll_ctl", epoll, what, fd, event, note=f"watch of descriptor {watch.tfd}")


def _add_one(batch: Batch, watch: Watch, epoll: Arg) -> Result:
    return _control(batch, epoll, _EPOLL_CTL_ADD, watch.tfd, watch, watch.events)


def _add_and_fire(batch: Batch, watch: Watch, epoll: Arg) -> Result:
    _control(batch, epoll, _EPOLL_CTL_ADD, watch.tfd, watch, watch.events | _ALL_EVENTS)
    return batch.call("epoll_wait", epoll, batch.space(_EVENT_SIZE), 1, 0)


def _disarm(batch: Batch, watch: Watch, epoll: Arg) -> Result:
    return _control(batch, epoll, _EPOLL_CTL_MOD, watch.tfd, watch, watch.events)


def _add(
    built: Built,
    files: FilesRestore,
    watches: Iterable[Watch],
    operation: Callable[[Batch, Watch, Arg], Result],
) -> list[int]:
    """Run an operation for each watch, its target under its number; the results."""
    todo = list(watches)
    results: list[int] = []
    while todo:
        some, lent = _bounded(todo)
        todo = todo[len(some) :]
        batch = Batch()
        slots = dict(zip(lent, _received(batch, built, len(lent)), strict=True)) if lent else {}
        asked = [
            _lend(batch, built, files, w, slots[w.file_id], operation)
            if w.lent
            else operation(batch, w, w.epoll_fd)
            for w in some
        ]
        for slot in slots.values():
            batch.call("close", slot)
        try:
            outcome = built.session.run(batch, fds=[files.lfd(i) for i in lent])
        except KernelError as error:
            raise RestoreError(
                "an epoll instance can't watch what it did", pid=built.pid, why=str(error)
            ) from error
        results += [outcome.of(result) for result in asked]
    return results


def _bounded(watches: list[Watch]) -> tuple[list[Watch], list[int]]:
    """As many of the first as fit into one batch, and the descriptions that they want lent."""
    lent: dict[int, None] = {}
    for nr, watch in enumerate(watches[:_NR_AT_ONCE]):
        if watch.lent:
            if watch.file_id not in lent and len(lent) == lib.CKPT_MAX_FDS:
                return watches[:nr], list(lent)
            lent[watch.file_id] = None
    return watches[:_NR_AT_ONCE], list(lent)


def _received(batch: Batch, built: Built, nr: int) -> list[Result]:
    """Descriptors of ours, out of the way of all that the task uses."""
    slots: list[Load] = batch.receive_fds(SOCK, nr)
    high = [batch.call("fcntl", slot, _F_DUPFD_CLOEXEC, built.sock + 1) for slot in slots]
    for slot in slots:
        batch.call("close", slot)
    return high


def _lend(
    batch: Batch,
    built: Built,
    files: FilesRestore,
    watch: Watch,
    target: Result,
    operation: Callable[[Batch, Watch, Arg], Result],
) -> Result:
    own = next((p for p in files.table(built.pid) if p.fd == watch.tfd), None)
    epoll: Arg = watch.epoll_fd
    if own is not None:
        aside = batch.call("fcntl", own.fd, _F_DUPFD_CLOEXEC, built.sock + 1)
        epoll = aside if own.fd == watch.epoll_fd else epoll
    batch.call("dup3", target, watch.tfd, _O_CLOEXEC, want=watch.tfd, note="watched descriptor")
    result = operation(batch, watch, epoll)
    if own is None:
        batch.call("close", watch.tfd)
    else:
        batch.call("dup3", aside, own.fd, _O_CLOEXEC if own.cloexec else 0, want=own.fd)
        batch.call("close", aside)
    return result


def _own(built: Built, files: FilesRestore) -> None:
    owned = files.owners(built.pid)
    if not owned:
        return
    real, effective, _ = os.getresuid()
    batch = Batch()
    for fd, owner in owned:
        if owner.pid:
            note = f"owner of descriptor {fd}"
            named = batch.put(struct.pack("=ii", owner.type, owner.pid))
            other = (owner.uid, owner.euid) != (real, effective)
            if other:
                batch.call("setresuid", owner.uid, owner.euid, _SAME, note=note)
            batch.call("fcntl", fd, _F_SETOWN_EX, named, note=note)
            if other:
                batch.call("setresuid", real, effective, _SAME, note=note)
        if owner.flags:
            batch.call("fcntl", fd, _F_SETFL, owner.flags, note=f"O_ASYNC of descriptor {fd}")
    built.session.run(batch)


def _lock(built: Built, files: FilesRestore) -> None:
    batch = Batch()
    for lock in files.locks(built.pid):
        batch.call("fcntl", lock.fd, lock.command, batch.put(lock.packed), note="record lock")
    for fd, operation in files.flocks(built.pid):
        batch.call("flock", fd, operation, note=f"lock (flock) of descriptor {fd}")
    for fd, kind in files.leases(built.pid):
        batch.call("fcntl", fd, F_SETLEASE, kind, note=f"lease of descriptor {fd}")
    if len(batch):
        built.session.run(batch)
