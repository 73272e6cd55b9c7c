"""From a frozen task's memory into a pages file.

The task maps its pages into a pipe (vmsplice) and we splice the pipe into the file: one copy, by
the kernel, at the rate of a plain write. Pages that the task itself may not read (PROT_NONE and the
like), and everything where no descriptor can be passed, come through /proc/PID/mem instead.

Pages reach the file in the order of their addresses. The pipe's ends are closed here and in the
task when the scope is left.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.errors import KernelError
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT, Run
from ckpt.infect.batch import LENT_FD, SOCK, Batch
from ckpt.mem.extents import Extents, scan, scan_guards
from ckpt.mem.vma import VDSO, Backing, backing_of, is_aio
from ckpt.record import field, record, replace
from ckpt.units import PAGE, TASK_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ckpt.infect.session import Session
    from ckpt.procfs.smaps import Smap

F_SETPIPE_SZ = 1031
PIPE_SIZE = 1 << 20
_IOV_MAX = 1024
_IOVEC_SIZE = 16
_FEW = 128
"""Ranges: more are not worth to be looked at one by one."""


@record(frozen=True)
class Content:
    """Which pages of one address space go into an image: `direct` ones the task can read itself,
    `hidden` ones and those of the `vdso` (whole) come through /proc/PID/mem. `parent` are pages
    that the set built upon has as they are. `guards` are no content. `early` are pages that have to
    be read before the task is infected, which puts bytes of its own there for that time. `lazy`
    ones stay with the task, which will be asked for them."""

    direct: Extents
    hidden: Extents
    vdso: tuple[tuple[int, int], ...]
    parent: Extents
    guards: Extents
    early: Extents = field(default_factory=Extents.none)
    lazy: Extents = field(default_factory=Extents.none)

    def leaving(self, late: Extents) -> Content:
        """The same without what may come `late`: that stays where it is."""
        return replace(
            self,
            direct=self.direct - late,
            hidden=self.hidden - late,
            lazy=(self.direct | self.hidden) & late,
        )

    def above(self, kept: Extents) -> Content:
        """The same without the pages of `kept`, which the parent has."""
        return replace(
            self,
            direct=self.direct - kept,
            hidden=self.hidden - kept,
            early=self.early - kept,
            parent=(self.direct | self.hidden | self.early) & kept,
        )

    def all_pages(self) -> Extents:
        """The pages that a set with this content can resolve, itself or through its parent."""
        return self.direct | self.hidden | self.early | self.parent

    def placed(self) -> Extents:
        """All pages that the pages file holds, by address and so in their order there."""
        return self.direct | self.hidden | self.early | Extents.of(self.vdso)

    @property
    def indirect(self) -> list[tuple[int, int]]:
        """What doesn't come from the task itself, by address."""
        return sorted([*self.hidden, *self.early, *self.vdso])

    def runs(self) -> list[Run]:
        """The pagemap: present runs in the order of the pages file, and those of the parent."""
        present = (*self.direct, *self.indirect)
        runs = [Run(start, (end - start) // PAGE, PE_PRESENT) for start, end in present]
        runs += [Run(start, (end - start) // PAGE, PE_PARENT) for start, end in self.parent]
        runs += [Run(start, (end - start) // PAGE, PE_LAZY) for start, end in self.lazy]
        return sorted(runs)


NO_CONTENT = Content(Extents.none(), Extents.none(), (), Extents.none(), Extents.none())


def content(
    pagemap: int,
    smaps: Sequence[Smap],
    known: Extents | None = None,
    guarded: Extents | None = None,
) -> Content:
    """Which private pages hold content of their own; of the vdso and rings of AIO, all. `known`:
    somebody has looked it up already. `guarded`: where guard pages may be, None: anywhere."""
    vdso = tuple((s.start, s.end) for s in smaps if s.mapping.path == VDSO)
    private = [s for s in smaps if not s.mapping.shared and backing_of(s) is not Backing.KERNEL]
    rings = Extents.of((s.start, s.end) for s in smaps if is_aio(s.mapping))
    readable = Extents.of((s.start, s.end) for s in private if s.mapping.readable)
    held = known
    if held is None:
        held = scan(pagemap, _ranges(private, Backing.NONE), anonymous=True)
        held |= scan(pagemap, _ranges(private, Backing.FILE))
    whole = (smaps[0].start, min(smaps[-1].end, TASK_SIZE))
    few = guarded is not None and guarded.nr <= _FEW
    guards = Extents.none()
    for start, end in guarded if guarded is not None and few else (whole,):
        guards |= scan_guards(pagemap, start, min(end, TASK_SIZE))
    early = held & Extents.of(_paddings(private))
    direct, hidden = (held & readable) - early, (held - readable) | rings
    return Content(direct, hidden, vdso, Extents.none(), guards, early)


def _paddings(smaps: Iterable[Smap]) -> Iterator[tuple[int, int]]:
    """The pages that an infection may write to (ckpt.infect.place): the last ones of code. They are
    content where a program, or an infection before this one, has made private copies of them."""
    for smap in smaps:
        m = smap.mapping
        if m.has_file and m.executable and m.readable and not m.writable:
            yield smap.end - PAGE, smap.end


def _ranges(smaps: Iterable[Smap], backing: Backing) -> Iterator[tuple[int, int]]:
    return ((s.start, s.end) for s in smaps if backing_of(s) is backing)


@record
class Transfer:
    """One task's pages on their way. `mem` is /proc/PID/mem, `session` the parasite (or None where
    the task has none), `progress` is told the bytes of each step."""

    pid: int
    mem: int
    pages_fd: int
    session: Session | None
    progress: Callable[[int], None]

    def run(self, what: Content, read: Mapping[int, bytes]) -> None:
        """Write all of `what`. `read` is what the vdso and the early pages held, each range by its
        start, before the task was infected. On an error the parasite gives the pipe back when its
        session ends."""
        pipe = self._open_pipe() if self.session and what.direct.nr else None
        try:
            at = 0
            for start, end in what.indirect:
                upto = what.direct.before(start, at)
                self._direct(what.direct, at, upto, pipe)
                at = upto
                if start in read:
                    write_all(self.pages_fd, read[start])
                else:
                    self._copy(Extents.of([(start, end)]), 0, 1)
            self._direct(what.direct, at, what.direct.nr, pipe)
            if pipe:
                self._take_back(pipe[1])
        finally:
            if pipe:
                os.close(pipe[0])

    def _direct(
        self, extents: Extents, first: int, last: int, pipe: tuple[int, int] | None
    ) -> None:
        if pipe is None:
            self._copy(extents, first, last)
            return
        assert self.session is not None
        room = (len(self.session.layout.batches) - 4096) // (_IOVEC_SIZE + 1)
        for at in range(first, last, room):
            self._splice(extents, at, min(at + room, last), *pipe)

    def _splice(self, extents: Extents, first: int, last: int, reader: int, writer: int) -> None:
        assert self.session is not None
        batch = Batch()
        total = 0
        for at in range(first, last, _IOV_MAX):
            nr = min(_IOV_MAX, last - at)
            iov = bytearray(_IOVEC_SIZE * nr)
            size = lib.ckpt_extents_to_iovec(extents.array + at, nr, ffi.from_buffer(iov))
            batch.call_all_at("vmsplice", writer, batch.put(bytes(iov)), nr, size, 0)
            total += size
        raw = self.session.start(batch)
        moved = lib.ckpt_splice(reader, self.pages_fd, total, self.session.fileno())
        if moved < 0:
            check(moved, "pages")
        self.session.finish(batch, len(raw), timeout_s=600)
        if moved != total:
            raise KernelError("pages were lost on their way", pid=self.pid)
        self.progress(total)

    def _copy(self, extents: Extents, first: int, last: int) -> None:
        if first < last:
            done = lib.ckpt_copy_out(self.mem, extents.array + first, last - first, self.pages_fd)
            check(done, f"memory of pid {self.pid}")

    def _open_pipe(self) -> tuple[int, int] | None:
        """Our reading end and the number of the writing end in the task; None where the task has
        no room for a descriptor."""
        assert self.session is not None
        if not self.session.can_pass_fds:
            return None
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            fcntl.fcntl(writer, F_SETPIPE_SZ, PIPE_SIZE)
            batch = Batch()
            slot = batch.receive_fds(SOCK, 1)[0]
            batch.keep(LENT_FD, slot.at)
            outcome = self.session.run(batch, fds=[writer])
            number = int.from_bytes(outcome.read(slot.at, 4), "little", signed=True)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        if number < 0:
            os.close(reader)
            return None
        return reader, number

    def _take_back(self, number: int) -> None:
        assert self.session is not None
        batch = Batch()
        batch.call("close", number)
        batch.keep(LENT_FD, batch.put(b"\xff" * 4))
        self.session.run(batch)


def copy_placed(
    mem: int, what: Content, pages: Extents, read: Mapping[int, bytes], pages_fd: int
) -> None:
    """Copy `pages` of `what`, and what was `read` before, into a pages file that is not written in
    one go: each to the place that its number among all gives it. Raises OSError."""
    everything = what.placed()
    done = lib.ckpt_copy_placed(
        mem, everything.array, everything.nr, pages.array, pages.nr, pages_fd
    )
    check(done, "memory")
    for start, data in read.items():
        below = everything & Extents.of([(0, start)])
        write_at(pages_fd, data, below.nr_pages * PAGE)


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset` of a file."""
    left = memoryview(data)
    while left:
        done = os.pwrite(fd, left, offset)
        left, offset = left[done:], offset + done


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data` at the file's position."""
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
