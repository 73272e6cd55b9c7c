"""Dumps and pre-dumps that send their pages to a page server, brought together and restored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.case import Case
from tests.support.programs import program
from tests.support.serverprocess import page_server
from tests.support.victim import Victim
from tests.support.waiting import wait_until

LEDGER = program("chain/ledger")


def send(case: Case, verb: str, victim: Victim, number: int, *words: str) -> None:
    """One set, its pages on the server's side, the rest copied there afterwards."""
    here, there = case.folder / "here" / str(number), case.folder / "there" / str(number)
    here.mkdir(parents=True)
    there.mkdir(parents=True)
    prev = ("--prev-images-dir", f"../{number - 1}") if number > 1 else ()
    with page_server(there, *prev) as server:
        case.ckpt.run(
            *(verb, "-t", victim.pid, "-D", here, "--page-server", "--port", server.port),
            *(*prev, *words),
        ).ok()
        server.ends(0)
    assert not list(here.glob("pages-*.img"))
    assert (there / f"pagemap-{victim.pid}.img").exists()
    for path in here.iterdir():
        if not path.is_symlink():
            shutil.copy(path, there)


def change(victim: Victim, step: int) -> None:
    victim.expect_ready()
    victim.go(f"step{step}")
    victim.wait_ready()


@pytest.mark.parametrize("name", ["chain/ledger", "memory/shared_anonymous", "files/pipes"])
def test_a_whole_dump(case: Case, name: str) -> None:
    victim = case.start(program(name))
    pids = victim.tree
    send(case, "dump", victim, 1)
    victim.await_gone(pids)
    case.ckpt.restore(case.folder / "there" / "1").ok()
    if name == "chain/ledger":
        for step in range(1, 5):
            change(victim, step)
    victim.finish()


def test_a_chain(case: Case) -> None:
    victim = case.start(LEDGER)
    for number in range(1, 4):
        send(case, "pre-dump", victim, number)
        change(victim, number)
    send(case, "dump", victim, 4)
    sizes = [path.stat().st_size for path in sorted(case.folder.glob("there/*/pages-*.img"))]
    assert sizes[-1] < sizes[0] / 2, sizes
    victim.await_gone([victim.pid])
    case.ckpt.restore(case.folder / "there" / "4").ok()
    change(victim, 4)
    victim.finish()


def test_a_server_that_goes_away(case: Case) -> None:
    """The dump fails and says so, the victim runs on, nothing looks like a set."""
    victim = case.start(LEDGER)
    here, there = case.folder / "here", case.folder / "there"
    here.mkdir()
    there.mkdir()
    with page_server(there) as server:
        server.process.kill()
        server.process.wait()
        case.ckpt.run(
            "dump", "-t", victim.pid, "-D", here, "--page-server", "--port", server.port
        ).failed(10, "page server")
    wait_until(victim.pid, lambda: processes.state(victim.pid) == "S")
    assert not list(Path(here).iterdir())
    for step in range(1, 5):
        change(victim, step)
    victim.finish()
