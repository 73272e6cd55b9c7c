"""What every engine must find, whatever a target does with its memory between two looks.

The victim's own account of what it has changed is the measure. The engines are held by the test.
"""

from __future__ import annotations

import pytest

from ckpt._native import ffi, lib
from ckpt.errors import TargetError
from ckpt.mem.extents import Extents
from ckpt.units import PAGE
from tests.support.case import Case
from tests.support.tracked import VARIANTS, StepError, Tracked, Variant, tracked

pytestmark = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)


def test_first_touch_and_after(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        assert not t.step("map 1 anon 64").populated
        t.step("write 1 3 5")
        t.step("write 1 0 64")
        assert t.round(1).populated.nr_pages == 64
        t.step("write 1 63 1")
        t.step("read 1 0 64")


def test_looking_does_not_forget(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 16")
        record = t.steps.do("write 1 4 2")
        for _ in range(2):
            t.demand(t.round(1, rearm=False), record)
        t.demand(t.round(1), record)
        assert not t.round(1).written


def test_zero_pages(case: Case, variant: Variant) -> None:
    """Memory that was only read is no content; written afterwards it is."""
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.steps.do("advise 1 0 64 small")
        t.steps.do("read 1 0 64")
        found = t.round(1)
        assert found.populated.nr_pages == (0 if variant.zero else 64)
        t.step("write 1 10 4")
        t.step("read 1 0 64")


def test_dontneed(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        found = t.step("advise 1 8 8 dontneed")
        assert not list(found.populated & t.steps.pages(1, 8, 8))
        t.step("write 1 10 2")
        t.step("read 1 8 8") if variant.zero else t.steps.do("read 1 8 8")


def test_dontneed_between_write_and_look(case: Case, variant: Variant) -> None:
    """What was written and given back is neither written nor content."""
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        t.steps.do("write 1 0 64")
        t.step("advise 1 0 64 dontneed")
        assert not t.round(1).populated


def test_free(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        t.steps.do("advise 1 0 32 free")
        assert not list(t.round(1).written & t.steps.pages(1, 32, 32))
        record = t.steps.do("write 1 4 4")
        assert not list(record - t.round(1).written)


def test_remove(case: Case, variant: Variant) -> None:
    """Shared memory is no content of its own, before, with marks and after it is freed."""
    with tracked(case, variant) as t:
        t.steps.do("map 1 shared 64")
        t.steps.do("write 1 0 64")
        for step in ("write 1 0 8", "advise 1 0 32 remove", "write 1 4 8"):
            t.steps.do(step)
            found = t.round(1)
            assert not found.populated and not found.written


def test_unmapped_and_mapped_again(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        t.steps.do("unmap 1")
        t.steps.do("map 1 anon 64 same")
        t.step("write 1 5 3")
        t.step("write 1 5 1")


def test_mapped_again_unarmed(case: Case, variant: Variant) -> None:
    """A look that was not told of the new mapping: all of it counts as written, each time."""
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        ranges = t.steps.mappings(1)
        t.steps.do("unmap 1")
        t.steps.do("map 1 anon 64 same")
        record = t.steps.do("write 1 5 3")
        for _ in range(2):
            t.demand(t.engine.look(ranges, rearm=True), record)


def test_grown_and_shrunk(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        t.steps.do("resize 1 96")
        t.step("write 1 60 30")
        t.step("write 1 90 1")
        t.steps.do("resize 1 16")
        t.steps.do("resize 1 64")
        t.step("write 1 30 2")
        assert t.round(1).populated.nr_pages == 18


def test_moved(case: Case, variant: Variant) -> None:
    """Over memory that was tracked, from memory that was: what stands there now is all new."""
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("map 2 anon 64")
        t.step("write 1 0 64")
        t.step("write 2 0 64")
        t.step("move 1 2", 2)
        t.step("write 2 7 2")


def test_heap(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("brk 1 16")
        t.step("write 1 0 16")
        t.step("brk 1 16")
        t.step("write 1 14 6")
        t.step("write 1 20 12")
        t.step("write 1 31 1")


def test_stack(case: Case, variant: Variant) -> None:
    """Grown by far after it was armed."""
    with tracked(case, variant) as t:
        stack = t.steps.do("stack 1 4")
        t.demand(t.round(1), stack)
        found = t.step("stack 1 600")
        assert found.written.nr_pages >= 600
        t.step("write 1 17 5")


def test_protections(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        for prot in ("r", "none", "rw"):
            t.step(f"protect 1 16 16 {prot}")
        t.step("write 1 20 4")
        t.step("protect 1 0 64 r")
        t.step("protect 1 0 64 rw")
        t.step("write 1 0 2")


def test_growsdown(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 growsdown 16")
        t.step("write 1 2 4")
        t.step("write 1 3 1")


def test_fork(case: Case, variant: Variant) -> None:
    """What the child writes is its own; copies that the parent makes are the parent's writes."""
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        t.steps.do("fork 1 0 32")
        assert not t.round(1).written
        t.step("write 1 16 32")
        t.steps.do("reap")
        assert not t.round(1).written
        t.step("write 1 0 64")


def test_exec(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        ranges = t.steps.mappings(1)
        assert t.engine.alive()
        t.steps.do("exec")
        assert not t.engine.alive()
        for call in (lambda: t.engine.look(ranges, rearm=True), lambda: t.engine.arm(ranges)):
            with pytest.raises(TargetError):
                call()


def test_end(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        ranges = t.steps.mappings(1)
        t.steps.victim.process.kill()
        t.steps.victim.process.wait()
        assert not t.engine.alive()
        with pytest.raises(TargetError):
            t.engine.look(ranges, rearm=False)
        with pytest.raises(TargetError):
            t.engine.arm(ranges)
        t.steps.quit = lambda: None  # type: ignore[method-assign]


def test_new_thread(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        t.step("thread 1 10 7")


def test_huge_pages(case: Case, variant: Variant) -> None:
    """Split by the first write to them, page-exact; collapsed again."""
    with tracked(case, variant) as t:
        t.step("map 1 anon 1024")
        t.steps.do("advise 1 0 1024 huge")
        t.step("write 1 0 1024")
        assert not t.round(1).written
        t.step("write 1 100 1")
        t.step("write 1 600 3")
        try:
            t.steps.do("advise 1 0 1024 collapse")
        except StepError:
            assert not t.round(1).written
        else:
            assert t.round(1).populated.nr_pages == 1024
        t.step("write 1 0 1024")
        t.step("write 1 1023 1")


def test_private_file(case: Case, variant: Variant) -> None:
    """Only pages that were copied are content. What gives up its copy is the file's again."""
    with tracked(case, variant) as t:
        assert not t.step("map 1 file 64").populated
        t.steps.do("read 1 0 64")
        assert not t.round(1).populated
        assert untracked_in_sync(t, t.steps.do("write 1 8 16"))
        found = t.round(1)
        t.steps.do("write 1 10 2")
        found = t.round(1)
        assert list(t.steps.pages(1, 10, 2) - found.written) == []
        t.steps.do("advise 1 8 4 dontneed")
        found = t.round(1)
        assert list(found.populated) == list(t.steps.pages(1, 12, 12))
        t.steps.do("read 1 0 64")
        assert list(t.round(1).populated) == list(t.steps.pages(1, 12, 12))
        record = t.steps.do("write 1 9 1")
        assert not list(record - t.round(1).written)


def untracked_in_sync(t: Tracked, record: object) -> bool:
    """A private mapping of a file: tracked page by page, or all its content each time."""
    found = t.round(1)
    assert list(found.written) == list(found.populated) == list(record)  # type: ignore[call-overload]
    again = t.round(1)
    if t.variant.name == "async":
        return not again.written and not again.untracked
    return list(again.written) == list(again.populated) and bool(again.untracked)


def test_private_memfd(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 memfd_private 64")
        t.step("read 1 0 64")
        t.step("write 1 8 16")
        t.step("write 1 9 3")
        found = t.step("advise 1 8 4 dontneed")
        assert list(found.populated) == list(t.steps.pages(1, 12, 12))
        t.step("write 1 10 4")


def test_read_into_pages(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        t.step("receive 1 20 13")
        t.step("receive 1 0 64")


def test_written_by_another_process(case: Case, variant: Variant) -> None:
    with tracked(case, variant) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        start = t.steps.areas[1][0]
        stamp = (77).to_bytes(8, "little")
        for page in (3, 9, 10):
            at = start + page * PAGE
            assert lib.ckpt_vm_write(t.steps.pid, at, ffi.from_buffer(stamp), 8) == 8
            t.steps.do(f"expect 1 {page} 1 77")
        record = t.steps.pages(1, 3, 1) | t.steps.pages(1, 9, 2)
        t.demand(t.round(1), record)


def test_nobody(case: Case, variant: Variant) -> None:
    with tracked(case, variant, "nobody") as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        t.step("write 1 3 1")
        t.step("receive 1 20 13")


def test_more_regions_than_the_kernel_buffers(case: Case, variant: Variant) -> None:
    """Where PAGEMAP_SCAN fills its buffer twice and comes to the end, it names a false end."""
    with tracked(case, variant) as t:
        t.step("map 1 anon 4096")
        t.step("write 1 0 4096")
        record = Extents.none()
        for page in range(0, 3000, 4):
            record = record | t.steps.do(f"write 1 {page} 1")
        found = t.round(1)
        t.demand(found, record)
        for pages in (found.populated, found.written):
            assert Extents.from_bytes(pages.to_bytes()).nr_pages == pages.nr_pages
        assert found.populated.nr_pages == 4096
