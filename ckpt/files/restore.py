"""The descriptors of a tree on the way out of the images.

    with FilesRestore(images, options, tables, report) as files:
        files.plan()                      computed and checked: nothing was opened
        files.open_all(owners)            every description once, in the controller
        files.memfd_contents              to be filled
        for each task: files.placements(pid); files.lfd(file_id) to be sent to it by SCM_RIGHTS
        files.mapping_lfd(file_id, flags), files.directory_lfd(file_id)
        files.open_late()                 when all tasks and threads are there: what needs them
        files.watches(pid), owners(pid), locks(pid)   by the task itself, descriptors in place
        files.apply_seals()               when all mappings are made
        files.finish()                    at the very end, before close: timers run from here
        files.release()                   when nothing else can fail: connections go on from here

The constructor reads and checks files.img, every fdinfo image that a table names, and what belongs
to them; ImageError and RestoreError come from there, before anything is built. Images are hostile:
numbers, ids, flags, names and sizes are checked here and in the kinds.

All that is opened is close-on-exec and never becomes a controlling terminal. `close` closes it all;
tasks have their own by then.
"""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ckpt.errors import ImageError, RestoreError
from ckpt.files import owner
from ckpt.files.kind import FLYING_ALONE, FdType, Opener, Stage
from ckpt.files.locks import RecordLock, SavedLocks, flock_operation
from ckpt.files.memfd import Contents, HugeMemfd, MemfdRestore
from ckpt.files.met import restore_kinds
from ckpt.files.openflags import O_LARGEFILE
from ckpt.files.registry import type_name
from ckpt.files.regular import RegularRestore
from ckpt.files.restoring import RestoreFileOptions, RestoreView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from types import TracebackType

    from ckpt.files.epoll import EpollRestore, Watch
    from ckpt.files.kind import RestoreKind
    from ckpt.files.owner import Owner
    from ckpt.files.restoring import Tasks
    from ckpt.files.ttyrestore import TtyRestore
    from ckpt.images.reader import ImageSet
    from ckpt.report import Report

_LARGEST_FD = 1 << 30
_SPARE = 64


class Placement(NamedTuple):
    """Descriptor `fd` of a task is to be the description `file_id`."""

    fd: int
    file_id: int
    cloexec: bool


class Opening(NamedTuple):
    """One step of the plan."""

    file_id: int
    type: FdType
    opener: Opener
    text: str

    def __str__(self) -> str:
        return f"{self.opener.value}: {self.text}"


