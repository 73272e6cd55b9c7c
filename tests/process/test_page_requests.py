"""`ckpt page-server --lazy-pages`: a set is served page by page, in both layouts."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from ckpt.images.pagemap import PE_PARENT, PE_PRESENT, Run
from ckpt.images.pageserver.protocol import NARROW, WIDE, Command, Layout, Message
from ckpt.images.pageserver.tls import context
from ckpt.record import replace
from tests.support.certificates import Authority
from tests.support.ckptcmd import CKPT
from tests.support.pagerequests import Client
from tests.support.pageserver import PAGE, names, pages, present, send_image
from tests.support.serverprocess import ServerProcess, page_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE = 0x7000_0000
LOW = 0x40_0000
FIRST = pages(305)
SECOND = pages(100, seed=5000)


def received(folder: Path, runs: list[Run], data: bytes, *options: str) -> None:
    folder.mkdir()
    with page_server(folder, *options) as server:
        with server.sender() as sender:
            send_image(sender, "pagemap-7", runs, data)
            sender.close()
        server.ends(0)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task 7 in a chain of two: 3 pages at LOW; 300 at BASE, of which the second set has the first
    97 anew; a gap, and two more."""
    folder = tmp_path_factory.mktemp("sets")
    runs = [present(LOW, 3), present(BASE, 300), present(BASE + 400 * PAGE, 2)]
    received(folder / "first", runs, FIRST)
    runs = [
        present(LOW, 3),
        present(BASE, 97),
        Run(BASE + 97 * PAGE, 203, PE_PARENT),
        Run(BASE + 400 * PAGE, 2, PE_PARENT),
    ]
    received(folder / "second", runs, SECOND, "--prev-images-dir", "../first")
    return folder / "second"


@contextmanager
def lazy_server(images: Path, *options: str | Path) -> Iterator[ServerProcess]:
    with page_server(images, "--lazy-pages", *options) as server:
        yield server


@contextmanager
def client(server: ServerProcess, layout: Layout = NARROW) -> Iterator[Client]:
    with socket.create_connection((server.address, server.port), timeout=60) as sock:
        yield Client(sock, layout)


@pytest.mark.parametrize("layout", [NARROW, WIDE], ids=["narrow", "wide"])
def test_pages_of_a_chain(images: Path, layout: Layout) -> None:
    before = names(images)
    with lazy_server(images) as server:
        with client(server, layout) as asking:
            expected = Message(Command.ADD_F, PE_PRESENT, 3, LOW, 7)
            assert asking.get(7, LOW, 3) == (expected, SECOND[: 3 * PAGE])
            # Over the border of two sets, and of the pieces in which C sends.
            message, data = asking.get(7, BASE, 300)
            assert message.nr_pages == 300
            assert data == SECOND[3 * PAGE :] + FIRST[100 * PAGE : 303 * PAGE]
            # As far as there is no gap.
            message, data = asking.get(7, BASE + 299 * PAGE, 200)
            assert (message.nr_pages, data) == (1, FIRST[302 * PAGE : 303 * PAGE])
            for image, addr in ((7, BASE + 300 * PAGE), (8, BASE), (7, 0), (7, 1 << 46)):
                assert asking.get(image, addr, 1) == (
                    Message(Command.ADD_F, PE_PRESENT, 0, addr, image),
                    b"",
                )
            for n in range(50):
                asking.ask(7, BASE + n * PAGE, 1)
            got = b"".join(asking.answer()[1] for n in range(50))
            assert got == SECOND[3 * PAGE : 53 * PAGE]
            assert asking.leave() == 0
        said = json.loads(server.ends(0))
    assert said == {"requests": 57, "bytes": (3 + 300 + 1 + 50) * PAGE, "clients": 1}
    assert names(images) == before


