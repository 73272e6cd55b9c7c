"""Tasks under construction: born, shaped, filled; each runs the parasite and nothing else.

A half-built task ends by itself when its command socket does (CKPT_EOF_EXIT), so whatever ends this
process, or leaves this scope by an error, takes all of them along.

Order: a task's private memory is complete before its children are cloned, so that they share its
pages; sessions are founded between early and late births (ckpt.pstree.birth).

Who shares the creator's memory finds it complete, and works in a room of its own in the window
(ckpt.restore.plan). Who shares its descriptor table has its command socket beside the creator's.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ckpt._native import ffi, lib
from ckpt.errors import KernelError, RestoreError
from ckpt.infect.batch import SOCK, Batch
from ckpt.infect.blob import blob, seed_path
from ckpt.infect.session import Session
from ckpt.mem import apply, policy
from ckpt.mem.vma import VDSO, VVARS, Status
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.pstree.sharing import CLONE_FILES
from ckpt.record import field, record
from ckpt.restore.terminals import take_terminal
from ckpt.tracee import vm
from ckpt.units import PAGE, TASK_SIZE, Range

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckpt.mem.vma import Vma
    from ckpt.pstree.birth import Birth
    from ckpt.restore.load import Loaded
    from ckpt.restore.plan import RestorePlan
    from ckpt.restore.vdso import Placing

_CLONE_PARENT, _CLONE_NEWTIME = 0x8000, 0x80
_SIG_SETMASK = 2
_WALL = 0x40000000
_CLONE_ARGS = struct.Struct("<11Q")
_SEED_WINDOW = struct.Struct("<QQQ")
_REPLY = struct.Struct("<IIq")
_COMMAND = struct.Struct("<IIQ")
_KERNEL_MAPPINGS = {VDSO: Status.VDSO, **dict.fromkeys(VVARS, Status.VVAR)}


@record
class Built:
    """A task under construction. `kernel` is where its vdso mappings are now, in order; `sock` the
    number of its end of the command socket; `table` are those of all who have its descriptor table,
    one set for all of them, by pid."""

    pid: int
    session: Session
    pidfd: int
    kernel: list[tuple[Range, Status]]
    sock: int
    table: dict[int, int]


@record
class Site:
    """All tasks under construction. Leaving its scope ends those that were not let go."""

    loaded: Loaded
    plan: RestorePlan
    lfd_of: Callable[[Vma], int]
    tasks: dict[int, Built] = field(default_factory=dict)
    root_sibling: bool = False
    terminal_of: Callable[[int], int | None] = field(default=lambda _: None)
    """Our descriptor of the controlling terminal of a session."""
    born: Callable[[int], None] = field(default=lambda _: None)
    """Called with the number of each task that will stay, before it gets memory."""

    clocks_since_ns: int | None = None
    """Since when the tasks' clocks run on from where they stood (time.monotonic_ns), if they do."""

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        for built in self.tasks.values():
            built.session.close()
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(built.pidfd, signal.SIGKILL)
        # A thread that we trace keeps its process from ending until we have seen its end: those
        # first. None of the others is our child, but for the root.
        images = self.loaded.tasks.values()
        tids = [tid for i in images for tid in i.threads if tid != i.task.pid]
        for tid in (*tids, *reversed(self.tasks)):
            _await_end(tid)
        self.forget()

    def forget(self) -> None:
        """Close what is ours without ending anybody: the tasks are complete."""
        for built in self.tasks.values():
            built.session.close()
            os.close(built.pidfd)
        self.tasks.clear()

    def forget_one(self, pid: int) -> None:
        """It has ended."""
        built = self.tasks.pop(pid)
        built.session.close()
        os.close(built.pidfd)

    def raise_all(self, clocks_ns: tuple[int, int] | None) -> None:
        """Give birth to the whole tree, memory included. `clocks_ns`: what its clocks are ahead of
        the machine's own; they run from now on."""
        if clocks_ns is not None:
            self.clocks_since_ns = time.monotonic_ns()
        self._start_root(clocks_ns)
        self._complete(self.plan.births.root)

    def go_on(self, loaded: Loaded, plan: RestorePlan) -> None:
        """The tasks that there are belong to `plan`, and become what that says; who is not there is
        born."""
        self.loaded, self.plan = loaded, plan
        self._go_on(plan.births.root)

    def take_up(self, clocks_ns: tuple[int, int] | None) -> None:
        """`raise_all` where some were born before, the root among them (ckpt.restore.early)."""
        if clocks_ns is not None:
            self.clocks_since_ns = time.monotonic_ns()
            self._enter_time(clocks_ns)
        self._go_on(self.plan.births.root)

    def _go_on(self, birth: Birth) -> None:
        self._fill(birth)
        for child in (*birth.early, *birth.late):
            if child.pid in self.tasks:
                self._go_on(child)
            else:
                self._clone(birth, child)
                self._complete(child)

    def _enter_time(self, clocks_ns: tuple[int, int]) -> None:
        lfd = lib.ckpt_time_namespace(_spawn(clocks_ns))
        if lfd < 0:
            raise KernelError("a time namespace can't be made", why=os.strerror(-lfd))
        try:
            for built in self.tasks.values():
                batch = Batch()
                slot = batch.receive_fds(SOCK, 1)[0]
                batch.call("setns", slot, _CLONE_NEWTIME, note="time namespace")
                batch.call("close", slot)
                built.session.run(batch, fds=[lfd])
        finally:
            os.close(lfd)

    # ---- the root

    def _start_root(self, clocks_ns: tuple[int, int] | None) -> None:
        pid = self.plan.tree.root.pid
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        seed = os.open(seed_path(), os.O_RDONLY | os.O_CLOEXEC)
        try:
            spawn = _spawn(clocks_ns)
            spawn.pid, spawn.sock, spawn.seed = pid, theirs.fileno(), seed
            spawn.sibling = int(self.root_sibling)
            got = lib.ckpt_spawn_seed(spawn)
        finally:
            os.close(seed)
            theirs.close()
        if got < 0:
            ours.close()
            raise _not_born(pid, -got)
        sock = int(lib.CKPT_SEED_SOCK)
        session = Session(pid, ours, self.plan.window.of(pid))
        self.tasks[pid] = Built(pid, session, os.pidfd_open(pid), [], sock, {pid: sock})
        self._enter_seed(pid, ours)
        session.hello()
        batch = Batch()
        block_all(batch)
        session.run(batch)
        self._empty(self.tasks[pid])

    def _enter_seed(self, pid: int, sock: socket.socket) -> None:
        layout = self.plan.window.of(pid)
        window = layout.window
        sock.send(_SEED_WINDOW.pack(window.start, len(window), layout.code_len))
        raw = sock.recv(_REPLY.size)
        if len(raw) != _REPLY.size or _REPLY.unpack(raw)[2] != window.start:
            raise RestoreError("the root's window can't be mapped", pid=pid, resource=str(window))
        vm.write(pid, window.start, blob().code)
        vm.write(pid, layout.data, layout.session(sock=lib.CKPT_SEED_SOCK, exit_on_eof=True))
        sock.send(_COMMAND.pack(lib.CKPT_CMD_RUN, 0, layout.data))

    def _empty(self, root: Built) -> None:
        """Unmap the seed: only the window and, parked in it, the vdso stay."""
        with ProcDir(root.pid) as proc:
            mappings = parse_maps(proc.read("maps"))
        kernel = [
            (m.range, _KERNEL_MAPPINGS[m.path]) for m in mappings if m.path in _KERNEL_MAPPINGS
        ]
        self._park(root, kernel)
        window = self.plan.window.layout.window
        batch = Batch()
        batch.call("munmap", 0, window.start)
        batch.call("munmap", window.end, TASK_SIZE - window.end)
        root.session.run(batch)

    def _park(self, built: Built, kernel: list[tuple[Range, Status]]) -> None:
        at = self.plan.window.parking
        parked, moves = [], []
        for where, status in kernel:
            parked.append((Range(at, at + len(where)), status))
            if where.start != at:
                moves.append((where, at))
            at += len(where)
        if at > self.plan.window.layout.window.end:
            raise RestoreError("the kernel's vdso is too large", pid=built.pid)
        apply.move(built.session, moves)
        built.kernel = parked

    # ---- every task

    def _complete(self, birth: Birth) -> None:
        built = self._fill(birth)
        for child in birth.early:
            self._clone(birth, child)
            self._complete(child)
        if birth.founds_session:
            batch = Batch()
            batch.call("setsid", note="session")
            built.session.run(batch)
            terminal = None if birth.helper else self.terminal_of(birth.pid)
            if terminal is not None:
                take_terminal(built, terminal)
        for child in birth.late:
            self._clone(birth, child)
            self._complete(child)

    def _fill(self, birth: Birth) -> Built:
        built = self.tasks[birth.pid]
        if birth.pid in self.loaded.tasks and not birth.helper:
            self.born(birth.pid)
        if birth.pid in self.plan.memory:
            self._memory(built)
        return built

    def _memory(self, built: Built) -> None:
        wanted_from = policy.of_thread(self.loaded.tasks[built.pid].own.get(built.pid))
        if wanted_from:
            batch = Batch()
            policy.set_own(batch, wanted_from)
            built.session.run(batch)
        plan = self.plan.memory[built.pid]
        sizes = {segment.id: segment.room for segment in self.loaded.segments.values()}
        segments = apply.Segments(sizes, self.plan.window.scratch)
        vdso = self.plan.vdso[built.pid]
        self._shape(built, partial(apply.shape, built.session, plan, self.lfd_of, segments))
        apply.fill(built.session, plan.load, self.loaded.pages_lfd)
        _patch(built.pid, vdso)
        apply.settle(built.session, plan)

    def _shape(self, built: Built, shape: Callable[[], None]) -> None:
        """Make the mappings, and bring the kernel's to their places. What the task has unmapped of
        those (valgrind does it to the vdso) is left parked, for a child may have it: it goes with
        the window."""
        places = _places(built, list(self.plan.vdso[built.pid].kernel))
        parking = Range(self.plan.window.parking, self.plan.window.layout.window.end)
        parked = [where.start in parking for where, _ in built.kernel]
        there = [at == where for (where, _), at in zip(built.kernel, places, strict=True)]
        if all(
            is_there or (at is None and is_parked)
            for is_there, at, is_parked in zip(there, places, parked, strict=True)
        ):
            shape()
            return
        if not all(parked):
            self._park(built, built.kernel)
        shape()
        both = list(zip(built.kernel, places, strict=True))
        apply.move(built.session, [(here, at.start) for (here, _), at in both if at])
        built.kernel = [(at or here, status) for (here, status), at in both]

    def _clone(self, parent: Birth, child: Birth) -> None:
        self.clone(parent.pid, child.pid, for_parent=child.for_parent, shared=child.shared)

    def clone(self, creator: int, pid: int, *, for_parent: bool = False, shared: int = 0) -> Built:
        """Let `creator` clone the task `pid`, as a child of its own or of its parent, with the
        flags `shared` of clone(2)."""
        maker = self.tasks[creator]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        layout = self.plan.window.of(pid)
        batch = Batch()
        slot = batch.receive_fds(SOCK, 1)[0]
        template = batch.put(layout.session(sock=-1, exit_on_eof=True))
        batch.copy(template + 48, slot.at, 4)
        wanted = batch.put(struct.pack("<i", pid))
        flags = shared | (_CLONE_PARENT if for_parent else 0)
        task = self.plan.tree.get(pid)
        exit_signal = signal.SIGCHLD if task is None else task.exit_signal
        exit_signal = 0 if for_parent else exit_signal
        args = batch.struct("<11Q", flags, 0, 0, 0, exit_signal, 0, 0, 0, wanted, 1, 0)
        batch.clone(args, _CLONE_ARGS.size, template, layout.data, want=pid, note=f"pid {pid}")
        if not shared & CLONE_FILES:
            batch.call("close", slot)
        try:
            outcome = maker.session.run(batch, fds=[theirs.fileno()])
        except KernelError as error:
            ours.close()
            raise RestoreError(f"pid {pid} can't be cloned", pid=creator, why=str(error)) from error
        finally:
            theirs.close()
        session = Session(pid, ours, layout)
        number = int.from_bytes(outcome.read(slot.at, 4), "little", signed=True)
        table = maker.table if shared & CLONE_FILES else {}
        built = Built(pid, session, os.pidfd_open(pid), list(maker.kernel), number, table)
        self.tasks[pid] = built
        session.hello()
        if table is not maker.table:
            inherited = Batch()
            for sock in maker.table.values():
                inherited.call("close", sock, note="a command socket of the creator's table")
            session.run(inherited)
        table[pid] = number
        return built


