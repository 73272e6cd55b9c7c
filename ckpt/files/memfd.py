"""memfd_create(2): anonymous files, whose contents are shared memory of the tree.

Dump: each inode becomes a memfd_inode_entry of memfd.img and one of `contents`, for whoever writes
pages: shared memory `shmid`, its pages read from `lfd` (a description of our own, opened read-only
from a duplicate, so that looking for data moves no offset of the target). As in CRIU the shmid is
the inode number, which memfds and shared anonymous mappings draw from one counter.

Restore: made anew with its size; `contents` again says what has to be filled in; seals come last of
all (`apply_seals`), for F_SEAL_FUTURE_WRITE forbids mappings that the tasks still have to make.
Every description is opened from it through /proc/self/fd, with its own flags and position.

Those of huge pages are of another device for each size of pages; ckpt.kerndat.hugetlb
has their shmid.

Not kept: holes as such (untouched pages are not written, which makes them holes again).

Source: memfd_create(2), fcntl(2) "File Sealing"; CRIU's criu/memfd.c for what the image means.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError, KernelError, Refusal, RestoreError
from ckpt.files.descriptor import Descriptor
from ckpt.files.kind import DumpKind, FdType, Obstacle, RestoreKind
from ckpt.files.openflags import O_LARGEFILE, checked, shown
from ckpt.images.text import get_text
from ckpt.kerndat import hugetlb
from ckpt.units import PAGE, Range, page_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView

PREFIX = "/memfd:"
_DELETED = " (deleted)"
_SEALS = 0x3F
_MFD_EXEC = 0x10
_LONGEST_NAME = 249


class _Key(NamedTuple):
    """What a memfd is known by."""

    dev: int
    ino: int


class Contents(NamedTuple):
    """Shared memory object `shmid` of `size` bytes behind our descriptor `lfd`. `open`: it is not
    only mapped, but somebody has a descriptor of it. `huge_page`: the size of its pages where they
    are of hugetlbfs, else 0."""

    shmid: int
    lfd: int
    size: int
    open: bool = True
    huge_page: int = 0


class HugeMemfd(NamedTuple):
    """A memfd of huge pages, of `size` bytes; `files` are its entries in files.img."""

    shmid: int
    size: int
    huge_page: int
    files: frozenset[int]


def extents(lfd: int, size: int) -> Iterator[Range]:
    """The pages with data of a memfd, as ranges of offsets. Moves the offset of `lfd`."""
    at = 0
    while at < size:
        try:
            start = os.lseek(lfd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        at = min(page_up(os.lseek(lfd, start, os.SEEK_HOLE)), page_up(size))
        yield Range(start & ~(PAGE - 1), at)


class _Inode(NamedTuple):
    name: str
    uid: int
    gid: int
    mode: int
    size: int
    shmid: int
    seals: int
    number: int
    huge_page: int = 0


class MemfdDump(DumpKind):
    type = FdType.MEMFD

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._dev = _memfd_device()
        self._held: list[tuple[Descriptor, int, _Key]] = []
        self._mapped: list[tuple[int, _Key, int]] = []
        self._sources: dict[_Key, Descriptor | tuple[int, str]] = {}
        self._inodes: dict[_Key, _Inode] = {}
        self._huge: dict[int, int] | None = None
        self.contents: list[Contents] = []

    def claims(self, d: Descriptor) -> bool:
        return self.is_memfd(d.dev, d.link) and stat.S_ISREG(d.mode)

    def is_memfd(self, dev: int, link: str) -> bool:
        """Whether a file on device `dev` with this link text is a memfd."""
        return link.startswith(PREFIX) and (dev == self._dev or bool(self._huge_page(dev)))

    def _huge_page(self, dev: int) -> int:
        """The size of huge pages on that device; 0 where there are none."""
        if dev == self._dev:
            return 0
        if self._huge is None:
            self._huge = hugetlb.devices()
        return self._huge.get(dev, 0)

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        try:
            d.link.encode()
        except UnicodeEncodeError:
            return Obstacle("its name is not UTF-8, which the image format wants")
        return None

    def hold(self, d: Descriptor, file_id: int) -> None:
        key = _Key(d.dev, d.ino)
        self._held.append((d, file_id, key))
        self._sources.setdefault(key, d)

    def hold_mapped(self, d: Descriptor, flags: int, map_file: str) -> int:
        """The id of a new entry for a mapping; `map_file` is its name in /proc/PID/map_files."""
        file_id = self.view.next_id()
        key = _Key(d.dev, d.ino)
        self._mapped.append((file_id, key, flags))
        self._sources.setdefault(key, (d.pid, map_file))
        return file_id

    def settle(self) -> Iterable[Refusal]:
        for key, source in self._sources.items():
            if key not in self._inodes:
                self._settle_one(key, source)
        return ()

    def _settle_one(self, key: _Key, source: Descriptor | tuple[int, str]) -> None:
        if isinstance(source, Descriptor):
            path = f"/proc/self/fd/{self.view.duplicate(source)}"
        else:
            path = f"/proc/{source[0]}/map_files/{source[1]}"
        try:
            lfd = self.view.keep(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise KernelError(
                "memfd can't be opened for reading", resource=path, why=why
            ) from error
        seen = os.fstat(lfd)
        name = os.readlink(f"/proc/self/fd/{lfd}")  # noqa: PTH115 (a Path would lose slashes)
        name = name.removeprefix(PREFIX).removesuffix(_DELETED)
        seals = fcntl.fcntl(lfd, fcntl.F_GET_SEALS)
        huge_page = self._huge_page(key.dev)
        shmid = hugetlb.object_id(key.ino) if huge_page else key.ino & 0xFFFF_FFFF
        self._inodes[key] = _Inode(
            *(name, seen.st_uid, seen.st_gid, seen.st_mode, seen.st_size),
            *(shmid, seals, len(self._inodes) + 1, huge_page),
        )
        held = any(held_key == key for _, _, held_key in self._held)
        self.contents.append(Contents(shmid, lfd, seen.st_size, held, huge_page))

    def entries(self) -> Iterator[Any]:
        for d, file_id, key in self._held:
            entry = self.entry(file_id)
            memfd = entry.memfd
            memfd.id, memfd.flags, memfd.pos = file_id, d.flags, d.pos
            memfd.inode_id = self._inodes[key].number
            memfd.fown.CopyFrom(self.view.fown(d))
            yield entry
        for file_id, key, flags in self._mapped:
            entry = self.entry(file_id)
            memfd = entry.memfd
            memfd.id, memfd.flags, memfd.pos = file_id, flags, 0
            memfd.inode_id = self._inodes[key].number
            memfd.fown.uid = memfd.fown.euid = memfd.fown.signum = 0
            memfd.fown.pid_type = memfd.fown.pid = 0
            yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        from ckpt.images.pb.memfd_pb2 import memfd_inode_entry

        entries = [
            memfd_inode_entry(
                name=inode.name,
                uid=inode.uid,
                gid=inode.gid,
                size=inode.size,
                shmid=inode.shmid,
                seals=inode.seals,
                inode_id=inode.number,
                mode=inode.mode,
                hugetlb_flag=_huge_flags(inode.huge_page) or None,
            )
            for inode in self._inodes.values()
        ]
        return {"memfd": entries} if entries else {}


def _huge_flags(huge_page: int) -> int:
    """Those of memfd_create(2) for pages of this size; none for 0."""
    return hugetlb.MFD_HUGETLB | hugetlb.size_bits(huge_page) if huge_page else 0


def _memfd_device() -> int:
    """st_dev of the kernel's own tmpfs, where every memfd and shared anonymous mapping lives, but
    for those of huge pages."""
    lfd = os.memfd_create("ckpt", os.MFD_CLOEXEC)
    try:
        return os.fstat(lfd).st_dev
    finally:
        os.close(lfd)


class _File(NamedTuple):
    inode: int
    flags: int
    pos: int
    signum: int


class MemfdRestore(RestoreKind):
    type = FdType.MEMFD
    field = "memfd"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._files: dict[int, _File] = {}
        self._inodes: dict[int, _Inode] = {}
        self._made: dict[int, int] = {}

    def take(self, file_id: int, message: Any) -> None:
        where = f"memfd {file_id:#x} of files.img"
        if message.pos >= 2**63:
            raise ImageError(f"has position {message.pos:#x}", resource=where)
        signum = self.view.signum(message.fown, where)
        flags = checked(message.flags, where)
        self._files[file_id] = _File(message.inode_id, flags, message.pos, signum)

    def prepare(self, wanted: Iterable[int]) -> None:
        del wanted
        for message in self.view.messages("memfd"):
            where = f"memfd {message.inode_id} of memfd.img"
            if message.inode_id in self._inodes:
                raise ImageError("is there twice", resource=where)
            if message.size >= 2**63 or message.seals & ~_SEALS:
                raise ImageError("has a size or seals that can't be", resource=where)
            try:
                huge_page = hugetlb.page_size(message.hugetlb_flag, hugetlb.MFD_HUGETLB)
            except ValueError as error:
                raise ImageError("can't be", resource=where, why=str(error)) from error
            if huge_page and message.size % huge_page:
                why = f"{message.size} bytes in pages of {huge_page}"
                raise ImageError("has a size that can't be", resource=where, why=why)
            name = get_text(message, "name")
            if "\0" in name or len(os.fsencode(name)) > _LONGEST_NAME:
                raise ImageError("has a name that can't be", resource=where)
            mode = message.mode & 0o7777 if message.HasField("mode") else 0o777
            self._inodes[message.inode_id] = _Inode(
                *(name, message.uid, message.gid, mode, message.size),
                *(message.shmid, message.seals, message.inode_id, huge_page),
            )
        for file_id, file in self._files.items():
            if file.inode not in self._inodes:
                where = f"memfd {file_id:#x} of files.img"
                raise ImageError(f"has no inode {file.inode} in memfd.img", resource=where)

    def text(self, file_id: int) -> str:
        file = self._files[file_id]
        inode = self._inodes[file.inode]
        return f"open memfd:{inode.name} {shown(file.flags)} at {file.pos}, {inode.size} bytes"

    def open(self, file_id: int) -> int:
        file = self._files[file_id]
        lfd = self.open_with(file_id, file.flags)
        try:
            os.lseek(lfd, file.pos, os.SEEK_SET)
            self.view.set_signum(lfd, file.signum)
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def open_with(self, file_id: int, flags: int) -> int:
        """A description of the same memfd with `flags`, for a mapping."""
        made = self._inode(self._files[file_id].inode)
        flags &= ~(O_LARGEFILE | os.O_NOFOLLOW)
        return os.open(f"/proc/self/fd/{made}", flags | os.O_CLOEXEC | os.O_NOCTTY)

    @property
    def contents(self) -> list[Contents]:
        """What has to be filled, of all memfds that the image names. `lfd` stays ours."""
        return [
            Contents(inode.shmid, self._inode(number), inode.size, huge_page=inode.huge_page)
            for number, inode in self._inodes.items()
        ]

    @property
    def huge(self) -> list[HugeMemfd]:
        """All that are of huge pages, made or not."""
        files: dict[int, set[int]] = {}
        for file_id, file in self._files.items():
            files.setdefault(file.inode, set()).add(file_id)
        return [
            HugeMemfd(inode.shmid, inode.size, inode.huge_page, frozenset(files.get(number, ())))
            for number, inode in self._inodes.items()
            if inode.huge_page
        ]

    def apply_seals(self) -> None:
        """Once contents and mappings are in place. Raises RestoreError."""
        for number, inode in self._inodes.items():
            seals = inode.seals
            if seals and seals != fcntl.F_SEAL_SEAL:
                try:
                    fcntl.fcntl(self._inode(number), fcntl.F_ADD_SEALS, seals)
                except OSError as error:
                    raise RestoreError(
                        f"seals {seals:#x} can't be set",
                        resource=f"memfd:{inode.name}",
                        why=os.strerror(error.errno or 0),
                    ) from error

    def close(self) -> None:
        made, self._made = self._made, {}
        for lfd in made.values():
            os.close(lfd)

    def _inode(self, number: int) -> int:
        if number not in self._made:
            self._made[number] = _make(self._inodes[number])
        return self._made[number]


def _make(inode: _Inode) -> int:
    flags = os.MFD_CLOEXEC | _huge_flags(inode.huge_page)
    if inode.seals != fcntl.F_SEAL_SEAL:
        flags |= os.MFD_ALLOW_SEALING
    try:
        lfd = os.memfd_create(inode.name, flags | _MFD_EXEC)
    except OSError:
        # Linux before 6.3 does not know MFD_EXEC, later ones may be told to insist on it.
        lfd = os.memfd_create(inode.name, flags)
    try:
        os.ftruncate(lfd, inode.size)
        os.fchmod(lfd, inode.mode)
        os.fchown(lfd, inode.uid, inode.gid)
    except OSError as error:
        os.close(lfd)
        raise RestoreError(
            f"can't be made with {inode.size} bytes for uid {inode.uid}",
            resource=f"memfd:{inode.name}",
            why=os.strerror(error.errno or 0),
        ) from error
    return lfd
