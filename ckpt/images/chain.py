"""Sets that build on one another: which set of a chain holds a page.

A set whose pagemaps say "in parent" has a symbolic link `parent` to the directory of the set it
builds on, relative to its own. A chain is read from the newest set back. It must not come back to a
directory that it has (compared by device and inode), nor be longer than MAX_DEPTH.

Only the newest set is whole; the others are read for their pages alone. That a parent holds the
same process, and not one that got its number later, is checked by nobody here.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import ImageError
from ckpt.images.checksums import Verification
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT, Extent
from ckpt.images.reader import ImageSet
from ckpt.units import Range

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

MAX_DEPTH = 256
PARENT = "parent"


class Piece(NamedTuple):
    """Pages that stand together in one file: `offset` in the `pages` of set number `layer`.

    Layer 0 is the newest. `offset` is None for pages that are in no file (lazy ones).
    """

    range: Range
    layer: int
    pages: int
    offset: int | None
    flags: int


class Chain:
    """The set in `directory` and those it builds on. A context manager."""

    def __init__(self, directory: str | os.PathLike[str], *, verify: bool = True) -> None:
        self.layers: list[ImageSet] = []
        try:
            self.layers.append(ImageSet(directory, verify=verify))
            self._extend(verify)
        except BaseException:
            self.close()
            raise

    def resolve(self, name: str) -> list[Piece]:
        """Every page of image `name` ("pagemap-7") with its place, ascending.

        Raises ImageError if a page is said to be in a parent that does not have it.
        """
        layers: list[_Layer] = []
        for number, layer in enumerate(self.layers):
            if number and not layer.exists(name):
                break
            layers.append(_Layer(layer, name))
        pieces: list[Piece] = []
        todo = [(extent.range, 0) for extent in reversed(layers[0].extents)]
        while todo:
            wanted, number = todo.pop()
            if number == len(layers):
                raise ImageError(
                    f"lacks the pages {wanted}",
                    resource=f"{self.layers[number - 1].directory}/{PARENT}, {name}",
                    why="a newer set says that they are there",
                )
            found = layers[number].cut(wanted)
            todo += [(part.range, number + 1) for part in found if part.flags & PE_PARENT]
            # Pieces of one wanted range may come out of different layers: sorted at the end.
            pieces += (
                Piece(extent.range, number, layers[number].pages, extent.offset, extent.flags)
                for extent in found
                if not extent.flags & PE_PARENT
            )
        return sorted(pieces)

    def verify_pages(self) -> Verification:
        """Begin to verify the pages of every set that has sums, the newest first."""
        return Verification(one for layer in self.layers for one in layer.page_sums())

    def close(self) -> None:
        """Close every set."""
        for layer in self.layers:
            layer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _extend(self, verify: bool) -> None:
        seen = {_identity(self.layers[0].dir_lfd)}
        while (lfd := _open_parent(self.layers[-1])) is not None:
            where = f"{self.layers[-1].directory}/{PARENT}"
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
            self.layers.append(ImageSet(where, verify=verify, dir_lfd=lfd))


class _Layer:
    """The extents of one pagemap, searchable by address."""

    def __init__(self, images: ImageSet, name: str) -> None:
        pagemap = images.pagemap(name)
        self.pages = pagemap.pages
        self.extents = list(pagemap.extents())
        self._starts = [extent.range.start for extent in self.extents]
        self._where = f"{images.directory}/{name}.img"

    def cut(self, wanted: Range) -> list[Extent]:
        """What this layer says of each page of `wanted`."""
        found: list[Extent] = []
        at = wanted.start
        index = max(0, bisect_right(self._starts, at) - 1)
        while at < wanted.end and index < len(self.extents):
            extent = self.extents[index]
            index += 1
            part = extent.range.intersection(Range(at, wanted.end))
            if part is None:
                if extent.range.start >= wanted.end:
                    break
                continue
            if part.start > at:
                break
            offset = extent.offset
            if extent.flags & PE_PRESENT and offset is not None:
                offset += part.start - extent.range.start
            found.append(Extent(part, offset, extent.flags))
            at = part.end
        if at < wanted.end:
            raise ImageError(
                f"lacks the pages from {at:#x}",
                resource=self._where,
                why="a newer set says that they are there",
            )
        return found


def _identity(dir_lfd: int) -> tuple[int, int]:
    status = os.fstat(dir_lfd)
    return status.st_dev, status.st_ino


def _open_parent(images: ImageSet) -> int | None:
    try:
        return os.open(PARENT, os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=images.dir_lfd)
    except FileNotFoundError as error:
        if PARENT not in os.listdir(images.dir_lfd):
            return None
        raise ImageError(
            "leads nowhere",
            resource=f"{images.directory}/{PARENT}",
            hint="put the parent set back; without it the pages are not complete",
        ) from error
    except OSError as error:
        raise ImageError(
            "can't be opened",
            resource=f"{images.directory}/{PARENT}",
            why=os.strerror(error.errno or 0).lower(),
        ) from error
