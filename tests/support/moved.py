"""A tree that moves from one world to another, and what must be true of it at the end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fault.injection import eventually
from tests.support import processes
from tests.support.ckptcmd import CKPT
from tests.support.passage import Passage
from tests.support.programs import program
from tests.support.victim import SUCCESS, Victim, start
from tests.support.worlds import FIRST_PID, World, number_inside, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HALF = 2048 * 4096
"""Bytes that are on the data connection when one of the two processes has its memory there."""
DATA = 1
DRIVER = (sys.executable, "-P", "-m", "tests.support.killedat")


@dataclass
class Mover:
    """tests/victims/migrate/ledger.c, begun in `home`. `pid` is its number inside."""

    home: World
    binary: Path
    victim: Victim
    pid: int

    def alive(self) -> list[int]:
        """All its processes anywhere, by their numbers outside."""
        return running(self.binary)

    def finish(self) -> None:
        """It exists once, whole, and runs; it has lost nothing, and nobody else was it."""
        pids = self.alive()
        assert len(pids) == 2, f"{pids}: {self.victim.out}"
        assert not {processes.state(pid) for pid in pids} & {"t", "T"}
        pidfds = [os.pidfd_open(pid) for pid in pids]
        self.victim.go()
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], 60)[0], f"does not end: {self.victim.out}"
            os.close(pidfd)
        assert self.victim.out.rstrip().endswith(SUCCESS), self.victim.out
        assert eventually(lambda: not self.alive()), self.alive()


@contextmanager
def mover(home: World, built: Path, folder: Path, first: int = FIRST_PID) -> Iterator[Mover]:
    """Started, ready, and ended in any case."""
    known = set(processes.tree(os.getpid()))
    binary = program("migrate/ledger").build(built)
    home.numbers_from(first)
    victim = start(home.inside("setsid", binary), folder)
    try:
        victim.wait_ready()
        outside = processes.children(victim.process.pid)[0]
        yield Mover(home, binary, victim, number_inside(outside))
    finally:
        processes.end_leftovers(known)
        victim.process.returncode = 0
        victim.close()


@dataclass
class Serving:
    """A `ckpt serve` that listens."""

    process: subprocess.Popen[str]
    address: str
    port: int

    def said(self) -> Any:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@contextmanager
def serving(
    world: World, images: Path, *options: str | Path, killed: str = ""
) -> Iterator[Serving]:
    """`killed`: "MODULE:NAME before", see tests/support/killedat.py."""
    images.mkdir(exist_ok=True)
    command = [*DRIVER, *killed.split()] if killed else [str(CKPT)]
    words = world.inside(*command, "serve", "-D", images, "--json", *options)
    with (images.parent / "serve.err").open("a") as err:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            env=_environment(),
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (images.parent / "serve.err").read_text()
        where = json.loads(line)
        yield Serving(process, where["address"], where["port"])
    finally:
        _signal_children(process, signal.SIGTERM)
        process.communicate(timeout=60)


def migrate(
    world: World,
    pid: int,
    port: int,
    *options: str | Path,
    address: str = "127.0.0.1",
    killed: str = "",
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    """`ckpt migrate` in `world`, from its start to its end."""
    command = [*DRIVER, *killed.split()] if killed else [str(CKPT)]
    words = world.inside(*command, "migrate", pid, "--to", f"{address}:{port}", "--json", *options)
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=timeout_s, env=_environment()
    )


def moves_over_two_connections(
    tree: Mover,
    there: World,
    images: Path,
    lose: Callable[[Passage], None],
    *,
    theirs: Sequence[str | Path] = (),
    mine: Sequence[str | Path] = (),
) -> None:
    """It runs there when `lose` does away with the connection over which its memory comes, at half
    of it; over another one the rest does. `theirs`, `mine`: options of serve, of migrate."""
    with (
        serving(there, images, "--once", *theirs) as server,
        Passage(server.port, DATA, HALF, _hold) as way,
        ThreadPoolExecutor() as beside,
    ):
        options = ("--mode", "postcopy", *mine)
        migration = beside.submit(migrate, tree.home, tree.pid, way.port, *options)
        assert server.said()["pid"] == tree.pid
        lose(way)
        done = migration.result()
        assert done.returncode == 0, done.stderr
        assert server.process.wait(60) == 0
    assert "another connection is tried" in done.stderr
    assert tree.home.processes(tree.binary) == []


def _hold(passage: Passage) -> None:
    passage.held.add(DATA)


@dataclass
class Migrating:
    """A `ckpt migrate` that has stopped itself on its way. nsenter(1) stops with its child, and has
    it go on when it goes on itself."""

    process: subprocess.Popen[str]
    out: str = ""
    err: str = ""

    def go_on(self) -> int:
        """Until it has ended; its exit code."""
        self.process.send_signal(signal.SIGCONT)
        self.out, self.err = self.process.communicate(timeout=60)
        return self.process.returncode


@contextmanager
def migrating(
    world: World, pid: int, port: int, *options: str | Path, stopped: str
) -> Iterator[Migrating]:
    """`stopped`: "MODULE:NAME", before which it stops once."""
    command = [*DRIVER, stopped, "stop", "migrate"]
    words = world.inside(*command, pid, "--to", f"127.0.0.1:{port}", "--json", *options)
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    try:

        def has_stopped() -> bool:
            return process.poll() is not None or processes.state(process.pid) == "T"

        assert eventually(has_stopped, 60)
        assert process.poll() is None, process.communicate()
        yield Migrating(process)
    finally:
        _signal_children(process, signal.SIGKILL)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)


def _signal_children(process: subprocess.Popen[str], number: int) -> None:
    """Whoever nsenter(1) waits for, unless that has just ended by itself."""
    for pid in processes.children(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
