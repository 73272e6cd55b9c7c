"""Where the pages of an image set are, as the server of missing pages takes it: `sources`, which
are files or a stream, and for each pid runs of pages in them.

The server verifies a block of a file before it takes the first page from it. Blocks from which
pages were freed are verified here: they count as zeros there, whatever the file has.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from ckpt._native import lib
from ckpt.errors import ImageError
from ckpt.images.types import file_name
from ckpt.images.workingset import read_working_set
from ckpt.record import field, record

if TYPE_CHECKING:
    from ckpt.images.chain import Chain

RUN = struct.Struct("=4Q")
"""start, end, number of the source, place there: struct ckpt_lazy_run."""


FETCHED = struct.Struct("=3Q")
"""One of `Contents.first`."""


@record(frozen=True)
class Source:
    """One struct ckpt_lazy_source. `sums`, `trusted`: as there, empty if there are none."""

    kind: int
    lfd: int
    image: int
    size: int
    block: int = 0
    sums: bytes = b""
    trusted: bytes = b""


@record
class Contents:
    """`runs`: packed and ascending, by pid; `objects`: the same of shared memory, by its number, in
    places there. `first`: what to fetch first, (pid, start, end) as at the dump. `base`: the set's
    own name, empty if it has none. `folders`: descriptors of the sets' folders, the newest first,
    which keep others from changing them."""

    sources: list[Source] = field(default_factory=list)
    runs: dict[int, bytes] = field(default_factory=dict)
    objects: dict[int, bytes] = field(default_factory=dict)
    first: list[tuple[int, int, int]] = field(default_factory=list)
    folders: list[int] = field(default_factory=list)
    base: str = ""

    def packed_first(self) -> bytes:
        """`first`, as it is told to the holder."""
        return b"".join(FETCHED.pack(*one) for one in self.first)


class Remote(NamedTuple):
    """A connection to a page server: our descriptor, and how long a message is there (24 or 32
    bytes, ckpt.images.pageserver.protocol)."""

    lfd: int
    header: int


def contents_of(chain: Chain, remote: Remote | None = None) -> Contents:
    """What the newest set of `chain` has of memory that may come late. Private pages that are in no
    file come from `remote`. The descriptors stay the chain's, and the caller's. Raises
    ImageError."""
    found = Contents(
        folders=[layer.dir_lfd for layer in chain.layers],
        base=chain.layers[0].inventory.dump_criu_run_id,
    )
    numbers: dict[tuple[int, int], int] = {}

    def source_of(layer: int, pages: int) -> int:
        if (layer, pages) not in numbers:
            numbers[layer, pages] = len(found.sources)
            found.sources.append(_file(chain, layer, pages))
        return numbers[layer, pages]

    for pid in chain.layers[0].names("pagemap"):
        stream = -1
        runs = []
        for start, end, layer, pages, offset, _ in chain.resolve(f"pagemap-{pid}"):
            if offset is None:
                if stream < 0:
                    stream = _add_stream(found, remote, pid)
                runs.append(RUN.pack(start, end, stream, start))
                continue
            runs.append(RUN.pack(start, end, source_of(layer, pages), offset))
        found.runs[pid] = b"".join(runs)
    for shmid in chain.layers[0].names("pagemap-shmem"):
        found.objects[shmid] = b"".join(
            RUN.pack(start, end, source_of(layer, pages), offset)
            for start, end, layer, pages, offset, _ in chain.resolve(f"pagemap-shmem-{shmid}")
            if offset is not None
        )
    found.first = read_working_set(chain.layers[0])
    return found


def _add_stream(found: Contents, remote: Remote | None, pid: int) -> int:
    if remote is None:
        raise ImageError(
            "has pages that are in no file",
            resource=f"pagemap-{pid}.img",
            why="the dump left them with their owner",
            hint="ckpt lazy-pages --page-server",
        )
    found.sources.append(Source(lib.CKPT_LAZY_STREAM, remote.lfd, pid, remote.header))
    return len(found.sources) - 1


def _file(chain: Chain, layer: int, number: int) -> Source:
    images = chain.layers[layer]
    lfd = images.pages_fd(number)
    size = os.fstat(lfd).st_size
    wanted = images.sum_of(file_name("pages", number))
    if wanted is None:
        return Source(lib.CKPT_LAZY_FILE, lfd, 0, size)
    if wanted.size != size:
        raise ImageError(
            f"has {size} bytes",
            resource=f"{images.directory}/{file_name('pages', number)}",
            why=f"it was written with {wanted.size}",
            hint="take the image from its origin again",
        )
    trusted = bytearray(len(wanted.sums))
    for index in wanted.touched(list(wanted.punched)):
        wanted.verify_block(lfd, index)
        trusted[index] = 1
    sums = struct.pack(f"={len(wanted.sums)}Q", *wanted.sums)
    return Source(lib.CKPT_LAZY_FILE, lfd, 0, size, wanted.block, sums, bytes(trusted))
