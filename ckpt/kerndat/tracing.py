"""Probes of what attaching to a process needs: ptrace, pidfds, another process's memory.

Source: ptrace(2), pidfd_open(2), pidfd_getfd(2), process_vm_readv(2). Each is tried on a child.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct

from ckpt.kerndat.probe import Finding, Need, limited, ok, probe
from ckpt.kerndat.trial import address, call, expect, idle_child, pages, stopped_child

PTRACE_POKEUSER = 6
PTRACE_GETREGSET = 0x4204
PTRACE_PEEKSIGINFO = 0x4209
PTRACE_GETSIGMASK = 0x420A
PTRACE_SETSIGMASK = 0x420B
PTRACE_SECCOMP_GET_FILTER = 0x420C
PTRACE_GET_SYSCALL_INFO = 0x420E
PTRACE_GET_RSEQ_CONFIGURATION = 0x420F
PTRACE_O_EXITKILL = 1 << 20
PTRACE_O_SUSPEND_SECCOMP = 1 << 21
NT_PRSTATUS = 1
NT_X86_XSTATE = 0x202
NR_REGS_BYTES = 27 * 8
_DEBUG_REGISTERS = 848  # offsetof(struct user, u_debugreg), x86-64


def _regset(pid: int, kind: int, size: int) -> int:
    """Bytes that the kernel has written of a register set, at most `size`."""
    buffer = bytearray(size)
    iovec = bytearray(struct.pack("QQ", address(buffer), size))
    call("ptrace", PTRACE_GETREGSET, pid, kind, address(iovec))
    return int(struct.unpack("QQ", iovec)[1])


@probe("ptrace_seize", Need.HOST, "stopping a process and reading its registers", "no dump at all")
def ptrace_seize() -> None:
    with stopped_child(PTRACE_O_EXITKILL) as pid:
        expect(_regset(pid, NT_PRSTATUS, 4096) == NR_REGS_BYTES, "registers of another size")


@probe("ptrace_xstate", Need.HOST, "FPU and vector registers", "no dump at all")
def ptrace_xstate() -> Finding:
    from ckpt.kerndat.xsave import xsave_area

    area = xsave_area()
    with stopped_child() as pid:
        size = _regset(pid, NT_X86_XSTATE, 1 << 16)
    if size < max(offset + length for offset, length in area.layout.values()):
        return limited(f"{size} bytes, the CPU has {area.size}")
    return ok(f"{size} bytes")


@probe("ptrace_sigmask", Need.HOST, "blocked signals of a thread", "no dump at all")
def ptrace_sigmask() -> None:
    mask = bytearray(8)
    with stopped_child() as pid:
        call("ptrace", PTRACE_GETSIGMASK, pid, 8, address(mask))
        call("ptrace", PTRACE_SETSIGMASK, pid, 8, address(mask))


@probe("ptrace_peeksiginfo", Need.HOST, "signals that are pending", "no dump at all")
def ptrace_peeksiginfo() -> None:
    infos = bytearray(128)
    with stopped_child() as pid:
        how = bytearray(struct.pack("QIi", 0, 0, 1))
        call("ptrace", PTRACE_PEEKSIGINFO, pid, address(how), address(infos))


@probe(
    "get_rseq_conf",
    Need.HOST,
    "restartable sequences, which the C library registers for every thread",
    "a restored thread would run without its registration",
    criu=("get_rseq_conf", "ptrace_get_rseq_conf"),
)
def get_rseq_conf() -> None:
    config = bytearray(24)
    with stopped_child() as pid:
        call("ptrace", PTRACE_GET_RSEQ_CONFIGURATION, pid, 24, address(config))


@probe(
    "ptrace_syscall_info",
    Need.BETTER,
    "telling how a thread entered the kernel",
    "it is read from its registers",
)
def ptrace_syscall_info() -> None:
    info = bytearray(88)
    with stopped_child() as pid:
        call("ptrace", PTRACE_GET_SYSCALL_INFO, pid, len(info), address(info))


@probe(
    "seccomp_suspend",
    Need.TREE,
    "running inside a task that has a seccomp filter",
    "tasks with a filter can't be infected",
    criu=("seccomp_suspend",),
)
def seccomp_suspend() -> None:
    with stopped_child(PTRACE_O_SUSPEND_SECCOMP):
        pass


@probe(
    "seccomp_filters",
    Need.LATER,
    "reading seccomp filters",
    "tasks with a filter can't be dumped",
    criu=("seccomp_filters",),
)
def seccomp_filters() -> None:
    with stopped_child() as pid:
        try:
            call("ptrace", PTRACE_SECCOMP_GET_FILTER, pid, 0, 0)
        except OSError as error:
            # The child has no filter, and this is how a kernel says so that knows the request.
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise


@probe(
    "breakpoints",
    Need.LATER,
    "hardware breakpoints in a restored task",
    "nothing: ckpt does without them",
    criu=("breakpoints",),
)
def breakpoints() -> None:
    with pages(1) as (_, addr), stopped_child() as pid:
        call("ptrace", PTRACE_POKEUSER, pid, _DEBUG_REGISTERS, addr)
        call("ptrace", PTRACE_POKEUSER, pid, _DEBUG_REGISTERS + 7 * 8, 1)
        call("ptrace", PTRACE_POKEUSER, pid, _DEBUG_REGISTERS + 7 * 8, 0)


@probe("pidfd_open", Need.HOST, "holding on to a process", "no dump at all")
def pidfd_open() -> None:
    with idle_child() as pid:
        os.close(os.pidfd_open(pid))


@probe(
    "pidfd_getfd",
    Need.HOST,
    "looking at a descriptor of the target without reopening it",
    "no dump at all",
    criu=("pidfd_store",),
)
def pidfd_getfd() -> None:
    with idle_child() as pid:
        pidfd = os.pidfd_open(pid)
        try:
            os.close(call("pidfd_getfd", pidfd, _lowest_fd(pid), 0))
        finally:
            os.close(pidfd)


def _lowest_fd(pid: int) -> int:
    from ckpt.procfs.reader import ProcDir

    with ProcDir(pid) as proc:
        return proc.numbers("fd")[0]


@probe("process_vm", Need.HOST, "reading and writing the target's memory", "no dump at all")
def process_vm() -> None:
    with pages(1) as (area, addr):
        area[:4] = b"ckpt"
        with idle_child() as pid:
            here = bytearray(4)
            local = bytearray(struct.pack("QQ", address(here), 4))
            remote = bytearray(struct.pack("QQ", addr, 4))
            args = (pid, address(local), 1, address(remote), 1, 0)
            expect(call("process_vm_readv", *args) == 4 and here == b"ckpt", "wrong bytes")
            expect(call("process_vm_writev", *args) == 4, "short write")


@probe("proc_mem", Need.HOST, "writing where the target itself may not", "no dump at all")
def proc_mem() -> None:
    with pages(1) as (area, addr):
        area[:4] = b"ckpt"
        with stopped_child() as pid:
            fd = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
            try:
                expect(os.pread(fd, 4, addr) == b"ckpt", "wrong bytes")
                expect(os.pwrite(fd, b"done", addr) == 4, "short write")
            finally:
                os.close(fd)
        expect(area[:4] == b"ckpt" and len(area) == mmap.PAGESIZE, "our own page was written")
