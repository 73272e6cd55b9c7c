"""Writing an image set so that it is whole or not there.

1. The directory is locked (flock), so that two dumps can't mix, and must not hold a set.
2. `write` only encodes: messages are kept as bytes, no file is touched. `pages` makes a file at
   once, since pages don't go through Python. Both are fit for the frozen window.
3. `flush` makes the files, under temporary names `.NAME.img.tmp`, mode 0600, O_EXCL | O_NOFOLLOW.
4. `sync` brings all of them to the disk.
5. `commit` adds ckpt-checksums.img, renames, makes the link `parent`, and places `inventory.img`
   last: a set without it is none.

Until `commit` has returned, `abort` or leaving the `with` block removes every trace. A writer that
was killed leaves temporary files, which the next one removes, or images without inventory.img,
which it refuses as it does a whole set. Nothing here knows what the messages mean.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError
from ckpt.images import directory as files_of
from ckpt.images import framing
from ckpt.images.checksums import GrowingSum, sum_bytes, summing_pool, to_message
from ckpt.images.types import (
    CHECKSUMS,
    INVENTORY,
    PARENT_ID,
    PARENT_LINK,
    TYPES,
    file_name,
    message_class,
    parse_file_name,
    parse_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from google.protobuf.message import Message

    from ckpt.images.checksums import FileSum

# Made beside a set, before or after it, by other verbs.
_FREE = {"cpuinfo", "stats-dump", "stats-restore"}


class ImageSetWriter:
    """A set that is being written into `directory`, which must exist. A context manager.

    Raises ImageError if the directory can't be opened, holds a set or parts of one, or is being
    written to by another process.
    """

    def __init__(self, directory: str | os.PathLike[str], *, checksums: bool = True) -> None:
        self.directory = os.fspath(directory)
        self._checksums = checksums
        self._images: dict[str, bytes] = {}
        self._pages: dict[int, int] = {}
        self._sums: dict[int, GrowingSum] = {}
        self._made: set[str] = set()
        self._placed: list[str] = []
        self._parent = ""
        self._synced: dict[str, int] | None = None
        self._pool = summing_pool()
        self._dir = files_of.open_directory(self.directory)
        try:
            files_of.lock(self._dir, self.directory)
            self._refuse_a_set()
        except BaseException:
            os.close(self._dir)
            raise

    def write(self, name: str, messages: Iterable[Message | tuple[Message, bytes]]) -> None:
        """Take the messages of image `name` ("core-7"). A message with a payload is a pair.

        Raises ImageError if a message is not complete or not of this image's type, or the image
        was written already.
        """
        file = parse_name(name).file
        if file in self._images:
            raise ImageError("is written twice", resource=file)
        self._images[file] = framing.encode(name, messages)

    def take(self, name: str, data: bytes) -> None:
        """Take image `name` as another set has it, whole. Raises ImageError if it was written
        already."""
        file = parse_name(name).file
        if file in self._images:
            raise ImageError("is written twice", resource=file)
        self._images[file] = data

    def link_parent(self, path: str, run_id: str) -> None:
        """This set builds on the one at `path`, relative to the directory, whose run id is `run_id`
        (empty if it has none). Only notes it: `commit` makes the link.

        Raises ImageError if another link, or something else of its name, is there already.
        """
        found = files_of.read_link(self._dir, PARENT_LINK, self._where(PARENT_LINK))
        if found not in ("", path):
            raise ImageError(
                f"leads to {found} already, not to {path}",
                resource=self._where(PARENT_LINK),
                hint="remove it, or choose another --images-dir",
            )
        entry: Any = message_class(TYPES[PARENT_ID].entry)
        self.write(PARENT_ID, [entry(run_id=run_id)])
        self._parent = "" if found else path

    def pages(self, number: int) -> int:
        """A descriptor, for reading and writing, of the empty pages-`number`.img. It stays ours.

        Pages go there from offset 0 in the order of the pagemap.
        """
        if number not in self._pages:
            file = file_name("pages", number)
            self._pages[number] = self._create(file)
            self._sums[number] = GrowingSum(file, self._pages[number], self._pool)
        return self._pages[number]

    def advance(self, number: int, end: int) -> None:
        """The first `end` bytes of pages-`number`.img are final: sums are made meanwhile."""
        if self._checksums:
            self._sums[number].advance(end)

    def flush(self) -> None:
        """Make the files of what was written so far. `sync` and `commit` do it by themselves."""
        for file, data in self._images.items():
            if file not in self._made:
                lfd = self._create(file)
                try:
                    files_of.write_all(lfd, data, self._where(file))
                finally:
                    os.close(lfd)

    def sync(self) -> None:
        """Bring everything to the disk. What `commit` does after this is then durable too."""
        self.flush()
        done = self._synced or {}
        # Images never change once they are made, pages only grow.
        sizes = dict.fromkeys(self._made, 0)
        for number, lfd in self._pages.items():
            sizes[file_name("pages", number)] = os.fstat(lfd).st_size
        new = sorted(file for file, size in sizes.items() if done.get(file) != size)
        files_of.sync_new(self._dir, new, self.directory)
        self._synced = sizes

    def commit(self) -> None:
        """Make the set whole. Raises ImageError if it has no inventory, or on a full disk."""
        inventory = file_name(INVENTORY)
        if inventory not in self._images:
            raise ImageError("a set without inventory.img can't be made", resource=self.directory)
        if self._checksums:
            small = ((file, data) for file, data in self._images.items() if _is_summed(file))
            sums = [*(sum_bytes(file, data) for file, data in small), *self._finish_pages()]
            self.write(CHECKSUMS, [to_message(sums)])
        if self._synced is None:
            self.flush()
        else:
            self.sync()
        for file in sorted(self._made - {inventory}):
            self._place(file)
        if self._parent:
            files_of.make_link(self._dir, PARENT_LINK, self._parent, self._where(PARENT_LINK))
            self._placed.append(PARENT_LINK)
        self._sync_directory()
        self._place(inventory)
        self._sync_directory()
        self._close()

    def abort(self) -> None:
        """Remove every file that was made. Does nothing after `commit` or a second time."""
        if self._dir < 0:
            return
        for file in self._made:
            with suppress(FileNotFoundError):
                os.unlink(files_of.temporary(file), dir_fd=self._dir)
        for file in self._placed:
            with suppress(FileNotFoundError):
                os.unlink(file, dir_fd=self._dir)
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def _refuse_a_set(self) -> None:
        files = os.listdir(self._dir)
        for file in files:
            image = parse_file_name(file)
            if image and image.type.stem not in _FREE:
                whole = file_name(INVENTORY) in files
                raise ImageError(
                    "holds an image set" if whole else f"holds parts of an image set ({file})",
                    resource=self.directory,
                    hint="choose an empty directory with --images-dir, or remove the images",
                )
        for file in files:
            if files_of.is_temporary(file):
                os.unlink(file, dir_fd=self._dir)

    def _create(self, file: str) -> int:
        lfd = files_of.create(self._dir, file, self._where(file))
        self._made.add(file)
        return lfd

    def _finish_pages(self) -> list[FileSum]:
        return [
            self._sums[number].finish(os.fstat(lfd).st_size) for number, lfd in self._pages.items()
        ]

    def _place(self, file: str) -> None:
        files_of.place(self._dir, file, self._where(file))
        self._placed.append(file)

    def _sync_directory(self) -> None:
        if self._synced is not None:
            os.fsync(self._dir)

    def _where(self, file: str) -> str:
        return f"{self.directory}/{file}"

    def _close(self) -> None:
        """May be interrupted at any place by a signal's exception and called again."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._sums.clear()
        while self._pages:
            os.close(self._pages.popitem()[1])
        lfd, self._dir = self._dir, -1
        if lfd >= 0:
            os.close(lfd)


def _is_summed(file: str) -> bool:
    """Statistics and the like may be rewritten or removed; they are no part of what is restored."""
    image = parse_file_name(file)
    return image is not None and image.type.stem not in _FREE
