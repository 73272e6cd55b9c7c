"""A controller that dies, or one of whose operations fails, where it is told to.

It runs in a child of the test. There, and only there, each operation by which a controller changes
something outside of itself passes a counter first: functions of the extension, calls of `os`,
commands and descriptors on sockets, and each entry of a batch. At the N-th the child kills itself
with SIGKILL, or that one operation is not done and gives an errno; undoing what was done meets no
further fault. The code under test knows nothing of it.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILLED = -signal.SIGKILL
_ENDED_S = 60.0

_LIB = (
    *("free", "extents_sum", "extents_to_iovec", "vm_read", "compare_pages", "cpuid", "xcr0"),
    *("trace_look", "fault_"),
)
"""Parts of names of the extension's functions that change nothing."""
_VOID = (
    *("seize_many", "interrupt_many", "unstand", "detach_many", "read_threads", "trace_wait"),
    "stand",
)
"""Its functions whose result can't be replaced by an errno."""
_OS = (
    *("open", "pread", "write", "pwrite", "writev", "pwritev", "fsync", "fdatasync", "rename"),
    *("replace", "link", "unlink", "symlink", "mkdir", "ftruncate", "posix_fallocate", "dup"),
    *("pipe2", "memfd_create", "pidfd_open", "mkfifo"),
)
_OS_UNDOING = ("close", "kill", "waitpid")
"""They don't fail, but one can die there."""
_NO_SUCH_CALL = 0x7FFF


@dataclass(slots=True)
class Faults:
    """Counts from the first operation called `begin` on ("": from the start) and acts at number
    `at` (0: never): `code` 0 kills, an errno fails, the negative number of a signal sends it.
    `batches`: entries of batches fail, too, even such as a kernel never fails (close)."""

    at: int = 0
    code: int = 0
    begin: str = ""
    passed: int = 0
    last: str = ""
    batches: bool = True
    kill: Callable[[int, int], None] = os.kill

    def due(self, name: str, *, can_fail: bool = True) -> bool:
        """Whether this operation must fail; does not come back from where it must die."""
        if self.begin:
            if name != self.begin:
                return False
            self.begin = ""
        if self.code > 0 and not can_fail:
            return False
        self.passed += 1
        self.last = name
        if self.passed != self.at:
            return False
        if self.code <= 0:
            print(f"signal {self.at}: {name}", file=sys.stderr, flush=True)
            self.kill(os.getpid(), -self.code or signal.SIGKILL)
            return False
        # Said in time: the fault is about to be seen.
        print(f"fault {self.at}: {name}", file=sys.stderr, flush=True)
        return True

    def of_os(self, module: Any, name: str, *, can_fail: bool = True) -> None:
        real = getattr(module, name)

        def call(*args: Any, **named: Any) -> Any:
            if self.due(name, can_fail=can_fail):
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **named)

        setattr(module, name, call)

    def install(self) -> None:
        """From here on, in this process."""
        if self.batches:
            self._batches()
        for name in _OS:
            self.of_os(os, name)
        for name in _OS_UNDOING:
            self.of_os(os, name, can_fail=False)
        self.of_os(signal, "pidfd_send_signal", can_fail=False)
        self.of_os(socket, "socketpair")
        for name in ("send", "sendmsg", "recv"):
            self.of_os(socket.socket, name)
        from ckpt import _native

        faulty = _FaultyLib(_native.lib, self)
        for module in list(sys.modules.values()):
            ours = isinstance(module, types.ModuleType) and module.__name__.startswith("ckpt.")
            if ours and getattr(module, "lib", None) is faulty.real:
                module.lib = faulty  # type: ignore[attr-defined]

    def _batches(self) -> None:
        from ckpt.infect.batch import Batch

        real = Batch.encode

        def encode(batch: Batch, addr: int, base: int) -> bytes:
            raw = bytearray(real(batch, addr, base))
            if self.code > 0:
                for i in range(len(batch)):
                    if _is_call(raw, i) and self.due(f"entry {i} of a batch"):
                        spoil(raw, i)
            return bytes(raw)

        setattr(Batch, "encode", encode)  # noqa: B010 (a method can't be assigned)


def _is_call(raw: bytearray, index: int) -> bool:
    """Whether an entry is a system call: the others can't fail."""
    from ckpt._native import lib
    from ckpt.infect import driven

    at = driven._HEAD.size + driven._ENTRY.size * index
    return bool(driven._ENTRY.unpack_from(raw, at)[0] == lib.CKPT_OP_CALL)


