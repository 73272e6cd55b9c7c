"""Mappings of a target that runs: as they were listed, and as they may be a moment later.

Who registers a mapping with a userfaultfd as it was listed cuts it in two if it has grown since,
and takes that back only the next time: mremap(2) fails over the border (EFAULT), and with it
realloc(3). So what is registered is the mapping with the room that it had to grow into.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ckpt.mem.extents import Extents
from ckpt.record import record
from ckpt.units import TASK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.procfs.maps import Mapping


@record(frozen=True)
class Listed:
    """`ranges`: some mappings, one range for each. `room`: what they are part of, with what was
    unmapped around; nothing for a target that stands."""

    ranges: Extents
    room: Extents

    @classmethod
    def standing(cls, ranges: Extents) -> Listed:
        return cls(ranges, Extents.none())


def listed(mappings: Sequence[Mapping], some: Iterable[tuple[int, int]]) -> Listed:
    """`some` of all the `mappings` of a task, as ranges. Both ascend."""
    ranges = list(some)
    return Listed(Extents.of(ranges), Extents.of(_rooms(mappings, ranges)))


def _rooms(
    mappings: Sequence[Mapping], ranges: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """One for mappings that touch: one that grows while it is listed may be listed in parts. What
    lies between two rooms belongs to the lower one."""
    below = {after.start: before.end for before, after in pairwise(mappings)}
    above = {before.end: after.start for before, after in pairwise(mappings)}
    anonymous = {mapping.start: not mapping.has_file for mapping in mappings}
    first = last = end_before = 0
    kind = False
    for start, end in ranges:
        if start != end_before or anonymous[start] is not kind:
            if end_before:
                yield first, last
            first = max(last, below.get(start, start))
        kind, end_before = anonymous[start], end
        last = max(end, min(above.get(end, end), TASK_SIZE))
    if end_before:
        yield first, last
