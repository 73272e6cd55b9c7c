"""Files without a name on the way into the images: contents in ghost-file-N.img, and an entry of
remap-fpath.img for each open file that is one of them.

A ghost is an inode that no name leads to any more (nlink 0: removed, renamed over, made with
O_TMPFILE), or a directory that was removed. It is carried once, however many descriptions and
mappings of however many tasks it is behind. Contents are read while the target stands, from a
description of our own (a duplicate's offset is the target's), with holes left out by SEEK_DATA.

`--ghost-limit` bounds the data of one file; holes don't count. Carried: files, FIFOs, directories
and the devices that hold no state. A directory comes back empty, as the removed one is. Pages of
hugetlbfs, which tells of no holes, are taken for some where they hold only zeros.

Not kept: extended attributes and ACLs; which of several lost names it had (the first one found).

Source: CRIU's criu/files-reg.c for what the images mean.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckpt._native import check, ffi, lib
from ckpt.errors import KernelError, Refusal
from ckpt.files.kind import Obstacle
from ckpt.files.memfd import extents
from ckpt.images.reader import MAX_IMAGE
from ckpt.images.types import image_name
from ckpt.kerndat import hugetlb
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView

DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 8, 9))
"""null, zero, full, random, urandom: what holds no state."""

_DELETED = " (deleted)"
_KERNELS_OWN = ("/proc/", "/sys/")
_FORMATS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO)
_MINOR_BITS = 20
_HEADS = 1 << 20
"""Room that is left in an image for what is no data."""


def is_ghost(d: Descriptor) -> bool:
    """Whether no name leads to it any more, so that its contents have to be carried. What the
    kernel's own file systems show is nothing that can be carried."""
    lost = d.deleted and d.link.endswith(_DELETED) and not d.link.startswith(_KERNELS_OWN)
    return lost and (d.nr_names == 0 or d.format == stat.S_IFDIR)


def obstacle(d: Descriptor, limit: int, source: str = "") -> Obstacle | None:
    """Why a ghost can't be carried. `source`: what leads to it, by default its descriptor."""
    if d.format not in _FORMATS and not (d.format == stat.S_IFCHR and d.rdev in DEVICES):
        return Obstacle("it was removed, and is no file, directory, FIFO or plain device")
    if d.info and any(lock.kind in ("LEASE", "DELEG") for lock in d.locks):
        return Obstacle("it was removed, and holds a lease", "give it up before the dump")
    if d.format == stat.S_IFREG and d.size > limit:
        try:
            seen = Path(source or f"/proc/{d.pid}/fd/{d.fd}").stat()
        except FileNotFoundError:
            return None  # closed since it was seen: the target still runs
        return _too_large(min(d.size, seen.st_blocks * 512), limit)
    return None


def _too_large(size: int, limit: int) -> Obstacle | None:
    if size > MAX_IMAGE - _HEADS:
        return Obstacle(f"it was removed, and {size} bytes are more than an image holds")
    if size > limit:
        why = f"it was removed, and has {size} bytes, more than the {limit} of --ghost-limit"
        return Obstacle(why, f"--ghost-limit {size}")
    return None


@record
class _Ghost:
    """`parts`: data by offset."""

    number: int
    seen: os.stat_result
    parts: list[tuple[int, bytes]]

    @property
    def sparse(self) -> bool:
        return sum(len(data) for _, data in self.parts) < self.seen.st_size

    def messages(self) -> Iterator[Any]:
        from ckpt.images.pb.ghost_file_pb2 import ghost_chunk_entry, ghost_file_entry

        seen = self.seen
        entry = ghost_file_entry(
            uid=seen.st_uid,
            gid=seen.st_gid,
            mode=seen.st_mode,
            dev=os.major(seen.st_dev) << _MINOR_BITS | os.minor(seen.st_dev),
            ino=seen.st_ino,
        )
        for field, ns in ((entry.atim, seen.st_atime_ns), (entry.mtim, seen.st_mtime_ns)):
            field.tv_sec, nsec = divmod(ns, 10**9)
            field.tv_usec = nsec // 1000
        if stat.S_ISCHR(seen.st_mode):
            entry.rdev = seen.st_rdev
        if not stat.S_ISREG(seen.st_mode) or not self.sparse:
            yield entry, b"".join(data for _, data in self.parts)
            return
        entry.chunks, entry.size = True, seen.st_size
        yield entry
        for offset, data in self.parts:
            yield ghost_chunk_entry(len=len(data), off=offset), data


