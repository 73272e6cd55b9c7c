"""Resource limits of a process.

Dumped from /proc/PID/limits, which needs no capability (prlimit(2) of another user's process needs
CAP_SYS_RESOURCE). Restored by the task itself: lowering is always allowed; a hard limit above our
own is not, and then stays as it is with a warning.

Source: getrlimit(2), fs/proc/base.c.
"""

from __future__ import annotations

import resource
import struct
from typing import TYPE_CHECKING

from ckpt.infect.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.images.pb.core_pb2 import task_rlimits_entry
    from ckpt.images.pb.rlimit_pb2 import rlimit_entry
    from ckpt.procfs.limits import Limit

NR_LIMITS = 16
_INFINITY = (1 << 64) - 1


def fill(entry: task_rlimits_entry, limits: Sequence[Limit]) -> None:
    """Add one message for each resource, in the order of their numbers."""
    for limit in limits:
        entry.rlimits.add(cur=limit.soft, max=limit.hard)


def restore(batch: Batch, limits: list[rlimit_entry]) -> list[int]:
    """Add the calls that set the limits; returns the resources whose hard limit is out of reach
    and so stays at ours."""
    above = []
    for number, entry in enumerate(limits[:NR_LIMITS]):
        cur, hard = entry.cur, entry.max
        ours = resource.getrlimit(number)[1]
        ceiling = _INFINITY if ours == resource.RLIM_INFINITY else ours
        if hard > ceiling:
            above.append(number)
            cur, hard = min(cur, ceiling), ceiling
        batch.call(
            *("setrlimit", number, batch.put(struct.pack("<QQ", cur, hard))),
            note=f"resource limit {number}",
        )
    return above
