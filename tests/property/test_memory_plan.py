"""Any address space can become any other: plans, carried out on a model of memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.mem.build import Memory, MemoryPlan, Pages, plan_memory
from ckpt.mem.vma import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, Backing, Status, Vma
from ckpt.restore.started import elsewhere
from ckpt.units import PAGE, Range

NR_PAGES = 24
Model = dict[int, tuple[int, int, int]]
"""Page number -> (protection, file, content); content 0 is a zero or untouched page."""


@st.composite
def memories(draw: st.DrawFn, pages_id: int = 1) -> tuple[Memory, Contents]:
    """A memory, and what stands in its pages file."""
    vmas, pages, contents = [], [], Contents()
    at = offset = 0
    while at < NR_PAGES:
        at += draw(st.integers(0, 3))
        nr = draw(st.integers(1, 6))
        if at + nr > NR_PAGES:
            break
        shmid = draw(st.sampled_from((0, 0, 7)))
        where = Range(at * PAGE, (at + nr) * PAGE)
        vmas.append(
            Vma(
                range=where,
                prot=draw(st.sampled_from((0, PROT_READ, PROT_READ | PROT_WRITE))),
                flags=MAP_PRIVATE | (0 if shmid else MAP_ANONYMOUS),
                status=Status.REGULAR,
                pgoff=where.start if shmid else 0,
                shmid=shmid,
                backing=Backing.FILE if shmid else Backing.NONE,
            )
        )
        for page in range(at, at + nr):
            value = draw(st.integers(0, 3))
            if value:
                pages.append(Pages(Range(page * PAGE, (page + 1) * PAGE), offset, pages_id))
                contents[pages_id, offset] = value
                offset += PAGE
        at += nr
    return Memory(tuple(vmas), tuple(_joined(pages))), contents


def _joined(pages: list[Pages]) -> Iterator[Pages]:
    held: Pages | None = None
    for p in pages:
        if held and held.range.end == p.range.start:
            held = Pages(Range(held.range.start, p.range.end), held.offset, p.pages_id)
        else:
            if held:
                yield held
            held = p
    if held:
        yield held


Contents = dict[tuple[int, int], int]
"""By file and offset."""


def model(memory: Memory, contents: Contents) -> Model:
    found: Model = {}
    for v in memory.vmas:
        for addr in range(v.range.start, v.range.end, PAGE):
            found[addr // PAGE] = (v.prot, v.shmid, 0)
    for p in memory.pages:
        for i in range(p.range.nr_pages):
            page = p.range.start // PAGE + i
            found[page] = (*found[page][:2], contents[p.pages_id, p.offset + i * PAGE])
    return found


def numbers(r: Range) -> range:
    return range(r.start // PAGE, r.end // PAGE)


def carry_out(plan: MemoryPlan, memory: Model, contents: Contents) -> Model:
    for r in plan.unmap:
        for page in numbers(r):
            del memory[page]
    for m in plan.map:
        for page in numbers(m.vma.range):
            assert page not in memory, "mapped over something"
            memory[page] = (m.prot, m.vma.shmid, 0)
    for r, prot in plan.open_up:
        for page in numbers(r):
            memory[page] = (prot, *memory[page][1:])
    for r in plan.discard:
        for page in numbers(r):
            memory[page] = (*memory[page][:2], 0)
    for p in plan.load:
        for i, page in enumerate(numbers(p.range)):
            assert memory[page][0] & PROT_WRITE, "loaded into read-only memory"
            memory[page] = (*memory[page][:2], contents[p.pages_id, p.offset + i * PAGE])
    for r, prot in plan.protect:
        for page in numbers(r):
            memory[page] = (prot, *memory[page][1:])
    return memory


def memory_after(draw: st.DrawFn, old: Memory, contents: Contents) -> tuple[Memory, Contents]:
    """One whose set builds on that of `old`: of pages that both have, some are the old ones."""
    new, more = draw(memories(2))
    known = dict(_single(old.pages))
    pages = [
        known[page] if page in known and draw(st.booleans()) else p
        for page, p in _single(new.pages)
    ]
    return Memory(new.vmas, tuple(pages)), contents | more


def _single(pages: Iterable[Pages]) -> Iterator[tuple[int, Pages]]:
    for p in pages:
        for page in numbers(p.range):
            yield page, p.part(Range(page * PAGE, (page + 1) * PAGE))


@settings(max_examples=300)
@given(memories(1), memories(2))
def test_any_memory_becomes_any_other(
    old: tuple[Memory, Contents], new: tuple[Memory, Contents]
) -> None:
    def differing(a: Pages, b: Pages) -> Iterator[Range]:
        for i in range(a.range.nr_pages):
            if new[1][2, a.offset + i * PAGE] != old[1][1, b.offset + i * PAGE]:
                yield Range(a.range.start + i * PAGE, a.range.start + (i + 1) * PAGE)

    plan = plan_memory(new[0], old[0], differing)
    assert carry_out(plan, model(*old), new[1]) == model(*new)


@settings(max_examples=300)
@given(st.data())
def test_what_was_filled_early_is_not_read_again(data: st.DataObject) -> None:
    old, contents = data.draw(memories(1))
    new, contents = data.draw(st.composite(memory_after)(old, contents))
    plan = plan_memory(new, old, elsewhere)
    assert carry_out(plan, model(old, contents), contents) == model(new, contents)
    mapped = {page for m in plan.map for page in numbers(m.vma.range)}
    for p in plan.load:
        assert p.pages_id == 2 or set(numbers(p.range)) <= mapped


@given(memories())
def test_a_copy_costs_nothing(memory: tuple[Memory, Contents]) -> None:
    plan = plan_memory(memory[0], memory[0], lambda _a, _b: [])
    assert not (plan.unmap or plan.map or plan.load or plan.discard or plan.protect)
    assert plan.nr_kept == sum(p.range.nr_pages for p in memory[0].pages)
