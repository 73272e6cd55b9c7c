"""Single requests to a tracee: a child of ours, standing where it was caught."""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ckpt._native import lib
from ckpt.errors import DeadlineError, TargetError
from ckpt.procfs.maps import parse_maps
from ckpt.tracee import ops
from ckpt.tracee.ops import StopKind
from ckpt.tracee.stopped import read_threads
from tests.fault.injection import eventually

WAIT_S = 20.0
_RIP = 16
_REGS = struct.Struct("<27Q")

ECHO = """
import os, signal
signal.signal(signal.SIGUSR1, lambda n, f: os.write(1, b"handled\\n"))
os.write(1, b"ready\\n")
while line := os.read(0, 100): os.write(1, line)
"""
SPIN = """
import os
os.write(1, b"ready\\n")
while True: pass
"""

Process = subprocess.Popen[bytes]


def end(process: Process) -> None:
    """Kill and reap it. Popen takes a stop under our trace for the end, and kills nothing."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(process.pid, signal.SIGKILL)
        status = os.waitpid(process.pid, 0)[1]
        while os.WIFSTOPPED(status):
            status = os.waitpid(process.pid, 0)[1]
        process.returncode = os.waitstatus_to_exitcode(status)


def _start(text: str) -> Process:
    process = subprocess.Popen(
        [sys.executable, "-Ic", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.fixture(params=[ECHO, SPIN], ids=["in a system call", "in user mode"])
def process(request: pytest.FixtureRequest) -> Iterator[Process]:
    """Seized, and standing."""
    with _start(request.param) as process:
        try:
            ops.seize_thread(process.pid, exitkill=False)
            ops.interrupt_and_wait([process.pid], WAIT_S)
            yield process
        finally:
            end(process)


@pytest.fixture
def echo() -> Iterator[Process]:
    """Not seized."""
    with _start(ECHO) as process:
        try:
            yield process
        finally:
            end(process)


def syscall_instruction(pid: int) -> int:
    """The address of one in the vdso of `pid`."""
    for found in parse_maps(Path(f"/proc/{pid}/maps").read_bytes()):
        if found.path == "[vdso]":
            with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as mem:
                mem.seek(found.start)
                return found.start + mem.read(found.end - found.start).index(b"\x0f\x05")
    pytest.fail("no vdso")


def answers(process: Process, line: bytes) -> bool:
    """Whether an unharmed ECHO runs."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    return process.stdout.readline() == line


def test_remote_call(process: Process) -> None:
    """At a stop in the kernel and at one in user mode; failures are -errno."""
    pid, at = process.pid, syscall_instruction(process.pid)
    before = ops.get_regs(pid)
    assert ops.remote_call(pid, at, lib.__NR_getpid) == pid
    assert ops.remote_call(pid, at, lib.__NR_close, 12345) == -errno.EBADF
    addr = ops.remote_call(pid, at, lib.__NR_mmap, 0, 4096, 3, 0x22, -1, 0)
    maps = parse_maps(Path(f"/proc/{pid}/maps").read_bytes())
    assert any(found.start <= addr < found.end for found in maps)
    assert ops.remote_call(pid, at, lib.__NR_munmap, addr, 4096) == 0
    ops.set_regs(pid, before)
    assert ops.get_regs(pid) == before
    ops.detach(pid)


def test_remote_call_while_stopped_by_a_signal(echo: Process) -> None:
    """The stop of the group is no obstacle, and holds again after the detach."""
    os.kill(echo.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, echo.pid, os.WSTOPPED)
    ops.seize_thread(echo.pid, exitkill=False)
    (stop,) = ops.interrupt_and_wait([echo.pid], WAIT_S)
    assert stop == (StopKind.GROUP, signal.SIGSTOP, signal.SIGSTOP)
    before = ops.get_regs(echo.pid)
    assert ops.remote_call(echo.pid, syscall_instruction(echo.pid), lib.__NR_getpid) == echo.pid
    ops.set_regs(echo.pid, before)
    ops.detach(echo.pid)
    os.kill(echo.pid, signal.SIGCONT)
    assert os.waitid(os.P_PID, echo.pid, os.WCONTINUED), "it had been stopped again"
    assert answers(echo, b"unharmed\n")


def test_remote_call_says_what_came_in_front(echo: Process) -> None:
    """A signal that is not blocked is no answer to a call."""
    ops.seize_thread(echo.pid, exitkill=False)
    ops.interrupt_and_wait([echo.pid], WAIT_S)
    os.kill(echo.pid, signal.SIGUSR1)
    with pytest.raises(TargetError, match=f"signal, {int(signal.SIGUSR1)}"):
        ops.remote_call(echo.pid, syscall_instruction(echo.pid), lib.__NR_getpid)


