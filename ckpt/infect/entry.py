"""One stopped thread goes into a stub and comes back.

Order, each step of which leaves the thread able to finish by itself:

1. the way home is computed and written: frame, then piece;
2. one SETREGSET changes rip and forgets the call under way, nothing else;
3. SETSIGMASK(all), then CONT.

Back, with the controller alive: the thread stands in the parked range of its piece, where nothing
is left to undo; SETSIGMASK, then SETREGSET as at the stop, and the kernel restarts its call.

A thread whose process is stopped by a signal would run on at home, for its tracer has let it go. So
it is taken there from one system call to the next: both ways home end in one.

An interrupt that came late makes a thread stand again as soon as it is let run: whoever waits for
one looks whether it really runs.

Source: ptrace(2), kernel/ptrace.c.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache

from ckpt.errors import DeadlineError, HarmError, TargetError
from ckpt.infect import way
from ckpt.infect.batch import number
from ckpt.infect.place import Memory, Place, Places
from ckpt.infect.stub import MASK, Piece, Return, pieces
from ckpt.kerndat.xsave import xsave_layout
from ckpt.procfs import tree
from ckpt.procfs.maps import Mapping
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.status import parse_status
from ckpt.record import record
from ckpt.tracee import ops
from ckpt.tracee.stopped import SeizedTask, Stopped
from ckpt.units import Range

ALL_SIGNALS = (1 << 64) - 1
_FAULTS = {4, 5, 7, 8, 11, 31}  # SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV SIGSYS
_DEAD = "ZX"
_LONGEST_PAUSE_S = 0.2
_CALL_S = 0.1


@record(frozen=True)
class Site:
    """Where a thread's piece and frame are. Without a frame every way home is by registers."""

    piece: Piece
    code: Place
    frame: Place | None
    xstate: Place | None

    @property
    def addr(self) -> int:
        return self.code.addr

    def within(self, start: int, end: int) -> range:
        """Addresses from two offsets in the piece."""
        return range(self.addr + start, self.addr + end)

    @property
    def parked(self) -> range:
        """Where a thread stands that has nothing left to undo."""
        return self.within(self.piece.park.start, self.piece.park.end)

    def nothing_to_undo(self, regs: Sequence[int]) -> bool:
        """Whether a thread that stands with these registers need only be given its own: it is
        parked, has not begun, or has all of its way home behind it but to load them."""
        at = regs[way.RIP]
        if at in self.parked or at == self.addr + self.piece.enter:
            return True
        gave_mask_back = regs[way.ORIG_RAX] == number("rt_sigprocmask")
        return gave_mask_back and regs[way.RSI] == self.addr + MASK and at in self.code.range

    def put_back(self, memory: Memory) -> None:
        """Undo the writing; no thread may be inside."""
        for place in (self.code, self.frame, self.xstate):
            if place:
                memory.write(place.addr, place.before)


def choose_sites(memory: Memory, mappings: Sequence[Mapping]) -> tuple[Places, Site, Site | None]:
    """Where the leader's and the other threads' pieces go; None: no room for the latter. The same
    answer each time as long as the mappings with files don't change.

    Raises TargetError where there is no room for the leader's.
    """
    places = Places(memory, mappings)
    first, second = pieces()
    # Frames are better than none; but without its piece a thread can't be entered at all.
    code, further = places.take(len(first)), places.take(len(second))
    if code is None:
        raise TargetError(
            "no room for the parasite's stub",
            pid=memory.tid,
            why=f"no executable mapping ends in {len(first)} unused bytes",
        )
    leader = _site(places, first, code)
    return places, leader, _site(places, second, further) if further else None


def _site(places: Places, piece: Piece, code: Place) -> Site:
    frame = places.take(way.FRAME_SIZE)
    sizes = way.xstate_sizes(_xsave_layout()) if frame else ()
    found = (places.take(size, way.XSTATE_ALIGN) for size in sizes)
    return Site(piece, code, frame, next((xstate for xstate in found if xstate), None))


@cache
def _xsave_layout() -> dict[int, tuple[int, int]]:
    """Of this CPU: CPUID is slow in virtual machines."""
    return xsave_layout()


def write_return(
    memory: Memory, site: Site, task: SeizedTask, thread: Stopped, controller: int
) -> Return:
    """Write what the thread needs to come home from `site` as it was stopped, but for the piece."""
    caught = caught_signals(task)
    back, frame, xstate = compute_return(memory, site, task, thread, controller, caught)
    if site.frame and site.xstate and xstate:
        memory.write(site.xstate.addr, xstate)
        memory.write(site.frame.addr, frame)
    return back


