"""The descriptors of a tree on the way into the images.

    with FilesDump(options, report) as files:
        files.preflight(pid)                 running tree: nothing is touched or duplicated
        files.preflight_together()           when all tasks were looked at
        files.before_freeze(run_id)
        ... freeze ...
        files.collect(pid, pidfd, holder)    for each live task
        files.file_for_mapping(...), files.file_for_path_link(...)
        files.resolve()                      identities, ids, data in flight
        files.refusals                       binding: not empty means no dump
        copy files.memfd_contents
        files.close()                        before thaw or kill: no duplicate outlives this
        files.open_network()                 before thaw; or, with a kill in between:
        files.before_kill(), files.after_kill()
        ... thaw ...
        files.images(), files.fdinfo(pid)    messages, made from what was gathered

Between freeze and close only the kernel is asked and nothing imported. A table of 5,000 takes 60
ms, one of ten 0.2.

Not found out: whether processes outside the tree hold descriptions of the tree as well (they then
no longer share offsets and flags with it).
"""

from __future__ import annotations

import stat
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ckpt.errors import Refusal, TargetError
from ckpt.files import locks, owner
from ckpt.files.descriptor import Descriptor, look_at_all, still_there
from ckpt.files.dumping import DumpView, FileOptions
from ckpt.files.identity import same_files
from ckpt.files.inflight import InFlight
from ckpt.files.kind import FdType
from ckpt.files.mapped import PATH_LINKS, MappedFile, MappedFiles
from ckpt.files.memfd import Contents, MemfdDump
from ckpt.files.met import MetKinds
from ckpt.files.refused import unclaimed_obstacle
from ckpt.files.regular import RegularDump
from ckpt.images.types import message_class
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from ckpt.scope import Closing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.kind import DumpKind, Obstacle
    from ckpt.files.links import MadeLinks
    from ckpt.files.packet import PacketDump
    from ckpt.files.uring import UringDump
    from ckpt.procfs.maps import Mapping
    from ckpt.procfs.stat import Stat
    from ckpt.report import Report

Claimed = tuple[Descriptor, "DumpKind | None"]
"""A descriptor with the kind that it is of."""


