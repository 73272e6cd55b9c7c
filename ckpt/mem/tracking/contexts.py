"""Whether something may write into a process's memory on behalf of no thread of it.

io_uring with registered buffers and AIO contexts write into pages that were pinned long before,
whatever the threads do meanwhile, and no scan shows it. Who has one of them, or pages pinned by
RDMA or VFIO, has every page rewritten while it stands.

Seen are descriptors and mappings of rings, and VmPin of /proc/PID/status, where the kernel counts
what is pinned for long (registered buffers of io_uring among it).

The time to ask is between the round and the copying: who has had its last context taken away by
then has nothing in flight that the copy would not have.

Not guaranteed: a ring that is neither mapped nor has a descriptor (IORING_SETUP_NO_MMAP together
with a registered ring descriptor), without registered buffers, is seen as little as the direct I/O
that it does.

Source: io_uring_setup(2), io_setup(2), proc_pid_status(5), mm->pinned_vm in io_uring/rsrc.c.
"""

from __future__ import annotations

from ckpt.errors import TargetError
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.status import parse_status

_RING = "anon_inode:[io_uring]"
_AIO = "/[aio]"


def has_io_contexts(pid: int) -> bool:
    """Raises TargetError when the process is gone."""
    with ProcDir(pid) as proc:
        if parse_status(proc.read("status")).vm_pinned:
            return True
        mappings = parse_maps(proc.read("maps"), running=True)
        if any(m.path == _RING or m.path.startswith(_AIO) for m in mappings):
            return True
        return any(_is_ring(proc, fd) for fd in proc.numbers("fd"))


def may_write_unseen(pid: int) -> bool:
    """Whether a device may write at a moment when the process stands and each ring that it has is
    idle: into memory that is pinned for long, or for a context of AIO, of which nobody can tell
    whether it is idle. Raises TargetError when the process is gone."""
    with ProcDir(pid) as proc:
        if parse_status(proc.read("status")).vm_pinned:
            return True
        mappings = parse_maps(proc.read("maps"), running=True)
        return any(m.path.startswith(_AIO) for m in mappings)


def _is_ring(proc: ProcDir, fd: int) -> bool:
    try:
        return proc.readlink(f"fd/{fd}") == _RING.encode()
    except TargetError:
        if not proc.alive():
            raise
        return False
