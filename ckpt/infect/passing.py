"""Threads that stand in the middle of the vdso.

On another kernel that is other code (ckpt.restore.vdso), so a set in which a thread stands there
could not be restored on one. They come out of it by themselves in less than a microsecond of their
own. Asked while the tree stands: of most threads their registers tell enough.
"""

from __future__ import annotations

import struct
from contextlib import closing
from typing import TYPE_CHECKING

from ckpt.errors import CkptError
from ckpt.infect.batch import number
from ckpt.infect.place import Memory, vdso_used
from ckpt.procfs.auxv import AT_SYSINFO_EHDR, parse_auxv
from ckpt.procfs.reader import ProcDir

if TYPE_CHECKING:
    from ckpt.tracee.stopped import SeizedTask, Stopped

_REGS = struct.Struct("<qQ")
_ORIG_RAX_AT = 15 * 8
_NO_CALL = -1
_CALLS = ("clock_getres", "clock_gettime", "getcpu", "gettimeofday", "time")
"""What the vdso itself calls, apart from getrandom, which takes longer than anybody waits."""


def in_vdso(task: SeizedTask) -> list[int]:
    """The threads of a live task that stand there, none of a stopped one: it can't go on."""
    own = {_NO_CALL, *map(number, _CALLS)}
    candidates = [(t.tid, ip) for t in task.threads for call, ip in [_where(t)] if call in own]
    if task.stopped or not candidates:
        return []
    leader = task.threads[0].tid
    try:
        with ProcDir(leader) as proc:
            start = dict(parse_auxv(proc.read("auxv"))).get(AT_SYSINFO_EHDR, 0)
        with closing(Memory(leader)) as memory:
            end = start + vdso_used(memory, start) if start else 0
    except CkptError:
        return []  # it has ended, which whoever looks at it next will find
    return [tid for tid, ip in candidates if start <= ip < end]


def _where(thread: Stopped) -> tuple[int, int]:
    """The system call that it is in, and rip."""
    call, ip = _REGS.unpack_from(thread.regs, _ORIG_RAX_AT)
    return call, ip
