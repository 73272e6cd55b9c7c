"""A page server that goes in the middle of a dump, and dumps over TLS."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support import processes, visible
from tests.support.certificates import Authority, words
from tests.support.falseserver import false_server
from tests.support.programs import program
from tests.support.serverprocess import page_server
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.case import Case

MIB = 1 << 20


@pytest.mark.parametrize("nr_bytes", [1, 4 * MIB, 15 * MIB], ids=["start", "middle", "end"])
@pytest.mark.parametrize("verb", ["dump", "pre-dump"])
def test_the_server_goes_in_the_middle(case: Case, verb: str, nr_bytes: int) -> None:
    """The victim runs on as it was, the message names the server, nothing looks like a set."""
    victim = case.start(program("bench/resident", "16"))
    case.images.mkdir()
    before = visible.look(victim.pid, exact=True)
    with false_server(nr_bytes) as port:
        case.ckpt.run(
            *(verb, "-t", victim.pid, "-D", case.images, "--page-server", "--port", port)
        ).failed(10, f"page server 127.0.0.1:{port}")
    wait_until(victim.pid, lambda: processes.state(victim.pid) == "S")
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    assert list(case.images.iterdir()) == []
    victim.finish()


def test_over_tls(case: Case) -> None:
    folder = case.folder / "authority"
    folder.mkdir()
    ours = Authority(folder)
    served, sent = ours.issue("server", alternative="IP:127.0.0.1"), ours.issue("sender")
    here, there = case.folder / "here", case.folder / "there"
    here.mkdir()
    there.mkdir()
    victim = case.start(program("bench/resident", "16"))
    pids = victim.tree
    with page_server(there, *words(served)) as server:
        to = ("-D", here, "--page-server", "--port", server.port)
        case.ckpt.run("dump", "-t", victim.pid, *to, *words(sent)).ok()
        server.ends(0)
    victim.await_gone(pids)
    for path in here.iterdir():
        shutil.copy(path, there)
    case.ckpt.restore(there).ok()
    victim.finish()


def test_into_the_folder_of_the_dump(case: Case) -> None:
    """Server and dump on one machine, in one folder: the set is whole without a copy."""
    case.images.mkdir()
    victim = case.start(program("bench/resident", "4"))
    pids = victim.tree
    with page_server(case.images) as server:
        case.ckpt.run(
            "dump", "-t", victim.pid, "-D", case.images, "--page-server", "--port", server.port
        ).ok()
        server.ends(0)
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    victim.finish()
