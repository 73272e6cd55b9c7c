"""Connections of UNIX sockets that lead out of the tree: refused, or left out by --unix-close."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support import processes
from tests.support.programs import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.case import Case
    from tests.support.victim import Victim


@contextmanager
def connected(victim: Victim, said: bytes) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(victim.folder / "socket"))
        client.sendall(said)
        yield client


@contextmanager
def served(case: Case) -> Iterator[Victim]:
    """The victim, with its first connection accepted."""
    victim = case.start(program("outside/unix_server"))
    victim.expect_ready()
    with connected(victim, b"hello"):
        victim.wait_ready()
        yield victim


def test_they_come_back_closed(case: Case) -> None:
    with served(case) as victim, connected(victim, b"lost"):
        pids = victim.tree
        case.ckpt.dump(victim.pid, case.images).failed(3, "outside the tree", "--unix-close")
        said = case.ckpt.run("check", "--tree", victim.pid, "--unix-close").ok()
        assert "Looks good" in said.stdout, said
        case.ckpt.dump(victim.pid, case.images, "--unix-close").ok()
        victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    with connected(victim, b"new"):
        victim.finish()


def test_a_live_dump_leaves_them_to_the_tree(case: Case) -> None:
    """They go on in the tree, and in the image they have ended."""
    with served(case) as victim:
        pids = victim.tree
        case.ckpt.dump(victim.pid, case.images, "--live").ok()
    with connected(victim, b"new"):
        victim.finish()
    processes.wait_gone(pids)
    (victim.folder / "out").write_text("")
    victim.process.returncode = None
    case.ckpt.restore(case.images).ok()
    with connected(victim, b"new"):
        victim.finish()
