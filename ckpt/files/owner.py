"""Who is told by a signal that a descriptor is ready: F_SETOWN, F_SETSIG, O_ASYNC.

All three belong to the open file description. The owner is a thread, a process or a group of the
tree, and signals are sent with the rights that he who named the owner had then (F_GETOWNER_UIDS).

Restore: by a task that holds the description, when every task and thread is there, with those uids
for as long as the call takes; O_ASYNC comes after the owner, for a terminal would name one itself.

Refused: an owner outside the tree, and one of a directory, which is what dnotify (F_NOTIFY) leaves
to be seen of it.

Source: fcntl(2); fs/fcntl.c, fs/notify/dnotify/dnotify.c.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError, Refusal
from ckpt.files.kind import Obstacle
from ckpt.files.openflags import SETTABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from ckpt.files.descriptor import Descriptor

O_ASYNC = 0o20000
F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP = 0, 1, 2
_WHAT = {F_OWNER_TID: "thread", F_OWNER_PID: "process", F_OWNER_PGRP: "process group"}
_PID_MAX = 1 << 22


def obstacle(d: Descriptor) -> Obstacle | None:
    """Why the owner of a descriptor stands in the way of a dump."""
    if d.owner and d.format == stat.S_IFDIR:
        why = "it has an owner, as a directory that is watched by F_NOTIFY has; not restored"
        return Obstacle(why, "close it before the dump")
    return None


def strangers(
    described: Iterable[tuple[Descriptor, int]], pids: Collection[int]
) -> Iterator[Refusal]:
    """Owners that are not of the tree, whose live processes are `pids`."""
    seen: set[int] = set()
    for d, file_id in described:
        if d.owner and file_id not in seen:
            seen.add(file_id)
            if not _inside(d, pids):
                yield Refusal(
                    d.pid,
                    str(d),
                    f"it sends signals to {_WHAT.get(d.owner_type, 'owner')} {d.owner}, which is "
                    "outside the tree (F_SETOWN)",
                    "dump a tree that holds both",
                )


def _inside(d: Descriptor, pids: Collection[int]) -> bool:
    if d.owner_type == F_OWNER_PID:
        return d.owner in pids
    if d.owner_type == F_OWNER_TID:
        return any(Path(f"/proc/{pid}/task/{d.owner}").exists() for pid in pids)
    return any(os.getpgid(pid) == d.owner for pid in pids)


class Owner(NamedTuple):
    """The checked owner of one description. `flags` are for F_SETFL, 0 where O_ASYNC is not set."""

    type: int
    pid: int
    uid: int
    euid: int
    flags: int

    @property
    def of_group(self) -> bool:
        return self.type == F_OWNER_PGRP


def taken(message: Any, where: str) -> Owner | None:
    """The owner that an entry of files.img names, if it names one or has O_ASYNC."""
    fown = message.fown
    own_flags = message.flags if "flags" in message.DESCRIPTOR.fields_by_name else 0
    is_async = bool(own_flags & O_ASYNC)
    if not fown.pid and not is_async:
        return None
    if fown.pid_type not in _WHAT or fown.pid >= _PID_MAX:
        raise ImageError(f"has an owner that can't be ({fown.pid})", resource=where)
    flags = own_flags & SETTABLE | O_ASYNC if is_async else 0
    return Owner(fown.pid_type, fown.pid, fown.uid, fown.euid, flags)