class FilesRestore:
    """All descriptors, locks and memfds of one image set. See the module.

    `tables`: the number of its fdinfo image (files_id) for each live pid. Of those who share one,
    the first holds it: to the others no descriptor has to be given.
    """

    def __init__(
        self,
        images: ImageSet,
        options: RestoreFileOptions,
        tables: Mapping[int, int],
        report: Report | None = None,
    ) -> None:
        self._view = RestoreView(images, options, report)
        entries = self._view.messages("files")
        self._kinds = restore_kinds(self._view, entries)
        self._view.kinds = {type(kind): kind for kind in self._kinds}
        self._by_id: dict[int, RestoreKind] = {}
        self._unknown: dict[int, int] = {}
        self._lfds, self.met = self._view.lfds, self._view.met
        self._opened: dict[tuple[int, int], int] = {}
        self._owners: dict[int, Owner] = {}
        self._take_files(entries)
        holders: dict[int, int] = {}
        self._holders = {pid: holders.setdefault(table, pid) for pid, table in tables.items()}
        self._tables = {pid: self._table(pid, table) for table, pid in holders.items()}
        self._view.tables = {
            pid: {p.fd: p.file_id for p in table} for pid, table in self._tables.items()
        }
        wanted = self._with_flying({p.file_id for table in self._tables.values() for p in table})
        self._wanted = {
            kind: sorted(i for i in wanted if self._by_id[i] is kind) for kind in self._kinds
        }
        for kind in self._kinds:
            kind.prepare(self._wanted[kind])
        self._locks = self._checked_locks(options)

    def placements(self, pid: int, stage: Stage = Stage.FIRST) -> list[Placement]:
        """What a task's descriptor table is to hold of one stage, ascending."""
        table = self._tables.get(pid, ())
        return [p for p in table if self._by_id[p.file_id].stage_of(p.file_id) is stage]

    def table(self, pid: int) -> Sequence[Placement]:
        """All placements of a task, of every stage, ascending."""
        return self._tables.get(pid, ())

    def sendable(self, file_id: int) -> bool:
        """Whether our descriptor of it can be sent to a task."""
        return self._by_id[file_id].sendable

    def numbers(self, pid: int) -> set[int]:
        """Every descriptor number that the task needs at any time of its restore."""
        watched = {w.tfd for w in self.watches(pid)}
        return {p.fd for p in self._tables.get(pid, ())} | watched

    def plan(self) -> list[Opening]:
        """Every description that will be opened, in order."""
        return [
            Opening(file_id, kind.type, kind.opener, kind.text(file_id))
            for kind in self._kinds
            for file_id in self._wanted[kind]
        ]

    def open_all(self, owners: Mapping[int, tuple[int, int]] | None = None) -> None:
        """Open every description once. `owners`: uid and gid of each pid, for its pipes.

        On error all that was opened is closed again.
        """
        for pid, table in self._tables.items():
            for placement in table:
                if owners and pid in owners:
                    self._view.owners.setdefault(placement.file_id, owners[pid])
        self._raise_limit()
        self._open(Stage.FIRST)

    def open_late(self, tasks: Tasks | None = None) -> None:
        """Open what needs the tasks; without them, all by this process. On error as `open_all`."""
        self._view.tasks = tasks
        self._open(Stage.TASKS)

    def _open(self, stage: Stage) -> None:
        try:
            for kind in self._kinds:
                for file_id in self._wanted[kind]:
                    if kind.stage_of(file_id) is stage:
                        self._lfds[file_id] = kind.open(file_id)
        except OSError as error:
            self.close()
            why = os.strerror(error.errno or 0)
            raise RestoreError("descriptors can't be opened again", why=why) from error
        except BaseException:
            self.close()
            raise

    def lfd(self, file_id: int) -> int:
        """Our descriptor of a description, after `open_all`. It stays ours."""
        return self._lfds[file_id]

    def mapping_lfd(self, file_id: int, flags: int) -> int:
        """A descriptor for mapping a file or memfd with open flags of its vma_entry, or of the
        executable with O_RDONLY. It stays ours. Raises RestoreError, ImageError."""
        flags = (flags & os.O_ACCMODE) | O_LARGEFILE
        if (file_id, flags) not in self._opened:
            self._opened[file_id, flags] = self._open_again(file_id, flags)
        return self._opened[file_id, flags]

    def directory_lfd(self, file_id: int) -> int:
        """An O_PATH descriptor of a working or root directory. It stays ours."""
        flags = os.O_PATH | os.O_DIRECTORY
        if (file_id, flags) not in self._opened:
            self._opened[file_id, flags] = self._open_again(file_id, flags)
        return self._opened[file_id, flags]

    def path(self, file_id: int) -> str:
        """The path of a regular file's entry, for messages and plans."""
        files = self._view.kind(RegularRestore).files
        return files[file_id].path if file_id in files else f"file {file_id:#x}"

    @property
    def memfd_contents(self) -> list[Contents]:
        """Memfds to be filled from shared memory images, all that the set has."""
        return self._view.kind(MemfdRestore).contents

    def huge_memfds(self) -> list[HugeMemfd]:
        """Those of huge pages, before any is made."""
        return self._view.kind(MemfdRestore).huge

    def apply_seals(self) -> None:
        """Seal the memfds, once contents and mappings are in place."""
        self._view.kind(MemfdRestore).apply_seals()

    def finish(self) -> None:
        """What must come last into descriptions, when the tasks are complete.

        What was opened beside them is closed first: closing is an event for who watches.
        """
        opened, self._opened = self._opened, {}
        for lfd in opened.values():
            os.close(lfd)
        for kind in self._kinds:
            kind.close()
        for kind in self._kinds:
            for file_id in self._wanted[kind]:
                kind.finish(file_id, self._lfds[file_id])

    def remove_links(self) -> None:
        """When the tree runs: take away the names that the dump made for removed files."""
        self._view.kind(RegularRestore).remove_links()

    def release(self) -> None:
        """Let loose what was held back until nothing else can fail. May be called after `close`."""
        for kind in self._kinds:
            kind.release()

    def terminal_of(self, session: int) -> int | None:
        """Our descriptor of the controlling terminal of a session of the tree, from `open_all`
        until `finish`; None if it has none."""
        tty: TtyRestore | None = self._view.met(FdType.TTY)
        return tty.terminal_of(session) if tty else None

    def foreground_of(self, session: int) -> int:
        """The group in the foreground of that terminal; 0 if none is."""
        tty: TtyRestore | None = self._view.met(FdType.TTY)
        return tty.foreground_of(session) if tty else 0

    def watches(self, pid: int) -> Sequence[Watch]:
        """What the task has to add to epoll instances."""
        epoll: EpollRestore | None = self._view.met(FdType.EVENTPOLL)
        return epoll.watches.get(pid, ()) if epoll else ()

    def owners(self, pid: int) -> list[tuple[int, Owner]]:
        """The descriptors whose owner (F_SETOWN) the task has to set, each description once."""
        found: dict[int, tuple[int, int, Owner]] = {}
        for holder, table in self._tables.items():
            for p in table:
                owned = self._owners.get(self._by_id[p.file_id].owned_by(p.file_id))
                if owned is not None:
                    found.setdefault(p.file_id, (holder, p.fd, owned))
        return [(fd, owned) for holder, fd, owned in found.values() if holder == pid]

    def check_tree(self, numbers: AbstractSet[int], groups: Mapping[int, int]) -> None:
        """Check what refers to tasks; `numbers` are those of all tasks and threads, `groups` says
        what each process group of the images will be. Raises ImageError."""
        for kind in self._kinds:
            kind.check_tree(numbers)
        for file_id, owned in self._owners.items():
            if owned.pid and owned.pid not in (groups if owned.of_group else numbers):
                raise ImageError(
                    f"sends signals to {owned.pid}, which is not in the tree",
                    resource=f"file {file_id:#x} of files.img",
                )
            if owned.of_group:
                self._owners[file_id] = owned._replace(pid=groups.get(owned.pid, 0))

    def locks(self, pid: int) -> Sequence[RecordLock]:
        """The record locks that the task has to take itself, without waiting."""
        return self._locks.records.get(pid, ()) if self._locks else ()

    def flocks(self, pid: int) -> list[tuple[int, int]]:
        """The flock(2) locks that the task has to take: descriptor and operation, not waiting. The
        kernel shows a lock as that of the process which took it."""
        return [
            (fd, flock_operation(kind)) for owner, fd, kind in self._locks.flocks if owner == pid
        ]

    def leases(self, pid: int) -> list[tuple[int, int]]:
        """The leases that the task has to take: descriptor and type."""
        return [(fd, kind) for owner, fd, kind in self._locks.leases if owner == pid]

    def close(self) -> None:
        """Close everything of ours. May be called twice."""
        lfds = (*self._lfds.values(), *self._opened.values())
        self._lfds.clear()
        self._opened = {}
        for lfd in lfds:
            os.close(lfd)
        for kind in self._kinds:
            kind.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        for restored in self._kinds:
            restored.abandon()

    def _take_files(self, entries: Iterable[Any]) -> None:
        by_type = {int(kind.type): kind for kind in self._kinds}
        for entry in entries:
            where = f"file {entry.id:#x} of files.img"
            if entry.id in self._by_id or entry.id in self._unknown:
                raise ImageError("is there twice", resource=where)
            kind = by_type.get(entry.type)
            if kind is None:
                self._unknown[entry.id] = entry.type
                continue
            if not entry.HasField(kind.field):
                raise ImageError(f"says it is {kind.field}, but has none", resource=where)
            message = getattr(entry, kind.field)
            if message.id != entry.id:
                raise ImageError(f"has two ids, the other is {message.id:#x}", resource=where)
            kind.take(entry.id, message)
            self._by_id[entry.id] = kind
            if "fown" in message.DESCRIPTOR.fields_by_name:
                owned = owner.taken(message, where)
                if owned is not None:
                    self._owners[entry.id] = owned

    def _table(self, pid: int, number: int) -> list[Placement]:
        image = f"fdinfo-{number}"
        if not self._view.images.exists(image):
            raise ImageError("is missing", resource=f"{image}.img", why=f"pid {pid} refers to it")
        found: dict[int, Placement] = {}
        for entry in self._view.messages(image):
            where = f"pid {pid}: descriptor {entry.fd} of {image}.img"
            if entry.fd >= _LARGEST_FD:
                raise ImageError("has a number that none can have", resource=where)
            if entry.fd in found:
                raise ImageError("is there twice", resource=where)
            self._check_reference(entry.id, entry.type, where)
            found[entry.fd] = Placement(entry.fd, entry.id, bool(entry.flags & 1))
        return [found[fd] for fd in sorted(found)]

    def _check_reference(self, file_id: int, number: int, where: str) -> None:
        if file_id in self._unknown:
            name = type_name(self._unknown[file_id])
            raise RestoreError(f"is of kind {name}, which is not restored yet", resource=where)
        kind = self._by_id.get(file_id)
        if kind is None:
            raise ImageError(f"is file {file_id:#x}, which files.img has not", resource=where)
        if int(kind.type) != number:
            raise ImageError(f"is of kind {type_name(number)}, not {kind.field}", resource=where)

    def _with_flying(self, wanted: set[int]) -> set[int]:
        """All of `wanted`, what is in flight to them, and to that."""
        todo = list(wanted)
        while todo:
            holder = todo.pop()
            for file_id in self._by_id[holder].refers_to(holder):
                kind = self._by_id.get(file_id)
                where = f"what is in flight to file {holder:#x}"
                if kind is None or (file_id not in wanted and kind.type not in FLYING_ALONE):
                    raise ImageError(f"is file {file_id:#x}, which can't be", resource=where)
                if file_id not in wanted:
                    wanted.add(file_id)
                    todo.append(file_id)
        return wanted

    def _checked_locks(self, options: RestoreFileOptions) -> SavedLocks:
        locks = SavedLocks(self._view.messages("filelocks"))
        if locks and not options.file_locks:
            raise RestoreError("the tree held file locks", hint="--file-locks")
        of_holder = {pid: {p.fd for p in table} for pid, table in self._tables.items()}
        fds = {pid: of_holder[holder] for pid, holder in self._holders.items()}
        wanted = [(pid, lock.fd) for pid, held in locks.records.items() for lock in held]
        others = ((pid, fd) for pid, fd, _ in (*locks.flocks, *locks.leases))
        for pid, fd in [*wanted, *others]:
            if fd not in fds.get(pid, ()):
                raise ImageError(
                    f"pid {pid} has no descriptor {fd}", resource="lock of filelocks.img"
                )
        return locks

    def _open_again(self, file_id: int, flags: int) -> int:
        kind = self._by_id.get(file_id)
        if isinstance(kind, RegularRestore | MemfdRestore):
            return kind.open_with(file_id, flags)
        raise ImageError(
            "is no file that can be mapped", resource=f"file {file_id:#x} of files.img"
        )

    def _raise_limit(self) -> None:
        """Every description takes one descriptor of ours at a time, a memfd and a FIFO two."""
        needed = _SPARE + 2 * sum(len(ids) for ids in self._wanted.values())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if needed > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
