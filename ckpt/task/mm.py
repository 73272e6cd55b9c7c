"""What an address space knows of itself: bounds of code, data, heap, stack, arguments, the
auxiliary vector, the executable.

Dumped from /proc/PID/stat and auxv, and brk(2) asked from inside. Restored with
PR_SET_MM_MAP, which needs no CAP_SYS_RESOURCE, after the old executable is unmapped (EBUSY before).

Source: prctl(2) PR_SET_MM_MAP, kernel/sys.c (prctl_set_mm_map), PR_SET_DUMPABLE(2const),
kernel/cred.c (commit_creds).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.infect.batch import Arg, Batch, Data, Load

if TYPE_CHECKING:
    from ckpt.images.pb.mm_pb2 import mm_entry
    from ckpt.procfs.stat import Stat

PR_SET_MM, PR_SET_MM_MAP = 35, 14
PR_SET_DUMPABLE, PR_GET_DUMPABLE = 4, 3
PR_SET_THP_DISABLE, PR_GET_THP_DISABLE = 41, 42
_MAP = struct.Struct("<12QIi")
ROOT_ONLY = 2
"""Dumpable, but for root: what a change of credentials leaves where fs.suid_dumpable is 2."""

_SUID_DUMPABLE = Path("/proc/sys/fs/suid_dumpable")
AUXV_MAX = 64
"""Words of saved_auxv that the kernel keeps at most (AT_VECTOR_SIZE and some)."""


def fill(entry: mm_entry, stat: Stat, auxv: bytes, brk: int) -> None:
    """Write bounds and auxiliary vector into the message."""
    entry.mm_start_code, entry.mm_end_code = stat.start_code, stat.end_code
    entry.mm_start_data, entry.mm_end_data = stat.start_data, stat.end_data
    entry.mm_start_stack, entry.mm_start_brk = stat.start_stack, stat.start_brk
    entry.mm_brk = brk
    entry.mm_arg_start, entry.mm_arg_end = stat.arg_start, stat.arg_end
    entry.mm_env_start, entry.mm_env_end = stat.env_start, stat.env_end
    entry.mm_saved_auxv.extend(struct.unpack(f"<{len(auxv) // 8}Q", auxv))


def restore(batch: Batch, entry: mm_entry, exe_fd: Load | int) -> None:
    """Add the call that sets all of it. `exe_fd` is the executable's descriptor in the task."""
    auxv = batch.put(struct.pack(f"<{len(entry.mm_saved_auxv)}Q", *entry.mm_saved_auxv))
    place = batch.space(_MAP.size)
    words: list[int | Data] = [
        *(entry.mm_start_code, entry.mm_end_code, entry.mm_start_data, entry.mm_end_data),
        *(entry.mm_start_brk, entry.mm_brk, entry.mm_start_stack, entry.mm_arg_start),
        *(entry.mm_arg_end, entry.mm_env_start, entry.mm_env_end, auxv),
    ]
    source = batch.struct("<12Q", *words)
    batch.copy(place, source, 96)
    size = batch.put(struct.pack("<I", 8 * len(entry.mm_saved_auxv)))
    batch.copy(place + 96, size, 4)
    exe: Arg
    exe = exe_fd.at if isinstance(exe_fd, Load) else batch.put(struct.pack("<i", exe_fd))
    batch.copy(place + 100, exe, 4)
    batch.call("prctl", PR_SET_MM, PR_SET_MM_MAP, place, _MAP.size, 0, note="bounds of the memory")


def has_root_only() -> bool:
    """Whether this machine gives that value to anybody."""
    try:
        return int(_SUID_DUMPABLE.read_bytes()) == ROOT_ONLY
    except OSError:
        return False


def provoke_root_only(batch: Batch) -> None:
    """Add what makes the calling process dumpable for root alone, where that can be, else not at
    all. prctl(2) does not take the value: it comes of a change of credentials, here to and fro."""
    batch.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    if has_root_only():
        own = os.geteuid()
        for fsuid in (own + 1, own):
            batch.call("setfsuid", fsuid, any_result=True)
