"""Sender and receiver over a socket, without a process of their own: what arrives is what was sent,
and what is wrong leaves nothing."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from ckpt.errors import ImageError, PeerError
from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT, Run
from ckpt.images.pageserver import connect
from ckpt.images.pageserver.protocol import NARROW, WIDE, Command, Layout
from ckpt.images.pageserver.store import ReceivedImages
from ckpt.images.reader import ImageSet
from tests.support.pageserver import (
    PAGE,
    Server,
    message,
    names,
    pages,
    present,
    send_image,
    session,
)

if TYPE_CHECKING:
    from pathlib import Path

BASE = 0x7000_0000
RECEIVED = ["ckpt-checksums-pages.img", "pagemap-7.img", "pages-1.img"]


def content(directory: Path, name: str = "pagemap-7") -> dict[int, bytes]:
    """Every present page by its address."""
    with ImageSet(directory, pages_only=True) as images:
        pagemap = images.pagemap(name)
        lfd = images.pages_fd(pagemap.pages)
        images.verify_pages().wait()
        return {
            addr: os.pread(lfd, PAGE, extent.offset + addr - extent.range.start)
            for extent in pagemap.extents()
            if extent.offset is not None
            for addr in range(extent.range.start, extent.range.end, PAGE)
        }


def expected(runs: list[Run], data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    for run in runs:
        if run.flags & PE_PRESENT:
            for addr in range(run.range.start, run.range.end, PAGE):
                found[addr] = data[at : at + PAGE]
                at += PAGE
    return found


@pytest.mark.parametrize(
    "runs",
    [
        [present(BASE, 1)],
        [present(BASE + 2 * n * PAGE, 1) for n in range(700)],
        [present(BASE, 64), present(BASE + 100 * PAGE, 64), present(BASE + 200 * PAGE, 1000)],
        [present(BASE, 4097)],
        [present(BASE, 3), Run(BASE + 5 * PAGE, 2, PE_LAZY), present(BASE + 7 * PAGE, 2)],
        [Run(BASE, 3, PE_PRESENT | PE_LAZY)],
        [],
    ],
    ids=["page", "scattered", "buffers", "long", "lazy", "both", "none"],
)
def test_what_is_sent_arrives(tmp_path: Path, runs: list[Run]) -> None:
    data = pages(sum(run.nr_pages for run in runs if run.flags & PE_PRESENT))
    with Server(tmp_path) as server:
        with server.sender() as sender:
            assert send_image(sender, "pagemap-7", runs, data) is False
            assert names(tmp_path) == [".ckpt-pages.tmp"]
            sender.close()
        assert server.end() is None
    assert names(tmp_path) == RECEIVED
    assert content(tmp_path) == expected(runs, data)
    with ImageSet(tmp_path, pages_only=True) as images:
        assert list(images.pagemap("pagemap-7").runs) == runs
        assert images.has_sums


def test_several_images_and_several_sinks_for_one(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        with server.sender() as sender:
            send_image(sender, "pagemap-7", [present(BASE, 2)], pages(2))
            sender.open("pagemap-shmem-3")
            for n in range(3):
                sink = sender.sink([present(n * 2 * PAGE, 1)])
                os.write(sink, pages(1, seed=n))
            sender.finish()
            sender.open("pagemap-8")
            sender.close()
        assert server.end() is None
    assert content(tmp_path, "pagemap-8") == {}
    shared = {n * 2 * PAGE: pages(1, seed=n) for n in range(3)}
    assert content(tmp_path, "pagemap-shmem-3") == shared
    assert content(tmp_path) == expected([present(BASE, 2)], pages(2))


def test_splice_into_the_sink(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with Server(tmp_path) as server, server.sender() as sender:
        sender.open("pagemap-7")
        sink = sender.sink([present(BASE, 16)])
        os.write(writer, pages(16))
        left = 16 * PAGE
        while left:
            left -= os.splice(reader, sink, left)
        sender.close()
        assert server.end() is None
    os.close(reader)
    os.close(writer)
    assert content(tmp_path) == expected([present(BASE, 16)], pages(16))


@pytest.mark.parametrize("layout", [NARROW, WIDE], ids=["narrow", "wide"])
def test_both_layouts_are_understood(tmp_path: Path, layout: Layout) -> None:
    with Server(tmp_path) as server:
        asked = message(Command.PARENT, "pagemap-7", layout=layout)
        server.sock.sendall(asked)
        assert server.sock.recv(4) == bytes(4)
        server.sock.sendall(session("pagemap-7", [(present(BASE, 2), pages(2))], layout))
        answer = b""
        while len(answer) < 5:
            answer += server.sock.recv(5 - len(answer))
        assert answer == bytes(5)
        assert server.end() is None
    assert content(tmp_path) == expected([present(BASE, 2)], pages(2))


def test_a_server_that_takes_long_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It understands that it was taken for one of the wide layout."""
    monkeypatch.setattr(connect, "_PATIENCE_S", 0.001)
    data = pages(3)
    with Server(tmp_path, late=WIDE.size) as server:
        with server.sender() as sender:
            send_image(sender, "pagemap-7", [present(BASE, 3)], data)
            sender.close()
        assert server.end() is None
    assert content(tmp_path) == expected([present(BASE, 3)], data)