def compute_return(
    memory: Memory, site: Site, task: SeizedTask, thread: Stopped, controller: int, caught: int
) -> tuple[Return, bytes, bytes]:
    """The same with nothing written: the frame and its xstate, both empty where it
    goes by registers alone. `caught`: of `caught_signals`."""
    home = way.home(
        thread.regs,
        thread.sigmask,
        memory.read(way.rip(thread.regs), 2),
        signalled=way.signalled(thread.sigmask, caught, thread.pending, task.pending),
    )
    xstate = way.xstate_image(thread.xstate, _xsave_layout()) if home.by_frame else b""
    if not (xstate and site.frame and site.xstate) or len(xstate) > len(site.xstate.range):
        return Return(home, 0, controller), b"", b""
    frame = way.frame(home, site.xstate.addr)
    return Return(home, site.frame.addr, controller), frame, xstate


def caught_signals(task: SeizedTask) -> int:
    """A mask of the signals that have handlers; it is not asked for where none is pending."""
    if not task.pending and not any(thread.pending for thread in task.threads):
        return 0
    with ProcDir(task.pid) as proc:
        return parse_status(proc.read("status")).signals.caught


def check_unmoved(thread: Stopped) -> None:
    """Raise TargetError when the thread is not where it was stopped."""
    now, then = way.REGS.unpack(ops.get_regs(thread.tid)), way.REGS.unpack(thread.regs)
    if now[way.RSP] != then[way.RSP] or now[: way.ORIG_RAX] != then[: way.ORIG_RAX]:
        raise TargetError("it is not any more where it was stopped", pid=thread.tid)


def enter(thread: Stopped, site: Site) -> None:
    """Send a standing thread into the piece at `site`, which is written."""
    ops.set_regs(thread.tid, way.entered(thread.regs, site.addr + site.piece.enter))
    ops.set_sigmask(thread.tid, ALL_SIGNALS)
    ops.cont(thread.tid)


def leave(thread: Stopped) -> None:
    """Give a parked, standing thread mask and registers back."""
    ops.set_sigmask(thread.tid, thread.sigmask)
    ops.set_regs(thread.tid, thread.regs)


def look(tid: int) -> None:
    """See that a thread which should run in the stub or the parasite does. What stops it from
    outside (a stop of its group, a late interrupt) is passed on and it goes on. Raises
    TargetError."""
    stop = ops.look(tid)
    if stop.kind == ops.StopKind.RUNNING and not ended(tid):
        return
    if stop.kind.ended or stop.kind == ops.StopKind.RUNNING:
        raise TargetError("the task ended while it was being worked on", pid=tid)
    if stop.kind == ops.StopKind.SIGNAL and stop.signal in _FAULTS:
        raise TargetError("the parasite failed in the task", pid=tid, why=f"signal {stop.signal}")
    ops.cont(tid, stop.signal if stop.kind == ops.StopKind.SIGNAL else 0)


def stand(tid: int, timeout_s: float) -> tuple[int, ...]:
    """Have the thread stand; its registers. Raises TargetError (it ended), DeadlineError."""
    stop = ops.interrupt_and_wait([tid], timeout_s)[0]
    if stop.kind.ended:
        raise TargetError("the task ended while it was being worked on", pid=tid)
    return way.REGS.unpack(ops.get_regs(tid))


def to_next_call(tid: int) -> None:
    """Let a thread that stands run to its next system call, and no further than `stand` has it."""
    ops.next_syscall(tid)
    with suppress(DeadlineError):
        ops.wait_stop(tid, _CALL_S)


def ended(tid: int) -> bool:
    """Whether the thread is dead. Of a process's first thread ptrace tells it only when the others
    have been reaped, /proc at once."""
    if ops.look(tid).kind.ended:
        return True
    task = tree.look(tid)
    return task is None or task.state in _DEAD


def stand_parked(thread: Stopped, site: Site, inside: Sequence[Range], timeout_s: float) -> bool:
    """Have the thread stand, parked in its piece. False: it went home by itself, and stands there.
    `inside` are the addresses of what it can be in, besides its piece. HarmError when it does
    neither in time: then it is still inside."""
    return _stand_when(lambda regs: regs[way.RIP] in site.parked, thread, site, inside, timeout_s)


def stand_idle(thread: Stopped, site: Site, inside: Sequence[Range], timeout_s: float) -> bool:
    """The same of a thread of which nothing is wanted any more: True as soon as it has nothing left
    to undo."""
    return _stand_when(site.nothing_to_undo, thread, site, inside, timeout_s)


def _stand_when(
    reached: Callable[[Sequence[int]], bool],
    thread: Stopped,
    site: Site,
    inside: Sequence[Range],
    timeout_s: float,
) -> bool:
    deadline = time.monotonic() + timeout_s
    all_of_it = (site.code.range, *inside)
    pause_s = 0.0
    while True:
        regs = stand(thread.tid, timeout_s)
        if reached(regs):
            return True
        rip = regs[way.RIP]
        if not any(rip in where for where in all_of_it):
            return False
        if time.monotonic() > deadline:
            why = f"it is at {rip:#x}, and comes home by itself"
            raise HarmError("the parasite does not come out of the task", pid=thread.tid, why=why)
        if thread.group_stop:
            to_next_call(thread.tid)
            continue
        ops.cont(thread.tid)
        # Growing, for each interrupt is one of the few that a wait in the stub outlasts.
        time.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s + 0.0002)
