"""A copy of a stopped, infected task: a process that is nobody's child, holds nothing of the task
but its memory of this instant, and waits for what a session tells it.

The task must not see it. A child of its own would show in wait(2) with __WALL, so the copy is a
grandchild, made in one batch of the task's leader:

1. A child with CLONE_VM | CLONE_VFORK | CLONE_FILES, which shares all and so costs nothing. It
   leaves the table of descriptors for one of its own, in which is only the copy's command socket.
2. That child clones the copy, without sharing, and ends. The copy belongs to init, or to the next
   subreaper above the task: whoever asks for it makes sure that this is no task of the tree.
3. The task reaps its child, in the same batch, before any thread of it runs. For that long it is no
   subreaper itself, if it was one.

Two numbers of processes are used up, and the time that the clone took is added to what times(2)
says of children; the task can see nothing else. If we are killed, the batch still runs to its end,
the task cures itself, and the copy ends as its socket does. It ends also by itself where a step of
its making fails.

Not guaranteed: if we are killed during that batch, the task's other threads run for the rest of it,
some milliseconds. One that waits with __WALL or __WCLONE, as tracers do, could then see the child
of step 1; and a subreaper's grandchildren that lose their parent then are init's.

The copy has a session of its own (setsid(2)): no signal to the task's group reaches it. It stays in
the task's control groups.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import KernelError, TargetError
from ckpt.infect.batch import LENT_FD, SOCK, Batch, Load
from ckpt.infect.session import Session
from ckpt.tracee import vm

if TYPE_CHECKING:
    from typing import Self

    from ckpt.infect.batch import Result
    from ckpt.units import Range


_CLONE_VM, _CLONE_FILES, _CLONE_VFORK = 0x100, 0x400, 0x4000
_CLOSE_RANGE_UNSHARE = 2
_P_PID, _WEXITED, _WALL = 1, 4, 0x40000000
_PR_SET_NAME, _PR_SET_SUBREAPER, _PR_GET_SUBREAPER = 15, 36, 37
_CLONE_ARGS_SIZE = 88
_DATA_AT = 16
_MADV_DONTFORK, _MADV_DOFORK = 10, 11
_NOBODY = 1 << 30
"""A descriptor that is none: who listens there ends."""

_HELPER_SIZE, _HELPER_STACK = 0x3000, 0x2000
_END_S = 10.0


class Copy:
    """The copy and its session. Its memory is at the same addresses. A context manager: at its end
    the copy ends."""

    def __init__(self, pid: int, session: Session) -> None:
        self.pid = pid
        self.session = session
        self._pidfd = os.pidfd_open(pid)

    def lives(self) -> bool:
        """Whether it has not ended yet."""
        return self._pidfd >= 0 and not select.select([self._pidfd], [], [], 0)[0]

    def close(self) -> None:
        """Returns when it has ended. May be called twice."""
        if self._pidfd < 0:
            return
        self.session.close()
        if not select.select([self._pidfd], [], [], _END_S)[0]:
            # It may be frozen with the task's control group.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            select.select([self._pidfd], [], [], _END_S)
        os.close(self._pidfd)
        self._pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def copy_of(session: Session) -> Copy:
    """Make a copy of the task behind `session`, all of whose threads stand.

    Raises KernelError where the kernel refuses (RLIMIT_NPROC, pids.max, no memory), TargetError
    where the task has no descriptor free; the task is as it was then.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs:
            number = _lend(session, theirs.fileno())
        try:
            pid = _clone(session, number)
        finally:
            _take_back(session, number)
        copy = Copy(pid, Session(pid, ours, session.layout))
    except BaseException:
        ours.close()
        raise
    try:
        copy.session.hello()
        batch = Batch()
        batch.call("setsid", any_result=True)
        batch.call("prctl", _PR_SET_NAME, batch.text("ckpt-copy"), 0, 0, 0, any_result=True)
        copy.session.run(batch)
    except BaseException:
        copy.close()
        raise
    return copy


