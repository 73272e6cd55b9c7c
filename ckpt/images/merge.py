"""Merging a set with sets that it builds on, so that these can go.

The new set has the identity of the newest: all of its images, its run id, and so whatever builds
on it builds on the new one as well. Pages that it took from the merged sets are its own now; what
is in older ones stays there. Nothing of the old sets is changed.

Pages are verified while they are copied, where there are sums: rot must not get a right one.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.images.checksums import Verification
from ckpt.images.directory import cannot_write, read_link
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT, Run, pagemap_messages
from ckpt.images.types import (
    CHECKSUMS,
    INVENTORY,
    PAGEMAPS,
    PAGES_CHECKSUMS,
    PARENT_ID,
    PARENT_LINK,
    PUNCHED,
    Framing,
    parse_name,
)
from ckpt.images.writer import ImageSetWriter
from ckpt.record import record
from ckpt.units import PAGE_SHIFT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ckpt.images.chain import Chain, Piece
    from ckpt.images.reader import ImageSet

_MADE_ANEW = {CHECKSUMS, PAGES_CHECKSUMS, PARENT_ID, PUNCHED, *PAGEMAPS}
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_STEP = 64 << 20


@record(frozen=True)
class _Part:
    """Bytes that stand together in one file, of set number `layer`."""

    layer: int
    pages: int
    offset: int
    size: int


def merge(chain: Chain, nr_layers: int, into: Path) -> int:
    """Write the newest set of `chain` and the `nr_layers` that it builds on as one set into the
    empty directory `into`, which stands where the link `parent` of the oldest of them leads to the
    right place (beside it). Durable when this returns; the bytes of its pages.

    Raises ImageError if a set is damaged, or the disk full; `into` holds nothing then.
    """
    newest = chain.layers[0]
    if not 0 < nr_layers < len(chain.layers):
        raise ValueError(f"{nr_layers} sets of a chain of {len(chain.layers)}")
    written = 0
    with ImageSetWriter(into, checksums=newest.has_sums) as writer:
        _link(writer, chain, nr_layers)
        for name in newest.images():
            image = parse_name(name).type
            if image.framing is not Framing.RAW and image.stem not in _MADE_ANEW:
                writer.take(name, newest.raw(name))
        verification = _verification(chain, nr_layers)
        try:
            for name in chain.page_images():
                written += _pages(writer, chain, nr_layers, name)
            verification.wait()
        finally:
            verification.cancel()
        writer.sync()
        writer.commit()
    return written


def _link(writer: ImageSetWriter, chain: Chain, nr_layers: int) -> None:
    oldest = chain.layers[nr_layers]
    if nr_layers + 1 == len(chain.layers):
        return
    below = chain.layers[nr_layers + 1]
    path = read_link(oldest.dir_lfd, PARENT_LINK, f"{oldest.directory}/{PARENT_LINK}")
    if below.exists(INVENTORY):
        writer.link_parent(path, below.inventory.dump_criu_run_id)
    else:
        writer.link_parent(path, _parent_id(oldest))


def _parent_id(images: ImageSet) -> str:
    found: str = images.read_one(PARENT_ID).run_id if images.exists(PARENT_ID) else ""
    return found


def _verification(chain: Chain, nr_layers: int) -> Verification:
    jobs = []
    for number, images in enumerate(chain.layers[: nr_layers + 1]):
        if images.has_sums:
            jobs += images.page_sums(chain.used[number])
    return Verification(jobs)


def _pages(writer: ImageSetWriter, chain: Chain, nr_layers: int, name: str) -> int:
    """One pagemap and its pages; the bytes."""
    number = chain.layers[0].pagemap(name).pages
    pieces = chain.resolve(name)
    writer.write(name, pagemap_messages(number, (_run(one, nr_layers) for one in pieces)))
    to = writer.pages(number)
    done = 0
    for part in _parts(pieces, nr_layers):
        source = chain.layers[part.layer].pages_fd(part.pages)
        done += _copy(source, part, to, f"{writer.directory}/pages-{number}.img")
        writer.advance(number, done)
    return done


def _run(piece: Piece, nr_layers: int) -> Run:
    flags = piece.flags
    if piece.layer > nr_layers:
        flags = flags & ~PE_PRESENT | PE_PARENT
    return Run(piece.start, (piece.end - piece.start) >> PAGE_SHIFT, flags)


def _parts(pieces: list[Piece], nr_layers: int) -> Iterator[_Part]:
    """What is to be copied, in the order of the pagemap, in as few parts as can be."""
    last: _Part | None = None
    for piece in pieces:
        if piece.layer > nr_layers or piece.offset is None:
            continue
        size = piece.end - piece.start
        if last and (last.layer, last.pages, last.offset + last.size) == (
            piece.layer,
            piece.pages,
            piece.offset,
        ):
            last = _Part(last.layer, last.pages, last.offset, last.size + size)
            continue
        if last:
            yield last
        last = _Part(piece.layer, piece.pages, piece.offset, size)
    if last:
        yield last


def _copy(source: int, part: _Part, to: int, where: str) -> int:
    """Append a part to the file `to`, whose position is its end."""
    at, left = part.offset, part.size
    while left:
        try:
            done = _copy_some(source, at, to, min(left, _STEP))
        except OSError as error:
            raise cannot_write(where, error) from error
        if not done:
            raise ImageError("ends before its pages do", resource=f"pages-{part.pages}.img")
        at, left = at + done, left - done
    return part.size


def _copy_some(source: int, at: int, to: int, size: int) -> int:
    """copy_file_range(2) shares blocks where the file system can."""
    try:
        return os.copy_file_range(source, to, size, offset_src=at)
    except OSError as error:
        if error.errno not in _NO_COPY:
            raise
        return os.sendfile(to, source, at, size)
