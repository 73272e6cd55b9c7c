"""Semaphores and message queues of System V that belong to a tree: what a dump takes of them.

One belongs to the tree if the kernel's records name its tasks, and nobody else who lives: the last
user of each semaphore, the last sender and receiver of a queue, tasks that wait at it. All others
stay what they are for a tree, a part of its surroundings; a warning names those that it shares with
others. Nothing is changed, whoever they belong to.

What its tasks have to give back (SEM_UNDO) is a part of a set (ckpt.ns.sysv_undo). Where it can't
be told, or the set is shared with others, who would get it when the tree is killed, it is refused.

Order: `take` while all stands, `ask` in each task, `judge` afterwards.

Not seen: an object that the tree only has made, or that a program has used which has ended since,
and nobody after it; what a task has to give back to a set of which each semaphore has had another
user since.

Source: semctl(2), msgctl(2), proc(5): /proc/sysvipc, /proc/PID/syscall; exit_sem() in ipc/sem.c.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckpt._native import check, ffi, lib
from ckpt.errors import CkptError, KernelError, Refusal, TargetError
from ckpt.infect.batch import number
from ckpt.ns.sysv_objects import (
    MSG,
    SEM,
    Images,
    Object,
    Perm,
    Queue,
    Semaphores,
    Undo,
    images,
    name,
    unpacked,
)
from ckpt.ns.sysv_undo import ask
from ckpt.procfs.reader import ProcDir, pids, read_system
from ckpt.record import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ckpt.infect.session import Session

_KCMP_SYSVSEM, _CLONE_SYSVSEM = 6, 0x40000
_WAITS = {"semop": SEM, "semtimedop": SEM, "msgsnd": MSG, "msgrcv": MSG}
_HEAD = 16
_UNDO = "may have values to give back at its end (SEM_UNDO)"

Wait = tuple[int, int]
"""Kind and id of what a thread waits at."""


def waits_at(call: int, first: int) -> Wait | None:
    """What a thread waits at that stands in system call `call` with this first argument."""
    kind = _kinds().get(call)
    return None if kind is None else (kind, first & 0xFFFFFFFF)


@cache
def _kinds() -> dict[int, int]:
    return {number(call): kind for call, kind in _WAITS.items()}


class ObjectsDump:
    """The objects of one tree."""

    def __init__(self) -> None:
        self._pids: frozenset[int] = frozenset()
        self._found: dict[Wait, Object] = {}
        self._crowded: set[Wait] = set()
        self._undos: dict[int, list[Undo]] = {}
        self._refusals: list[Refusal] = []
        self._lists: list[int] = []

    def take(
        self, tasks: Mapping[int, Sequence[int]], waits_of: Callable[[], Collection[Wait]]
    ) -> None:
        """Read what they use who stand: all processes of the tree, each with its threads (none of
        a dead one); `waits_of` tells what those threads waited at."""
        self._pids = frozenset(tasks)
        there = [
            (kind, int(line.split()[1]))
            for kind, file in ((SEM, "sysvipc/sem"), (MSG, "sysvipc/msg"))
            if Path("/proc", file).exists()  # CONFIG_SYSVIPC
            for line in read_system(file).splitlines()[1:]
        ]
        waits = waits_of() if there else ()
        for kind, ident in there:
            self._look(kind, ident, waits)
        if any(one.kind == SEM for one in self._found.values()):
            self._find_lists(tasks)

    def _look(self, kind: int, ident: int, waits: Collection[Wait]) -> None:
        where = kind, ident
        seen = ffi.new("struct ckpt_sysv *")
        result = lib.ckpt_sysv_look(kind, ident, seen)
        _refuse_unknown(result, where)
        if result == 0 and kind == MSG:
            users = {seen.sender, seen.receiver} & self._pids
            if users or where in waits:
                try:
                    self._found[where] = _queue(ident, seen)
                except KernelError as error:
                    pid = min(users or self._pids)
                    self._refusals.append(Refusal(pid, name(*where, seen.key), str(error)))
        elif result == 0:
            one, waiting = _semaphores(ident, seen)
            if one is not None and (one.users & self._pids or where in waits):
                self._found[where] = one
                # The tree's own have been woken by being stopped.
                if waiting:
                    self._crowded.add(where)
            elif one is None and where in waits:
                self._crowded.add(where)
        elif where in waits:
            self._crowded.add(where)

    def _find_lists(self, tasks: Mapping[int, Sequence[int]]) -> None:
        """Who may have something to give back, and who of them shares it with others."""
        # Now this thread has no list, which is what all others are compared with.
        check(lib.ckpt_call(number("unshare"), _CLONE_SYSVSEM, 0, 0, 0, 0, 0), "unshare")
        own = threading.get_native_id()
        for pid, tids in tasks.items():
            for tid in tids:
                if _differ(own, tid) and (tid == pid or _differ(pid, tid)):
                    if tid != pid:
                        self._suspect(pid, f"thread {tid} {_UNDO} alone")
                    elif any(not _differ(pid, other) for other in self._lists):
                        self._suspect(pid, f"it shares what it {_UNDO} with others (clone(2))")
                    else:
                        self._lists.append(pid)

    def _suspect(self, pid: int, why: str) -> None:
        """Refuse what can't be told of a task, if it was the last user of anything."""
        for one in self._found.values():
            if one.kind == SEM and pid in one.users:
                self._refusals.append(Refusal(pid, str(one), f"{why}; not restored"))

    def ask(self, session: Session) -> None:
        """Ask the task of `session` what it has to give back."""
        if session.pid not in self._lists:
            return
        if session.only is not None:
            self._suspect(session.pid, f"it {_UNDO}, and can't be asked under a seccomp filter")
            return
        for one in self._found.values():
            if isinstance(one, Semaphores):
                self._ask(session, one)

    def _ask(self, session: Session, one: Semaphores) -> None:
        why = ""
        try:
            found = ask(session, one.id, one.values)
        except TargetError:
            raise
        except CkptError as error:
            found, why = {}, f"it {_UNDO}, and can't be asked: {error}"
        values, _, result = _values(one.id, len(one.values))
        if result < 0 or values != one.values:
            why = "it changed while the tree stood, so others use it"
        if why:
            self._suspect(session.pid, why)
            return
        mine = [Undo(session.pid, num, value) for num, value in found.items()]
        if mine:
            self._undos.setdefault(one.id, []).extend(mine)

    def judge(self) -> tuple[list[Refusal], list[str]]:
        """What is in the way, and what an operator should know. Those that are not the tree's alone
        are left out from here on."""
        refusals, notes = list(self._refusals), []
        waiting = waiting_outside(self._pids) if self._found or self._crowded else {}
        for where in [*self._found, *(self._crowded - self._found.keys())]:
            one = self._found.get(where)
            users = one.users if one is not None else frozenset()
            others = {pid for pid in users - self._pids if Path(f"/proc/{pid}").exists()}
            others |= waiting.get(where, set())
            if not others and where not in self._crowded:
                continue
            who = f"pid {min(others)}" if others else "somebody"
            text = str(one) if one is not None else name(*where)
            if where in self._crowded and one is None:
                notes.append(f"{text} can't be read: it stays, and is not in the images")
            else:
                notes.append(f"{who} uses {text} as well: it stays, and is not in the images")
            undos = self._undos.pop(where[1], []) if where[0] == SEM else []
            for undo in undos:
                why = f"it has {undo.adjustment} to give back at its end, and {who} uses it as well"
                refusals.append(Refusal(undo.pid, f"{text}, number {undo.num}", why))
            self._found.pop(where, None)
        return refusals, notes

    def images(self, number: int) -> Images:
        """What is written, for the IPC namespace of this number."""
        return images([self._whole(one) for one in self._found.values()], number)

    def _whole(self, one: Object) -> Object:
        if not isinstance(one, Semaphores):
            return one
        return replace(one, undos=tuple(self._undos.get(one.id, ())))


