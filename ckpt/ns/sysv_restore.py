"""Semaphores and message queues of System V: what a restore makes of them.

In ckpt's own IPC namespace, or one that it has joined, each object of the set is one of:

- gone: it is made with its id and key, with values or messages;
- there as it was: it is used;
- there with other values or messages, and all whom the kernel names as its last users are tasks of
  the tree, or those of the dump: the tree went on after the dump, or was killed and gave back what
  it had to; it is put back;
- there, and somebody else has used it since: it is used as it stands, with a warning if its
  contents are others;
- something else under its id or key: an error, before any task is made.

Then the tasks themselves say again what they have to give back (SEM_UNDO), and become the last
users that they were, for programs ask (GETPID) and so does the next dump; root stands in for those
of other tasks. Owners and modes come at the end. A guard removes what was made, should this process
die before the tree is whole.

Not restored: times; that nobody has received from a queue; last users of a queue that is full to
the last message.

Source: semctl(2), msgctl(2), semop(2), Documentation/admin-guide/sysctl/kernel.rst (sem_next_id).
"""

from __future__ import annotations

import errno
import mmap
import os
from enum import Enum
from typing import TYPE_CHECKING, Any

from ckpt._native import check, ffi, lib
from ckpt._native.guard import Guard
from ckpt.errors import ImageError, KernelError, RestoreError
from ckpt.infect.batch import Batch
from ckpt.ns.sysv_dump import read_queue, waiting_outside
from ckpt.ns.sysv_objects import Object, Queue, Semaphores, packed
from ckpt.ns.sysv_undo import IPC_NOWAIT, call_semop, giving, touching
from ckpt.procfs.reader import read_system

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ckpt.infect.session import Session
    from ckpt.report import Report

    SessionOf = Callable[[int], Session]

_REMOVE = "remove that one, see ipcs(1) and ipcrm(1)"
_LIMITS = "kernel.sem, msgmni, msgmnb and msgmax limit such objects"
_HINT = "ckpt restore needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE to give them their ids"
_NR_AT_ONCE = 1000


class _Found(Enum):
    GONE = "gone"
    SAME = "as it was"
    STALE = "the tree's, with other contents"
    SHARED = "as it was, and used by others since"
    FOREIGN = "used by others since, with other contents"


