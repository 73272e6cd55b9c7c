"""Memory that comes when the tree runs already: registered, and handed to who brings it.

Every task is there, and nothing forks any more. Once all have been handed over pages are brought,
so the steps that follow may touch any of them, and wait for it: the kernel itself does (rseq).

If this process dies the tasks do, and the server finds nobody to bring anything to.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from ckpt.errors import CkptError
from ckpt.kerndat.uffd import Feature, features
from ckpt.mem.missing.client import LostPagesError
from ckpt.mem.missing.contents import contents_of
from ckpt.mem.missing.open import open_missing
from ckpt.mem.missing.soon import Thread, wanted_soon
from ckpt.mem.missing.split import nr_common
from ckpt.mem.tracking.choose import choose
from ckpt.mem.tracking.engine import Mode
from ckpt.restore.atonce import await_needed
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from ckpt.mem.missing.client import Holder
    from ckpt.pstree.birth import Birth
    from ckpt.report import Report
    from ckpt.restore.build import Site
    from ckpt.restore.load import Loaded, TaskImage
    from ckpt.restore.options import Lazily
    from ckpt.restore.shared import SharedMemory

_SERVED_S = 60.0


class Late:
    """The connection to the holder; nothing where no memory comes late. A context manager: where it
    is left by an error, and pages were lost, that is the error."""

    def __init__(self, lazily: Lazily | None) -> None:
        self._holder = lazily.connect() if lazily else None
        self._gives = lazily is not None and lazily.gives_pages
        self._tracks = lazily is not None and lazily.tracks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._holder is None:
            return
        try:
            if isinstance(error, CkptError) and not isinstance(error, LostPagesError):
                _look_why(self._holder, error)
        finally:
            self._holder.close()

    def offer(self, loaded: Loaded) -> None:
        """Tell the holder where the pages are: it takes that in while the tasks are made."""
        if self._holder is not None and self._gives:
            self._holder.offer(contents_of(loaded.chain))

    def hand_over(self, site: Site, shared: SharedMemory, report: Report) -> None:
        """Every address space with memory that comes late. Where others give the pages, and may
        never come, it returns when these are served; else `settle` does."""
        if self._holder is None:
            return
        loaded = site.loaded
        _tell_cost(loaded, site.plan.births.root, report)
        nr_late = 0
        wanted = _tracking_features() if self._tracks else Feature(0)
        for pid, image in loaded.tasks.items():
            if not image.late:
                continue
            built = site.tasks[pid]
            uffd = open_missing(built.session, pid, built.pidfd, image.late, wanted)
            try:
                soon = wanted_soon(image.late, _threads(image))
                self._holder.hand_over(
                    pid, uffd, built.pidfd, image.late, soon, tracked=self._tracks
                )
            finally:
                os.close(uffd)
            nr_late += 1
        self._hand_over_shared(self._holder, site, shared)
        self._holder.serve(site.plan.tree.root.pid)
        if not self._gives:
            self._await_service()
        report.info(f"memory of {nr_late} tasks comes later")

    def _hand_over_shared(self, holder: Holder, site: Site, shared: SharedMemory) -> None:
        for shmid in sorted(site.loaded.late_objects()):
            holder.hand_over_object(shmid, shared.lfd(shmid), shared.sizes[shmid])
        for pid, shares in site.loaded.shares.items():
            built = site.tasks[pid]
            ranges = [share.range for share in shares]
            uffd = open_missing(built.session, pid, built.pidfd, ranges, Feature(0))
            try:
                holder.hand_over_shares(pid, uffd, built.pidfd, shares)
            finally:
                os.close(uffd)

    def settle(self, loaded: Loaded) -> None:
        """Returns when the address spaces are served, and what nobody would wait for is there. Must
        have been called before the commit."""
        if self._holder is not None:
            self._await_service()
            await_needed(loaded)

    def _await_service(self) -> None:
        assert self._holder is not None
        self._holder.settle(timeout_s=_SERVED_S)

    def committed(self) -> None:
        """The tree runs; it does whatever becomes of this message."""
        if self._holder is not None:
            with suppress(CkptError):
                self._holder.committed()


def _threads(image: TaskImage) -> Iterator[Thread]:
    for core in image.threads.values():
        registers = core.thread_info.gpregs
        yield Thread(registers.sp, registers.fs_base, registers.ip)


def _tracking_features() -> Feature:
    """For pages that come write-protected. Raises KernelError where the kernel lacks what it takes
    to see writes without serving them."""
    choose(Mode.ASYNC)
    wanted = Feature.PAGEFAULT_FLAG_WP | Feature.WP_ASYNC | Feature.WP_UNPOPULATED
    return wanted | (features() & Feature.WP_HUGETLBFS_SHMEM)


def _look_why(holder: Holder, error: BaseException) -> None:
    """Raises LostPagesError if that is what is behind it."""
    try:
        status = holder.status()
    except LostPagesError as lost:
        raise lost from error
    except CkptError:
        return
    if status.get("state") == "lost":
        raise LostPagesError("pages can't be had", why=str(status.get("why"))) from error


def _tell_cost(loaded: Loaded, births: Iterable[Birth], report: Report) -> None:
    """Pages that parents and children may have shared come once for each of them."""
    nr_pages = sum(_shared(loaded, birth) for birth in births)  # a birth gives all below it, too
    if nr_pages:
        report.warn(
            f"sharing by copy-on-write between parents and children is not restored lazily: up to "
            f"{nr_pages * PAGE >> 20} MiB more memory"
        )


def _shared(loaded: Loaded, birth: Birth) -> int:
    """Pages of those whom `birth` clones, at the same addresses as its own."""
    nr_pages = 0
    for child in (*birth.early, *birth.late):
        own, other = (_late_pages(loaded, one.pid) for one in (child, birth))
        nr_pages += nr_common(own, other)
    return nr_pages


def _late_pages(loaded: Loaded, pid: int) -> list[tuple[int, int]]:
    image = loaded.tasks.get(pid)
    if image is None or not image.late:
        return []
    return [(piece.start, piece.end) for piece in loaded.chain.resolve(f"pagemap-{pid}")]
