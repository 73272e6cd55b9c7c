"""A parasite in a live target, for the length of a scope.

The target survives any end of this process, at any point (see ckpt-parasite(7)); every step leaves
it able to finish by itself. In order:

1. look: seccomp refused, no predecessor still inside, unused bytes found, a window chosen;
2. write frame and stub into the unused bytes; send the leader there (entry.py);
3. the stub maps the window and makes the socket; we write code and session, take the other end
   with pidfd_getfd(2) and say hello; it closes its own copy and enters the blob;
4. the scope's body;
5. tell it to leave: window unmapped, limits put back, socket closed, parked; give it mask and
   registers back, put the bytes back.

Not guaranteed: for about 1 us between SETREGSET and SETSIGMASK a signal handler can see an address
of the stub. Pages written to stay private copies, with their old content.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ckpt._native import ffi, lib
from ckpt.errors import CkptError, DeadlineError, Refusal, RefusedError, TargetError
from ckpt.infect import controller, entry, limits, place, predecessor, stub, way
from ckpt.infect.blob import Layout, blob, layout_at
from ckpt.infect.driven import DrivenSession
from ckpt.infect.session import Session
from ckpt.procfs.maps import Mapping, parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.status import parse_status
from ckpt.record import record
from ckpt.tracee import dispatch, ops
from ckpt.tracee.stopped import SeizedTask, Stopped

PIDFD_THREAD = os.O_EXCL
_SPIN_S, _NAP_S, _LOOK_AFTER_S = 0.001, 0.0002, 0.02
_STEPS = {1: "mmap", 2: "mmap", 3: "socketpair"}


@record
class _Infection:
    """What one infection holds: of the target, and of ours."""

    task: SeizedTask
    leader: Stopped
    memory: place.Memory
    layout: Layout
    site: entry.Site
    further: entry.Site | None
    controller: int
    timeout_s: float

    @property
    def tid(self) -> int:
        return self.leader.tid


class _NoDescriptor(TargetError):
    """The target's descriptor table is full and its limit can't be raised."""


@contextmanager
def infect(
    task: SeizedTask,
    *,
    data_len: int = 65536,
    timeout_s: float = 5.0,
    only: frozenset[str] | None = None,
) -> Iterator[Session]:
    """A session with a parasite in a seized task whose leader stands.

    `data_len`: bytes for batches, besides a page. When the scope is left, the leader stands again
    as before. Where the target has no descriptor free and may have no more, the session's
    `can_pass_fds` is false. With `only` a task may
    be under seccomp: its filters are held off, allow the way home and kill for none of these calls,
    and no others will be made. Raises RefusedError (seccomp), TargetError (what the target's limits
    forbid, with errno; it ended; a predecessor is inside), DeadlineError, HarmError.
    """
    if task.zombie or not task.threads:
        raise TargetError("the task has ended", pid=task.pid)
    leader = task.threads[0]
    memory = place.Memory(leader.tid)
    try:
        infection = _prepare(task, leader, memory, data_len, timeout_s, filtered=only is not None)
        try:
            session = _bring_up(infection)
        except _NoDescriptor:
            session = _bring_up_driven(infection)
        session.only, session.further = only, infection.further
        try:
            yield session
        finally:
            _take_down(infection, session)
    finally:
        memory.close()


def _look(task: SeizedTask, leader: Stopped, *, filtered: bool) -> tuple[list[Mapping], int]:
    """The mappings of a target that may be infected, and who we are to it."""
    if held := dispatch.held(task):
        raise RefusedError([dispatch.refusal(task, tid, how) for tid, how in held.items()])
    with ProcDir(leader.tid) as proc:
        status = parse_status(proc.read("status"))
        if status.seccomp and not filtered:
            raise RefusedError(
                [
                    Refusal(
                        task.pid,
                        "the task",
                        "it is under seccomp: its filter could kill it for the parasite's calls",
                    )
                ]
            )
        return parse_maps(proc.read("maps")), controller.pid_for(proc)


def _prepare(
    task: SeizedTask,
    leader: Stopped,
    memory: place.Memory,
    data_len: int,
    timeout_s: float,
    *,
    filtered: bool,
) -> _Infection:
    mappings, ourselves = _look(task, leader, filtered=filtered)
    entry.check_unmoved(leader)
    size = layout_at(0, data_len).window.end
    layout = layout_at(place.window(mappings, size), data_len)
    places, site, further = entry.choose_sites(memory, mappings)
    predecessor.check(task, memory, mappings, places.seen)
    return _Infection(task, leader, memory, layout, site, further, ourselves, timeout_s)


def _enter(infection: _Infection, *, driven: bool) -> None:
    """Write stub and frame, then commit."""
    i = infection
    back = entry.write_return(i.memory, i.site, i.task, i.leader, i.controller)
    raised = limits.in_the_way(i.tid)
    code = stub.leader_code(i.site.piece, back, i.layout, raised, driven=driven)
    i.memory.write(i.site.addr, code)
    entry.enter(i.leader, i.site)


def _bring_up(infection: _Infection) -> Session:
    """Steps 2 and 3. On any error the leader stands again as before."""
    i = infection
    with ExitStack() as held:
        try:
            _enter(i, driven=False)
            ours, theirs = _await_ready(i)
            _write_window(i, ours)
            sock = held.enter_context(_take_end(i, theirs))
            session = Session(i.tid, sock, i.layout, lambda: entry.look(i.tid))
            session.hello(i.timeout_s)
        except _NoDescriptor:
            raise
        except BaseException:
            held.close()
            _abandon(i)
            raise
        held.pop_all()
        return session


def _bring_up_driven(infection: _Infection) -> DrivenSession:
    i = infection
    try:
        _enter(i, driven=True)
        _await_ready(i)
        _write_window(i, -1)
        return DrivenSession(i.leader, i.layout, i.site, lambda: entry.look(i.tid))
    except BaseException:
        _abandon(i)
        raise


def _await_ready(infection: _Infection) -> tuple[int, int]:
    """Wait until the stub has what it needs; the two ends of its socket."""
    i = infection
    begin = time.monotonic()
    look_s = _LOOK_AFTER_S
    state = ffi.new("char[]", stub.STATE.size)
    while True:
        done = lib.ckpt_vm_read(i.tid, i.layout.data + stub.SV, state, stub.STATE.size)
        if done == stub.STATE.size:
            ours, theirs, ready = stub.STATE.unpack(ffi.buffer(state))
            if ready:
                return ours, theirs
        elapsed = time.monotonic() - begin
        if elapsed < _SPIN_S:
            os.sched_yield()
            continue
        if elapsed > look_s:
            _look_for_failure(i)
            look_s *= 2
        if elapsed > i.timeout_s:
            raise DeadlineError("the stub does not answer", pid=i.task.pid)
        entry.look(i.tid)
        time.sleep(_NAP_S)


def _look_for_failure(infection: _Infection) -> None:
    """Raise what failed in the stub, if it is parked; else let it go on."""
    i = infection
    regs = entry.stand(i.tid, i.timeout_s)
    rip = regs[way.RIP]
    if rip not in i.site.code.range:
        raise TargetError("the task went on by itself", pid=i.task.pid)
    if rip not in i.site.parked:
        ops.cont(i.tid)
        return
    step, result = regs[way.RBX], regs[way.RBP]
    _give_back(i)
    code = (1 << 64) - result if result >> 63 else 0
    what = f"{_STEPS.get(step, 'a call')} failed in the task"
    why = f"{errno.errorcode.get(code, result)} ({os.strerror(code)})"
    if code in (errno.EMFILE, errno.ENFILE):
        raise _NoDescriptor(what, pid=i.task.pid, why=why)
    hint = "raise its limits (RLIMIT_AS, RLIMIT_DATA)" if code == errno.ENOMEM else ""
    raise TargetError(what, pid=i.task.pid, why=why, hint=hint)


def _write_window(infection: _Infection, sock: int) -> None:
    i = infection
    back = i.site.addr + i.site.piece.back
    session = i.layout.session(
        sock=sock, exit_on_eof=False, leave_to=back, waits=bool(i.leader.group_stop)
    )
    i.memory.write(i.layout.window.start, blob().code)
    i.memory.write(i.layout.data, session)


def _take_end(infection: _Infection, fd: int) -> socket.socket:
    """Our duplicate of a socket of the leader's."""
    lfd = lib.ckpt_pidfd_getfd(infection.task.pidfd, fd)
    if lfd == -errno.ESRCH:  # the process's first thread has ended before the others
        pidfd = os.pidfd_open(infection.tid, PIDFD_THREAD)
        try:
            lfd = lib.ckpt_pidfd_getfd(pidfd, fd)
        finally:
            os.close(pidfd)
    if lfd < 0:
        why = os.strerror(-lfd)
        raise TargetError("its descriptor can't be had", pid=infection.tid, why=why)
    try:
        return socket.socket(fileno=lfd)
    except BaseException:
        os.close(lfd)
        raise