class ObjectsRestore:
    """The objects of one set. `close` removes what was made, unless `keep` was called before."""

    def __init__(
        self, objects: Sequence[Object], pids: Collection[int], alive: Collection[int], root: int
    ) -> None:
        """`pids`: the tasks of the tree, of which `alive` are, and `root` first of all."""
        self._objects, self._pids = objects, frozenset(pids)
        self._alive, self._root = frozenset(alive), root
        self._found: dict[Object, _Found] = {}
        self._made: list[Object] = []
        self._marks: mmap.mmap | None = None
        self._guard: Guard | None = None

    def make_all(self, report: Report) -> None:
        """Look at every object, then make those that are gone, and put others back. Raises
        RestoreError, ImageError."""
        for one in self._objects:
            self._check(one)
            self._found[one] = self._look(one)
            if self._found[one] is _Found.FOREIGN:
                report.warn(
                    f"{one} has other contents than at the dump, and not by the tree alone: it is "
                    "used as it stands (ipcrm(1) before a restore has it made as it was)"
                )
        gone = [one for one, found in self._found.items() if found is _Found.GONE]
        if gone:
            self._make(gone)
        for one, found in self._found.items():
            if found in (_Found.GONE, _Found.STALE):
                _fill(one)

    def tell(self, session_of: SessionOf) -> None:
        """Have the tasks, which have all their threads or none, take back what they have to give,
        and be the last users. Raises KernelError."""
        for one, found in self._found.items():
            if found in (_Found.SHARED, _Found.FOREIGN):
                continue
            if isinstance(one, Semaphores):
                self._tell_of_set(one, session_of)
            else:
                self._tell_of_queue(one, session_of)

    def settle(self) -> None:
        """All is in its place: owners and modes as they were."""
        for one, found in self._found.items():
            if found in (_Found.GONE, _Found.STALE):
                result = lib.ckpt_sysv_set(one.kind, one.id, _wanted(one))
                if result < 0:
                    raise _cannot(one, result)

    def send_guard_away(self) -> None:
        """Right before the tree is let go: from here on our death does not remove them, for it may
        be that it lives."""
        if self._guard is not None:
            self._guard.send_away()

    def keep(self) -> None:
        """The tree lives: they stay."""
        self._made.clear()

    def close(self) -> None:
        """Raises nothing."""
        for one in self._made:
            lib.ckpt_sysv_remove(one.kind, one.id)
        self._made.clear()
        if self._guard is not None:
            # What was begun is removed by now, or stays.
            if self._marks is not None:
                self._marks[:] = bytes(len(self._marks))
            self._guard.close()
            self._guard = None

    def _check(self, one: Object) -> None:
        undos = one.undos if isinstance(one, Semaphores) else ()
        if lost := [undo.pid for undo in undos if undo.pid not in self._alive]:
            why = f"pid {lost[0]}, who has values to give back, is no task"
            raise ImageError("makes no sense", resource=str(one), why=why)

    def _look(self, one: Object) -> _Found:
        seen = ffi.new("struct ckpt_sysv *")
        result = lib.ckpt_sysv_look(one.kind, one.id, seen)
        if result in (-errno.EINVAL, -errno.EIDRM):
            if one.perm.key and lib.ckpt_sysv_find(one.kind, one.perm.key) != -errno.ENOENT:
                raise _in_the_way(one, "another one has its key")
            return _Found.GONE
        if result < 0:
            raise RestoreError("can't be used", resource=str(one), why=os.strerror(-result))
        wrong = isinstance(one, Semaphores) and seen.nr != len(one.values)
        if wrong or seen.key != one.perm.key:
            raise _in_the_way(one, "another one has its id")
        same, users, crowded = _compare(one, seen)
        if one.users | self._pids >= users and not crowded:
            return _Found.SAME if same else _Found.STALE
        if isinstance(one, Semaphores) and one.undos:
            why = "others have used it since, and tasks have values to give back (SEM_UNDO)"
            raise RestoreError("can't be used", resource=str(one), why=why, hint=_REMOVE)
        return _Found.SHARED if same else _Found.FOREIGN

    def _make(self, gone: Sequence[Object]) -> None:
        size = ffi.sizeof("struct ckpt_mark")
        self._marks = mmap.mmap(-1, size * len(gone))
        marks = ffi.cast("struct ckpt_mark *", ffi.from_buffer(self._marks))
        for mark, one in zip(range(len(gone)), gone, strict=True):
            marks[mark].kind, marks[mark].id, marks[mark].key = one.kind, one.id, one.perm.key
        what = "guard of semaphores and queues"
        self._guard = Guard(what, lib.ckpt_guard_objects, marks, len(gone))
        for mark, one in zip(range(len(gone)), gone, strict=True):
            marks[mark].begun = 1
            result = lib.ckpt_sysv_make(one.kind, one.id, _wanted(one))
            if result < 0:
                marks[mark].begun = 0
                raise _cannot(one, result)
            self._made.append(one)

    def _tell_of_set(self, one: Semaphores, session_of: SessionOf) -> None:
        values = one.values
        for undo in one.undos:
            batch = Batch()
            for ops in giving(undo.num, values[undo.num], undo.adjustment):
                call_semop(batch, one.id, ops)
            session_of(undo.pid).run(batch)
        by_pid: dict[int, list[int]] = {}
        for num, pid in enumerate(one.last):
            # Without ckpt-sysv nobody is known, and a value tells that there was one.
            if pid or values[num]:
                by_pid.setdefault(self._in_tree(pid), []).append(num)
        together = max(1, int(read_system("sys/kernel/sem").split()[2]) // 2)
        for pid, nums in by_pid.items():
            calls = [nums[at : at + together] for at in range(0, len(nums), together)]
            for first in range(0, len(calls), _NR_AT_ONCE):
                batch = Batch()
                for some in calls[first : first + _NR_AT_ONCE]:
                    ops = [op for num in some for op in touching(num, values[num])]
                    call_semop(batch, one.id, ops)
                session_of(pid).run(batch)

    def _tell_of_queue(self, one: Queue, session_of: SessionOf) -> None:
        if not one.users and not one.messages:
            return
        used = {kind for kind, _ in one.messages}
        kind = next(n for n in range(1, len(used) + 2) if n not in used)
        sending, receiving = Batch(), Batch()
        place = sending.put(kind.to_bytes(8, "little"))
        sending.call("msgsnd", one.id, place, 0, IPC_NOWAIT, also=errno.EAGAIN)
        place = receiving.space(8)
        receiving.call("msgrcv", one.id, place, 0, kind, IPC_NOWAIT, also=errno.ENOMSG)
        sender, receiver = self._in_tree(one.sender), self._in_tree(one.receiver)
        session_of(sender).run(sending)
        session_of(receiver).run(receiving)

    def _in_tree(self, pid: int) -> int:
        """The task, or root in its place."""
        return pid if pid in self._alive else self._root


def _wanted(one: Object) -> Any:
    wanted = ffi.new("struct ckpt_sysv *")
    perm = one.perm
    wanted.key, wanted.uid, wanted.gid, wanted.cuid, wanted.cgid, wanted.mode = perm
    if isinstance(one, Semaphores):
        wanted.nr = len(one.values)
    else:
        wanted.max_bytes = one.max_bytes
    return wanted


def _compare(one: Object, seen: Any) -> tuple[bool, set[int], bool]:
    """Whether the one that is there has the same contents; its last users; whether somebody waits
    at it."""
    if isinstance(one, Queue):
        try:
            messages = read_queue(one.id, seen)
        except KernelError as error:
            raise RestoreError("can't be used", resource=str(one), why=str(error)) from error
        same = messages == one.messages
        # Who waits for messages would get those that are put back.
        crowded = not same and (one.kind, one.id) in waiting_outside(())
        return same, {seen.sender, seen.receiver} - {0}, crowded
    nr = len(one.values)
    values, last = ffi.new("uint16_t[]", nr), ffi.new("int32_t[]", nr)
    waiting = ffi.new("uint64_t *")
    check(lib.ckpt_sem_read(one.id, nr, values, last, waiting), str(one))
    return tuple(values) == one.values, set(last) - {0}, bool(waiting[0])


def _fill(one: Object) -> None:
    if isinstance(one, Semaphores):
        result = lib.ckpt_sem_fill(one.id, len(one.values), one.values)
    else:
        result = _fill_queue(one)
    if result < 0:
        raise _cannot(one, result)


def _fill_queue(one: Queue) -> int:
    seen = ffi.new("struct ckpt_sysv *")
    raw = packed(one.messages)
    result = lib.ckpt_msg_empty(one.id)
    if result == 0:
        result = lib.ckpt_sysv_look(one.kind, one.id, seen)
    # A queue may be fuller than it shall be, and what marks its users needs room for one more.
    room = max(sum(len(text) for _, text in one.messages), len(one.messages) + 1)
    if result == 0 and seen.max_bytes < room:
        seen.max_bytes = room
        result = lib.ckpt_sysv_set(one.kind, one.id, seen)
    if result == 0:
        result = lib.ckpt_msg_fill(one.id, raw, len(raw))
    return int(result)


def _in_the_way(one: Object, why: str) -> RestoreError:
    return RestoreError("can't be made", resource=str(one), why=why, hint=_REMOVE)


def _cannot(one: Object, result: int) -> RestoreError:
    if -result == errno.EEXIST:
        return _in_the_way(one, "its id or key was taken meanwhile")
    denied = -result in (errno.EPERM, errno.EACCES)
    hint = f"{_HINT}; {_LIMITS}" if denied else _LIMITS
    return RestoreError("can't be made", resource=str(one), why=os.strerror(-result), hint=hint)
