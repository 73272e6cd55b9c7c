"""Work in the midst of which a target must not run on, whatever becomes of this process.

Who is killed lets go of all that it traces. What it has half done in the files of a target by then,
such as data taken out of a terminal to be put back, the target would meet. So a child does it, in a
session of its own, and meanwhile the tracer waits where no signal ends the wait, SIGKILL included:
for the lock of a pipe, which the child holds.

1. A thread of the child moves a byte from a pipe to a socket that has no room for it: splice(2)
   sleeps there with the lock of the pipe.
2. The tracer asks how much is in the pipe, over and over, until there is no answer: now it waits
   for the lock, as a task in state D that is not exiting.
3. The child sees that, and begins. If the tracer has been killed before, it does nothing.
4. The child ends, in whatever way: the lock is free, and the tracer goes on, or dies now.

Not guaranteed: who kills the tracer and the child at once cuts the work short. Where the tracer is
not seen to wait within some time, the work is done without it.

Source: splice_to_socket() in fs/splice.c, pipe_ioctl() in fs/pipe.c, proc_pid_stat(5).
"""

from __future__ import annotations

import _thread
import fcntl
import marshal
import os
import select
import signal
import socket
import termios
import threading
import time
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

from ckpt.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable

_CHILD_S = 20.0
_SEEN_S = 1.0
_NAP_S = 0.0001
_EXITING = 0x4
"""PF_EXITING, of the flags in /proc/PID/stat."""


def lasting(work: Callable[[], Any]) -> Any:
    """What `work` returns, which marshal can carry, done by a child that has what this process has
    open. None where it did not come to its end. To be called by the tracer. Raises KernelError."""
    opened: list[int] = []
    try:
        opened.append(os.memfd_create("ckpt-answer"))
        opened += os.pipe2(os.O_CLOEXEC)
        answer, *gate = opened
        _wait(_started(work, (gate[0], gate[1]), answer), gate[0])
        os.lseek(answer, 0, os.SEEK_SET)
        with open(answer, "rb", closefd=False) as file:
            data = file.read()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise KernelError("a child of ours can't do its work", why=why) from error
    finally:
        for lfd in opened:
            os.close(lfd)
    return marshal.loads(data) if data else None


def _started(work: Callable[[], Any], gate: tuple[int, int], answer: int) -> int:
    tracer = threading.get_native_id()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _child(work, gate, answer, tracer)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _wait(pid: int, gate: int) -> None:
    """Until the child has ended. Where anything fails, it is killed."""
    try:
        pidfd = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            while not poll.poll(0):
                fcntl.ioctl(gate, termios.FIONREAD, bytes(4))
                os.sched_yield()
        finally:
            os.close(pidfd)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _child(work: Callable[[], Any], gate: tuple[int, int], answer: int, tracer: int) -> NoReturn:
    """Does not return. Its death by SIGALRM, should the work never end, is the last resort. The
    answer is written whole or not at all, but for its death."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, _CHILD_S)
        holding = _hold(gate)
        if _stands(tracer):
            data = marshal.dumps(work())
            while data:
                data = data[os.write(answer, data) :]
            status = 0
        # Duplicates of a target's descriptors are closed before it can run.
        for before, after in pairwise((-1, *sorted(holding), os.sysconf("SC_OPEN_MAX"))):
            os.closerange(before + 1, after)
    finally:
        os._exit(status)


def _hold(gate: tuple[int, int]) -> tuple[int, int]:
    """Have a thread take the lock of the pipe, until this process ends, or the descriptors that are
    returned are closed."""
    full, other = socket.socketpair()
    full.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    full.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            full.send(b"x")
    full.setblocking(True)
    os.write(gate[1], b"x")
    holding = full.detach(), other.detach()
    _thread.start_new_thread(os.splice, (gate[0], holding[0], 1))
    return holding


def _stands(tracer: int) -> bool:
    """Whether the work may begin: the tracer waits, or has not been seen to, but lives."""
    until = time.monotonic() + _SEEN_S
    while True:
        try:
            with open(f"/proc/{tracer}/stat", "rb") as file:  # noqa: PTH123
                words = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        if words[0] in (b"Z", b"X") or int(words[6]) & _EXITING:
            return False
        if words[0] == b"D" or time.monotonic() > until:
            return True
        time.sleep(_NAP_S)
