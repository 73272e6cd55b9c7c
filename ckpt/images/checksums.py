"""XXH3-64 sums of the files of a set, in a file of our own beside CRIU's.

Each file has one sum per block of BLOCK bytes, so that rot is found with its place, and so that
blocks can be summed by several threads while the file still grows, and verified while a restore
already loads. The sums guard against rot and mixed-up files, not against an attacker, who can
write new sums. Without ckpt-checksums.img a set is read unverified.

Measured (2 CPUs, hot page cache): 7 GiB/s a thread by pread into 256 KiB, 12 by mmap; xxhash lets
go of the GIL. pread is used: a file that is cut short while it is mapped would kill us by SIGBUS.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.images.spans import minus
from ckpt.images.types import parse_file_name
from ckpt.record import record, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor

    from google.protobuf.message import Message

    from ckpt.images.pb.ckpt_checksums_pb2 import ckpt_checksums_entry
    from ckpt.images.spans import Spans

ALGORITHM = "xxh3-64"
BLOCK = 256 << 10
"""Who reads a set takes what it says. A lazy restore hands out no page before its whole block is
found good."""

_STRIDE = 256 << 10
_JOB = 4 << 20


@record(frozen=True)
class FileSum:
    """What one file of a set must look like. `sums` has one number per `block` bytes. `punched`:
    bytes that are gone from it, which count as zeros (ckpt.images.punched)."""

    file: str
    size: int
    sums: tuple[int, ...]
    block: int = BLOCK
    punched: tuple[tuple[int, int], ...] = ()

    def without(self, spans: Spans) -> FileSum:
        """The same with other bytes gone."""
        return replace(self, punched=tuple(spans))

    def blocks(self, used: Sequence[tuple[int, int]] | None = None) -> list[int]:
        """Indices of the blocks that hold any of the bytes `used`, in any order; without it, of
        all. Blocks of which nothing is left are not among the latter."""
        if used is None:
            return self.touched(minus([(0, self.size)], self.punched))
        size = self.block
        found = {start // size for start, _ in used}
        for start, end in used:
            if start // size != (end - 1) // size:
                found.update(range(start // size, (end - 1) // size + 1))
        return sorted(found)

    def touched(self, spans: Spans) -> list[int]:
        """Indices of the blocks that hold any of these bytes."""
        found: list[int] = []
        for start, end in within(spans, 0, self.size):
            first, last = start // self.block, (end - 1) // self.block
            if found and first <= found[-1]:
                first = found[-1] + 1
            found.extend(range(first, last + 1))
        return found

    def verify_block(self, lfd: int, index: int, buffer: memoryview | None = None) -> None:
        """Raises ImageError if block number `index` is not what was summed. `buffer`: as of
        `sum_range`."""
        start, size = self.extent(index)
        if sum_range(lfd, start, size, self.punched, buffer) != self.sums[index]:
            raise rotten(self.file, start, f"its sum is not the one recorded for {size} bytes")

    def extent(self, index: int) -> tuple[int, int]:
        """Where block number `index` begins, and its size."""
        start = index * self.block
        return start, min(self.block, self.size - start)

    def verify(self, data: bytes, where: str) -> None:
        """Raises ImageError, with the offset, if `data` of file `where` is not what was summed."""
        if len(data) != self.size:
            raise rotten(where, min(len(data), self.size), f"{len(data)} bytes, not {self.size}")
        for index, wanted in enumerate(self.sums):
            at = index * self.block
            if _sum(memoryview(data)[at : at + self.block]) != wanted:
                raise rotten(where, at, f"ckpt-checksums.img has another sum of {self.block} bytes")


def within(spans: Sequence[tuple[int, int]], start: int, end: int) -> Spans:
    """What of the ascending `spans` is between `start` and `end`."""
    if not spans:
        return []
    first = bisect_right(spans, start, key=lambda span: span[1])
    last = bisect_left(spans, end, key=lambda span: span[0])
    return [(max(a, start), min(b, end)) for a, b in spans[first:last]]


def sum_bytes(file: str, data: bytes) -> FileSum:
    """The sums of a file that is in memory."""
    view = memoryview(data)
    sums = tuple(_sum(view[at : at + BLOCK]) for at in range(0, len(view), BLOCK))
    return FileSum(file, len(data), sums)


def new_buffer() -> memoryview:
    """For `sum_range`, any number of times."""
    return memoryview(bytearray(_STRIDE))


def sum_range(
    lfd: int,
    start: int,
    size: int,
    punched: Sequence[tuple[int, int]] = (),
    buffer: memoryview | None = None,
) -> int:
    """The sum of `size` bytes of a file from `start`, or of what there is, with zeros in the place
    of `punched`. Needs 256 KiB: those of `buffer`, or some of its own."""
    import xxhash

    state = xxhash.xxh3_64()
    buffer = new_buffer() if buffer is None else buffer
    end = start + size
    while start < end:
        got = os.preadv(lfd, [buffer[: end - start]], start)
        if not got:
            break
        for gone, back in within(punched, start, start + got):
            buffer[gone - start : back - start] = bytes(back - gone)
        state.update(buffer[:got])
        start += got
    return state.intdigest()


def _sum_blocks(lfd: int, start: int, end: int) -> list[int]:
    buffer = new_buffer()
    return [sum_range(lfd, at, min(BLOCK, end - at), (), buffer) for at in range(start, end, BLOCK)]


def summing_pool() -> ThreadPoolExecutor:
    """Threads for GrowingSum. Whoever makes it shuts it down. Imports what they need now."""
    from concurrent.futures import ThreadPoolExecutor

    import xxhash  # noqa: F401 (not in the frozen window)

    return ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))


class GrowingSum:
    """Sums of a file that is still being written, by threads beside the writer.

    What lies below `advance` must not change any more. Not for use by several threads.
    """

    def __init__(self, file: str, lfd: int, pool: ThreadPoolExecutor) -> None:
        self._file = file
        self._lfd = lfd
        self._pool = pool
        self._jobs: list[Future[list[int]]] = []

    def advance(self, end: int) -> None:
        """The first `end` bytes are there. Returns at once."""
        while (start := len(self._jobs) * _JOB) + _JOB <= end:
            self._jobs.append(self._pool.submit(_sum_blocks, self._lfd, start, start + _JOB))

    def finish(self, size: int) -> FileSum:
        """The file is complete with `size` bytes. Waits for the sums."""
        self.advance(size)
        if (start := len(self._jobs) * _JOB) < size:
            self._jobs.append(self._pool.submit(_sum_blocks, self._lfd, start, size))
        sums = tuple(one for job in self._jobs for one in job.result())
        return FileSum(self._file, size, sums)


class Verification:
    """Files being verified by a thread, in order, while something else reads them.

    Starts at once. `wait` must be called before anything that came out of the files is final.
    The descriptors belong to the caller and must stay open until `wait` or `cancel` returns.
    """

    def __init__(self, files: Iterable[tuple[FileSum, int, Sequence[int]]]) -> None:
        """For each file what it must be, its descriptor, and which of its blocks to look at."""
        # Not concurrent.futures: that takes as long to import as a small restore takes.
        import threading

        self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(list(files),), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Raises ImageError with the file and the offset of the first rotten block."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Stop within a block. May be called twice, and after `wait`."""
        self._stopped = True
        self._thread.join()

    def _run(self, files: list[tuple[FileSum, int, Sequence[int]]]) -> None:
        try:
            self._verify(files)
        except BaseException as error:
            self._error = error

    def _verify(self, files: list[tuple[FileSum, int, Sequence[int]]]) -> None:
        buffer = new_buffer()
        for wanted, lfd, blocks in files:
            size = os.fstat(lfd).st_size
            if size != wanted.size:
                raise rotten(
                    wanted.file, min(size, wanted.size), f"{size} bytes, not {wanted.size}"
                )
            for index in blocks:
                if self._stopped:
                    return
                wanted.verify_block(lfd, index, buffer)


