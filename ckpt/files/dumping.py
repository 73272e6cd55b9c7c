"""What every kind needs of a dump: options, ids, and duplicates of the target's descriptors.

A duplicate holds the target's own open file description: a pipe end held too long delays the end of
file of others, so all are closed before thaw or kill. They are never read from, seeked or reopened
for writing.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ckpt._native import check, lib
from ckpt.errors import KernelError, TargetError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from ckpt.record import field, record
from ckpt.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.kind import DumpKind
    from ckpt.procfs.stat import Stat

K = TypeVar("K", bound="DumpKind")


class External(frozenset[str]):
    """Names given with --external, and which of them something was found for."""

    _met: set[str]

    def __new__(cls, names: Iterable[str] = ()) -> Self:
        self = super().__new__(cls, names)
        self._met = set()
        return self

    def __contains__(self, name: object) -> bool:
        found = super().__contains__(name)
        if found and isinstance(name, str):
            self._met.add(name)
        return found

    def unmet(self) -> list[str]:
        """Those for which there was nothing."""
        return sorted(self - self._met)


@record(frozen=True, kw_only=True)
class FileOptions:
    """As in ckpt-dump(1). `external`: resources that the caller of a restore will provide.
    `irmap_scan_paths`: where watched files are looked for by their inode numbers. `ghost_limit`:
    bytes of data of a file without a name. `ext_unix_sk`: inodes of peers outside, empty for
    any."""

    shell_job: bool = False
    file_locks: bool = False
    external: External = field(default_factory=External)
    force_irmap: bool = False
    irmap_scan_paths: tuple[str, ...] = ()
    skip_in_flight: bool = False
    ghost_limit: int = 1 << 20
    link_remap: bool = False
    ext_unix_sk: frozenset[int] | None = None
    tcp_established: bool = False
    tcp_close: bool = False
    unix_close: bool = False
    network_lock: str = "nftables"
    build_ids: bool = False


class DumpView:
    """State that the kinds of one dump share. `pidfds` stay their owner's. `described` is every
    descriptor with the id of its description, and `flying` the id of each duplicate of what is in
    flight; both are complete when `settle` is called. `stats`: what /proc/PID/stat says of each
    task."""

    def __init__(self, options: FileOptions, report: Report | None = None) -> None:
        self.options = options
        self.report = report or Report()
        self.pidfds: dict[int, int] = {}
        self.kinds: dict[type[DumpKind], DumpKind] = {}
        self.described: list[tuple[Descriptor, int]] = []
        self.flying: dict[int, int] = {}
        self.stats: dict[int, Stat] = {}
        self._duplicates: dict[tuple[int, int], int] = {}
        self._own: list[int] = []
        self._last_id = 0

    def kind(self, wanted: type[K]) -> K:
        """This dump's instance of a kind that it has met. See ckpt.files.registry."""
        found = self.kinds[wanted]
        if not isinstance(found, wanted):
            raise TypeError(f"{wanted} is registered as {type(found)}")
        return found

    def holds(self, number: int) -> bool:
        """Whether this is the number of a task of the tree, or of one of its threads or zombies.
        Children of the tree are in the tree."""
        pids = self.pidfds
        if number in pids or any(os.path.exists(f"/proc/{p}/task/{number}") for p in pids):  # noqa: PTH110
            return True
        try:
            with ProcDir(number) as proc:
                return parse_stat(proc.read("stat")).ppid in pids
        except TargetError:
            return False

    def next_id(self) -> int:
        """An id for an entry of files.img that no other has."""
        self._last_id += 1
        return self._last_id

    def duplicate(self, d: Descriptor) -> int:
        """Our duplicate of a descriptor, until `close`."""
        lfd = self._duplicates.get((d.pid, d.fd))
        if lfd is None:
            try:
                lfd = check(lib.ckpt_pidfd_getfd(self.pidfds[d.pid], d.fd), str(d))
            except OSError as error:
                gone = error.errno in (errno.EBADF, errno.ESRCH)
                kind = TargetError if gone else KernelError
                why = os.strerror(error.errno or 0)
                raise kind("can't be duplicated", pid=d.pid, resource=str(d), why=why) from error
            self._duplicates[d.pid, d.fd] = lfd
        return lfd

    def keep(self, lfd: int) -> int:
        """Let `close` close this descriptor of ours too."""
        self._own.append(lfd)
        return lfd

    def fown(self, d: Descriptor) -> Any:
        """The fown_entry: who gets signals, which, and with whose rights they are sent."""
        from ckpt.images.pb.fown_pb2 import fown_entry

        return fown_entry(
            uid=d.owner_uid,
            euid=d.owner_euid,
            signum=d.signum,
            pid_type=d.owner_type if d.owner else 0,
            pid=d.owner,
        )

    def close(self) -> None:
        """Close every duplicate. May be called twice."""
        own, self._own = self._own, []
        duplicates, self._duplicates = self._duplicates, {}
        for lfd in (*own, *duplicates.values()):
            os.close(lfd)
