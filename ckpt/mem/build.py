"""How one address space becomes the one in the images: a pure computation.

A task starts with the memory of its creator, as the images have that. What both have alike stays
as it is, and with it the sharing of pages that neither has written since their fork; the rest is
unmapped, mapped anew and filled.

Order of execution (the operations depend on it):

1. `unmap`, 2. `map`, 3. `open_up` (make read-only memory writable) and `bind`, 4. `discard`,
5. `load`, 6. `protect`; and after every child has been cloned: 7. `guard` (not in locked memory),
8. `advise`, 9. `lock`, which a fork does not pass on or must not see.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from ckpt.kerndat.hugetlb import MAP_HUGETLB, SIZE_BITS
from ckpt.mem.vma import (
    MADE_BY_KERNEL,
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    Backing,
    Vma,
)
from ckpt.record import field, record
from ckpt.units import PAGE, PAGE_SHIFT, Range, gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ckpt.mem.policy import Policy

_KEPT_FLAGS = MAP_SHARED | MAP_PRIVATE | MAP_GROWSDOWN | MAP_NORESERVE
_HUGE_FLAGS = MAP_HUGETLB | SIZE_BITS
_ALIKE_FLAGS = _KEPT_FLAGS | _HUGE_FLAGS


class Pages(NamedTuple):
    """Pages `range` of an address space, at `offset` of the pages file `pages_id`."""

    range: Range
    offset: int
    pages_id: int

    def part(self, range_: Range) -> Pages:
        return Pages(range_, self.offset + range_.start - self.range.start, self.pages_id)


@record(frozen=True)
class Memory:
    """An address space as the images have it: mappings and contents, ascending, guard pages."""

    vmas: tuple[Vma, ...]
    pages: tuple[Pages, ...]
    guards: tuple[Range, ...] = ()

    def ordinary(self) -> list[Vma]:
        """Without what the kernel itself maps."""
        return [v for v in self.vmas if v.backing not in MADE_BY_KERNEL]


NOTHING = Memory((), ())


@record(frozen=True)
class Map:
    """mmap of `vma.range` with protection `prot`."""

    vma: Vma
    prot: int

    @property
    def flags(self) -> int:
        of_file = self.vma.file_backed
        more = 0 if of_file else self.vma.flags & _HUGE_FLAGS | MAP_ANONYMOUS
        return self.vma.flags & _KEPT_FLAGS | more | MAP_FIXED_NOREPLACE


@record
class MemoryPlan:
    """The operations, each list ascending. `nr_kept` counts pages that stayed shared, `nr_compared`
    those that were looked at for that."""

    unmap: list[Range] = field(default_factory=list)
    map: list[Map] = field(default_factory=list)
    open_up: list[tuple[Range, int]] = field(default_factory=list)
    bind: list[tuple[Range, Policy]] = field(default_factory=list)
    discard: list[Range] = field(default_factory=list)
    load: list[Pages] = field(default_factory=list)
    protect: list[tuple[Range, int]] = field(default_factory=list)
    advise: list[tuple[Range, int]] = field(default_factory=list)
    lock: list[Range] = field(default_factory=list)
    guard: list[Range] = field(default_factory=list)
    nr_kept: int = 0
    nr_compared: int = 0

    @property
    def nr_loaded(self) -> int:
        return sum(p.range.nr_pages for p in self.load)


@record(frozen=True)
class _Kept:
    """A piece of the creator's mapping `old` that becomes a piece of `new`."""

    range: Range
    new: Vma
    old: Vma


def plan_memory(
    new: Memory, old: Memory, differing: Callable[[Pages, Pages], Iterable[Range]]
) -> MemoryPlan:
    """The way from the creator's memory `old` to `new`. `differing` tells which of two equally long
    runs of pages differ: ranges of addresses of the first."""
    plan = MemoryPlan()
    kept = list(_kept(new.ordinary(), old.ordinary()))
    kept_ranges = [k.range for k in kept]
    for v in old.ordinary():
        plan.unmap.extend(gaps(_over(kept_ranges, v.range), v.range))
    _fill_kept(plan, kept, new, old, differing)
    for v in new.ordinary():
        _map_rest(plan, v, _over(kept_ranges, v.range), new.pages)
        plan.advise.extend((v.range, advice) for advice in v.advices())
        if v.locked:
            plan.lock.append(v.range)
    plan.guard.extend(new.guards)
    plan.load.sort(key=lambda p: p.range.start)
    return plan


def _kept(new: Sequence[Vma], old: Sequence[Vma]) -> Iterator[_Kept]:
    i = j = 0
    while i < len(new) and j < len(old):
        both = new[i].range.intersection(old[j].range)
        if both and _alike(new[i], old[j]):
            yield _Kept(both, new[i], old[j])
        if new[i].range.end <= old[j].range.end:
            i += 1
        else:
            j += 1


def _alike(a: Vma, b: Vma) -> bool:
    same = a.backing is b.backing and a.flags & _ALIKE_FLAGS == b.flags & _ALIKE_FLAGS
    if not same or not a.of_object:
        return same
    return a.shmid == b.shmid and a.pgoff - a.range.start == b.pgoff - b.range.start


