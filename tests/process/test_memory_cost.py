"""What a dump writes and a restore shares: seen in the sizes of images and in the page tables."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.support import imageset, processes
from tests.support.case import Case
from tests.support.programs import program
from tests.support.tokens import Tokens
from tests.support.visible_maps import read

PAGE = 4096


def frames(pid: int) -> dict[int, int]:
    """Page frame by address, of the present pages of private anonymous mappings."""
    found: dict[int, int] = {}
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        for mapping in read(pid, Tokens()):
            if mapping.what not in ("", "[heap]", "[stack]") or mapping.end >> 47:
                continue
            if mapping.end - mapping.start > 1 << 30:
                continue
            pagemap.seek(mapping.start // PAGE * 8)
            data = pagemap.read((mapping.end - mapping.start) // PAGE * 8)
            for i, (word,) in enumerate(struct.iter_unpack("Q", data)):
                if word >> 63 and word & (1 << 55) - 1:
                    found[mapping.start + i * PAGE] = word & (1 << 55) - 1
    return found


def shared_pages(root: int) -> dict[tuple[int, int], int]:
    """How many pages each parent below `root` has in common with each of its children."""
    return {
        (parent, child): len(frames(parent).items() & frames(child).items())
        for parent in processes.tree(root)
        for child in processes.children(parent)
    }


def test_untouched_and_zero_pages_are_not_written(case: Case) -> None:
    victim = case.start(program("memory/sparse"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    # 64 pages of its own; the rest are those of program, libraries, heap and stack.
    assert 64 * PAGE <= imageset.pages_size(case.images) < 64 * PAGE + (1 << 20)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_pages_of_files_are_not_written(case: Case) -> None:
    """Of the sixteen pages of a private file mapping three were written to."""
    victim = case.start(program("memory/file_private"))
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    assert imageset.pages_size(case.images) < 1 << 20
    victim.finish()


def test_pages_written_are_what_the_statistics_say(case: Case) -> None:
    victim = case.start(program("memory/private"))
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    stats = imageset.dump_stats(case.images)
    assert stats.pages_written * PAGE == imageset.pages_size(case.images)
    assert stats.pages_written * PAGE >= 32 << 20
    assert 0 < stats.frozen_time < 20_000_000
    victim.finish()


def test_copy_on_write_sharing_is_kept(case: Case) -> None:
    for name in ("memory/cow", "memory/cow_generations", "tree/children"):
        victim = case.start(program(name))
        before = shared_pages(victim.pid)
        pids = victim.tree
        images = case.folder / f"images-{victim.pid}"
        case.ckpt.dump(victim.pid, images).ok()
        victim.await_gone(pids)
        case.ckpt.restore(images).ok()
        after = shared_pages(victim.pid)
        assert before.keys() == after.keys()
        short = {pair: (before[pair], after[pair]) for pair in before if after[pair] < before[pair]}
        assert not short, f"{name}: pages shared before and after: {short}"
        victim.finish()


def test_restored_memory_takes_no_more_than_before(case: Case) -> None:
    def resident(pid: int) -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024

    victim = case.start(program("memory/reserve_1tib"))
    before = resident(victim.pid)
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    assert imageset.pages_size(case.images) < 4 << 20
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    assert resident(victim.pid) <= before + (1 << 20)
    victim.finish()