class FilesDump(Closing):
    """All descriptors, mapped files, locks and pipe contents of one tree. See the module."""

    def __init__(self, options: FileOptions, report: Report | None = None) -> None:
        self._view = DumpView(options, report)
        self._kinds = MetKinds(self._view)
        self._mapped = MappedFiles(self._view)
        self._refusals: list[Refusal] = []
        self._tables: dict[int, list[Claimed]] = {}
        self._seen: dict[int, tuple[list[Claimed], Stat]] = {}
        self._described = self._view.described
        self._types: dict[int, int] = {}
        self._holders: dict[int, int] = {}

    @property
    def refusals(self) -> list[Refusal]:
        """Everything found so far that can't be restored."""
        return [*self._refusals, *self._mapped.refusals]

    def preflight(self, pid: int) -> list[Refusal]:
        """What is in the way in one process, which may be running. No side effects on it.

        Owners of SIGIO and data of pipes are seen by `collect` and `resolve` only. Raises
        TargetError when the process is not there.
        """
        with ProcDir(pid) as proc:
            found = [r for name in PATH_LINKS if (r := self._mapped.link_obstacle(proc, name))]
            table = self._claimed(look_at_all(proc, None))
            self._seen[pid] = table, self._stat(proc)
            # What is judged is asked one after the other, and a running task closes and opens.
            return found + [
                _refusal(d, obstacle)
                for d, obstacle in self._obstacles(table)
                if still_there(proc, d)
            ]

    def preflight_thread(self, tid: int) -> list[Refusal]:
        """As `preflight`, for the directories of a thread that does not share its process's."""
        with ProcDir(tid) as proc:
            names = (name for name in PATH_LINKS if name != "exe")
            return [r for name in names if (r := self._mapped.link_obstacle(proc, name))]

    def preflight_together(self) -> list[Refusal]:
        """What is in the way of all the processes together that `preflight` has looked at."""
        seen, self._seen = self._seen, {}
        stats = {pid: stat for pid, (_, stat) in seen.items()}
        found: list[Refusal] = []
        for kind in self._kinds:
            own = [d for table, _ in seen.values() for d, claimant in table if claimant is kind]
            if any(True for _ in kind.together(own, stats)):
                found.extend(kind.together([d for d in own if _is_still_there(d)], stats))
        return found

    def between(self) -> list[Refusal]:
        """After all preflights: what stands in the way between descriptors, as far as that can be
        told of a running tree. For a survey; a dump asks when the tree stands."""
        return [refusal for kind in self._kinds for refusal in kind.between()]

    def mapping_refusals(self, pid: int, mappings: Iterable[Mapping]) -> list[Refusal]:
        """As `preflight`, for the files behind mappings; those without a file are left out."""
        with ProcDir(pid) as proc:
            return [
                refusal
                for mapping in mappings
                if mapping.has_file and (refusal := self._mapping_refusal(proc, mapping))
            ]

    def _mapping_refusal(self, proc: ProcDir, mapping: Mapping) -> Refusal | None:
        try:
            return self._mapped.obstacle(proc, mapping)
        except TargetError:
            if not proc.alive():
                raise
            return None  # a running task has unmapped or resized it since it was listed

    def collect(self, pid: int, pidfd: int, holder: int | None = None) -> None:
        """Look at every descriptor of a frozen task. `pidfd` must stay open until `resolve`.
        `holder`: the first of those with whom it shares its table, for whom alone it is noted."""
        self._view.pidfds[pid] = pidfd
        self._holders[pid] = pid if holder is None else holder
        if self._holders[pid] != pid:
            return
        with ProcDir(pid) as proc:
            table = self._claimed(look_at_all(proc, pidfd))
            self._view.stats[pid] = self._stat(proc)
        self._refusals.extend(_refusal(d, obstacle) for d, obstacle in self._obstacles(table))
        self._tables[pid] = table

    def resolve(self) -> None:
        """Give every description its id and ask duplicates for what only they tell."""
        flights = InFlight(self._view)
        own = [claimed for table in self._tables.values() for claimed in table]
        flying = flights.collect(own, self._claimed)
        claimed = [(d, kind) for d, kind in (*own, *flying) if kind]
        first = same_files([d for d, _ in claimed])
        ids: dict[int, int] = {}
        alone: list[Claimed] = [(d, kind) for d, kind in flying if not kind]
        nr_own = sum(kind is not None for _, kind in own)
        for index, (d, kind) in enumerate(claimed):
            if first[index] == index:
                ids[index] = self._view.next_id()
                self._types[ids[index]] = int(kind.type)
                kind.hold(d, ids[index])
                if index >= nr_own:
                    alone.append((d, kind))
            if index < nr_own:
                self._described.append((d, ids[first[index]]))
            else:
                self._view.flying[d.fd] = ids[first[index]]
        self._refusals.extend(flights.obstacles(alone))
        self._refusals.extend(owner.strangers(self._described, self._holders))
        for kind in self._kinds:
            self._refusals.extend(kind.settle())

    def at_last(self) -> None:
        """Ask what goes on by itself. The clocks must be read after that. Raises OSError."""
        for kind in self._kinds:
            kind.at_last()

    def file_for_mapping(self, pid: int, mapping: Mapping) -> MappedFile:
        """The entry for the file behind a mapping, and the open flags the mapping needs."""
        with ProcDir(pid) as proc:
            return self._mapped.of_mapping(proc, mapping)

    def files_for_mappings(self, proc: ProcDir, mappings: Iterable[Mapping]) -> list[MappedFile]:
        """As `file_for_mapping`, for many of one process."""
        return [self._mapped.of_mapping(proc, mapping) for mapping in mappings]

    @property
    def has_rings(self) -> bool:
        """Whether anybody has a ring of io_uring; after `resolve`."""
        return self._rings is not None and bool(self._rings.held)

    def ring_of(self, ino: int) -> int:
        """The entry of the ring that a mapping with this inode number shows, 0 if nobody has it."""
        return self._rings.id_of(ino) if self._rings is not None else 0

    def packet_ring_of(self, ino: int, size: int) -> int:
        """As `ring_of`, of the packet socket whose whole ring has so many bytes."""
        packets: PacketDump | None = self._kinds.of(FdType.PACKETSK)
        return packets.ring_of(ino, size) if packets is not None else 0

    def file_for_path_link(self, pid: int, name: str) -> int:
        """The entry for "exe", "cwd" or "root"; 0, and a refusal, where that has no path."""
        with ProcDir(pid) as proc:
            return self._mapped.of_link(proc, name)

    @property
    def memfd_contents(self) -> Sequence[Contents]:
        """Shared memory behind memfds, readable until `close`."""
        return self._view.kind(MemfdDump).contents

    @property
    def nr_descriptions(self) -> int:
        return len(self._types)

    def fdinfo(self, pid: int) -> list[Any]:
        """fdinfo_entry messages of one table, by its holder, ascending by number."""
        fdinfo_entry: Any = message_class("fdinfo.fdinfo_entry")
        return [
            fdinfo_entry(id=file_id, flags=int(d.cloexec), type=self._types[file_id], fd=d.fd)
            for d, file_id in self._by_pid.get(pid, ())
        ]

    def images(self) -> dict[str, Sequence[Any]]:
        """Messages of files.img, and of pipes-data, fifo-data, tty-info, memfd, filelocks where
        there are any. A message with a payload is a pair."""
        images: dict[str, Sequence[Any]] = {
            "files": [entry for kind in self._kinds for entry in kind.entries()]
        }
        for name in self._view.options.external.unmet():
            self._view.report.warn(f"--external {name}: the tree has no such thing")
        for kind in self._kinds:
            images.update(kind.images())
        held = [lock.message() for lock in locks.held(self._described, self._holders)]
        if held:
            images["filelocks"] = held
        return images

    def links(self) -> MadeLinks:
        """The scope of the commit: in it, files get another name that lost theirs."""
        return self._view.kind(RegularDump).links.making()

    def let_go(self) -> None:
        """Close what outlives `close`: files (not descriptions) that get another name."""
        self._view.kind(RegularDump).links.close()

    def before_freeze(self, run_id: str) -> None:
        """When the preflight is clean: what would take time later. Raises KernelError."""
        self._kinds.prepare(run_id)

    def open_network(self) -> None:
        """The target goes on: it gets its connections back. May be called twice."""
        for kind in self._kinds:
            kind.let_go()

    def before_kill(self) -> None:
        """When the set is whole, and the tree stands still. See `SeizedTree.kill`."""
        for kind in self._kinds:
            kind.before_kill()

    def after_kill(self) -> list[str]:
        """When the tree will not run again: what has to outlive this process. Gives warnings."""
        return [text for kind in self._kinds for text in kind.after_kill()]

    def close(self) -> None:
        """Close every duplicate. May be called twice."""
        self._view.close()

    @cached_property
    def _by_pid(self) -> dict[int, list[tuple[Descriptor, int]]]:
        found: dict[int, list[tuple[Descriptor, int]]] = {}
        for d, file_id in self._described:
            found.setdefault(d.pid, []).append((d, file_id))
        return found

    @property
    def _rings(self) -> UringDump | None:
        found: UringDump | None = self._kinds.of(FdType.EXT)
        return found

    def _stat(self, proc: ProcDir) -> Stat:
        found = parse_stat(proc.read("stat"))
        if found.tty_nr:
            self._kinds.claimants(stat.S_IFCHR)  # it has a terminal, whatever it has open
        return found

    def _claimed(self, table: Iterable[Descriptor]) -> list[Claimed]:
        return [
            (d, next((kind for kind in self._kinds.claimants(d.format) if kind.claims(d)), None))
            for d in table
        ]

    def _obstacles(self, table: Iterable[Claimed]) -> Iterator[tuple[Descriptor, Obstacle]]:
        for d, kind in table:
            if obstacle := self._obstacle(d, kind):
                yield d, obstacle

    def _obstacle(self, d: Descriptor, kind: DumpKind | None) -> Obstacle | None:
        if kind is None:
            return unclaimed_obstacle(d)
        if d.info:
            found = locks.obstacle(d, file_locks=self._view.options.file_locks)
            if found:
                return found
        # After the locks: a lease has an owner, too, and has the better name.
        return owner.obstacle(d) or kind.obstacle(d)


def _refusal(d: Descriptor, obstacle: Obstacle) -> Refusal:
    return Refusal(d.pid, str(d), obstacle.why, obstacle.hint)


def _is_still_there(d: Descriptor) -> bool:
    try:
        with ProcDir(d.pid) as proc:
            return still_there(proc, d)
    except TargetError:
        return False