def spoil(raw: bytearray, index: int) -> None:
    """Make entry `index` of an encoded batch a system call that does not exist, and its failure
    one that nothing expects."""
    from ckpt._native import lib
    from ckpt.infect import driven

    at = driven._HEAD.size + driven._ENTRY.size * index
    fields = list(driven._ENTRY.unpack_from(raw, at))
    fields[0], fields[1], fields[2] = lib.CKPT_OP_CALL, 0, _NO_SUCH_CALL
    fields[15], fields[16] = 0, 0
    driven._ENTRY.pack_into(raw, at, *fields)


def _errno(code: int, *_: Any) -> int:
    """What a function gives that tells of its failure by its result."""
    return -code


def _visit_threads(code: int, _site: Any, visits: Any, *_: Any) -> int:
    """None is back, and the first one could not be sent in."""
    visits[0].result = -code
    return 0


_FAILING: dict[str, Callable[..., int]] = {"ckpt_visit_threads": _visit_threads}
"""Functions of the extension that tell otherwise."""


def _is_counted(name: str, found: object) -> bool:
    return callable(found) and not any(part in name for part in _LIB)


class _FaultyLib:
    """The extension's `lib` with a counter in front."""

    def __init__(self, real: Any, faults: Faults) -> None:
        self.real = real
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if not _is_counted(name, found):
            return found
        can_fail = not any(part in name for part in _VOID)

        def call(*args: Any) -> Any:
            if self._faults.due(name, can_fail=can_fail):
                fail: Callable[..., int] = _FAILING.get(name, _errno)
                return fail(self._faults.code, *args)
            return found(*args)

        return call


def drop(capabilities: tuple[int, ...]) -> None:
    """Take capabilities from this process for good, from all of its sets but the bounding one."""
    from ckpt._native import check, ffi, lib

    if not capabilities:
        return
    head = ffi.new("uint32_t[2]", [0x20080522, 0])  # version 3
    sets = ffi.new("uint32_t[6]")
    at = [int(ffi.cast("uintptr_t", pointer)) for pointer in (head, sets)]
    check(lib.ckpt_call(lib.__NR_capget, *at, 0, 0, 0, 0), "capget")
    for number in capabilities:
        for kind in range(3):
            sets[3 * (number // 32) + kind] &= ~(1 << number % 32) & 0xFFFFFFFF
    check(lib.ckpt_call(lib.__NR_capset, *at, 0, 0, 0, 0), "capset")


@dataclass(frozen=True, slots=True)
class End:
    """How a controller ended: exit code (negative: signal), what it said, how many operations it
    passed and the name of the last (nothing of a killed one)."""

    code: int
    said: str
    passed: int = 0

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.said[-4000:]}"


def run(
    argv: list[str], faults: Faults, log: Path, room: int = 0, without: tuple[int, ...] = ()
) -> End:
    """Call `ckpt` with `argv` in a child with these faults, what it says to `log`; wait for it.

    `room`: bytes of address space beyond what it has now, for it and what it starts. `without`:
    capabilities that it has not got.
    """
    import ckpt.dump.run
    import ckpt.restore.run  # noqa: F401  the child must not spend its time on imports
    from ckpt.cli.invoke import invoke

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.set_inheritable(writer, False)
            with log.open("w") as out:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            if room:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + room, -1))
            drop(without)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # A job in the background of a shell has some of them ignored.
                signal.signal(number, signal.SIG_DFL)
            real_write = os.write
            faults.install()
            code = invoke(argv)
            real_write(writer, str(faults.passed).encode())
            sys.stdout.flush()
        finally:
            os._exit(code)
    os.close(writer)
    try:
        code = _wait(child)
        passed = int(os.read(reader, 32) or b"0")
    finally:
        os.close(reader)
    return End(code, log.read_text(errors="replace"), passed)


def _wait(child: int) -> int:
    pidfd = os.pidfd_open(child)
    try:
        if not select.select([pidfd], [], [], _ENDED_S)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"the controller has not ended in {_ENDED_S:g} s")
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def nr_operations(argv: list[str], log: Path, begin: str = "", code: int = 0) -> int:
    """How many operations a run without faults has. `code` as in Faults: what can't fail is not
    counted then."""
    end = run(argv, Faults(begin=begin, code=code), log)
    assert end.code == 0, str(end)
    return end.passed


def eventually(what: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    """Whether `what` comes true in time; the end of somebody else's child tells nobody."""
    poll = select.poll()
    for _ in range(int(timeout_s / 0.002)):
        if what():
            return True
        poll.poll(2)
    return what()
