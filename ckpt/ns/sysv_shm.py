"""Segments of System V shared memory that a tree has attached.

A segment is dumped with the tree when nobody else has it attached: the number of its attachments is
that of the tree's mappings. What the tree has not attached is none of its memory, and stays where
it is, as a file does.

Restore, in ckpt's own IPC namespace: a segment that is still there, with this id, key and size, and
without users, is filled anew; one that is not is made with its id and key. Everything else is in
the way, and is not touched. Segments that were removed while in use (SHM_DEST) are removed again
when all have attached them. A guard removes what was made, should this process die before the tree
is whole.

Not restored: the pids and times that ipcs(1) shows; a creator whom this process can't become.

Source: shmctl(2), shmget(2), sysvipc(7), Documentation/admin-guide/sysctl/kernel.rst (shm_next_id).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import check, ffi, lib
from ckpt._native.guard import Guard
from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.infect.batch import number
from ckpt.kerndat import hugetlb
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_SIZE_MAX = 1 << 46
_ID_MAX = (1 << 31) - 1
_DEST, _LOCKED = int(lib.CKPT_SHM_DEST), int(lib.CKPT_SHM_LOCKED)
_MODES = 0o777 | _DEST | _LOCKED
_HINT = "ckpt restore needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE to give segments their ids"
_REMOVE = "remove that one, see ipcs(1) and ipcrm(1)"


class Segment(NamedTuple):
    """One segment, as shmctl(2) tells of it."""

    id: int
    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    size: int
    huge_page: int = 0
    """Size of its pages where they are of hugetlbfs, else 0."""

    @property
    def room(self) -> int:
        """How many bytes it takes where it is attached."""
        return self.size + -self.size % (self.huge_page or PAGE)

    def __str__(self) -> str:
        return f"System V shared memory {self.id} (key {self.key:#010x})"


class SegmentsDump:
    """The segments of one tree: `attached` for each memory once, then `obstacles`, `image`."""

    def __init__(self) -> None:
        self._uses: dict[int, list[int]] = {}
        self._huge_pages: dict[int, int] = {}
        self._segments: dict[int, Segment] = {}

    def attached(self, pid: int, mapped: Iterable[tuple[int, int]]) -> None:
        """Note the segments behind the mappings of a task: for each of these the segment's id, and
        the size of its pages if they are huge, else 0."""
        for ident, huge_page in mapped:
            self._uses.setdefault(ident, []).append(pid)
            self._huge_pages[ident] = huge_page

    def obstacles(self) -> Iterator[Refusal]:
        """Segments that are not the tree's alone."""
        for ident, pids in self._uses.items():
            found = ffi.new("struct ckpt_shm *")
            result = lib.ckpt_shm_look(ident, found)
            if result < 0:
                what = f"System V shared memory {ident}"
                yield Refusal(pids[0], what, f"it can't be looked at: {os.strerror(-result)}")
                continue
            s = self._segments[ident] = _segment(ident, found, self._huge_pages[ident])
            if found.nr_attached != len(pids):
                why = (
                    f"of its {found.nr_attached} attachments only {len(pids)} are of the tree; the "
                    "memory of others is not dumped"
                )
                yield Refusal(pids[0], str(s), why, "dump a tree that holds all who use it")

    def image(self) -> list[Any]:
        """The messages of ipcns-shm; their contents are in pagemap-shmem-ID."""
        from ckpt.images.pb.ipc_shm_pb2 import ipc_shm_entry

        entries = []
        for s in self._segments.values():
            entry = ipc_shm_entry(size=s.size, in_pagemaps=True)
            desc = entry.desc
            desc.key, desc.uid, desc.gid, desc.cuid, desc.cgid = s.key, s.uid, s.gid, s.cuid, s.cgid
            desc.mode, desc.id = s.mode, s.id
            if s.huge_page:
                entry.hugetlb_flag = _huge_flags(s)
            entries.append(entry)
        return entries


def _segment(ident: int, found: Any, huge_page: int) -> Segment:
    f = found
    mode = f.mode & _MODES
    return Segment(ident, f.key, f.uid, f.gid, f.cuid, f.cgid, mode, f.size, huge_page)


def _huge_flags(s: Segment) -> int:
    """Those of shmget(2) for its pages."""
    return hugetlb.SHM_HUGETLB | hugetlb.size_bits(s.huge_page) if s.huge_page else 0


def segments_of(entries: Iterable[Any], name: str) -> dict[int, Segment]:
    """The segments of image `name`, by id. Raises ImageError."""
    found: dict[int, Segment] = {}
    for entry in entries:
        d = entry.desc
        where = f"segment {d.id} of {name}.img"
        if d.id > _ID_MAX or d.id in found:
            raise ImageError("has an id that can't be", resource=where)
        if not 0 < entry.size <= _SIZE_MAX or d.mode & ~_MODES:
            why = f"{entry.size} bytes, mode {d.mode:o}"
            raise ImageError("makes no sense", resource=where, why=why)
        if not entry.in_pagemaps:
            raise ImageError("can't be restored yet", resource=where, why="its pages are inside")
        try:
            huge_page = hugetlb.page_size(entry.hugetlb_flag, hugetlb.SHM_HUGETLB)
        except ValueError as error:
            raise ImageError("can't be", resource=where, why=str(error)) from error
        owners = (d.uid, d.gid, d.cuid, d.cgid)
        found[d.id] = Segment(d.id, d.key, *owners, d.mode, entry.size, huge_page)
    return found


