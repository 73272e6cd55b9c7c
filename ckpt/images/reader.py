"""Reading an image set.

Everything is opened relative to a descriptor of the directory, by O_NOFOLLOW; a set without
inventory.img is none, but for one that is wanted for its pages alone. What `read` gives is parsed,
its required fields are there, its sums are right if the set has sums (ckpt.images.checksums), and
files that the sums name are all there. What the fields say is still hostile: who uses a number as a
size, an index or a path checks it.

pages-N.img is not verified by reading: `verify_pages` does it beside the loading. Pages that were
freed are known (`punched`); whoever takes a page asks.

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
from ckpt.images.punched import Punched
from ckpt.images.punched import from_message as punched_from_message
from ckpt.images.types import (
    CHECKSUMS,
    IMG_VERSION,
    INVENTORY,
    PAGES_CHECKSUMS,
    PUNCHED,
    TYPES,
    Framing,
    file_name,
    image_name,
    message_class,
    parse_file_name,
    parse_name,
)
from ckpt.scope import Closing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckpt.images.pagemap import Pagemap

MAX_IMAGE = 256 << 20
"""Bytes of an image that is read into memory, which is every one but pages."""


class ImageSet(Closing):
    """The set in `directory`. A context manager; descriptors close with it.

    With `verify`, files are compared with the sums of the set, if it has any (`has_sums`). With
    `pages_only` there may be no inventory (a page server writes none); an empty one stands for it.
    Raises ImageError if there is no set, an incomplete or a foreign one.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        verify: bool = True,
        pages_only: bool = False,
        dir_lfd: int | None = None,
    ) -> None:
        self.directory = os.fspath(directory)
        self._pages: dict[int, int] = {}
        self._sums: dict[str, FileSum] = {}
        self._verified: set[str] = set()
        self._dir = files_of.open_directory(self.directory) if dir_lfd is None else dir_lfd
        try:
            self._files = set(os.listdir(self._dir))
            without = pages_only and not self.exists(INVENTORY)
            if not without:
                self._require_inventory()
            if verify:
                self._load_sums(CHECKSUMS)
                self._load_sums(PAGES_CHECKSUMS)
            if without:
                self.inventory: Any = message_class(TYPES[INVENTORY].entry)()
            else:
                self.inventory = self.read_one(INVENTORY)
                self._check_version()
            self.punched = self._load_punched()
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

    def raw(self, name: str) -> bytes:
        """The file of image `name` as it is, verified; not of one that holds pages."""
        return self._read(name)

    def images(self) -> list[str]:
        """The names of all images of the set, pages too."""
        found = (parse_file_name(file) for file in self._files)
        return sorted(image_name(one.type.stem, one.number) for one in found if one)

    def read_payloads(self, name: str) -> list[tuple[Any, bytes]]:
        """The messages of image `name`, each with the raw bytes that belong to it."""
        return [(record.message, bytes(record.payload)) for record in self._records(name)]

    def pagemap(self, name: str) -> Pagemap:
        """The runs of image `name` ("pagemap-7"), compared with the size of their pages."""
        messages = self.read(name)
        if not messages:
            raise ImageError("has no head", resource=self._where(name))
        size = self.pages_size(messages[0].pages_id)
        return pagemap.from_messages(messages, self._where(name), size)

    def pagemap_records(self, name: str) -> tuple[memoryview, int]:
        """The records of image `name` ("pagemap-7") behind its head, as they are, and the N of
        its pages-N.img."""
        data = self._read(name)
        end = framing.end_of_first(parse_name(name).type, data)
        head: Any = framing.decode_as(parse_name(name).type, data[:end], self._where(name))
        return memoryview(data)[end:], head[0].message.pages_id

    def pages_size(self, number: int) -> int:
        """Bytes of pages-`number`.img, 0 if there is none. The file does not stay open: a tree of
        many tasks, in many layers, has more than may be."""
        name = f"pages-{number}"
        return self.size(name) if self.exists(name) else 0

    def pages_fd(self, number: int) -> int:
        """A descriptor, for reading, of pages-`number`.img. It stays ours."""
        if number not in self._pages:
            self._pages[number] = self._open(file_name("pages", number))
        return self._pages[number]

    def sum_of(self, file: str) -> FileSum | None:
        """What a file of the set must be, None if that is not known."""
        wanted = self._sums.get(file)
        return self.punched.applied_to(wanted) if wanted else None

    def page_sums(
        self, used: Mapping[int, Sequence[tuple[int, int]]] | None = None
    ) -> list[tuple[FileSum, int, list[int]]]:
        """For each pages-N.img that has sums: what it must be, its descriptor (ours), and the
        blocks to verify: all, or those with any of the bytes that `used` gives by number."""
        found = []
        for number in self.names("pages"):
            wanted = self.sum_of(file_name("pages", number))
            if wanted and (used is None or number in used):
                blocks = wanted.blocks(None if used is None else used[number])
                found.append((wanted, self.pages_fd(number), blocks))
        return found

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

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for file in self._files:
            image = parse_file_name(file)
            if image and image.number is not None:
                found.setdefault(image.type.stem, []).append(image.number)
        return {stem: sorted(numbers) for stem, numbers in found.items()}

    def _records(self, name: str) -> list[framing.Record]:
        return framing.decode_as(parse_name(name).type, self._read(name), self._where(name))

    def _read(self, name: str) -> bytes:
        """The file of image `name`, verified."""
        image = parse_name(name)
        where = self._where(name)
        if image.type.framing is Framing.RAW:
            raise ImageError("has no messages", resource=where)
        lfd = self._open(image.file)
        try:
            data = files_of.read_all(lfd, MAX_IMAGE, where)
        finally:
            os.close(lfd)
        if wanted := self._sums.get(image.file):
            wanted.verify(data, where)
            self._verified.add(image.file)
        return data

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

    def _load_punched(self) -> Punched:
        if not self.exists(PUNCHED):
            return Punched()
        return punched_from_message(self.read_one(PUNCHED), self._where(PUNCHED))

    def _load_sums(self, name: str) -> None:
        if not self.exists(name):
            return
        where = self._where(name)
        sums = from_message(self.read_one(name), where) or {}
        self._sums |= sums
        for file in sums:
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