def to_message(sums: Iterable[FileSum]) -> Message:
    """The content of ckpt-checksums.img, sorted by file."""
    import ckpt.images.pb.ckpt_checksums_pb2 as pb

    message: Message = pb.ckpt_checksums_entry(
        algorithm=ALGORITHM,
        block=BLOCK,
        files=[
            pb.file_sum(name=one.file, size=one.size, sums=one.sums)
            for one in sorted(sums, key=lambda one: one.file)
        ],
    )
    return message


def from_message(message: ckpt_checksums_entry, file: str) -> dict[str, FileSum] | None:
    """The sums by file name, or None if they are of an algorithm that is not ours.

    Raises ImageError if a name is none of a set's, a size does not fit the number of sums, or the
    block is none.
    """
    if message.algorithm != ALGORITHM:
        return None
    block = message.block
    if not 4096 <= block <= 1 << 30 or block % 4096:
        raise ImageError("is damaged", resource=file, why=f"a block of {block} bytes")
    found: dict[str, FileSum] = {}
    for one in message.files:
        if parse_file_name(one.name) is None or one.name in found:
            raise ImageError("is damaged", resource=file, why=f"it lists {one.name!r}")
        if len(one.sums) != -(-one.size // block):
            raise ImageError(
                "is damaged", resource=file, why=f"{len(one.sums)} sums for {one.size} bytes"
            )
        found[one.name] = FileSum(one.name, one.size, tuple(one.sums), block)
    return found


def rotten(file: str, offset: int, why: str) -> ImageError:
    """The error for a file that is not what was written."""
    return ImageError(
        f"rotten at byte {offset}",
        resource=file,
        why=why,
        hint="take the image from its origin again",
    )


def _sum(data: memoryview) -> int:
    import xxhash

    return xxhash.xxh3_64_intdigest(data)