def is_there(ident: int) -> bool:
    """Whether there is a segment with this id now, whatever it is."""
    return int(lib.ckpt_shm_look(ident, ffi.new("struct ckpt_shm *"))) >= 0


class SegmentsRestore:
    """The segments of one set. `close` removes what was made, unless `keep` was called before."""

    def __init__(self, segments: Mapping[int, Segment]) -> None:
        self._segments = segments
        self._addrs: list[int] = []
        self._made: list[int] = []
        self._guard: Guard | None = None

    def close(self) -> None:
        """Raises nothing."""
        self._detach()
        for ident in self._made:
            lib.ckpt_shm_remove(ident)
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def make_all(self, fill: Callable[[Segment, int], int]) -> int:
        """Make, or take over, and fill every segment; `fill` gets it and a descriptor. They
        stay attached to this process, so that none goes before its users come. Returns what `fill`
        did, summed up. Raises RestoreError."""
        missing = [s for s in self._segments.values() if not _is_there(s)]
        if missing:
            ids = [s.id for s in missing]
            self._guard = Guard("guard of segments", lib.ckpt_guard_segments, ids, len(ids))
        for s in missing:
            _make(s)
            self._made.append(s.id)
        return sum(self._fill(s, fill) for s in self._segments.values())

    def settle(self) -> None:
        """All users have attached theirs: owners and modes as they were, removed ones removed."""
        self._detach()
        for s in self._segments.values():
            wanted = _wanted(s)
            check(lib.ckpt_shm_set(s.id, wanted), str(s))
            if s.mode & _DEST:
                check(lib.ckpt_shm_remove(s.id), str(s))

    def send_guard_away(self) -> None:
        """Right before the tree is let go: from here on our death does not remove them, for it may
        be that it lives."""
        if self._guard is not None:
            self._guard.send_away()

    def keep(self) -> None:
        """The tree lives: they stay."""
        self._made.clear()

    def _fill(self, s: Segment, fill: Callable[[Segment, int], int]) -> int:
        addr = check(lib.ckpt_call(number("shmat"), s.id, 0, 0, 0, 0, 0), str(s))
        self._addrs.append(addr)
        end = addr + s.room
        try:
            lfd = os.open(f"/proc/self/map_files/{addr:x}-{end:x}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            why = error.strerror or ""
            raise RestoreError("can't be filled", resource=str(s), why=why, hint=_HINT) from error
        try:
            # What is in it from before: a hole where the set has none of its pages.
            check(lib.ckpt_call(number("fallocate"), lfd, 3, 0, end - addr, 0, 0), str(s))
            return fill(s, lfd)
        finally:
            os.close(lfd)

    def _detach(self) -> None:
        while self._addrs:
            lib.ckpt_call(number("shmdt"), self._addrs.pop(), 0, 0, 0, 0, 0)


def _wanted(s: Segment) -> Any:
    made = ffi.new("struct ckpt_shm *", (s.key, s.uid, s.gid, s.cuid, s.cgid, s.mode, s.size))
    made.huge = _huge_flags(s)
    return made


def _is_there(s: Segment) -> bool:
    """Whether it only has to be filled. Raises RestoreError where something else is in the way."""
    found = ffi.new("struct ckpt_shm *")
    if lib.ckpt_shm_look(s.id, found) < 0:
        if s.key and lib.ckpt_shm_find(s.key) >= 0:
            why = "another segment has its key"
            raise RestoreError("can't be made", resource=str(s), why=why, hint=_REMOVE)
        return False
    if (found.key, found.size) != (s.key, s.size) or s.mode & _DEST:
        why = "another segment has its id"
    elif found.nr_attached:
        why = f"it is there, and {found.nr_attached} attachments use it"
    else:
        return True
    raise RestoreError("can't be made", resource=str(s), why=why, hint=_REMOVE)


def _make(s: Segment) -> None:
    result = lib.ckpt_shm_make(s.id, _wanted(s))
    if result < 0:
        denied = -result in (errno.EPERM, errno.EACCES)
        hint = _HINT if denied else "kernel.shmmax, shmall and shmmni limit segments"
        if denied and s.huge_page:
            hint = "CAP_IPC_LOCK is needed, or vm.hugetlb_shm_group, for one of huge pages"
        taken = -result == errno.EEXIST
        why = "its id or key was taken meanwhile" if taken else os.strerror(-result)
        raise RestoreError("can't be made", resource=str(s), why=why, hint=hint)
