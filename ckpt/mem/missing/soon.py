"""What of the memory that comes late a task needs at once: pure.

Around the stack pointer, the thread pointer and the instruction pointer of each thread; and small
mappings, where libraries have their data. It is on its way while the rest of the task is restored,
so that the first instructions do not wait for page after page.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from ckpt.units import PAGE, Range, page_down

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_SMALL = 64 * PAGE
_SMALL_IN_ALL = 1024 * PAGE
_NR_MAX = 4096


class Thread(NamedTuple):
    """Registers: addresses, or whatever the thread has there."""

    sp: int
    tp: int
    ip: int


def wanted_soon(late: Sequence[Range], threads: Iterable[Thread]) -> list[Range]:
    """Parts of the ascending `late`, the most urgent first; some may be there twice."""
    found = [part for near in _near(threads) for part in _within(late, near)]
    room = _SMALL_IN_ALL
    for r in late:
        if len(r) <= min(_SMALL, room):
            found.append(r)
            room -= len(r)
    return found[:_NR_MAX]


def _near(threads: Iterable[Thread]) -> Iterator[Range]:
    for thread in threads:
        for addr, before, behind in ((thread.sp, 1, 8), (thread.tp, 1, 2), (thread.ip, 0, 4)):
            page = page_down(addr)
            yield Range(max(0, page - before * PAGE), page + behind * PAGE)


def _within(late: Sequence[Range], near: Range) -> Iterator[Range]:
    for r in late[bisect_right(late, near.start, key=lambda r: r.end) :]:
        part = r.intersection(near)
        if part is None:
            return
        yield part
