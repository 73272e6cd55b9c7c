"""Sets that build on one another: which set of a chain holds a page.

A set whose pagemaps say "in parent" has a symbolic link `parent` to the directory of the set it
builds on, relative to its own. A chain is read from the newest set back. It must not come back to a
directory that it has (compared by device and inode), nor be longer than MAX_DEPTH.

Only the newest set is whole; the others are read for their pages alone, and may have no inventory,
since a page server writes none. A set that ckpt made remembers the run id of the set it was built
on (ckpt-parent.img): another one at `parent` is refused, since its pages would be silently wrong.
Without that image, as in CRIU's sets, or without an inventory, whatever is there is taken.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError
from ckpt.images import directory as files_of
from ckpt.images.checksums import Verification
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT
from ckpt.images.reader import ImageSet
from ckpt.images.types import (
    INVENTORY,
    PAGEMAPS,
    PARENT_ID,
    PARENT_LINK,
    file_name,
    image_name,
)
from ckpt.scope import Closing
from ckpt.units import PAGE_SHIFT, Range

if TYPE_CHECKING:
    from ckpt.images.spans import Spans

MAX_DEPTH = 256


class Piece(NamedTuple):
    """Pages from `start` to `end` that stand together in one file: at `offset` in the `pages` of
    set number `layer`.

    Layer 0 is the newest. `offset` is None for pages that are in no file (lazy ones).
    """

    start: int
    end: int
    layer: int
    pages: int
    offset: int | None
    flags: int

    @property
    def range(self) -> Range:
        return Range(self.start, self.end)


Resolved = tuple[Iterable[tuple[Any, ...]], Sequence[int | None]]
Resolver = Callable[[Sequence[tuple[memoryview, int]]], Resolved | None]
"""From the records of one pagemap in each set, behind its head, and the N of its pages-N.img, the
newest first: the fields of the pieces, ascending, and how many pages each set has in its file, None
for one that was not needed. None where anything is not as it should be."""


class Chain(Closing):
    """The set in `directory` and those it builds on. A context manager.

    While it is open nobody writes to its directories or frees pages there; `exclusive`: nobody
    reads them through a chain either. With `pages_only` the newest too may be without inventory.
    `resolver` does most of `resolve` faster.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        verify: bool = True,
        exclusive: bool = False,
        pages_only: bool = False,
        resolver: Resolver | None = None,
    ) -> None:
        self.layers: list[ImageSet] = []
        self._verify = verify
        self._exclusive = exclusive
        self._resolved: dict[str, list[Piece]] = {}
        self._resolver = resolver
        try:
            lfd = files_of.open_directory(os.fspath(directory))
            self._add(lfd, os.fspath(directory), pages_only=pages_only)
            self._extend()
        except BaseException:
            self.close()
            raise

    def resolve(self, name: str) -> list[Piece]:
        """Every page of image `name` ("pagemap-7") with its place, ascending. Made once.

        Raises ImageError if a page is said to be in a parent that does not have it, or was freed.
        """
        if name not in self._resolved:
            self._resolved[name] = self._resolve(name)
        return self._resolved[name]

    def page_images(self) -> list[str]:
        """The names of all pagemaps of the newest set."""
        newest = self.layers[0]
        return [image_name(stem, n) for stem in PAGEMAPS for n in newest.names(stem)]

    @cached_property
    def used(self) -> list[dict[int, list[tuple[int, int]]]]:
        """Which bytes the newest set takes, by layer and N of pages-N.img, in no order."""
        used: list[dict[int, list[tuple[int, int]]]] = [{} for _ in self.layers]
        for name in self.page_images():
            for (layer, number), spans in _taken(self.resolve(name)).items():
                used[layer].setdefault(number, []).extend(spans)
        return used

    def verify_pages(self) -> Verification:
        """Begin to verify what the newest set holds and what it takes from the others: of those
        the blocks without a page that is used are not read. Sets without sums are not verified."""
        jobs = self.layers[0].page_sums()
        for number, below in enumerate(self.layers[1:], 1):
            if below.has_sums:
                jobs += below.page_sums(self.used[number])
        return Verification(jobs)

    def _resolve(self, name: str) -> list[Piece]:
        pieces = self._resolve_fast(name)
        if pieces is None:
            pieces = self._resolve_slowly(name)
        if any(layer.punched.files for layer in self.layers):
            for (number, pages), spans in sorted(_taken(pieces).items()):
                layer = self.layers[number]
                where = f"{layer.directory}/{name}.img"
                layer.punched.refuse(file_name("pages", pages), spans, where)
        return pieces

    def _resolve_fast(self, name: str) -> list[Piece] | None:
        """None where something is wrong or unusual: the slow way finds out what."""
        if self._resolver is None:
            return None
        try:
            layers = list(takewhile(lambda layer: layer.exists(name), self.layers))
            images = [layer.pagemap_records(name) for layer in layers]
            found = self._resolver(images)
            if found is None:
                return None
            pieces, counts = found
            for layer, (_, pages), nr_present in zip(layers, images, counts, strict=True):
                if nr_present is not None and layer.pages_size(pages) != nr_present << PAGE_SHIFT:
                    return None
        except ImageError:
            return None
        return [*map(Piece._make, pieces)]

    def _resolve_slowly(self, name: str) -> list[Piece]:
        pieces: list[Piece] = []
        wanted: Spans = []
        for number, images in enumerate(self.layers):
            if number and not (wanted and images.exists(name)):
                break
            layer = _Layer(images, number, name)
            wanted = layer.cut(wanted if number else layer.all(), pieces)
        if wanted:
            where = self.layers[min(number, len(self.layers) - 1)].directory
            raise _lacks(*wanted[0], f"{where}/{name}.img")
        pieces.sort()
        return pieces

    def close(self) -> None:
        """Close every set."""
        for layer in self.layers:
            layer.close()

    def _add(self, lfd: int, where: str, *, pages_only: bool) -> None:
        """Locked before anything is read: a record of freed pages must not be an old one."""
        try:
            files_of.lock(lfd, where, shared=not self._exclusive)
        except BaseException:
            os.close(lfd)
            raise
        images = ImageSet(where, verify=self._verify, pages_only=pages_only, dir_lfd=lfd)
        self.layers.append(images)

    def _extend(self) -> None:
        seen = {_identity(self.layers[0].dir_lfd)}
        while (lfd := _open_parent(self.layers[-1])) is not None:
            where = f"{self.layers[-1].directory}/{PARENT_LINK}"
            identity = _identity(lfd)
            if identity in seen or len(self.layers) == MAX_DEPTH:
                os.close(lfd)
                loop = identity in seen
                raise ImageError(
                    "leads back to a set that it came from"
                    if loop
                    else "is too far from the first",
                    resource=where,
                    why="" if loop else f"a chain has at most {MAX_DEPTH} sets",
                )
            seen.add(identity)
            self._add(lfd, where, pages_only=True)
            _check_identity(*self.layers[-2:])