def _take_down(infection: _Infection, session: Session) -> None:
    """Step 5. HarmError when the parasite can't be brought out."""
    try:
        session.leave(infection.timeout_s)
    except (CkptError, OSError):
        session.close()
        _abandon(infection)
        return
    _come_home(infection)
    session.close()


def _abandon(infection: _Infection) -> None:
    """Come home from whatever went wrong: nobody is to be waited for."""
    i = infection
    if i.leader.group_stop:
        with suppress(TargetError, DeadlineError):
            entry.stand(i.tid, i.timeout_s)  # not sent home while nobody looks: it would run on
    if not entry.ended(i.tid):
        i.memory.write(*stub.alone(i.site.addr))
        _come_home(i)


def _come_home(infection: _Infection) -> None:
    """The leader stands as before, whatever it was doing in stub or parasite. A task that has ended
    needs nothing more."""
    i = infection
    if entry.ended(i.tid):
        return
    try:
        idle = entry.stand_idle(i.leader, i.site, [i.layout.window], i.timeout_s)
    except (TargetError, DeadlineError):
        if entry.ended(i.tid):
            return
        raise
    if idle:
        _give_back(i)
    else:
        i.site.put_back(i.memory)


def _give_back(infection: _Infection) -> None:
    entry.leave(infection.leader)
    infection.site.put_back(infection.memory)
