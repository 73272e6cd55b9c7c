"""Ordinary programs that move between two joined worlds, for tests and for the benchmark.

Each has a record of its own that says whether all of it has arrived: redis-server its digest of all
keys, CPython the chains of tests/programs/threads.py.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.requirements import require
from tests.support import processes
from tests.support.moved import migrate, serving
from tests.support.veth import ADDRESSES, join
from tests.support.victim import SUCCESS, Victim, start
from tests.support.waiting import wait_until
from tests.support.worlds import FIRST_PID, World, number_inside

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES = ("precopy", "postcopy", "hybrid")
REDIS_PORT = 7381
_ANSWER_S = 600
"""A digest of a million keys takes its time, more so beside other work."""
_BINARY = "redis-check-rdb"
_THREADS = Path(__file__).with_name("threads.py")
_COUNTING = Path(__file__).with_name("counting.py")


@dataclass
class Place:
    """A world, and its address on the wire."""

    world: World
    address: str


@contextmanager
def two_places() -> Iterator[tuple[Place, Place]]:
    """With networks of their own, and a wire between them."""
    with World(net=True) as first, World(net=True) as second:
        join(first, second)
        yield Place(first, ADDRESSES[0]), Place(second, ADDRESSES[1])


@dataclass
class Moving:
    """A program and where it is; `pid` is its number there."""

    victim: Victim
    pid: int
    at: Place

    @property
    def outside(self) -> int:
        """Its number outside; 0 when it is not there."""
        return self.at.world.outside(self.pid)

    def move(self, to: Place, images: Path, *options: str) -> dict[str, Any]:
        """To another place; what `ckpt migrate` says of it. Nothing of it is left here then."""
        with serving(to.world, images, "--once", "--address", to.address, "--insecure") as server:
            here, port, address = self.at.world, server.port, server.address
            done = migrate(here, self.pid, port, *options, address=address)
            assert done.returncode == 0, done.stderr
            assert server.process.wait(60) == 0
        assert self.outside == 0
        self.at = to
        assert self.outside
        said: dict[str, Any] = json.loads(done.stdout)
        return said


@contextmanager
def _begun(home: Place, folder: Path, *words: str) -> Iterator[Moving]:
    """`words` run there, in a session of their own, and end in any case."""
    known = set(processes.tree(os.getpid()))
    home.world.numbers_from(FIRST_PID)
    victim = start(home.world.inside("setsid", *words), folder)
    try:
        wait_until(victim.pid, lambda: bool(processes.children(victim.pid)))
        yield Moving(victim, number_inside(processes.children(victim.pid)[0]), home)
    finally:
        processes.end_leftovers(known)
        victim.process.returncode = 0
        victim.close()


@contextmanager
def cpython(home: Place, folder: Path) -> Iterator[Moving]:
    """Five threads at work."""
    with _begun(home, folder, sys.executable, "-S", str(_THREADS)) as moving:
        moving.victim.wait_ready()
        yield moving


def finish_cpython(moving: Moving) -> list[tuple[bytes, int, str]]:
    """Let it end; what it has computed: of each chain its seed, its length, its end."""
    pidfd = os.pidfd_open(moving.outside)
    moving.victim.go()
    assert select.select([pidfd], [], [], 60)[0], moving.victim.out
    os.close(pidfd)
    lines = moving.victim.out.splitlines()
    assert lines.pop() == SUCCESS, lines
    rows = [line.split() for line in lines]
    return [(row[0].encode(), int(row[1]), row[2]) for row in rows]


@contextmanager
def redis(home: Place, folder: Path, nr_keys: int) -> Iterator[Moving]:
    """A server with so many keys, listening on all addresses and on a socket in `folder`."""
    require(shutil.which(_BINARY), "redis-tools is not installed")
    folder.parent.mkdir(exist_ok=True)
    link = folder.parent / "redis-server"
    link.symlink_to(shutil.which(_BINARY) or "")
    words = ("--port", str(REDIS_PORT), "--protected-mode", "no", "--save", "")
    options = ("--enable-debug-command", "yes", "--unixsocket", str(folder / "socket"))
    with _begun(home, folder, str(link), *words, *options) as moving:
        victim = moving.victim
        wait_until(victim.pid, lambda: "Ready to accept connections" in victim.out, 60)
        ask(moving, "DEBUG", "POPULATE", str(nr_keys), "key", "100")
        yield moving


def ask(moving: Moving, *words: str) -> str:
    """What the server answers to redis-cli, where it is."""
    command = ("redis-cli", "-p", str(REDIS_PORT), *words)
    return moving.at.world.run(*command, timeout_s=_ANSWER_S).strip()


def ask_by_name(moving: Moving, *words: str) -> str:
    """The same over its socket in the folder."""
    return moving.at.world.run("redis-cli", "-s", moving.victim.folder / "socket", *words).strip()


@contextmanager
def counting(moving: Moving, to: Place) -> Iterator[subprocess.Popen[str]]:
    """A client that counts, at work, and follows the server; see tests/programs/counting.py."""
    words = (sys.executable, "-S", _COUNTING, moving.at.address, to.address, REDIS_PORT)
    with subprocess.Popen(
        moving.at.world.inside(*words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None and client.stdin is not None
        if client.stdout.readline() != "counting\n":
            raise AssertionError(client.communicate()[1])
        try:
            yield client
        finally:
            client.stdin.close()


def counted(client: subprocess.Popen[str]) -> dict[str, int]:
    """What a client says at its end, which must be a good one."""
    assert client.stdout is not None and client.stderr is not None
    said = client.stdout.readline()
    assert client.wait(60) == 0, client.stderr.read()
    found: dict[str, int] = json.loads(said)
    return found
