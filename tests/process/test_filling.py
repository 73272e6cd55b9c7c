"""Memory is in its place, there, before the tree is frozen here; and whatever the tree does after
that, it comes as it was when it stood."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fault.injection import eventually
from tests.support import processes
from tests.support.moved import migrating, mover, serving
from tests.support.programs import program
from tests.support.victim import SUCCESS, Victim, start
from tests.support.worlds import World, number_inside

PAGE = 4096
LEDGER_PAGES = 2048
DAY_S = 86400
FIRST = 6000
FROZEN = "ckpt.dump.run:seize"
"""What it is stopped before: everything is as it is when the rounds are over."""


@pytest.fixture(scope="module")
def tomorrow() -> Iterator[World]:
    with World(ahead_s=DAY_S) as world:
        yield world


@dataclass
class Changing:
    """tests/victims/migrate/changes.c. `pid` is its number inside."""

    victim: Victim
    pid: int

    def change(self) -> None:
        self.victim.expect_ready()
        self.victim.go("step")
        self.victim.wait_ready(60)

    def finish(self) -> None:
        self.victim.go()
        assert eventually(lambda: self.victim.out.rstrip().endswith(SUCCESS), 60), self.victim.out


@contextmanager
def changing(home: World, built: Path, folder: Path, *args: str) -> Iterator[Changing]:
    known = set(processes.tree(os.getpid()))
    binary = program("migrate/changes", *args).build(built)
    home.numbers_from(FIRST)
    victim = start(home.inside("setsid", binary, *args), folder)
    try:
        victim.wait_ready()
        outside = processes.children(victim.process.pid)[0]
        yield Changing(victim, number_inside(outside))
    finally:
        processes.end_leftovers(known)
        victim.process.returncode = 0
        victim.close()


def outside(world: World, number: int) -> int:
    """By what number we know a process of `world`."""
    mine = Path(f"/proc/{world.init}/ns/pid").readlink()
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if (
                Path(f"/proc/{entry}/ns/pid").readlink() == mine
                and number_inside(int(entry)) == number
            ):
                return int(entry)
        except OSError:
            continue
    raise AssertionError(f"{number} is not there")


def ledger_pages(pid: int) -> set[int]:
    """What does not change in the pages of a ledger, of each page that is there."""
    found: set[int] = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split()
        if len(fields) > 5 or "rw-p" not in fields:
            continue
        first, last = (int(number, 16) for number in fields[0].split("-"))
        with Path(f"/proc/{pid}/mem").open("rb") as memory:
            memory.seek(first)
            data = memory.read(last - first)
        for at in range(0, len(data), PAGE):
            number = int.from_bytes(data[at : at + 8], "little")
            trailer = int.from_bytes(data[at + PAGE - 8 : at + PAGE], "little", signed=True)
            if number and number - 1 == ~trailer:
                found.add(number)
    return found


def test_memory_is_there_before_the_tree_stands(
    here: World, there: World, built: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    with mover(here, built, tmp_path / "victim") as tree:
        with (
            serving(there, tmp_path / "images") as server,
            migrating(here, tree.pid, server.port, stopped=FROZEN) as moving,
        ):
            for number in (tree.pid, *(number_inside(pid) for pid in tree.alive())):
                assert len(ledger_pages(outside(there, number))) == LEDGER_PAGES
            assert moving.go_on() == 0, moving.err
        tree.finish()


@pytest.fixture(scope="module")
def own_terminals(here: World, tomorrow: World) -> None:
    """As machines have: their numbers are not those of others."""
    for world in (here, tomorrow):
        world.run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666", "none", "/dev/pts")


@pytest.mark.usefixtures("own_terminals")
@pytest.mark.parametrize("what", ["", "fork", "end", "low", "policy", "pty"])
def test_what_has_changed_since(
    what: str, here: World, tomorrow: World, built: Path, tmp_path: Path
) -> None:
    """Who can be the same is the same, as a descriptor of the process tells."""
    tmp_path.chmod(0o755)
    with changing(here, built, tmp_path / "victim", *what.split()) as tree:
        with (
            serving(tomorrow, tmp_path / "images") as server,
            migrating(here, tree.pid, server.port, stopped=FROZEN) as moving,
        ):
            root = os.pidfd_open(outside(tomorrow, tree.pid))
            tree.change()
            assert moving.go_on() == 0, moving.err
        has_ended = bool(select.select([root], [], [], 0)[0])
        os.close(root)
        assert has_ended == (what == "low")
        tree.finish()