def _refuse_unknown(result: int, where: Wait) -> None:
    """It may have gone, or not be for us to read; nothing else may go wrong."""
    if result < 0 and -result not in (errno.EINVAL, errno.EIDRM, errno.EACCES):
        raise KernelError("can't be read", resource=name(*where), why=os.strerror(-result))


def _differ(pid: int, other: int) -> bool:
    return check(lib.ckpt_kcmp(pid, other, _KCMP_SYSVSEM, 0, 0), "kcmp") > 0


def _perm(seen: Any) -> Perm:
    return Perm(seen.key, seen.uid, seen.gid, seen.cuid, seen.cgid, seen.mode)


def _values(ident: int, nr: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Values, last users, and how many wait or -errno."""
    values, last = ffi.new("uint16_t[]", nr), ffi.new("int32_t[]", nr)
    waiting = ffi.new("uint64_t *")
    result = lib.ckpt_sem_read(ident, nr, values, last, waiting)
    return tuple(values), tuple(last), waiting[0] if result == 0 else result


def _semaphores(ident: int, seen: Any) -> tuple[Semaphores | None, int]:
    """None where it has gone, or is not for us to read."""
    values, last, waiting = _values(ident, seen.nr)
    _refuse_unknown(waiting, (SEM, ident))
    if waiting < 0:
        return None, 0
    return Semaphores(ident, _perm(seen), values, last), waiting


def read_queue(ident: int, seen: Any) -> tuple[tuple[int, bytes], ...]:
    """The messages of a queue that stays as it is. Raises KernelError."""
    size = seen.nr_bytes + _HEAD * seen.nr
    out = ffi.new("uint8_t[]", size + _HEAD)
    result = lib.ckpt_msg_read(ident, out, size)
    if result < 0:
        hint = {
            errno.ENOSYS: "the kernel needs CONFIG_CHECKPOINT_RESTORE",
            errno.EINVAL: "kernel.msgmax is less than one of its messages",
            errno.EMSGSIZE: "others send to it",
        }.get(-result, "")
        why = os.strerror(-result)
        raise KernelError("can't be read", resource=name(MSG, ident), why=why, hint=hint)
    return unpacked(bytes(ffi.buffer(out, result)))


def _queue(ident: int, seen: Any) -> Queue:
    messages = read_queue(ident, seen)
    return Queue(ident, _perm(seen), seen.max_bytes, messages, seen.sender, seen.receiver)


def waiting_outside(tree: Collection[int]) -> dict[Wait, set[int]]:
    """Who waits at what, of those of our IPC namespace who are not of the tree."""
    found: dict[Wait, set[int]] = {}
    own = _ipc_ns(os.getpid())
    for pid in pids():
        if pid in tree:
            continue
        # It may have ended, or be none of ours.
        with suppress(OSError, CkptError), ProcDir(pid) as proc:
            if _ipc_ns(pid) != own:
                continue
            for tid in proc.tids():
                if where := _wait_of(proc.read(f"task/{tid}/syscall")):
                    found.setdefault(where, set()).add(pid)
    return found


def _ipc_ns(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/ipc").stat().st_ino


def _wait_of(text: bytes) -> Wait | None:
    words = text.split()
    if len(words) < 2 or not words[0].isdigit():
        return None  # it runs
    return waits_at(int(words[0]), int(words[1], 16))