class Ghosts:
    """The ghosts of one dump."""

    def __init__(self, view: DumpView) -> None:
        self._view = view
        self._by_inode: dict[tuple[int, int], _Ghost] = {}
        self._remaps: list[tuple[int, int]] = []

    def take(self, d: Descriptor, file_id: int, source: str) -> Iterator[Refusal]:
        """Copy a ghost while the target stands. `source`: a path that leads to it where no
        descriptor does."""
        ghost = self._by_inode.get((d.dev, d.ino))
        if ghost is None:
            path = source or f"/proc/self/fd/{self._view.duplicate(d)}"
            try:
                ghost = _Ghost(len(self._by_inode) + 1, *self._copied(d, path))
            except OSError as error:
                why = os.strerror(error.errno or 0)
                raise KernelError(
                    "deleted file can't be read", pid=d.pid, resource=d.link, why=why
                ) from error
            except _TooLargeError as error:
                resource = str(d) if d.fd >= 0 else d.link
                yield Refusal(d.pid, resource, error.obstacle.why, error.obstacle.hint)
                return
            self._by_inode[d.dev, d.ino] = ghost
        self._remaps.append((file_id, ghost.number))

    def images(self) -> dict[str, Sequence[Any]]:
        """A ghost-file image for each."""
        return {
            image_name("ghost-file", ghost.number): list(ghost.messages())
            for ghost in self._by_inode.values()
        }

    def remaps(self) -> Iterator[Any]:
        """The entries of remap-fpath.img."""
        from ckpt.images.pb.remap_file_path_pb2 import GHOST, remap_file_path_entry

        for file_id, number in self._remaps:
            yield remap_file_path_entry(orig_id=file_id, remap_id=number, remap_type=GHOST)

    def _copied(self, d: Descriptor, path: str) -> tuple[os.stat_result, list[tuple[int, bytes]]]:
        if d.format != stat.S_IFREG:
            return Path(path).stat(), []
        lfd = _open_to_read(path)
        try:
            seen = os.fstat(lfd)
            if d.fs_type == hugetlb.FS_MAGIC:
                ranges = _huge_data(lfd, seen)
            else:
                ranges = [(r.start, min(r.end, seen.st_size)) for r in extents(lfd, seen.st_size)]
            found = _too_large(
                sum(end - start for start, end in ranges), self._view.options.ghost_limit
            )
            if found:
                raise _TooLargeError(found)
            return seen, [(start, _read(lfd, start, end)) for start, end in ranges]
        finally:
            os.close(lfd)


class _TooLargeError(Exception):
    def __init__(self, found: Obstacle) -> None:
        super().__init__(found.why)
        self.obstacle = found


def _open_to_read(path: str) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # it belongs to somebody else, and we are not root
        return os.open(path, flags)


def _huge_data(lfd: int, seen: os.stat_result) -> list[tuple[int, int]]:
    out = ffi.new("struct ckpt_extent **")
    nr = check(lib.ckpt_huge_data(lfd, seen.st_size, seen.st_blksize, out), "huge pages")
    found = ffi.gc(out[0], lib.ckpt_free)
    return [(found[i].start, found[i].end) for i in range(nr)]


def _read(lfd: int, start: int, end: int) -> bytes:
    parts = []
    while start < end:
        part = os.pread(lfd, end - start, start)
        if not part:
            raise OSError(5, "it shrank while it was read")
        parts.append(part)
        start += len(part)
    return b"".join(parts)
