"""Threads and processes that bear the next and end before a look from Python leads to them.

A scan takes a millisecond and more, a thread that only starts another one lives for 50 us: while
the others stand, only luck would catch it. So C looks at the lists of threads and children, each
again and again for a while, and seizes and interrupts whom it finds there. Whether the tree is
whole then, a scan has to say as ever.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from itertools import islice

from ckpt._native import ffi, lib
from ckpt.errors import TargetError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.tree import has_children_files
from ckpt.tracee.attached import Attached, undisturbed

_BUDGET_S = 0.001
_MOST_PARENTS = 64
_ROOM = 256


def seize_born(attached: Attached, *, children: bool) -> int:
    """Seize and interrupt those who were born to seized threads, which are added to `attached`;
    returns how many. Without `children`, threads alone."""
    parents = list(islice(attached.pid_of.items(), _MOST_PARENTS))
    with ExitStack() as opened, undisturbed():
        lists = [(_threads(opened, pid), pid) for pid in {pid for _, pid in parents}]
        if children and has_children_files():
            lists += [(_children(opened, tid, pid), 0) for tid, pid in parents]
        born = ffi.new("struct ckpt_born[]", _ROOM)
        nr = lib.ckpt_seize_born(lists, len(lists), int(_BUDGET_S * 1e9), born, _ROOM)
        attached.pid_of.update((one.tid, one.pid) for one in born[0:nr])
    return int(nr)


def _threads(opened: ExitStack, pid: int) -> int:
    return _opened(opened, pid, "task", os.O_RDONLY | os.O_DIRECTORY)


def _children(opened: ExitStack, tid: int, pid: int) -> int:
    return _opened(opened, pid, f"task/{tid}/children", os.O_RDONLY)


def _opened(opened: ExitStack, pid: int, name: str, flags: int) -> int:
    """-1, of which nothing can be read, where it is gone."""
    with suppress(TargetError), ProcDir(pid) as proc:
        fd = proc.open(name, flags)
        opened.callback(os.close, fd)
        return fd
    return -1
