"""Reads of a plan, carried out on a model of files and memory."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.mem import reads as reads_module
from ckpt.mem.build import Pages
from ckpt.mem.reads import Read, reads
from ckpt.units import PAGE, Range

NR_PAGES = 40
Files = dict[int, list[tuple[int, int]]]
"""By file: address and content of the pages that it holds, in the file's order."""


@st.composite
def layered(draw: st.DrawFn) -> tuple[list[Pages], dict[int, int], dict[tuple[int, int], int]]:
    """Loads as a chain gives them, ids ascending from the oldest; what shall be at each page; and
    what is in each file at each page of it."""
    nr_layers = draw(st.integers(1, 4))
    held = [draw(st.sets(st.integers(0, NR_PAGES - 1))) for _ in range(nr_layers)]
    wanted: dict[int, int] = {}
    files: dict[tuple[int, int], int] = {}
    loads: list[Pages] = []
    for layer, addresses in enumerate(held):
        for place, page in enumerate(sorted(addresses)):
            files[layer, place] = 1000 * (layer + 1) + page
    for page in range(NR_PAGES):
        owners = [layer for layer, addresses in enumerate(held) if page in addresses]
        if not owners or draw(st.integers(0, 9)) == 0:
            continue
        place = sorted(held[owners[-1]]).index(page)
        where = Range(page * PAGE, (page + 1) * PAGE)
        loads.append(Pages(where, place * PAGE, owners[-1]))
        wanted[page] = files[owners[-1], place]
    return loads, wanted, files


def joined(loads: list[Pages]) -> list[Pages]:
    """The same with neighbours in one piece, where they are so in their file, too."""
    found: list[Pages] = []
    for p in loads:
        last = found[-1] if found else None
        if (
            last
            and last.pages_id == p.pages_id
            and last.range.end == p.range.start
            and last.offset + len(last.range) == p.offset
        ):
            found[-1] = Pages(Range(last.range.start, p.range.end), last.offset, p.pages_id)
        else:
            found.append(p)
    return found


def carry_out(some: list[Read], files: dict[tuple[int, int], int]) -> dict[int, int]:
    memory: dict[int, int] = {}
    for read in some:
        at = read.offset
        for addr, length in read.parts:
            for index in range(length // PAGE):
                memory[addr // PAGE + index] = files[read.pages_id, at // PAGE]
                at += PAGE
    return memory


@settings(max_examples=500)
@given(layered(), st.sampled_from([0, PAGE, 32 * PAGE]), st.sampled_from([1, 3, 1024]))
def test_memory_is_what_it_shall_be(
    found: tuple[list[Pages], dict[int, int], dict[tuple[int, int], int]], gap: int, parts: int
) -> None:
    loads, wanted, files = found
    before = reads_module.GAP_MAX, reads_module.IOV_MAX
    reads_module.GAP_MAX, reads_module.IOV_MAX = gap, parts
    try:
        some = list(reads(joined(loads)))
    finally:
        reads_module.GAP_MAX, reads_module.IOV_MAX = before
    assert carry_out(some, files) == wanted
    assert all(len(read.parts) <= parts for read in some)


def page(number: int, place: int, ident: int, count: int = 1) -> Pages:
    return Pages(Range(number * PAGE, (number + count) * PAGE), place * PAGE, ident)


def test_a_base_with_holes_is_one_read() -> None:
    loads: list[Pages] = []
    for number in range(0, 3000, 3):
        loads += [page(number, number, 0, 2), page(number + 2, number // 3, 1)]
    some = list(reads(loads))
    assert [(read.pages_id, read.offset, len(read.parts)) for read in some] == [
        (0, 0, 1),
        (1, 0, 1000),
    ]
    assert some[0].parts == [(0, 2999 * PAGE)]


def test_nothing_is_read_over_that_no_newer_file_fills() -> None:
    for between in ([], [page(1, 9, 0)]):
        some = list(reads([page(0, 0, 1), *between, page(2, 2, 1)]))
        parts = [part for read in some if read.pages_id == 1 for part in read.parts]
        assert parts == [(0, PAGE), (2 * PAGE, PAGE)]
    first, second = reads([page(0, 0, 1), page(1, 0, 5), page(2, 2, 1)])
    assert first == (1, 0, [(0, 3 * PAGE)])
    assert second == (5, 0, [(PAGE, PAGE)])


def test_large_reads_are_cut() -> None:
    nr_pages = (5 << 29) // PAGE
    some = list(reads([page(0, 0, 0, nr_pages)]))
    assert [(read.offset, read.parts[0][1]) for read in some] == [
        (0, 1 << 30),
        (1 << 30, 1 << 30),
        (2 << 30, 1 << 29),
    ]