@pytest.mark.parametrize("layout", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_layout_of_a_low_address(images: Path, layout: Layout) -> None:
    """That of a program that is not position-independent, in a first request."""
    with lazy_server(images) as server:
        with client(server, layout) as asking:
            assert asking.get(7, LOW + PAGE, 1)[1] == SECOND[PAGE : 2 * PAGE]
            assert asking.leave(Command.FORCE_CLOSE) == 0
        server.ends(0)


def test_a_question_for_the_parent_comes_first(images: Path) -> None:
    """With which a client finds out the layout."""
    with lazy_server(images) as server:
        with client(server) as asking:
            asking.sock.sendall(NARROW.encode(Message(Command.PARENT, image=1 << 8 | 1)))
            assert asking.exactly(4) == bytes(4)
            assert asking.get(7, BASE, 1)[1] == SECOND[3 * PAGE : 4 * PAGE]
            asking.leave()
        server.ends(0)


def test_who_was_answered_too_late_goes_on_in_the_wide_layout(images: Path) -> None:
    question = NARROW.encode(Message(Command.PARENT, image=1 << 8 | 1))
    with lazy_server(images) as server:
        with client(server, WIDE) as asking:
            asking.sock.sendall(question + question[-8:])
            assert asking.exactly(4) == bytes(4)
            assert asking.get(7, BASE, 1)[1] == SECOND[3 * PAGE : 4 * PAGE]
            asking.leave()
        server.ends(0)


HOSTILE = {
    "nothing": b"",
    "half a message": NARROW.encode(Message(Command.GET, 0, 1, BASE, 7))[:20],
    "no request": NARROW.encode(Message(Command.ADD_F, PE_PRESENT, 1, BASE, 7)),
    "no page": NARROW.encode(Message(Command.GET, 0, 1, BASE, 7))
    + NARROW.encode(Message(Command.GET, 0, 0, BASE, 7)),
    "no page address": NARROW.encode(Message(Command.GET, 0, 1, BASE + 1, 7)),
    "beyond all addresses": NARROW.encode(Message(Command.GET, 0, 1, (1 << 64) - PAGE, 7)),
    "too many": struct.pack("<I4xQQQ", Command.GET, (1 << 64) - 1, BASE, 7),
    "garbage": bytes(range(256)) * 16,
}


def test_hostile_and_vanishing_clients(images: Path) -> None:
    """None of them costs another one anything."""
    with lazy_server(images) as server:
        for sent in HOSTILE.values():
            with client(server) as asking:
                asking.sock.sendall(sent)
                with suppress(OSError):  # it may have been cut off already
                    asking.sock.shutdown(socket.SHUT_WR)
                left = b"".join(iter(partial(received_or_reset, asking), b""))
                assert len(left) <= NARROW.size + PAGE
        with client(server) as asking:
            for _ in range(100):
                asking.ask(7, BASE, 300)  # and doesn't wait for the answers
        with client(server) as asking:
            assert asking.get(7, BASE, 1)[1] == SECOND[3 * PAGE : 4 * PAGE]
            asking.leave()
        said = json.loads(server.ends(0))
        assert said["clients"] == len(HOSTILE) + 2


def received_or_reset(asking: Client) -> bytes:
    try:
        return asking.sock.recv(1 << 20)
    except ConnectionResetError:
        return b""


def test_a_file_that_is_cut_short_meanwhile(images: Path, tmp_path: Path) -> None:
    """What can't be read is not answered with anything else."""
    for name in ("first", "second"):
        subprocess.run(["cp", "-a", images.parent / name, tmp_path / name], check=True)
    with lazy_server(tmp_path / "second") as server:
        with client(server) as asking:
            assert asking.get(7, BASE + 97 * PAGE, 1)[1] == FIRST[100 * PAGE : 101 * PAGE]
            os.truncate(tmp_path / "first/pages-1.img", 102 * PAGE)
            asking.ask(7, BASE + 99 * PAGE, 1)
            with pytest.raises((EOFError, ConnectionResetError)):
                asking.answer()
        server.ends(5, "pages can't be read")


def test_rotten_pages_are_found_first(images: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        subprocess.run(["cp", "-a", images.parent / name, tmp_path / name], check=True)
    with (tmp_path / "first/pages-1.img").open("r+b") as file:
        file.seek(200 * PAGE)
        file.write(b"rot")
    words = [str(CKPT), "page-server", "--lazy-pages", "-D", str(tmp_path / "second")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 5
    assert "rotten" in done.stderr


def test_a_parent_is_the_sets_own_affair(images: Path) -> None:
    words = [str(CKPT), "page-server", "--lazy-pages", "-D", str(images)]
    words += ["--prev-images-dir", "../first"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "--lazy-pages" in done.stderr


def test_over_tls(images: Path, tmp_path: Path) -> None:
    """More than the relay and the sockets hold, asked for at once."""
    authority = Authority(tmp_path)
    ours, theirs = authority.issue("client"), authority.issue("server")
    files = ("--tls-cacert", theirs.cacert, "--tls-cert", theirs.cert, "--tls-key", theirs.key)
    with lazy_server(images, "--tls", *files) as server:
        tls = context(replace(ours, check_name=False), server=False)
        with (
            socket.create_connection((server.address, server.port), timeout=60) as sock,
            tls.wrap_socket(sock) as secure,
        ):
            asking = Client(secure, NARROW)
            for _ in range(20):
                asking.ask(7, BASE, 300)
            for _ in range(20):
                _, data = asking.answer()
                assert data == SECOND[3 * PAGE :] + FIRST[100 * PAGE : 303 * PAGE]
            assert asking.leave() == 0
        server.ends(0)
