"""Reading an image set.

Everything is opened relative to a descriptor of the directory, by O_NOFOLLOW; a set without
inventory.img is none. What `read` gives is parsed, its required fields are there, its sums are
right if the set has sums (ckpt.images.checksums), and files that the sums name are all there. What
the fields say is still hostile: who uses a number as a size, an index or a path checks it.

pages-N.img is not verified by reading: `verify_pages` does it beside the loading.

A set that is rewritten while it is read is not detected, unless its sums don't fit any more.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError
from ckpt.images import directory as files_of
from ckpt.images import framing, pagemap
from ckpt.images.checksums import FileSum, Verification, from_message
from ckpt.images.types import (
    CHECKSUMS,
    IMG_VERSION,
    INVENTORY,
    Framing,
    file_name,
    parse_file_name,
    parse_name,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ckpt.images.pagemap import Pagemap

MAX_IMAGE = 256 << 20
"""Bytes of an image that is read into memory, which is every one but pages."""


class ImageSet:
    """The set in `directory`. A context manager; descriptors close with it.

    With `verify`, files are compared with the sums of the set, if it has any (`has_sums`).
    Raises ImageError if there is no set, an incomplete or a foreign one.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, verify: bool = True, dir_lfd: int | None = None
    ) -> None:
        self.directory = os.fspath(directory)
        self._pages: dict[int, int] = {}
        self._sums: dict[str, FileSum] = {}
        self._verified: set[str] = set()
        self._dir = files_of.open_directory(self.directory) if dir_lfd is None else dir_lfd
        try:
            self._files = set(os.listdir(self._dir))
            self._require_inventory()
            if verify:
                self._load_sums()
            self.inventory: Any = self.read_one(INVENTORY)
            self._check_version()
        except BaseException:
            self.close()
            raise

    @property
    def has_sums(self) -> bool:
        """Whether what is read is verified."""
        return bool(self._sums)

    @property
    def dir_lfd(self) -> int:
        """A descriptor of the directory; it stays ours."""
        return self._dir

    def exists(self, name: str) -> bool:
        """Whether the set has image `name`."""
        return parse_name(name).file in self._files

    def names(self, stem: str) -> list[int]:
        """The numbers of the images of a stem, ascending: of "core", [1, 7]."""
        return self._numbers.get(stem, [])

    def size(self, name: str) -> int:
        """Bytes of the file of image `name`."""
        lfd = self._open(parse_name(name).file)
        try:
            return os.fstat(lfd).st_size
        finally:
            os.close(lfd)

    def read(self, name: str) -> list[Any]:
        """The messages of image `name`, of the types that ckpt.images.types tells."""
        return [record.message for record in self._records(name)]

    def read_one(self, name: str) -> Any:
        """The message of image `name`, which must have exactly one."""
        records = self._records(name)
        if len(records) != 1:
            raise ImageError(f"has {len(records)} messages, not one", resource=self._where(name))
        return records[0].message

    def read_payloads(self, name: str) -> list[tuple[Any, bytes]]:
        """The messages of image `name`, each with the raw bytes that belong to it."""
        return [(record.message, bytes(record.payload)) for record in self._records(name)]

    def pagemap(self, name: str) -> Pagemap:
        """The runs of image `name` ("pagemap-7"), compared with the size of their pages."""
        messages = self.read(name)
        if not messages:
            raise ImageError("has no head", resource=self._where(name))
        number = messages[0].pages_id
        pages = f"pages-{number}"
        size = os.fstat(self.pages_fd(number)).st_size if self.exists(pages) else 0
        return pagemap.from_messages(messages, self._where(name), size)

    def pages_fd(self, number: int) -> int:
        """A descriptor, for reading, of pages-`number`.img. It stays ours."""
        if number not in self._pages:
            self._pages[number] = self._open(file_name("pages", number))
        return self._pages[number]

    def page_sums(self) -> list[tuple[FileSum, int]]:
        """For each pages-N.img that has sums: what it must be, and its descriptor (ours)."""
        return [
            (self._sums[file], self.pages_fd(number))
            for number in self.names("pages")
            if (file := file_name("pages", number)) in self._sums
        ]

    def verify_pages(self) -> Verification:
        """Begin to verify all pages of the set; see Verification. Nothing to do without sums."""
        return Verification(self.page_sums())

    def verify_rest(self) -> None:
        """Verify now what has a sum, has not been read yet, and is not pages."""
        for file, wanted in self._sums.items():
            image = parse_file_name(file)
            if image is None or file in self._verified or file not in self._files:
                continue
            if image.type.framing is not Framing.RAW:
                lfd = self._open(file)
                try:
                    data = files_of.read_all(lfd, MAX_IMAGE, f"{self.directory}/{file}")
                finally:
                    os.close(lfd)
                wanted.verify(data, f"{self.directory}/{file}")

    def close(self) -> None:
        """Close every descriptor. May be called twice."""
        for lfd in self._pages.values():
            os.close(lfd)
        if self._dir >= 0:
            os.close(self._dir)
        self._pages, self._dir = {}, -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for file in self._files:
            image = parse_file_name(file)
            if image and image.number is not None:
                found.setdefault(image.type.stem, []).append(image.number)
        return {stem: sorted(numbers) for stem, numbers in found.items()}

    def _records(self, name: str) -> list[framing.Record]:
        image = parse_name(name)
        if image.type.framing is Framing.RAW:
            raise ImageError("has no messages", resource=self._where(name))
        where = self._where(name)
        lfd = self._open(image.file)
        try:
            data = files_of.read_all(lfd, MAX_IMAGE, where)
        finally:
            os.close(lfd)
        if wanted := self._sums.get(image.file):
            wanted.verify(data, where)
            self._verified.add(image.file)
        return framing.decode_as(image.type, data, where)

    def _open(self, file: str) -> int:
        return files_of.open_existing(self._dir, file, f"{self.directory}/{file}")

    def _where(self, name: str) -> str:
        return f"{self.directory}/{parse_name(name).file}"

    def _require_inventory(self) -> None:
        if file_name(INVENTORY) in self._files:
            return
        some = sorted(file for file in self._files if parse_file_name(file))
        raise ImageError(
            f"holds an incomplete image set ({some[0]} is there)" if some else "holds no image set",
            resource=self.directory,
            why="there is no inventory.img",
            hint="the dump did not end well; dump again" if some else "--images-dir names it",
        )

    def _load_sums(self) -> None:
        if not self.exists(CHECKSUMS):
            return
        where = self._where(CHECKSUMS)
        self._sums = from_message(self.read_one(CHECKSUMS), where) or {}
        for file in self._sums:
            image = parse_file_name(file)
            if file not in self._files and image and not image.type.is_ours:
                raise ImageError(
                    "is gone", resource=f"{self.directory}/{file}", why=f"{where} has it"
                )

    def _check_version(self) -> None:
        where = self._where(INVENTORY)
        version = self.inventory.img_version
        if version != IMG_VERSION:
            raise ImageError(
                f"is of version {version}, not {IMG_VERSION}",
                resource=where,
                hint="CRIU up to 4.2 and ckpt write version 2",
            )
        if not self.inventory.fdinfo_per_id:
            raise ImageError("is of a set older than CRIU 1.0", resource=where)
        if self.inventory.compress:
            raise ImageError("is of a compressed set", resource=where, why="CRIU after 4.2 made it")
