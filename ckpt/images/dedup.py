"""Freeing what newer sets of a chain replace: holes in the pages files of the older ones.

1. All directories of the chain are locked: nobody writes, reads or frees there meanwhile.
2. What goes is computed for every layer, and refused as a whole where a layer is not as it should
   be. Blocks that keep some of their pages are verified before they get a new sum: rot must not
   get a right one.
3. Layer by layer the record is written and brought to the disk (ckpt.images.punched), then the
   holes are made. Being killed in between leaves pages that count as freed and still take room; the
   next run frees them.

A page that another set needs, which builds on the same parent, goes as well: nothing leads from a
set to those that build on it. That set is refused from then on (CRIU restores it with zeros).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from functools import cache
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.images import directory as files_of
from ckpt.images.chain import Chain
from ckpt.images.checksums import sum_range
from ckpt.images.pagemap import PE_PRESENT
from ckpt.images.punched import Punched, PunchedFile, write_punched
from ckpt.images.spans import joined, minus, total, union
from ckpt.images.types import PAGEMAPS, PUNCHED, file_name, image_name
from ckpt.record import field, record
from ckpt.units import PAGE, page_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckpt.images.checksums import FileSum
    from ckpt.images.reader import ImageSet
    from ckpt.images.spans import Spans

_KEEP_SIZE, _PUNCH_HOLE = 1, 2


@record
class Freed:
    """What one set of the chain lost: bytes now, and bytes in all. The newest set loses nothing."""

    directory: str
    run_id: str
    freed: int = 0
    freed_in_all: int = 0


@record
class _Loss:
    """What one layer will have lost when this is over, and what it loses now, by file."""

    images: ImageSet
    punched: Punched
    new: dict[str, Spans] = field(default_factory=dict)


def punch_overridden(directory: str | os.PathLike[str], *, pages_only: bool = False) -> int:
    """Free what newer sets replace, in the whole chain below `directory`; returns the bytes. With
    `pages_only` that set may be without inventory: a page server has just made it whole.

    Raises ImageError; see `dedup`.
    """
    return sum(layer.freed for layer in dedup(directory, pages_only=pages_only))


def dedup(directory: str | os.PathLike[str], *, pages_only: bool = False) -> list[Freed]:
    """The same, told by set, the newest first.

    Raises ImageError, and has then freed nothing, if a set is damaged or in use, a pages file has
    other names too, or the file system can't make holes. An error of the disk may leave some sets
    done and others not; nothing is lost by that.
    """
    with Chain(directory, exclusive=True, pages_only=pages_only) as chain:
        losses = _losses(chain)
        for loss in losses:
            for file in loss.punched.files:
                _check_file(loss.images, file)
            _new_sums(loss)
        for loss in losses:
            _free(loss)
        newest = chain.layers[0]
        return [_freed(newest, 0, newest.punched.size), *map(_freed_by, losses)]


def _freed_by(loss: _Loss) -> Freed:
    return _freed(loss.images, sum(map(total, loss.new.values())), loss.punched.size)


def _freed(images: ImageSet, now: int, in_all: int) -> Freed:
    where = files_of.real_path(images.dir_lfd, images.directory)
    return Freed(where, images.inventory.dump_criu_run_id, now, in_all)


def _losses(chain: Chain) -> list[_Loss]:
    """For every set but the newest. Addresses that any newer one has pages for are replaced."""
    newest = chain.layers[0].inventory.dump_criu_run_id
    replaced: dict[str, Spans] = {}
    losses: list[_Loss] = []
    for number, images in enumerate(chain.layers):
        loss = _Loss(images, Punched(newest=images.punched.newest))
        for name in (image_name(stem, n) for stem in PAGEMAPS for n in images.names(stem)):
            addresses, offsets, pages = _present(images, name)
            if number:
                file = file_name("pages", pages)
                _add(loss, file, _offsets_of(addresses, offsets, replaced.get(name, [])), newest)
            replaced[name] = union(replaced.get(name, []), joined(addresses))
        if number:
            losses.append(loss)
    return losses


def _present(images: ImageSet, name: str) -> tuple[list[tuple[int, int]], list[int], int]:
    pagemap = images.pagemap(name)
    addresses: list[tuple[int, int]] = []
    offsets: list[int] = []
    for extent in pagemap.extents():
        if extent.flags & PE_PRESENT and extent.offset is not None:
            addresses.append((extent.range.start, extent.range.end))
            offsets.append(extent.offset)
    return addresses, offsets, pagemap.pages


def _offsets_of(addresses: list[tuple[int, int]], offsets: list[int], replaced: Spans) -> Spans:
    """Where in the pages file the `replaced` ones of the pages at `addresses` stand."""
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(addresses) and j < len(replaced):
        start = max(addresses[i][0], replaced[j][0])
        end = min(addresses[i][1], replaced[j][1])
        if start < end:
            at = offsets[i] + start - addresses[i][0]
            found.append((at, at + end - start))
        if addresses[i][1] < replaced[j][1]:
            i += 1
        else:
            j += 1
    return joined(found)


def _add(loss: _Loss, file: str, spans: Spans, newest: str) -> None:
    if file in loss.punched.files:
        raise ImageError(
            "two pagemaps have their pages there", resource=f"{loss.images.directory}/{file}"
        )
    before = loss.images.punched.spans(file)
    if not (spans or before):
        return
    loss.new[file] = minus(spans, before)
    loss.punched.files[file] = PunchedFile(file, union(before, spans))
    if loss.new[file]:
        loss.punched.newest = newest


def _check_file(images: ImageSet, file: str) -> None:
    """What would do harm, or fail when the record is written already."""
    where = f"{images.directory}/{file}"
    lfd = _open(images, file)
    try:
        status = os.fstat(lfd)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is not a regular file", resource=where)
        if status.st_nlink > 1:
            raise ImageError(
                f"has {status.st_nlink} names: another set may need its pages",
                resource=where,
                hint="copy the file instead of linking it",
            )
        # Behind its end there is nothing to free, but the file system says whether it could.
        _punch(lfd, page_up(status.st_size), PAGE, where)
    finally:
        os.close(lfd)


def _new_sums(loss: _Loss) -> None:
    for file, one in loss.punched.files.items():
        wanted = loss.images.sum_of(file)
        if wanted is None:
            continue
        lfd = _open(loss.images, file)
        try:
            one.sums = dict(_sums(lfd, wanted, one.spans, loss.new[file]))
        finally:
            os.close(lfd)


def _sums(lfd: int, before: FileSum, gone: Spans, new: Spans) -> Iterator[tuple[int, int]]:
    """The sums of blocks that lost pages and have some left, those of earlier times included."""
    now = before.without(gone)
    left = set(now.blocks())
    changed = set(before.touched(new))
    for index in before.touched(gone):
        if index not in left:
            continue
        if index in changed:
            before.verify_block(lfd, index)
            yield index, sum_range(lfd, *before.extent(index), now.punched)
        else:
            yield index, before.sums[index]


def _free(loss: _Loss) -> None:
    """Also what counts as freed already: whoever wrote that down may have been killed then."""
    images = loss.images
    if not loss.punched.files:
        return
    if any(loss.new.values()):
        where = f"{images.directory}/{file_name(PUNCHED)}"
        write_punched(images.dir_lfd, loss.punched, where)
    for file, one in loss.punched.files.items():
        lfd = _open(images, file)
        try:
            for start, end in one.spans:
                _punch(lfd, start, end - start, f"{images.directory}/{file}")
        finally:
            os.close(lfd)


def _open(images: ImageSet, file: str) -> int:
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        return os.open(file, flags, dir_fd=images.dir_lfd)
    except OSError as error:
        raise files_of.cannot_write(f"{images.directory}/{file}", error) from error


def _punch(lfd: int, start: int, size: int, where: str) -> None:
    while _fallocate()(lfd, _PUNCH_HOLE | _KEEP_SIZE, start, size):
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise ImageError(
                "its pages can't be freed",
                resource=where,
                why=os.strerror(code).lower(),
                hint="the file system can't make holes" if code == errno.EOPNOTSUPP else "",
            )


@cache
def _fallocate() -> Callable[[int, int, int, int], int]:
    """fallocate(2), which Python lacks; images are read and written without our extension."""
    call = ctypes.CDLL(None, use_errno=True).fallocate64
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    found: Callable[[int, int, int, int], int] = call
    return found
