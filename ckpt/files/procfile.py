"""Files and folders of /proc that tell of one process: its state, its mappings, its memory.

They are kept by their path, as any file, and opened again when all tasks and threads are there: of
what such a file tells, its process is chosen by the open. That has to be one of the tree, a thread
or zombie of it included. Another one's is refused: what has its number later may be anybody.

Not kept: what the opener was allowed to see of another user's process; that is asked of the
restoring one.

Source: proc(5), fs/proc/base.c (what is bound at open: the task, for files of its memory the mm).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ckpt.files.kind import Obstacle

if TYPE_CHECKING:
    from ckpt.files.descriptor import Descriptor

PROC = 0x9FA0
"""f_type of procfs."""
_OF_A_TASK = re.compile(r"/proc/([0-9]+)(?:/task/([0-9]+))?(?:/(.*))?")


def task_of(path: str) -> int | None:
    """The number of the process or thread that a path of /proc tells of; None for any other."""
    found = _OF_A_TASK.fullmatch(path)
    return int(found[2] or found[1]) if found else None


def tells_of_task(d: Descriptor) -> bool:
    """Whether it is a file of /proc that its path still leads to, of one process."""
    return d.fs_type == PROC and d.named and task_of(d.link) is not None


def obstacle(d: Descriptor) -> Obstacle | None:
    """Why such a file can't be had again. Of whom it tells is asked of the standing tree."""
    found = _OF_A_TASK.fullmatch(d.link)
    if found and (found[3] or "").startswith("fdinfo/"):
        return Obstacle(
            "it tells of a descriptor, and is not restored yet", "close it before the dump"
        )
    return None