def _spawn(clocks_ns: tuple[int, int] | None) -> Any:
    spawn = ffi.new("struct ckpt_spawn *")
    if clocks_ns is not None:
        spawn.timens = 1
        spawn.monotonic[0], spawn.monotonic[1] = divmod(clocks_ns[0], 10**9)
        spawn.boottime[0], spawn.boottime[1] = divmod(clocks_ns[1], 10**9)
    return spawn


def _await_end(tid: int) -> None:
    """Reap a task or thread that has been killed, if we are its parent or its tracer."""
    with suppress(ChildProcessError):
        while os.WIFSTOPPED(os.waitpid(tid, _WALL)[1]):
            pass


def block_all(batch: Batch) -> None:
    """Add the call that blocks every signal; children inherit that."""
    everything = batch.put(b"\xff" * 8)
    batch.call("rt_sigprocmask", _SIG_SETMASK, everything, 0, 8)


def _patch(pid: int, vdso: Placing) -> None:
    """While what was filled is writable, and not executable. A child has its creator's."""
    for addr, code in vdso.patches:
        if vm.read(pid, addr, len(code)) != code:
            vm.write(pid, addr, code)


def _places(built: Built, wanted: list[tuple[Range, Status]]) -> list[Range | None]:
    """Where each of the kernel's mappings goes, None for those that the task does not have. Raises
    RestoreError where it has one that the kernel has not."""
    left: list[tuple[Range, Status]] = list(wanted)
    places: list[Range | None] = []
    for where, status in built.kernel:
        fits = bool(left) and (len(left[0][0]), left[0][1]) == (len(where), status)
        places.append(left.pop(0)[0] if fits else None)
    if left:
        raise RestoreError(
            "its vdso is of another kernel",
            pid=built.pid,
            why=f"dumped {_sizes(wanted)}, here {_sizes(built.kernel)} pages",
            hint="restore it on the kernel that it was dumped on",
        )
    return places


def _sizes(mappings: list[tuple[Range, Status]]) -> str:
    return "+".join(str(len(r) // PAGE) for r, _ in mappings) or "no"


def _not_born(pid: int, code: int) -> RestoreError | KernelError:
    why = os.strerror(code)
    if code == 17:
        return RestoreError("its number is taken", pid=pid, why=why)
    return KernelError("the root can't be started", pid=pid, why=why)