def _fill_kept(
    plan: MemoryPlan,
    kept: Sequence[_Kept],
    new: Memory,
    old: Memory,
    differing: Callable[[Pages, Pages], Iterable[Range]],
) -> None:
    for piece in kept:
        writes = False
        if piece.new.policy != piece.old.policy:
            plan.bind.append((piece.range, piece.new.policy))
        if piece.new.private:
            own = list(clip(new.pages, piece.range))
            inherited = list(clip(old.pages, piece.range))
            plan.discard.extend(_without(inherited, own))
            loads = list(_changed(plan, own, inherited, differing))
            plan.load.extend(loads)
            writes = bool(loads)
        if writes and not piece.old.prot & PROT_WRITE:
            plan.open_up.append((piece.range, PROT_READ | PROT_WRITE))
            plan.protect.append((piece.range, piece.new.prot))
        elif piece.new.prot != piece.old.prot:
            plan.protect.append((piece.range, piece.new.prot))


def _without(pages: Sequence[Pages], others: Sequence[Pages]) -> Iterator[Range]:
    """Where there are `pages` and none of `others`; both ascend."""
    i, nr = 0, len(others)
    for p in pages:
        at, end = p.range.start, p.range.end
        while i < nr and (there := others[i].range).start < end:
            if there.start > at:
                yield Range(at, there.start)
            if there.end > end:
                at = end
                break
            at = max(at, there.end)
            i += 1
        if at < end:
            yield Range(at, end)


def _changed(
    plan: MemoryPlan,
    own: Sequence[Pages],
    inherited: Sequence[Pages],
    differing: Callable[[Pages, Pages], Iterable[Range]],
) -> Iterator[Pages]:
    """What of `own` is not in `inherited`. Walks both at once: they may be many thousands, and
    somebody waits. Pages from one place of one file need not be looked at."""
    j, nr = 0, len(inherited)
    for mine in own:
        at, end = mine.range.start, mine.range.end
        shift = mine.offset - at
        while j < nr and (theirs := inherited[j]).range.start < end:
            there = theirs.range
            if there.end <= at:
                j += 1
                continue
            if there.start > at:
                yield mine.part(Range(at, there.start))
                at = there.start
            stop = min(end, there.end)
            same = theirs.pages_id == mine.pages_id and theirs.offset - there.start == shift
            nr_same = stop - at >> PAGE_SHIFT
            plan.nr_compared += nr_same
            if not same:
                both = Range(at, stop)
                differ = list(differing(mine.part(both), theirs.part(both)))
                nr_same -= sum(r.nr_pages for r in differ)
                yield from (mine.part(r) for r in differ)
            plan.nr_kept += nr_same
            at = stop
            if at == end:
                break
        if at < end:
            yield mine.part(Range(at, end))


def clip(pages: Sequence[Pages], within: Range) -> Iterator[Pages]:
    """What of the ascending `pages` lies in `within`."""
    first = bisect_right(pages, within.start, key=lambda p: p.range.end)
    last = bisect_left(pages, within.end, key=lambda p: p.range.start)
    for p in pages[first:last]:
        if within.start <= p.range.start and p.range.end <= within.end:
            yield p
        elif both := p.range.intersection(within):
            yield p.part(both)


def _over(ranges: Sequence[Range], what: Range) -> Sequence[Range]:
    """Those of the ascending, disjoint `ranges` that overlap `what`."""
    first = bisect_right(ranges, what.start, key=lambda r: r.end)
    last = bisect_left(ranges, what.end, key=lambda r: r.start)
    return ranges[first:last]


def _map_rest(plan: MemoryPlan, v: Vma, kept: Sequence[Range], pages: Sequence[Pages]) -> None:
    for part in gaps(kept, v.range):
        contents = list(clip(pages, part)) if v.private else []
        plan.load.extend(contents)
        needs_write = bool(contents) and not v.prot & PROT_WRITE
        piece = Vma(
            range=part,
            prot=v.prot,
            flags=v.flags,
            status=v.status,
            pgoff=v.pgoff + part.start - v.range.start,
            shmid=v.shmid,
            advice=v.advice,
            file_flags=v.file_flags,
            backing=v.backing,
            policy=v.policy,
        )
        plan.map.append(Map(piece, PROT_READ | PROT_WRITE if needs_write else v.prot))
        if needs_write:
            plan.protect.append((part, v.prot))
        if v.policy:
            plan.bind.append((part, v.policy))


def segments_fit(vmas: Iterable[Vma], sizes: Mapping[int, tuple[int, int]]) -> Vma | None:
    """The first mapping of System V shared memory that no segment has room for, or that has not its
    pages. `sizes`, by id: of the segment, and of its huge pages, or 0."""
    for v in vmas:
        if v.backing is not Backing.SYSV:
            continue
        size, huge_page = sizes.get(v.shmid, (0, 0))
        if v.pgoff + len(v.range) > size or v.huge_page != huge_page:
            return v
    return None


def free_window(vmas: Iterable[Vma], size: int) -> int:
    """An address where none of `vmas` is, for a window of `size` bytes. Raises ValueError."""
    taken = [v.range for v in vmas if v.range.end <= 1 << 47]
    middle = Range(1 << 36, 0x5000_0000_0000)
    room = size + 2 * 16 * PAGE
    for gap in gaps(taken, middle):
        if len(gap) >= room:
            return gap.start + 16 * PAGE
    raise ValueError("the tasks leave no room for a window in their address spaces")
