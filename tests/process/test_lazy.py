"""Processes that run before their memory is there: they know by themselves what it must hold."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.images.chain import Chain
from ckpt.images.layers import layers_of
from ckpt.images.reader import ImageSet
from ckpt.images.workingset import read_working_set
from ckpt.mem.missing.client import Holder
from ckpt.units import PAGE
from tests.support import processes
from tests.support.lazily import (
    HOLDER,
    SERVER,
    SOCKET,
    LazyPages,
    kill_servers,
    named,
    pages_held,
    until,
    until_all_is_in,
)
from tests.support.programs import program

if TYPE_CHECKING:
    from tests.support.case import Case
    from tests.support.programs import Program
    from tests.support.victim import Victim

VICTIMS = (
    *("memory/cow_generations", "memory/mlock", "memory/sealed", "memory/growsdown"),
    "tree/children",
)
LONG = bool(os.environ.get("CKPT_STRESS"))


def machine(seed: int, nr_steps: int) -> Program:
    return program("lazy/machine", str(seed), str(nr_steps))


def dumped_elsewhere(case: Case) -> Path:
    """The set of another process."""
    images = case.folder / "elsewhere"
    victim = case.start(program("memory/private"))
    case.ckpt.dump(victim.pid, images, "--leave-running").ok()
    return images


@pytest.mark.parametrize("name", VICTIMS)
def test_victims_of_a_restore(case: Case, name: str) -> None:
    """What is visible is what it was; the rest is for the victim to say."""
    what = program(name)
    case.dump_and_restore(case.start(what), [], ["--lazy"], what.differs)
    case.victims[0].finish()


@pytest.mark.parametrize("seed", range(1, 40 if LONG else 3))
def test_memory_that_changes_while_it_comes(case: Case, seed: int) -> None:
    """Only what is waited for comes, so nearly every change is made to missing pages."""
    victim = case.dumped(machine(seed, 2000 if LONG else 400))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        if seed % 2:
            hold.unlink()
        victim.finish(timeout_s=100)
    until_all_is_in(case.images)


@pytest.mark.parametrize("_", range(40 if LONG else 1))
def test_children_that_are_born_while_memory_moves(case: Case, _: int) -> None:
    """The kernel tells the two in an order that may not be the one in which they happened."""
    victim = case.dumped(program("lazy/moving", "2000" if LONG else "200"))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        victim.finish(timeout_s=100)
        hold.unlink()
    until_all_is_in(case.images)


def test_what_the_kernel_does_not_wait_for(case: Case) -> None:
    """It is there before the first instruction, while all other pages are held back."""
    victim = case.dumped(program("lazy/locks", "some", "arguments"))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        victim.finish()
        hold.unlink()
    until_all_is_in(case.images)


@pytest.mark.parametrize("lazy_pages_first", [True, False])
def test_two_commands(case: Case, lazy_pages_first: bool) -> None:
    victim = case.dumped(machine(9, 100))
    if lazy_pages_first:
        other = LazyPages(case.images)
        case.ckpt.restore(case.images, "--lazy-pages").ok()
    else:
        argv = case.ckpt.argv("restore", "-D", case.images, "-d", "--lazy-pages")
        restore = subprocess.Popen(argv)
        other = LazyPages(case.images)
        assert restore.wait(60) == 0
    other.done()
    assert not named(HOLDER) and not (case.images / SOCKET).exists()
    victim.finish()


def test_lazy_pages_that_nobody_needs_leaves_nothing(case: Case) -> None:
    case.dumped(machine(9, 1))
    other = LazyPages(case.images)
    other.process.terminate()
    other.process.wait(60)
    until_all_is_in(case.images)


@pytest.mark.parametrize("seed", range(1, 41 if LONG else 3))
def test_the_server_is_killed(case: Case, seed: int) -> None:
    """Again and again, at moments of chance, while the victim works on memory that is missing."""
    chance = random.Random(seed)
    victim = case.dumped(machine(seed, 300))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        victim.go()
        kill_servers(victim.pid, chance)
        hold.unlink()
    victim.verdict(100)
    until_all_is_in(case.images)


def test_the_holder_is_killed(case: Case) -> None:
    """The server has the descriptors, too, and finishes."""
    victim = case.dumped(machine(3, 300))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        (holder,) = named(HOLDER)
        os.kill(holder, signal.SIGKILL)
        processes.wait_end(holder)
        hold.unlink()
    victim.finish(timeout_s=100)
    until(lambda: not named(SERVER))


NOT_NEEDED_YET = 8 << 20
"""Of the memory of tests/victims/bench/resident.c, whose pages are the largest file."""


def lose(case: Case, how: str) -> Path:
    """From a place on of which nothing was needed yet. Returns what was there."""
    path = max(case.images.glob("pages-*.img"), key=lambda path: path.stat().st_size)
    kept = case.folder / "kept"
    kept.write_bytes(path.read_bytes())
    if how == "cut short":
        os.truncate(path, NOT_NEEDED_YET)
    else:
        with path.open("r+b") as file:
            file.seek(NOT_NEEDED_YET)
            file.write(bytes(4096))
    return path


def give_back(case: Case, path: Path) -> None:
    with path.open("r+b") as file:
        file.write((case.folder / "kept").read_bytes())


@pytest.mark.parametrize("how", ["cut short", "rotten"])
def test_pages_are_lost_and_come_back(case: Case, how: str) -> None:
    """The tree is stopped, and never sees zeros; `ckpt lazy-pages` lets it go on."""
    victim = case.dumped(program("bench/resident", "16"))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        path = lose(case, how)
        hold.unlink()
    until(lambda: processes.state(victim.pid) == "T")
    refused = case.ckpt.run("dump", "-t", victim.pid, "-D", case.images / "..")
    refused.failed(5, "can't be had", path.name)
    other = dumped_elsewhere(case)
    refused = case.ckpt.run("lazy-pages", "-D", other, "-W", case.images)
    refused.failed(1, "not the images")
    give_back(case, path)
    LazyPages(case.images).done()
    victim.finish(timeout_s=100)
    until_all_is_in(case.images)


def test_lost_pages_are_told(case: Case) -> None:
    victim = case.dumped(program("bench/resident", "16"))
    with pages_held(case) as hold:
        other = LazyPages(case.images)
        case.ckpt.restore(case.images, "--lazy-pages").ok()
        lose(case, "cut short")
        hold.unlink()
    said = other.failed()
    assert other.process.returncode == 5
    assert "shorter than it was" in said and "pages-" in said
    victim.kill()
    until_all_is_in(case.images)


def test_a_page_that_the_restore_itself_needs_is_rotten(case: Case) -> None:
    """It fails and leaves nothing; with the right page it does not."""
    victim = case.dumped(program("memory/private"))
    path, at = page_of_rseq(case.images, victim.pid)
    right = path.read_bytes()
    path.write_bytes(right[:at] + b"x" * PAGE + right[at + PAGE :])
    case.ckpt.restore(case.images, "--lazy").failed(5, "pages can't be had", path.name, "rotten")
    assert not processes.state(victim.pid)
    until_all_is_in(case.images)
    path.write_bytes(right)
    case.ckpt.restore(case.images, "--lazy").ok()
    victim.finish()
    until_all_is_in(case.images)


def page_of_rseq(images: Path, pid: int) -> tuple[Path, int]:
    """Where the page is that the kernel needs for restartable sequences: its file, and the place
    there."""
    with Chain(images) as chain:
        core = chain.layers[0].read_one(f"core-{pid}")
        wanted = core.thread_core.rseq_entry.rseq_abi_pointer & -PAGE
        for start, end, _, pages, offset, _ in chain.resolve(f"pagemap-{pid}"):
            if start <= wanted < end and offset is not None:
                return images / f"pages-{pages}.img", offset + wanted - start
    raise AssertionError(f"{wanted:#x} is not there")


def test_what_was_asked_for_is_fetched_first(case: Case) -> None:
    """The second restore of a set has next to nothing to wait for, for the same work."""
    what = program("lazy/walk", "32")
    victim = case.dumped(what)
    faults = [walked(case, victim) for _ in range(2)]
    assert faults[0] > 200 and faults[1] <= faults[0] // 10


def walked(case: Case, victim: Victim) -> int:
    """Restore, let the victim walk through its memory, end it: how often it waited."""
    with pages_held(case) as hold:
        other = LazyPages(case.images, "--json")
        victim.expect_ready()
        case.ckpt.restore(case.images, "--lazy-pages").ok()
        until(partial(working_set_is_there, case.images))
        victim.go("touch")
        victim.wait_ready()
        hold.unlink()
    figures = json.loads(other.done())
    assert figures["left"] == 0
    os.close(victim.held.pop())  # the next one waits for "touch" again
    victim.kill()
    return int(figures["faults"])


def working_set_is_there(images: Path) -> bool:
    with ImageSet(images) as found:
        nr_pages = sum(end - start for _, start, end in read_working_set(found)) // PAGE
    holder = Holder.find(images)
    assert holder
    with holder:
        status: dict[str, Any] = holder.status()
    return bool(status["copied"] + status["there"] >= nr_pages)


def test_tracked_from_the_first_instruction_on(case: Case) -> None:
    """The first dump of what was restored builds on the set that it came from, and has what was
    written while pages were missing."""
    victim = case.dumped(program("lazy/walk", "32"))
    second, third = (case.folder / name for name in ("second", "third"))
    with pages_held(case) as hold:
        victim.expect_ready()
        case.ckpt.restore(case.images, "--lazy", "--track-mem").ok()
        victim.go("touch")
        victim.wait_ready()
        hold.unlink()
    until_all_is_in(case.images)
    second.mkdir()
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", second, "--prev-images-dir", "../images").ok()
    case.ckpt.dump(victim.pid, third, "--prev-images-dir", "../second").ok()
    victim.await_gone([victim.pid])
    shown = case.ckpt.show(third)
    case.ckpt.restore(third, "--lazy").ok()
    victim.finish(timeout_s=100)
    until_all_is_in(third)
    own = [layer.present for layer in layers_of(third)[0]]
    assert len(own) == 3 and sum(own[:2]) < own[2] // 8, (own, shown)