def test_a_server_of_the_wide_layout_is_recognised(tmp_path: Path) -> None:
    """It answers only when it has all of a wide message."""
    ours, theirs = socket.socketpair()
    got = bytearray()

    def answer() -> None:
        with theirs:
            for size, reply in ((32, bytes(4)), (32, b"\1"), (32 + PAGE, b""), (32, bytes(4))):
                data = theirs.recv(size, socket.MSG_WAITALL)
                got.extend(data)
                theirs.sendall(reply)

    server = Server(tmp_path)
    server.sock = ours
    thread = threading.Thread(target=answer)
    thread.start()
    with ours, server.sender() as sender:
        assert send_image(sender, "pagemap-7", [present(BASE, 1)], pages(1)) is True
        sender.close()
    thread.join(60)
    run = present(BASE, 1)
    opened = message(Command.OPEN2, "pagemap-7", layout=WIDE)
    added = message(Command.ADD_F, "pagemap-7", run, WIDE) + pages(1)
    assert got[32:] == opened + added + message(Command.FORCE_CLOSE, layout=WIDE)
    assert WIDE.decode(memoryview(got), 0).command == Command.PARENT


def test_pages_of_the_parent(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    with Server(old) as server, server.sender() as sender:
        send_image(sender, "pagemap-7", [present(BASE, 8)], pages(8))
        sender.close()
    runs = [
        Run(BASE, 3, PE_PARENT),
        present(BASE + 3 * PAGE, 2),
        Run(BASE + 5 * PAGE, 3, PE_PARENT),
    ]
    with Server(new, prev="../old") as server, server.sender() as sender:
        assert send_image(sender, "pagemap-7", runs, pages(2, seed=50)) is True
        assert sender.open("pagemap-8") is False
        sender.close()
    assert str((new / "parent").readlink()) == "../old"
    with Chain(new, pages_only=True) as chain:
        assert [piece.layer for piece in chain.resolve("pagemap-7")] == [1, 0, 1]


@pytest.mark.parametrize(
    "run", [Run(BASE + 8 * PAGE, 1, PE_PARENT), Run(BASE + 7 * PAGE, 2, PE_PARENT)]
)
def test_the_parent_must_have_what_is_said_to_be_there(tmp_path: Path, run: Run) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    with Server(old) as server, server.sender() as sender:
        send_image(sender, "pagemap-7", [present(BASE, 8)], pages(8))
        sender.close()
    with Server(new, prev="../old") as server:
        with server.sender() as sender, pytest.raises(PeerError):
            send_image(sender, "pagemap-7", [run], b"")
            sender.close()
        assert "the parent does not have" in str(server.end())
    assert names(new) == []


ONE = (present(BASE, 2), pages(2))
WRONG = {
    "garbage": b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n" * 10,
    "no such command": message(Command.GET, "pagemap-7"),
    "short page": session("pagemap-7", [(present(BASE, 2), pages(1))]),
    "nothing at all": b"",
    "half a message": session("pagemap-7", [ONE])[:100],
    "no close": session("pagemap-7", [ONE])[: -NARROW.size],
    "two opens": session("pagemap-7", [ONE])[: -NARROW.size] + session("pagemap-7", [ONE]),
    "not opened": message(Command.ADD_F, "pagemap-7", present(BASE, 1)) + pages(1),
    "of another image": message(Command.OPEN2, "pagemap-7")
    + message(Command.ADD_F, "pagemap-8", present(BASE, 1)),
    "overlapping": session("pagemap-7", [ONE, (present(BASE + PAGE, 1), pages(1))]),
    "descending": session("pagemap-7", [ONE, (present(BASE - PAGE, 1), pages(1))]),
    "not aligned": session("pagemap-7", [(present(BASE + 1, 2), pages(2))]),
    "empty run": session("pagemap-7", [(present(BASE, 0), b"")]),
    "beyond the end": session("pagemap-7", [(present(2**64 - PAGE, 2**32 - 1), b"")]),
    "no flags": session("pagemap-7", [(Run(BASE, 1, 0), b"")]),
    "unknown flags": session("pagemap-7", [(Run(BASE, 1, 12), pages(1))]),
    "present and in the parent": session("pagemap-7", [(Run(BASE, 1, 5), pages(1))]),
    "without parent": session("pagemap-7", [(Run(BASE, 1, PE_PARENT), b"")]),
    "huge": session("pagemap-7", [(present(BASE, 2**32 - 1), pages(3))]),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_stream_leaves_nothing(tmp_path: Path, what: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Server(tmp_path) as server:
        server.sock.sendall(WRONG[what])
        server.sock.shutdown(socket.SHUT_WR)
        answers = b""
        while got := server.sock.recv(100):
            answers += got
        assert len(answers) < 4, "the sender was told that all is well"
        error = server.end()
    assert isinstance(error, PeerError), error
    assert names(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_sender_that_is_left_takes_nothing_along(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        with pytest.raises(RuntimeError), server.sender() as sender:
            sender.open("pagemap-7")
            os.write(sender.sink([present(BASE, 2)]), pages(1))
            raise RuntimeError
        assert isinstance(server.end(), PeerError)
    assert names(tmp_path) == []


def test_fewer_pages_than_announced(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        with server.sender() as sender:
            sender.open("pagemap-7")
            os.write(sender.sink([present(BASE, 2)]), pages(1))
            with pytest.raises(ImageError, match="fewer pages came"):
                sender.finish()
        assert isinstance(server.end(), PeerError)
    assert names(tmp_path) == []


def test_a_server_that_goes_ends_the_writing(tmp_path: Path) -> None:
    """More than pipe and socket hold, into the void: EPIPE, and then the reason."""
    ours, theirs = socket.socketpair()
    server = Server(tmp_path)
    server.sock = ours

    def answer() -> None:
        theirs.recv(24, socket.MSG_WAITALL)
        theirs.sendall(bytes(4))
        theirs.recv(24, socket.MSG_WAITALL)
        theirs.sendall(b"\0")
        theirs.recv(PAGE, socket.MSG_WAITALL)
        theirs.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with ours, server.sender() as sender:
        sender.open("pagemap-7")
        sink = sender.sink([present(BASE, 1 << 20)])
        with pytest.raises(OSError) as broken:
            while True:
                os.write(sink, bytes(1 << 20))
        assert broken.value.errno == errno.EPIPE
        with pytest.raises(PeerError):
            sender.finish()
    thread.join(60)


def test_a_server_that_goes_while_nothing_is_written(tmp_path: Path) -> None:
    """The thread waits for the producer, and the producer for a writable pipe: neither may hang."""
    with Server(tmp_path) as server, server.sender() as sender:
        sender.open("pagemap-7")
        sink = sender.sink([present(BASE, 1000)])
        server.sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(BrokenPipeError):
            while True:
                os.write(sink, bytes(PAGE))
        with pytest.raises(PeerError):
            sender.finish()


def test_two_servers_in_one_directory(tmp_path: Path) -> None:
    with ReceivedImages(tmp_path), pytest.raises(ImageError, match="another page server"):
        ReceivedImages(tmp_path)
    assert names(tmp_path) == []


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    stage = tmp_path / ".ckpt-pages.tmp"
    stage.mkdir()
    (stage / ".pages-1.img.tmp").write_bytes(b"old")
    with ReceivedImages(tmp_path) as images:
        assert names(stage) == []
        images.open("pagemap-7")
        images.commit()
    assert names(tmp_path) == RECEIVED


@pytest.mark.parametrize("file", ["pages-1.img", "pagemap-7.img", "ckpt-checksums-pages.img"])
def test_a_directory_with_pages_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(ImageError, match="holds pages already"):
        ReceivedImages(tmp_path)
    assert names(tmp_path) == [file]


def test_pages_that_came_meanwhile_are_not_overwritten(tmp_path: Path) -> None:
    with ReceivedImages(tmp_path) as images:
        images.open("pagemap-7")
        (tmp_path / "pages-1.img").write_bytes(b"another's")
        with pytest.raises(ImageError, match="holds pages already"):
            images.commit()
    assert names(tmp_path) == ["pages-1.img"]


def test_another_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "parent").symlink_to("../other")
    with pytest.raises(ImageError, match="leads to"):
        ReceivedImages(tmp_path)


def test_what_is_asked_beforehand_is_not_waited_for(tmp_path: Path) -> None:
    """A server that falls silent after the questions holds no `open` up."""
    ours, theirs = socket.socketpair()
    server = Server(tmp_path)
    server.sock = ours
    names_asked = [f"pagemap-{n}" for n in range(1, 2001)]

    def answer() -> None:
        for n in range(2001):
            theirs.recv(24, socket.MSG_WAITALL)
            theirs.sendall((n % 2).to_bytes(4, "little"))

    thread = threading.Thread(target=answer)
    thread.start()
    with ours, theirs, server.sender() as sender:
        sender.prepare(names_asked)
        assert sender.open("pagemap-1") is True
        assert sender.open("pagemap-2") is False
        os.write(sender.sink([present(BASE, 1)]), pages(1))
        sender.finish()
        sent = theirs.recv(72 + PAGE, socket.MSG_WAITALL)
    thread.join(60)
    opened = [message(Command.OPEN, f"pagemap-{n}") for n in (1, 2)]
    assert sent == b"".join(
        [*opened, message(Command.ADD_F, "pagemap-2", present(BASE, 1)), pages(1)]
    )


def test_images_that_were_asked_for_arrive(tmp_path: Path) -> None:
    with Server(tmp_path) as server, server.sender() as sender:
        sender.prepare(["pagemap-7", "pagemap-8"])
        assert send_image(sender, "pagemap-7", [present(BASE, 2)], pages(2)) is False
        send_image(sender, "pagemap-9", [], b"")
        sender.close()
        assert server.end() is None
    assert content(tmp_path) == expected([present(BASE, 2)], pages(2))
    assert content(tmp_path, "pagemap-9") == {}
