"""/proc/PID/syscall: what a sleeping task is doing in the kernel.

Source: proc_pid_syscall(5), proc_pid_syscall() in fs/proc/base.c.

`running` is a task on a processor or in a stop that the kernel can't look into; -1 is blocked, but
in no system call (a page fault, a trap).
"""

from __future__ import annotations

from ckpt.procfs.parse import fail, hexa, signed
from ckpt.record import record

FILE = "syscall"


@record(frozen=True)
class SyscallState:
    """Number (-1: in none, None: running), arguments, stack and instruction pointer."""

    nr: int | None
    args: tuple[int, ...] = ()
    sp: int = 0
    pc: int = 0


def parse_syscall(data: bytes) -> SyscallState:
    """The one line of the file."""
    fields = data.split()
    if fields == [b"running"]:
        return SyscallState(None)
    if len(fields) not in (3, 9) or not data.endswith(b"\n"):
        fail(FILE, data, "not running, not three and not nine fields")
    nr = signed(fields[0], FILE, data)
    *args, sp, pc = (hexa(field, FILE, data) for field in fields[1:])
    if (nr == -1) != (not args):
        fail(FILE, data, "arguments and number do not fit")
    return SyscallState(nr, tuple(args), sp, pc)
