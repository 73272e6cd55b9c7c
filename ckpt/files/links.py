"""Files that lost their name but have others (`--link-remap`): they get one more for the restore.

Which other names there are, nobody tells: so a new one is made in the folder of the lost one,
`link_remap.ID.RANDOM`, an entry of files.img says where, and one of remap-fpath.img for whom.

1. While the target stands, the file is held by an O_PATH descriptor, which is no description.
2. When everything else is written, a guard is set over the names to come (see guard.h), then they
   are made.
3. The guard is sent away when the set is whole. Any other end, our death included, has it remove
   them. Dying between the last rename of the set and this leaves a set that can't be restored, and
   a target that runs on.

The restore removes them once the tree runs. Whoever throws a set away has them left, as with CRIU.

Source: CRIU's criu/files-reg.c for what the images mean.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ckpt._native import ffi, lib
from ckpt._native.guard import Guard
from ckpt.errors import KernelError
from ckpt.files.kind import FdType, Obstacle
from ckpt.images.types import message_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView

_DELETED = " (deleted)"
_KERNELS_OWN = ("/proc/", "/sys/")


def is_linked(d: Descriptor) -> bool:
    """Whether it lost the name that it was opened by, and has others."""
    lost = d.deleted and d.link.endswith(_DELETED) and d.nr_names > 0
    return lost and not d.link.startswith(_KERNELS_OWN)


def obstacle(d: Descriptor, *, link_remap: bool) -> Obstacle | None:
    """Why such a file can't be dumped."""
    if link_remap:
        folder = Path(d.path).parent
        if not folder.is_dir():
            return Obstacle(f"it was removed with its folder {folder}, but has other names")
        return None
    return Obstacle("it was removed, but has other names", "--link-remap gives it another one")


class _Link(NamedTuple):
    """`lfd`: O_PATH, of the file."""

    file_id: int
    folder: str
    name: str
    lfd: int

    @property
    def path(self) -> str:
        return str(Path(self.folder, self.name))


class Links:
    """The links that one dump has to make."""

    def __init__(self, view: DumpView) -> None:
        self._view = view
        self._by_inode: dict[tuple[int, int], _Link] = {}
        self._remaps: list[tuple[int, int]] = []

    def take(self, d: Descriptor, file_id: int, source: str) -> None:
        """Hold a file while the target stands; see Ghosts.take."""
        link = self._by_inode.get((d.dev, d.ino))
        if link is None:
            path = source or f"/proc/self/fd/{self._view.duplicate(d)}"
            try:
                lfd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError as error:
                why = os.strerror(error.errno or 0)
                raise KernelError("can't be held", pid=d.pid, resource=d.link, why=why) from error
            linked = self._view.next_id()
            name = f"link_remap.{linked}.{os.urandom(4).hex()}"
            link = _Link(linked, str(Path(d.path).parent), name, lfd)
            self._by_inode[d.dev, d.ino] = link
        self._remaps.append((file_id, link.file_id))

    def entries(self) -> Iterator[Any]:
        """A file_entry for each new name."""
        file_entry: Any = message_class("fdinfo.file_entry")
        for link in self._by_inode.values():
            entry = file_entry(type=int(FdType.REG), id=link.file_id)
            entry.reg.id, entry.reg.flags, entry.reg.pos = link.file_id, 0, 0
            entry.reg.name = link.path
            fown = entry.reg.fown
            fown.uid = fown.euid = fown.signum = fown.pid_type = fown.pid = 0
            yield entry

    def remaps(self) -> Iterator[Any]:
        """The entries of remap-fpath.img."""
        from ckpt.images.pb.remap_file_path_pb2 import LINKED, remap_file_path_entry

        for file_id, linked in self._remaps:
            yield remap_file_path_entry(orig_id=file_id, remap_id=linked, remap_type=LINKED)

    def making(self) -> MadeLinks:
        """The scope in which the names are there; `keep` makes them stay."""
        return MadeLinks(list(self._by_inode.values()))

    def close(self) -> None:
        """Let go of the files. May be called twice."""
        links, self._by_inode = self._by_inode, {}
        for link in links.values():
            os.close(link.lfd)


class MadeLinks:
    """New names within a scope. Raises KernelError."""

    def __init__(self, links: Sequence[_Link]) -> None:
        self._links = links
        self._folders: list[int] = []
        self._guard: Guard | None = None

    def __enter__(self) -> Self:
        if self._links:
            try:
                self._make()
            except BaseException:
                self.__exit__()
                raise
        return self

    def keep(self) -> None:
        """They stay from here on, whatever becomes of us."""
        if self._guard is not None:
            self._guard.send_away()

    def __exit__(self, *_: object) -> None:
        if self._guard is not None:
            self._guard.close()
            self._guard = None
        while self._folders:
            os.close(self._folders.pop())

    def _make(self) -> None:
        at = ""
        try:
            for link in self._links:
                at = link.folder
                self._folders.append(os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            names = [ffi.new("char[]", os.fsencode(link.name)) for link in self._links]
            self._guard = Guard("guard", lib.ckpt_guard_names, self._folders, names, len(names))
            for link, folder in zip(self._links, self._folders, strict=True):
                at = link.path
                file = f"/proc/self/fd/{link.lfd}"
                os.link(file, link.name, dst_dir_fd=folder, follow_symlinks=True)
        except OSError as error:
            raise KernelError(
                "a removed file can't be given another name",
                resource=at,
                why=os.strerror(error.errno or 0),
            ) from error
