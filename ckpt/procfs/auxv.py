"""/proc/PID/auxv: the auxiliary vector as the kernel gave it to the program.

Source: proc_pid_auxv(5), getauxval(3), uapi/linux/auxvec.h.

Read from mm->saved_auxv, not from the stack: what PR_SET_MM_AUXV or PR_SET_MM_MAP has set. A zombie
and a kernel thread have none (the reader says TargetError).
"""

from __future__ import annotations

import struct

from ckpt.procfs.parse import fail

FILE = "auxv"
AT_NULL = 0
AT_PHDR = 3
AT_PHENT = 4
AT_PHNUM = 5
AT_PAGESZ = 6
AT_BASE = 7
AT_ENTRY = 9
AT_HWCAP = 16
AT_CLKTCK = 17
AT_SECURE = 23
AT_RANDOM = 25
AT_EXECFN = 31
AT_SYSINFO_EHDR = 33
_PAIR = struct.Struct("=QQ")
_LONGEST = 4096


def parse_auxv(data: bytes) -> tuple[tuple[int, int], ...]:
    """(type, value) in order up to and without AT_NULL; for 64-bit tasks only."""
    if len(data) % _PAIR.size or len(data) > _LONGEST:
        fail(FILE, data[:32], f"{len(data)} bytes are no vector of pairs")
    pairs: list[tuple[int, int]] = []
    for kind, value in _PAIR.iter_unpack(data):
        if kind == AT_NULL:
            return tuple(pairs)
        pairs.append((kind, value))
    if data:
        fail(FILE, data[-32:], "no AT_NULL at the end")
    return ()
