"""Resource limits that stand in a session's way.

Raised by the stub for the time of the session and put back by it, so that they are right again
whatever becomes of the controller. Only soft limits below their hard ones can be.

Read from /proc/PID/limits: prlimit(2) of another user's process needs CAP_SYS_RESOURCE.

Source: getrlimit(2), proc_pid_limits(5), RLIMIT_AS and RLIMIT_DATA in mm/mmap.c.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from ckpt.infect.stub import Limit
from ckpt.procfs.limits import parse_limits

_FDS_WANTED = 8
_MEMORY = (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_MEMLOCK)


def in_the_way(pid: int) -> list[Limit]:
    """What is to be raised while a session lasts. Reads only."""
    found = []
    limits = parse_limits(Path(f"/proc/{pid}/limits").read_bytes())
    for which in (*_MEMORY, resource.RLIMIT_NOFILE):
        soft, hard = limits[which]
        if soft >= hard or (which == resource.RLIMIT_NOFILE and _has_room(pid, soft)):
            continue
        now = hard if which != resource.RLIMIT_NOFILE else min(hard, soft + 2 * _FDS_WANTED)
        found.append(Limit(which, (now, hard), (soft, hard)))
    return found


def _has_room(pid: int, soft: int) -> bool:
    path = Path(f"/proc/{pid}/fd")
    nr = path.stat().st_size or len(os.listdir(path))  # the size is the count since Linux 6.2
    return nr + _FDS_WANTED <= soft