def test_state_is_set_and_read_back(process: Process) -> None:
    pid = process.pid
    regs, xstate = ops.get_regs(pid), ops.get_xstate(pid)
    changed = bytearray(regs)
    changed[:8] = b"r15 here"
    ops.set_regs(pid, bytes(changed))
    assert ops.get_regs(pid) == bytes(changed)
    ops.set_regs(pid, regs)
    assert struct.unpack_from("<Q", xstate, 512)[0] & 1 << 1, "SSE state is there"
    other = bytearray(xstate)
    other[160:176] = b"sixteen bytes..."  # xmm0
    ops.set_xstate(pid, bytes(other))
    assert ops.get_xstate(pid)[160:176] == b"sixteen bytes..."
    ops.set_xstate(pid, xstate)
    assert ops.get_sigmask(pid) == 0
    ops.set_sigmask(pid, (1 << 64) - 1)
    unblockable = 1 << signal.SIGKILL - 1 | 1 << signal.SIGSTOP - 1
    assert ops.get_sigmask(pid) == (1 << 64) - 1 & ~unblockable
    os.kill(pid, signal.SIGUSR2)
    for value in range(70):
        signal.pidfd_send_signal(pidfd := os.pidfd_open(pid), signal.SIGRTMIN + value % 2)
        os.close(pidfd)
    found = ops.pending(pid, shared=True)
    assert [len(found), {len(info) for info in found}] == [71, {ops.SIGINFO_SIZE}]
    assert ops.pending(pid, shared=False) == ()


def test_wrong_sizes_are_refused(process: Process) -> None:
    with pytest.raises(ValueError, match="215 bytes"):
        ops.set_regs(process.pid, bytes(ops.REGS_SIZE - 1))


def test_stop_before_a_signal_keeps_it(echo: Process) -> None:
    """A signal that a wait has shown is still delivered when the tracer detaches without it."""
    ops.seize_thread(echo.pid, exitkill=False)
    os.kill(echo.pid, signal.SIGUSR1)
    assert ops.wait_stop(echo.pid, WAIT_S) == (StopKind.SIGNAL, signal.SIGUSR1, 0)
    assert ops.look(echo.pid).kind == StopKind.SIGNAL, "looking takes nothing away"
    (stop,) = ops.interrupt_and_wait([echo.pid], WAIT_S)
    assert stop.kind == StopKind.INTERRUPT
    ops.detach(echo.pid)
    assert echo.stdout is not None
    assert echo.stdout.readline() == b"handled\n"
    assert answers(echo, b"unharmed\n")


def test_wait_has_a_deadline(echo: Process) -> None:
    ops.seize_thread(echo.pid, exitkill=False)
    with pytest.raises(DeadlineError, match="does not stop"):
        ops.wait_stop(echo.pid, 0.01)
    assert ops.look(echo.pid).kind == StopKind.RUNNING
    assert answers(echo, b"unharmed\n")


def test_handlers_of_ours_run_during_a_wait(echo: Process) -> None:
    """A wait without news is still ended by Ctrl-C."""
    ops.seize_thread(echo.pid, exitkill=False)
    main = threading.main_thread().ident
    assert main is not None

    def interrupted(number: int, frame: object) -> None:
        raise InterruptedError(number, frame)

    before = signal.signal(signal.SIGUSR1, interrupted)
    try:
        with pytest.raises(InterruptedError):
            threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGUSR1)).start()
            ops.wait_stop(echo.pid, WAIT_S)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_our_sigchld_is_not_eaten(echo: Process) -> None:
    """A handler of this process hears of its children although a wait was in between."""
    heard = []
    before = signal.signal(signal.SIGCHLD, lambda number, _: heard.append(number))
    try:
        ops.seize_thread(echo.pid, exitkill=False)
        ops.interrupt_and_wait([echo.pid], WAIT_S)
        assert eventually(lambda: bool(heard))  # the kernel shows the stop a moment before
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_ended_thread(echo: Process) -> None:
    """How it ended is told, and left for its parent."""
    ops.seize_thread(echo.pid, exitkill=False)
    echo.kill()
    assert ops.wait_stop(echo.pid, WAIT_S) == (StopKind.KILLED, signal.SIGKILL, 0)
    with pytest.raises(ops.ThreadGone):
        ops.get_regs(echo.pid)
    assert echo.wait() == -signal.SIGKILL
    assert ops.look(echo.pid).kind == StopKind.GONE


