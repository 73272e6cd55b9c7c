"""Whether every thread of a process has crossed the border between kernel and user.

A page can be pinned by direct I/O before a round of tracking and be written by the device after it,
without any trace. The call that pinned it returns only when the device is done, so a thread that is
seen outside of such a call, at any moment after the round, has nothing in flight from before. No
group stop is needed for that, and few threads are disturbed; in this order, for each:

1. asleep in a call that never has the kernel write into pinned pages (`_HARMLESS`), or in no call
   at all: it has crossed. Among them are all calls that would return EINTR from being interrupted;
2. asleep in a read of a socket or of an anonymous inode (inotify, timerfd, ...), which is never
   direct, and which a timeout or an old kernel makes return EINTR: it has crossed;
3. born after the question was asked, ended, or stopped: it has crossed;
4. else it alone is seized and interrupted, stands at its next way out of the kernel (a sleep that
   can't be interrupted is waited for), and is let go at once. Restartable calls start again.

Threads are listed until two lists in a row show nobody new: the kernel may skip one while others
exit. All of ptrace happens in a thread of ours whose end lets go of whatever it still has; should
we be killed, the kernel does the same, and the target runs on.

Not guaranteed: what is pinned on behalf of nobody's call is not seen (AIO, io_uring, RDMA: see
ckpt.mem.tracking.contexts), nor what another process pins (process_vm_writev(2) under way), nor a
thread asleep in a direct read on FUSE whose descriptor was closed meanwhile and the number given to
a socket.

Source: task_current_syscall() in lib/syscall.c, ptrace(2), signal(7).
"""

from __future__ import annotations

import math
import threading
import time
from functools import cache

from ckpt._native import lib
from ckpt.errors import CkptError, TargetError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import Stat, parse_stat
from ckpt.procfs.syscall import parse_syscall
from ckpt.tracee.attached import Attached

_TICKS_PER_S = 100  # USER_HZ
_STANDS = "TtZX"
_READS = ("read", "readv", "preadv", "preadv2")
_NEVER_DIRECT = (b"socket:", b"anon_inode:")
_HARMLESS = tuple(
    """
    futex poll ppoll select pselect6 epoll_wait epoll_pwait epoll_pwait2 nanosleep clock_nanosleep
    restart_syscall pause rt_sigsuspend rt_sigtimedwait wait4 waitid clone clone3 fork vfork
    accept accept4 connect recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg
    semop semtimedop msgsnd msgrcv mq_timedsend mq_timedreceive flock fcntl open openat
    write pwrite64 writev pwritev pwritev2 sendfile splice tee copy_file_range
    fsync fdatasync msync sync_file_range
    io_getevents io_pgetevents io_uring_enter
    """.split()  # noqa: SIM905 (a list of literals would take 40 lines)
)
"""Calls that write into the caller's memory by copying, or not at all. The last three wait for
contexts, whose pages stay pinned whatever the waiting thread does."""


def crossed(pid: int, deadline_s: float) -> bool:
    """True: since the call began every thread of `pid` was seen outside of calls that pin pages to
    be written, or has ended. False: not shown within `deadline_s`, or somebody else traces it; a
    thread that did not stand is let go a moment later, when our tracer has ended."""
    found: list[bool] = []
    begun_ticks = math.ceil(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)
    until = time.monotonic() + deadline_s

    def look() -> None:
        found.append(_all_crossed(pid, begun_ticks, until))

    tracer = threading.Thread(target=look, name="ckpt-crossing")
    try:
        tracer.start()
    except RuntimeError:
        return False  # no room for another thread
    tracer.join()
    return found == [True]


def _all_crossed(pid: int, begun_ticks: int, until: float) -> bool:
    try:
        with ProcDir(pid) as proc:
            try:
                return _each_crossed(proc, begun_ticks, until)
            except TargetError:
                return not proc.alive()
    except TargetError:
        return True


def _each_crossed(proc: ProcDir, begun_ticks: int, until: float) -> bool:
    seen: set[int] = set()
    nothing_new = 0
    while nothing_new < 2:
        new = [tid for tid in proc.tids() if tid not in seen]
        nothing_new = 0 if new else nothing_new + 1
        for tid in new:
            if time.monotonic() > until or not _crossed(proc, tid, begun_ticks, until):
                return False
        seen.update(new)
    return True


def _crossed(proc: ProcDir, tid: int, begun_ticks: int, until: float) -> bool:
    if _sleeps_harmlessly(proc, tid):
        return True
    stat = _stat(proc, tid)
    if stat is None or stat.state in _STANDS or stat.starttime > begun_ticks:
        return True
    return _interrupted(proc, tid, until)


def _stat(proc: ProcDir, tid: int) -> Stat | None:
    """None: it has ended."""
    try:
        return parse_stat(proc.read(f"task/{tid}/stat"))
    except TargetError:
        return None


def _sleeps_harmlessly(proc: ProcDir, tid: int) -> bool:
    try:
        raw = proc.read(f"task/{tid}/syscall")
    except CkptError:
        return False  # it has ended, or the kernel does not tell us: it is to be interrupted
    number = raw.partition(b" ")[0]  # parse_syscall takes ten times as long
    return number in _harmless() or (number in _reads() and _never_direct(proc, tid, raw))


def _never_direct(proc: ProcDir, tid: int, raw: bytes) -> bool:
    fd = parse_syscall(raw).args[0]
    try:
        return proc.readlink(f"task/{tid}/fd/{fd}").startswith(_NEVER_DIRECT)
    except CkptError:
        return False


@cache
def _harmless() -> frozenset[bytes]:
    """As the first word of the file; -1: asleep, but in no call."""
    return _numbers(_HARMLESS) | {b"-1"}


@cache
def _reads() -> frozenset[bytes]:
    return _numbers(_READS)


def _numbers(names: tuple[str, ...]) -> frozenset[bytes]:
    return frozenset(b"%d" % getattr(lib, f"__NR_{name}") for name in names)


def _interrupted(proc: ProcDir, tid: int, until: float) -> bool:
    """Have the thread stand once. False: it can't be attached to, or did not stand in time; it is
    let go, at the latest when the calling thread of ours ends."""
    attached = Attached(until)
    try:
        attached.seize([(tid, proc.pid)])
        attached.stand()
    except CkptError:
        stat = _stat(proc, tid)
        return stat is None or stat.state in "ZX"
    finally:
        attached.let_go()
    return True
