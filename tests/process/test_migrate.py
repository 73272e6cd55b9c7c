"""A tree moves between two worlds: it runs on there, once, with all that it had."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.fault.injection import eventually
from tests.support.moved import DATA, Mover, migrate, mover, moves_over_two_connections, serving
from tests.support.passage import Passage
from tests.support.processes import state
from tests.support.worlds import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tree(here: World, built: Path, tmp_path: Path) -> Iterator[Mover]:
    tmp_path.chmod(0o755)
    with mover(here, built, tmp_path / "victim") as started:
        yield started


def nothing_left(home: World, images: Path) -> None:
    """Of a migration that is over, as soon as the last process of it is."""
    assert eventually(lambda: not list(images.iterdir()), 60), list(images.iterdir())
    assert eventually(lambda: not home.run("ls", "/dev/shm"), 60)


def test_it_moves_and_comes_back(tree: Mover, here: World, there: World, tmp_path: Path) -> None:
    images = tmp_path / "images"
    with serving(there, images, "--once") as server:
        done = migrate(here, tree.pid, server.port)
        assert done.returncode == 0, done.stderr
        assert server.said()["pid"] == tree.pid
        assert server.process.wait(60) == 0
    said = json.loads(done.stdout)
    assert said["pid"] == tree.pid and said["mode"] == "precopy" and said["rounds"] >= 1
    assert said["bytes"] > 4096 * 2 * 2048
    assert 0 < said["frozen_us"] < said["downtime_us"] < said["total_us"]
    assert here.processes(tree.binary) == []
    assert len(there.processes(tree.binary)) == 2
    nothing_left(here, images)
    with serving(here, images, "--once") as server:
        done = migrate(there, tree.pid, server.port, "--pre-rounds", "1")
        assert done.returncode == 0, done.stderr
    assert there.processes(tree.binary) == []
    tree.finish()
    nothing_left(there, images)


@pytest.mark.parametrize("mode", ["postcopy", "hybrid"])
def test_memory_comes_later(
    mode: str, tree: Mover, here: World, there: World, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    with serving(there, images, "--once") as server:
        done = migrate(here, tree.pid, server.port, "--mode", mode)
        assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["mode"] == mode
    assert (said["rounds"] == 0) == (mode == "postcopy")
    assert said["bytes"] > 4096 * 2 * 2048
    assert here.processes(tree.binary) == []
    tree.finish()
    nothing_left(here, images)


def test_what_is_in_the_way_is_found_first(tree: Mover, here: World, tmp_path: Path) -> None:
    """And costs the tree nothing: it has not even been tracked."""
    images = tmp_path / "images"
    with serving(here, images) as server:
        done = migrate(here, tree.pid, server.port)
        assert done.returncode == 10
        assert f"the number {tree.pid} is taken" in done.stderr
    nothing_left(here, images)
    done = migrate(here, tree.pid, server.port)
    assert done.returncode == 10
    assert "can't be reached" in done.stderr
    tree.finish()


@pytest.mark.parametrize(
    "killed", [False, pytest.param(True, marks=pytest.mark.stress)], ids=["cut", "killed"]
)
def test_a_connection_is_lost_while_memory_comes(
    tree: Mover, here: World, there: World, tmp_path: Path, *, killed: bool
) -> None:
    """Over another one the rest comes, and the tree goes on: whether the network has failed, or
    who asks for the pages there is killed."""
    images = tmp_path / "images"

    def lose(way: Passage) -> None:
        if killed:
            there.run("pkill", "-KILL", "-x", "ckpt-lazy-pages")
            way.held.clear()
        else:
            way.cut(DATA)

    moves_over_two_connections(tree, there, images, lose)
    settle(tree, there)
    nothing_left(here, images)


HANDING = "ckpt.migrate.handover:Handing"
SOURCE = {
    "after hello": ("ckpt.migrate.hello:say_hello after", "here"),
    "after a round": ("ckpt.migrate.sets:send_files after", "here"),
    "asked to fill": ("ckpt.migrate.source:of_running after", "here"),
    "filled": ("ckpt.migrate.source:_fill after", "here"),
    "frozen": ("ckpt.dump.take:_find_pages before", "here"),
    "the set is whole": (f"{HANDING}.__call__ before", "here"),
    "it is ready there": (f"{HANDING}._let_go_of before", "here"),
    "the messenger knows it": ("ckpt.tracee.queuedstop:queue before", "here"),
    "none of them can run": ("ckpt.tracee.queuedstop:queue after", "here"),
    "told to go": (f"{HANDING}._answer before", "there"),
    "it runs there": (f"{HANDING}._answer after", "there"),
    "before the end": ("ckpt.tracee.freeze:SeizedTree.kill before", "there"),
}
BUILDER = {
    "before welcome": ("ckpt.migrate.messenger:start after", "here"),
    "fills": ("ckpt.restore.build:Site.raise_all before", "here"),
    "has filled": ("ckpt.restore.early:Early.fill after", "here"),
    "takes over": ("ckpt.restore.early:Early.hand_over after", "here"),
    "reading": ("ckpt.restore.plan:make_plan before", "here"),
    "tasks are born": ("ckpt.restore.build:Site.take_up after", "here"),
    "built": ("ckpt.restore.commit:take_over after", "here"),
    "told to go": ("ckpt.files.restore:FilesRestore.release before", "here"),
    "under the guard": ("ckpt._native.guard:Guard.__init__ after", "here"),
    "decided": ("ckpt._native.guard:Guard.send_away after", "there"),
    "let go": ("ckpt.restore.commit:let_go after", "there"),
    "receiving": ("ckpt.migrate.sets:_receive_files before", "here"),
}
FEW = {
    "the set is whole",
    "has filled",
    "none of them can run",
    "tasks are born",
    "under the guard",
    "decided",
}
STRESS = bool(os.environ.get("CKPT_STRESS"))


def some(points: dict[str, tuple[str, str]]) -> list[str]:
    """In `make test` those where most can go wrong."""
    return [name for name in points if STRESS or name in FEW]


@pytest.mark.parametrize("when", some(SOURCE))
def test_the_source_is_killed(
    when: str, tree: Mover, here: World, there: World, tmp_path: Path
) -> None:
    killed, where = SOURCE[when]
    with serving(there, tmp_path / "images") as server:
        done = migrate(here, tree.pid, server.port, "--pre-rounds", "1", killed=killed)
        assert done.returncode == -9, done.stderr
        settle(tree, {"here": here, "there": there}[where])
    nothing_left(here, tmp_path / "images")


@pytest.mark.parametrize("when", some(BUILDER))
def test_the_builder_is_killed(
    when: str, tree: Mover, here: World, there: World, tmp_path: Path
) -> None:
    killed, where = BUILDER[when]
    with serving(there, tmp_path / "images", killed=killed) as server:
        done = migrate(here, tree.pid, server.port, "--pre-rounds", "1")
        assert done.returncode == (0 if where == "there" else 10), done.stderr
        settle(tree, {"here": here, "there": there}[where])
    nothing_left(here, tmp_path / "images")


def settle(tree: Mover, where: World) -> None:
    """It is all in one place, and then proves itself. Who was killed left the rest to others."""

    def in_one_place() -> bool:
        pids = tree.alive()
        runs = len(pids) == 2 and not {state(pid) for pid in pids} & {"t", "T", ""}
        return runs and pids == where.processes(tree.binary)

    assert eventually(in_one_place, 60), (tree.alive(), where.processes(tree.binary))
    tree.finish()


LAZY_SOURCE = {
    "the set is whole": SOURCE["the set is whole"],
    "it is ready there": SOURCE["it is ready there"],
}
LAZY_BUILDER = {name: BUILDER[name] for name in ("reading", "built", "let go")}
LAZY_BUILDER["tasks are born"] = ("ckpt.restore.build:Site.raise_all after", "here")


@pytest.mark.stress
@pytest.mark.parametrize("when", LAZY_SOURCE)
def test_the_source_is_killed_with_memory_to_come(
    when: str, tree: Mover, here: World, there: World, tmp_path: Path
) -> None:
    killed, where = LAZY_SOURCE[when]
    with serving(there, tmp_path / "images") as server:
        done = migrate(here, tree.pid, server.port, "--mode", "hybrid", killed=killed)
        assert done.returncode == -9, done.stderr
        settle(tree, {"here": here, "there": there}[where])
    nothing_left(here, tmp_path / "images")


@pytest.mark.stress
@pytest.mark.parametrize("when", LAZY_BUILDER)
def test_the_builder_is_killed_with_memory_to_come(
    when: str, tree: Mover, here: World, there: World, tmp_path: Path
) -> None:
    killed, where = LAZY_BUILDER[when]
    with serving(there, tmp_path / "images", killed=killed) as server:
        done = migrate(here, tree.pid, server.port, "--mode", "hybrid")
        assert done.returncode == (0 if where == "there" else 10), done.stderr
        settle(tree, {"here": here, "there": there}[where])
    nothing_left(here, tmp_path / "images")


@pytest.mark.stress
def test_the_source_is_killed_while_it_gives_memory(
    tree: Mover, here: World, there: World, tmp_path: Path
) -> None:
    """What is there may lack memory that only the tree here has: that is not given up."""
    with serving(there, tmp_path / "images") as server:
        killed = "ckpt.mem.answering:Answering.wait before"
        done = migrate(here, tree.pid, server.port, "--mode", "postcopy", killed=killed)
        assert done.returncode == -9, done.stderr

        def stands() -> bool:
            return [state(pid) for pid in here.processes(tree.binary)] == ["T", "T"]

        assert eventually(stands, 60)