def _lend(session: Session, lfd: int) -> int:
    """Our descriptor in the task: its number there. It is closed when the session ends."""
    if not session.can_pass_fds:
        raise TargetError("it has no descriptor free", pid=session.pid, hint="raise RLIMIT_NOFILE")
    batch = Batch()
    slot = batch.receive_fds(SOCK, 1)[0]
    batch.keep(LENT_FD, slot.at)
    outcome = session.run(batch, fds=[lfd])
    number = int.from_bytes(outcome.read(slot.at, 4), "little", signed=True)
    if number < 0:
        raise TargetError("it has no descriptor free", pid=session.pid, hint="raise RLIMIT_NOFILE")
    return number


def _take_back(session: Session, number: int) -> None:
    batch = Batch()
    batch.call("close", number)
    batch.keep(LENT_FD, batch.put(b"\xff" * 4))
    session.run(batch)


def _clone(session: Session, number: int) -> int:
    """Steps 1 to 3; the pid of the copy."""
    helper, cloned = _helpers_batch(session, number)
    slot = session.layout.batches.end - _HELPER_SIZE
    at = slot + _HELPER_STACK
    raw = helper.encode(at, slot)
    if len(raw) > _HELPER_SIZE - _HELPER_STACK:
        raise ValueError(f"a batch of {len(raw)} bytes")
    head = session.layout.session(sock=_NOBODY, exit_on_eof=True, batch=at, stack_top=at)
    # Its data area is the slot: the third word of its struct.
    head = head[:_DATA_AT] + struct.pack("<Q", slot) + head[_DATA_AT + 8 :]
    vm.write(session.pid, slot, head)
    vm.write(session.pid, at, raw)
    batch, made = _leaders_batch(session.layout.window, slot)
    if batch.size > slot - session.layout.batches.start:
        raise ValueError("the window is too small")
    result = session.run(batch).of(made)
    if result < 0:
        raise KernelError(
            "it can't be copied",
            pid=session.pid,
            why=os.strerror(-result),
            hint="its limits of processes (RLIMIT_NPROC, pids.max), or memory",
        )
    # What stands there was written by the child that shared it.
    return helper.decode(at, vm.read(session.pid, at, len(raw))).of(cloned)


def _helpers_batch(session: Session, number: int) -> tuple[Batch, Result]:
    """Step 2, in the child, which ends behind it since nobody is there to be listened to; and the
    entry that says the pid of the copy."""
    batch = Batch()
    flags = _CLOSE_RANGE_UNSHARE
    if number:
        batch.call("close_range", 0, number - 1, flags, note="descriptors of the copy")
        flags = 0
    batch.call("close_range", number + 1, (1 << 32) - 1, flags, note="descriptors of the copy")
    template = batch.put(session.layout.session(sock=number, exit_on_eof=True))
    args = batch.struct("<11Q", *[0] * 11)
    place = session.layout.data
    cloned = batch.clone(args, _CLONE_ARGS_SIZE, template, place, want=None, note="the copy")
    return batch, cloned


def _leaders_batch(window: Range, slot: int) -> tuple[Batch, Result]:
    """Steps 1 and 3, in the task. Nothing of it may end the batch in between. The window, which no
    child is to have, is to be in this one."""
    batch = Batch()
    word = batch.space(8)
    batch.call("madvise", window.start, len(window), _MADV_DOFORK)
    batch.call("prctl", _PR_GET_SUBREAPER, word, 0, 0, 0, any_result=True)
    batch.call("prctl", _PR_SET_SUBREAPER, 0, 0, 0, 0, any_result=True)
    flags = _CLONE_VM | _CLONE_VFORK | _CLONE_FILES
    args = batch.struct("<11Q", flags, *[0] * 10)
    made = batch.clone(args, _CLONE_ARGS_SIZE, slot, 0, want=None, any_result=True)
    # No such child, where there is none: unlike wait4(2) it takes no negative number for a group.
    batch.call("waitid", _P_PID, made, 0, _WEXITED | _WALL, 0, any_result=True)
    batch.call("prctl", _PR_SET_SUBREAPER, Load(word, 4), 0, 0, 0, any_result=True)
    batch.call("madvise", window.start, len(window), _MADV_DONTFORK, any_result=True)
    return batch, made
