"""What a page server received, on its way into an images directory: all of it or nothing.

1. Everything is made in a folder of its own inside the directory, `.ckpt-pages.tmp`, which is
   locked (flock): one server a directory. So a dump may write its other images there meanwhile.
2. `open`, `add`, the pages into `pages_lfd`, `advance`; the next `open` or `commit` ends an image.
3. `commit` brings all to the disk, moves pages and pagemaps to their place, makes the link `parent`
   and places ckpt-checksums-pages.img last.

Until `commit` has returned, `abort` or leaving the `with` block removes every trace. A server that
was killed leaves the folder, which the next one empties, or pages without inventory.img, which no
restore takes for a set; the next server refuses them.

Runs come from outside: each is checked as ckpt.images.pagemap does it on reading. What is said to
be in the parent must be there, in the chain as it was when the server began.

A thread of its own sums and syncs what is finished, so that little is left for `commit`, for which
a frozen tree may wait on the other side.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import ImageError, PeerError
from ckpt.images import directory as files_of
from ckpt.images import framing
from ckpt.images.checksums import FileSum, GrowingSum, sum_bytes, summing_pool, to_message
from ckpt.images.pageserver import stage
from ckpt.images.pageserver.runs import ReceivedRuns
from ckpt.images.parent import parent_of
from ckpt.images.types import (
    PAGES_CHECKSUMS,
    PARENT_LINK,
    file_name,
    parse_file_name,
    parse_name,
)
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from types import TracebackType
    from typing import Self

    from ckpt.images.chain import Resolver
    from ckpt.images.pagemap import Run

_OURS = {"pagemap", "pagemap-shmem", "pages", PAGES_CHECKSUMS}
_SYNC_EVERY = 256 << 20
_MAX_UNSETTLED = 64


class ReceivedImages:
    """Images of pages for `directory`, which must exist. A context manager.

    `prev`: the parent set, relative to the directory; empty for none. `durable`: on the disk, and
    not only written, when `commit` returns. `resolver`: as that of a Chain. Raises ImageError if
    the directory can't be opened, holds pages already, or is another server's; if there is no set
    at `prev`, or `parent` leads elsewhere.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        prev: str = "",
        checksums: bool = True,
        durable: bool = True,
        resolver: Resolver | None = None,
    ) -> None:
        self.directory = os.fspath(directory)
        self.nr_images = 0
        self.nr_bytes = 0
        self.pages_lfd = -1
        self._prev = prev
        self._checksums = checksums
        self._durable = durable
        self._name = ""
        self._runs = ReceivedRuns("", None)
        self._sum: GrowingSum | None = None
        self._size = 0
        self._sums: list[FileSum] = []
        self._opened: dict[str, str] = {}
        self._unsettled: list[Future[None]] = []
        self._lfds: set[int] = set()
        self._placed: list[str] = []
        self._link_is_new = self._link_made = False
        self._parent = (
            parent_of(self.directory, prev, verify=False, pages_only=True, resolver=resolver).ranges
            if prev
            else {}
        )
        self._stage = -1
        self._dir = files_of.open_directory(self.directory)
        try:
            self._refuse_pages()
            self._check_link()
            self._stage = stage.enter(self._dir, self.directory)
        except BaseException:
            os.close(self._dir)
            raise
        self._pool = summing_pool()
        self._settler = ThreadPoolExecutor(max_workers=1)

    def has_parent(self, name: str) -> bool:
        """Whether the parent set has image `name` ("pagemap-7")."""
        return name in self._parent

    def open(self, name: str) -> bool:
        """Begin image `name`; the one before is ended. Whether it has a parent."""
        self._end()
        file = parse_name(name).file
        if file in self._opened:
            raise PeerError("sent an image twice", resource=name)
        self.nr_images += 1
        pages = file_name("pages", self.nr_images)
        self._opened[file] = pages
        self._name = name
        self._runs = ReceivedRuns(name, self._parent.get(name))
        self._size = 0
        self.pages_lfd = files_of.create(self._stage, pages, self._where(pages))
        self._lfds.add(self.pages_lfd)
        self._sum = GrowingSum(pages, self.pages_lfd, self._pool)
        return self.has_parent(name)

    def add(self, run: Run) -> None:
        """One more run of the image that is open; if it is present, its pages come next."""
        self._runs.add(run)

    def advance(self, nr_bytes: int) -> None:
        """So many more bytes of pages are in `pages_lfd`."""
        before = self._size
        self._size += nr_bytes
        self.nr_bytes += nr_bytes
        if self._checksums and self._sum is not None:
            self._sum.advance(self._size)
        if self._size // _SYNC_EVERY > before // _SYNC_EVERY:
            lfd = self.pages_lfd
            self._submit(lambda: self._sync(lfd))

    def commit(self) -> None:
        """Make everything durable and put it in its place."""
        self._end()
        for done in self._unsettled:
            done.result()
        last = file_name(PAGES_CHECKSUMS)
        files = [*self._opened.values(), *self._opened]
        if self._checksums:
            self._create(last, framing.encode(PAGES_CHECKSUMS, [to_message(self._sums)]))
            files.append(last)
        if self._durable:
            files_of.sync_new(self._stage, files, self.directory)
        # Nobody may have put pages there meanwhile.
        self._refuse_pages()
        for file in files:
            if file == last:
                self._sync(self._dir)
            files_of.place(self._stage, file, self._where(file), into=self._dir)
            self._placed.append(file)
        self._make_link()
        self._sync(self._dir)
        self._placed.clear()
        self._link_made = False
        self.abort()

    def abort(self) -> None:
        """Remove every file that was made. Does nothing after `commit` or a second time."""
        if self._stage < 0:
            return
        self._settler.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        while self._lfds:
            os.close(self._lfds.pop())
        for file in [*self._placed, *([PARENT_LINK] if self._link_made else [])]:
            with suppress(FileNotFoundError):
                os.unlink(file, dir_fd=self._dir)
        lfd, self._stage = self._stage, -1
        try:
            stage.leave(self._dir, lfd)
        finally:
            os.close(self._dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def _end(self) -> None:
        """The open image is complete: what is left to do for it goes to the other thread."""
        if self._sum is None:
            return
        growing, self._sum = self._sum, None
        lfd, size = self.pages_lfd, self._size
        runs, file, number = self._runs, parse_name(self._name).file, self.nr_images
        if runs.nr_present * PAGE != size:
            raise PeerError("sent too few pages", resource=self._name)

        def settle() -> None:
            data = framing.encode(file.removesuffix(".img"), runs.messages(number))
            self._create(file, data)
            if self._checksums:
                self._sums += [sum_bytes(file, data), growing.finish(size)]
            if size >= _SYNC_EVERY:
                self._sync(lfd)
            self._lfds.discard(lfd)
            os.close(lfd)

        self._submit(settle)

    def _submit(self, job: Callable[[], None]) -> None:
        self._unsettled.append(self._settler.submit(job))
        while self._unsettled and (
            self._unsettled[0].done() or len(self._unsettled) > _MAX_UNSETTLED
        ):
            self._unsettled.pop(0).result()

    def _create(self, file: str, data: bytes) -> None:
        where = self._where(file)
        lfd = files_of.create(self._stage, file, where)
        try:
            files_of.write_all(lfd, data, where)
        finally:
            os.close(lfd)

    def _refuse_pages(self) -> None:
        for file in os.listdir(self._dir):
            image = parse_file_name(file)
            if image and image.type.stem in _OURS:
                raise ImageError(
                    f"holds pages already ({file})",
                    resource=self.directory,
                    hint="choose an empty directory with --images-dir, or remove the images",
                )

    def _check_link(self) -> None:
        where = self._where(PARENT_LINK)
        found = files_of.read_link(self._dir, PARENT_LINK, where)
        if found not in ("", self._prev):
            raise ImageError(
                f"leads to {found} already, not to {self._prev or 'no parent'}",
                resource=where,
                hint="remove it, or choose another --images-dir",
            )
        self._link_is_new = bool(self._prev and not found)

    def _make_link(self) -> None:
        if self._link_is_new:
            where = self._where(PARENT_LINK)
            files_of.make_link(self._dir, PARENT_LINK, self._prev, where)
            self._link_made = True

    def _sync(self, lfd: int) -> None:
        if not self._durable:
            return
        try:
            os.fsync(lfd)
        except OSError as error:
            raise files_of.cannot_write(self.directory, error) from error

    def _where(self, file: str) -> str:
        return f"{self.directory}/{file}"