@pytest.mark.parametrize("cleared", [False, True])
def test_exitkill(echo: Process, cleared: bool) -> None:
    """The end of the thread that seized takes the tracee along, unless it said otherwise."""

    def seize_and_end() -> None:
        ops.seize_thread(echo.pid, exitkill=True)
        ops.interrupt_and_wait([echo.pid], WAIT_S)
        if cleared:
            ops.clear_exitkill(echo.pid)

    tracer = threading.Thread(target=seize_and_end)
    tracer.start()
    tracer.join()
    if cleared:
        assert answers(echo, b"unharmed\n")
    else:
        # The thread is joined a little before the kernel lets go of its tracees: no wait() yet.
        with select.epoll() as poll:
            pidfd = os.pidfd_open(echo.pid)
            poll.register(pidfd, select.EPOLLIN)
            assert poll.poll(WAIT_S)
            os.close(pidfd)
        assert echo.wait() == -signal.SIGKILL


def test_end_at_a_system_call_stop_harms_nobody(echo: Process) -> None:
    """Without TRACESYSGOOD the tracee would get a SIGTRAP here."""

    def seize_and_end() -> None:
        ops.seize_thread(echo.pid, exitkill=False)
        ops.interrupt_and_wait([echo.pid], WAIT_S)
        ops.next_syscall(echo.pid)
        assert ops.wait_stop(echo.pid, WAIT_S).kind == StopKind.SYSCALL

    tracer = threading.Thread(target=seize_and_end)
    tracer.start()
    tracer.join()
    assert answers(echo, b"unharmed\n")


def test_not_permitted() -> None:
    """A thread of our own process can't be traced."""
    with pytest.raises(TargetError, match="CAP_SYS_PTRACE"):
        ops.seize_thread(os.getpid(), exitkill=False)
    with pytest.raises(ops.ThreadGone):
        ops.interrupt(os.getpid())


RSEQ = """
    #include <stdint.h>
    #include <stdio.h>
    #include <stddef.h>
    extern const ptrdiff_t __rseq_offset;
    struct section { uint32_t version, flags; uint64_t start, length, abort; };
    static struct section section __attribute__((aligned(32)));
    int main(void)
    {
            uint64_t *rseq_cs = (void *)((char *)__builtin_thread_pointer() + __rseq_offset + 8);
            extern char begin[], end[], aborted[];

            section = (struct section){0, 0, (uint64_t)begin, (uint64_t)(end - begin),
                                       (uint64_t)aborted};
            printf("ready\\n%lx\\n", (long)aborted);
            fflush(stdout);
            for (;;)
                    __asm__ volatile(
                        "mov %0, %1\\n"
                        ".globl begin, end, aborted\\n"
                        "begin: mov $1000000000, %%ecx\\n"
                        "1: dec %%ecx\\n jnz 1b\\n"
                        "end: jmp 2f\\n"
                        ".byte 0x0f, 0xb9, 0x3d\\n .long 0x53053053\\n"
                        "aborted: nop\\n"
                        "2:\\n"
                        : : "r"(&section), "m"(*rseq_cs) : "ecx", "memory");
    }
"""


def test_restartable_sequence(tmp_path: Path) -> None:
    """Inside of one the state that is read has the abort address; the thread itself is left."""
    source = tmp_path / "rseq.c"
    source.write_text(RSEQ)
    command = ["gcc", "-std=gnu11", "-O1", "-no-pie", "-o", str(tmp_path / "rseq"), str(source)]
    subprocess.run(command, check=True)
    with subprocess.Popen([tmp_path / "rseq"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        aborted = int(process.stdout.readline(), 16)
        ops.seize_thread(process.pid, exitkill=False)
        inside = range(aborted - 40, aborted)
        while True:
            ops.interrupt_and_wait([process.pid], WAIT_S)
            live = _REGS.unpack(ops.get_regs(process.pid))
            if live[_RIP] in inside:
                break
            ops.cont(process.pid)  # it was caught on its way there
        (thread,) = read_threads([(process.pid, 0)])
        assert _REGS.unpack(ops.get_regs(process.pid)) == live
        end(process)
    assert thread.rseq is not None
    assert (thread.rseq.size, thread.rseq.signature) == (32, 0x53053053)
    assert _REGS.unpack(thread.regs)[_RIP] == aborted