def _taken(pieces: Iterable[Piece]) -> dict[tuple[int, int], Spans]:
    """Which bytes `pieces` are, by layer and N of pages-N.img, in the order of the pieces."""
    found: defaultdict[tuple[int, int], Spans] = defaultdict(list)
    for start, end, layer, pages, offset, _ in pieces:
        if offset is not None:
            found[layer, pages].append((offset, offset + end - start))
    return found


class _Layer:
    """One pagemap of one set, cut by ascending ranges."""

    def __init__(self, images: ImageSet, number: int, name: str) -> None:
        pagemap = images.pagemap(name)
        self._pages = pagemap.pages
        self._runs = pagemap.runs
        self._number = number
        self._where = f"{images.directory}/{name}.img"

    def all(self) -> Spans:
        return [(addr, addr + (nr << PAGE_SHIFT)) for addr, nr, _ in self._runs]

    def cut(self, wanted: Spans, pieces: list[Piece]) -> Spans:
        """Append what this layer has of `wanted` to `pieces`; returns what is in its parent."""
        below: Spans = []
        runs = iter(self._runs)
        number, pages = self._number, self._pages
        addr = run_end = offset = flags = 0
        for start, end in wanted:
            while start < end:
                while run_end <= start:
                    # The run before took room in the file if it is there.
                    offset += run_end - addr if flags & PE_PRESENT else 0
                    addr, nr_pages, flags = next(runs, (1 << 64, 0, 0))
                    run_end = addr + (nr_pages << PAGE_SHIFT)
                if addr > start:
                    raise _lacks(start, end, self._where)
                stop = run_end if run_end < end else end
                if flags & PE_PARENT:
                    below.append((start, stop))
                elif flags & PE_PRESENT:
                    at = offset + start - addr
                    pieces.append(Piece(start, stop, number, pages, at, flags))
                else:
                    pieces.append(Piece(start, stop, number, pages, None, flags))
                start = stop
        return below


def _lacks(start: int, end: int, where: str) -> ImageError:
    return ImageError(
        f"lacks the pages {Range(start, end)}",
        resource=where,
        why="a newer set says that they are there",
    )


def _identity(dir_lfd: int) -> tuple[int, int]:
    status = os.fstat(dir_lfd)
    return status.st_dev, status.st_ino


def _check_identity(child: ImageSet, parent: ImageSet) -> None:
    if not child.exists(PARENT_ID) or not parent.exists(INVENTORY):
        return
    wanted, found = child.read_one(PARENT_ID).run_id, parent.inventory.dump_criu_run_id
    if wanted != found:
        raise ImageError(
            "is not the set that was built upon",
            resource=parent.directory,
            why=f"that was dump {wanted or 'without a name'}, this is {found or 'without one'}",
            hint="put the right set back; with this one the pages would be wrong",
        )


def _open_parent(images: ImageSet) -> int | None:
    try:
        return os.open(PARENT_LINK, os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=images.dir_lfd)
    except FileNotFoundError as error:
        if PARENT_LINK not in os.listdir(images.dir_lfd):
            return None
        raise ImageError(
            "leads nowhere",
            resource=f"{images.directory}/{PARENT_LINK}",
            hint="put the parent set back; without it the pages are not complete",
        ) from error
    except OSError as error:
        raise ImageError(
            "can't be opened",
            resource=f"{images.directory}/{PARENT_LINK}",
            why=os.strerror(error.errno or 0).lower(),
        ) from error
