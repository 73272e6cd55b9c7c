"""Files that a task has without a descriptor: behind mappings, its executable, working directory
and root. They get entries in files.img of their own, one for each file, with open flags 0: which
flags a mapping needs stands in its vma_entry.

A mapping's file is compared with what its path leads to by /proc/PID/map_files (stat, readlink;
nothing is opened). Where a running task has mapped something else there since its maps were read,
both tell of that: it is not kept, and nothing in the way of a dump. Open flags: a private mapping
can be made from a file opened for reading; a shared one tells in the mode of its link how it was
opened, which decides whether mprotect may make it writable later.

Source: proc_pid_map_files(5), map_files_d_revalidate() in fs/proc/base.c for the mode of the link.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from ckpt._native import ffi
from ckpt.errors import Refusal
from ckpt.files.anonymous import address, made
from ckpt.files.descriptor import Descriptor
from ckpt.files.kind import Obstacle
from ckpt.files.memfd import MemfdDump
from ckpt.files.regular import RegularDump

if TYPE_CHECKING:
    from ckpt.files.dumping import DumpView
    from ckpt.procfs.maps import Mapping
    from ckpt.procfs.reader import ProcDir

PATH_LINKS = ("exe", "cwd", "root")


class MappedFile(NamedTuple):
    """The entry of files.img behind a mapping, and the open flags that the mapping needs.

    `id` is 0 where the mapping is refused.
    """

    id: int
    flags: int
    memfd: bool = False


class MappedFiles:
    """Ids of such files for a whole dump; `refusals` collects what can't be restored."""

    def __init__(self, view: DumpView) -> None:
        self.view = view
        self.refusals: list[Refusal] = []
        self._ids: dict[tuple[int, int, str], int] = {}
        self._seen: dict[tuple[int, tuple[int, int], int, str], Descriptor] = {}
        self._memfds: dict[tuple[int, int, int], int] = {}

    def of_mapping(self, proc: ProcDir, mapping: Mapping) -> MappedFile:
        """The file behind one mapping that has one."""
        d = self._look(proc, mapping)
        memfds = self.view.kind(MemfdDump)
        memfd = memfds.is_memfd(d.dev, d.link)
        flags = self._open_flags(proc, mapping)
        if memfd:
            key = (d.dev, d.ino, flags)
            if key not in self._memfds:
                self._memfds[key] = memfds.hold_mapped(d, flags, _name(mapping))
            return MappedFile(self._memfds[key], flags, memfd=True)
        source = f"/proc/{proc.pid}/map_files/{_name(mapping)}"
        return MappedFile(self._id(d, f"mapping {mapping}", source), flags)

    def of_link(self, proc: ProcDir, name: str) -> int:
        """The file behind "exe", "cwd" or "root"; 0 where it is refused."""
        return self._id(_by_link(proc, name), name, f"/proc/{proc.pid}/{name}")

    def obstacle(self, proc: ProcDir, mapping: Mapping) -> Refusal | None:
        """Why a mapping's file can't be had again, without giving it an id. The task may run."""
        d = self._look(proc, mapping)
        if (d.ino, d.link) != (mapping.ino, mapping.path):
            # Another file by now, or one whose file system has two numbers for it. Whoever asks
            # when the task stands is told the truth.
            del self._seen[_key(proc, mapping)]
            return None
        if self.view.kind(MemfdDump).is_memfd(d.dev, d.link):
            return None
        source = f"/proc/{proc.pid}/map_files/{_name(mapping)}"
        return _refusal(d, f"mapping {mapping}", self._obstacle(d, source))

    def link_obstacle(self, proc: ProcDir, name: str) -> Refusal | None:
        """As `obstacle`, for "exe", "cwd" or "root"."""
        d = _by_link(proc, name)
        return _refusal(d, f"{name} ({d.link})", self._obstacle(d, f"/proc/{proc.pid}/{name}"))

    def _obstacle(self, d: Descriptor, source: str) -> Obstacle | None:
        return self.view.kind(RegularDump).path_obstacle(d, source)

    def _id(self, d: Descriptor, resource: str, source: str) -> int:
        key = (d.dev, d.ino, d.link)
        if key not in self._ids:
            refusal = _refusal(d, resource, self._obstacle(d, source))
            if refusal is None:
                self._ids[key] = self.view.kind(RegularDump).add_path(d, source)
            else:
                self.refusals.append(refusal)
                return 0
        return self._ids[key]

    def _look(self, proc: ProcDir, mapping: Mapping) -> Descriptor:
        key = _key(proc, mapping)
        if key not in self._seen:
            self._seen[key] = _by_link(proc, f"map_files/{_name(mapping)}")
        return self._seen[key]

    def _open_flags(self, proc: ProcDir, mapping: Mapping) -> int:
        if not mapping.shared:
            return os.O_RDONLY
        link = os.stat(
            f"map_files/{_name(mapping)}", dir_fd=proc.fileno(), follow_symlinks=False
        ).st_mode
        return os.O_RDWR if link & stat.S_IWUSR else os.O_RDONLY


def _key(proc: ProcDir, mapping: Mapping) -> tuple[int, tuple[int, int], int, str]:
    """What maps says is enough to know a file again, but not to compare it with a path."""
    return proc.pid, mapping.device, mapping.ino, mapping.path


def _name(mapping: Mapping) -> str:
    return f"{mapping.start:x}-{mapping.end:x}"


def _refusal(d: Descriptor, resource: str, obstacle: Obstacle | None) -> Refusal | None:
    if obstacle is None:
        return None
    hint = "" if "--external" in obstacle.hint else obstacle.hint
    return Refusal(d.pid, resource, obstacle.why, hint)


def _by_link(proc: ProcDir, name: str) -> Descriptor:
    """What a descriptor opened by this link would look like, with flags 0."""
    link = os.fsdecode(proc.readlink(name))
    seen = proc.stat(name)
    named = _leads_to(link, seen)
    return Descriptor(
        pid=proc.pid,
        fd=-1,
        link=link,
        flags=0,
        cloexec=False,
        pos=0,
        mode=seen.st_mode,
        dev=seen.st_dev,
        ino=seen.st_ino,
        rdev=seen.st_rdev,
        size=seen.st_size,
        nlink=seen.st_nlink,
        uid=seen.st_uid,
        gid=seen.st_gid,
        mnt_id=-1,
        fs_type=_fs_type(proc, name) if link.startswith("/proc/") or not named else 0,
        named=named,
        signum=0,
        owner=0,
        owner_type=0,
        info=b"",
    )


def _fs_type(proc: ProcDir, name: str) -> int:
    """f_type of statfs(2); 0 where the file is gone meanwhile."""
    path = ffi.new("char[]", f"/proc/{proc.pid}/{name}".encode())
    found = ffi.new("uint64_t[15]")
    try:
        made("statfs", address(path), address(found))
    except OSError:
        return 0
    return int(found[0])


def _leads_to(link: str, seen: os.stat_result) -> bool:
    """Whether the path leads to that very file."""
    if not link.startswith("/"):
        return False
    try:
        found = os.lstat(link)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (seen.st_dev, seen.st_ino)
