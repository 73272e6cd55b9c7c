"""Who else could write to shared memory: processes that map it without our protection, and those
that have a descriptor of it, by which write(2) goes around any protection.

Every process of the system is looked at, and again until none is new: whoever maps an object has it
from a process that mapped it before. Only what processes with our protection do after that is
known, by their userfaultfds.

A process that we may not look at can write to an object, unless it is older than the root of the
tree, and that no younger than the object: whoever inherited it is younger than both.

Not seen: processes of another pid namespace than ours and its descendants, descriptors that are on
their way through a socket, what a privileged program opens through /proc/PID/map_files, and the age
of an object where the wall clock was set back since.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt._native import check, lib
from ckpt.errors import KernelError, TargetError
from ckpt.live.view import shareable
from ckpt.mem.vma import TRACKED
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir, pids
from ckpt.procfs.smaps import parse_smaps
from ckpt.procfs.stat import parse_stat
from ckpt.procfs.status import parse_status
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_LOOKS, _WAIT_MS = 5, 20
_PATHS = (b"/dev/zero (deleted)", b"/memfd:")


@record(frozen=True)
class Objects:
    """`born`: when each was made, by inode number, in clock ticks since the machine's start;
    `root`: when the root of the tree was. Those of `memfds` may be open."""

    born: Mapping[int, int]
    memfds: Collection[int]
    root: int


def ticks(lfd: int) -> int:
    """When the object behind a descriptor was made. Raises KernelError."""
    born_ns = check(lib.ckpt_born_ns(lfd), "shared memory")
    return int(born_ns) * os.sysconf("SC_CLK_TCK") // 1_000_000_000


def reaching(objects: Objects, armed: Collection[int]) -> dict[int, set[int]]:
    """For each of the objects that others can write to, who they are. `armed`: processes of whose
    mappings all are under our protection."""
    found: dict[int, set[int]] = {}
    seen: set[int] = set()
    while new := [pid for pid in pids() if pid not in seen]:
        seen.update(new)
        for pid in new:
            for ino in _reached(pid, objects, armed):
                found.setdefault(ino, set()).add(pid)
    return found


def _reached(pid: int, objects: Objects, armed: Collection[int]) -> set[int]:
    found: set[int] = set()
    try:
        for _ in range(_LOOKS):
            with ProcDir(pid) as proc:
                try:
                    return _seen(proc, objects, armed)
                except (KernelError, PermissionError):
                    found = set(_maybe(proc, objects))
            if not found:
                break
            _wait(pid)
    except (TargetError, ProcessLookupError, FileNotFoundError):
        return set()  # it has ended
    return found


def _seen(proc: ProcDir, objects: Objects, armed: Collection[int]) -> set[int]:
    seen = set(_held(proc, objects.memfds)) if _may_hold(proc.pid, objects) else set()
    if proc.pid not in armed:
        seen.update(_mapped(proc, objects.born))
    return seen


def _wait(pid: int) -> None:
    """For its end, or a little: what can't be looked at may be about to become another program, and
    mappings that changed while they were read may have come to rest."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(_WAIT_MS)
    finally:
        os.close(pidfd)


def _may_hold(pid: int, objects: Objects) -> bool:
    """We have descriptors of all of them ourselves."""
    return bool(objects.memfds) and pid != os.getpid()


def _maybe(proc: ProcDir, objects: Objects) -> Iterator[int]:
    if parse_status(proc.read("status")).kernel_thread:
        return
    started = parse_stat(proc.read("stat")).starttime
    for ino, born in objects.born.items():
        if not started < objects.root <= born:
            yield ino


def _mapped(proc: ProcDir, inos: Collection[int]) -> Iterator[int]:
    where, data = _memory(proc)
    if not any(path in data for path in _PATHS):
        return
    mapped = {m.ino for m in parse_maps(data, running=True) if shareable(m) and m.ino in inos}
    if mapped:
        # A child of somebody with our protection has it, too.
        for smap in parse_smaps(proc.read(f"{where}smaps"), running=True):
            if smap.mapping.ino in mapped and TRACKED not in smap.flags:
                yield smap.mapping.ino


def _memory(proc: ProcDir) -> tuple[str, bytes]:
    """The folder, below that of the process, and its maps: where the main thread has ended, those
    of another one."""
    folders = ["", *(f"task/{tid}/" for tid in proc.tids())] if not proc.read("maps") else [""]
    for where in folders:
        with suppress(TargetError):
            if data := proc.read(f"{where}maps"):
                return where, data
    return "", b""


def _held(proc: ProcDir, inos: Collection[int]) -> Iterator[int]:
    for number in proc.numbers("fd"):
        with suppress(TargetError):  # it was closed since
            if proc.readlink(f"fd/{number}").startswith(b"/memfd:"):
                ino = proc.stat(f"fd/{number}").st_ino
                if ino in inos:
                    yield ino
