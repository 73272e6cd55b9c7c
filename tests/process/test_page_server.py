"""`ckpt page-server` as a process of its own: how it starts, what it keeps, how it ends."""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ckpt.errors import ImageError, PeerError
from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_PARENT, Run
from ckpt.images.pageserver.sender import PageSender, ServerAddress
from ckpt.images.reader import ImageSet
from ckpt.images.writer import ImageSetWriter
from tests.requirements import require
from tests.support.ckptcmd import CKPT
from tests.support.image_set import inventory
from tests.support.pageserver import PAGE, names, pages, present, send_image
from tests.support.serverprocess import page_server

if TYPE_CHECKING:
    from pathlib import Path

BASE = 0x7000_0000
RUNS = [present(BASE, 300), present(BASE + 400 * PAGE, 5)]
DATA = pages(305)
RECEIVED = ["ckpt-checksums-pages.img", "pagemap-7.img", "pages-1.img"]


def command(*words: str | Path | int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CKPT), "page-server", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_whole_session(tmp_path: Path) -> None:
    with page_server(tmp_path) as server:
        assert server.address == "127.0.0.1"
        with server.sender() as sender:
            send_image(sender, "pagemap-7", RUNS, DATA)
            sender.close()
            assert names(tmp_path) == RECEIVED, "close returns before the images are there"
        assert json.loads(server.ends(0)) == {"images": 1, "bytes": len(DATA)}
    assert names(tmp_path) == RECEIVED
    assert (tmp_path / "pages-1.img").read_bytes() == DATA


def test_ipv6(tmp_path: Path) -> None:
    with page_server(tmp_path, "--address", "::1") as server:
        with server.sender() as sender:
            send_image(sender, "pagemap-7", RUNS, DATA)
            sender.close()
        server.ends(0)


def test_a_socket_that_is_given(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        page_server(
            tmp_path, "--ps-socket", theirs.fileno(), pass_fds=(theirs.fileno(),)
        ) as server,
    ):
        with PageSender(ServerAddress(lfd=ours.fileno()), None) as sender:
            send_image(sender, "pagemap-7", RUNS, DATA)
            sender.close()
        server.ends(0)
    assert names(tmp_path) == RECEIVED


def test_status_fd_gets_one_zero_byte(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with page_server(tmp_path, "--status-fd", writer, pass_fds=(writer,)):
        os.close(writer)
        assert os.read(reader, 10) == b"\0"
        assert os.read(reader, 10) == b"", "it keeps the descriptor"
    os.close(reader)


def test_daemon_returns_when_it_listens_and_ends_by_itself(tmp_path: Path) -> None:
    images, logs = tmp_path / "images", tmp_path / "logs"
    images.mkdir()
    logs.mkdir()
    options = ("-D", images, "-W", logs, "--daemon", "--pidfile", "pid", "-o", "log", "--json")
    done = command(*options)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    pid = int((logs / "pid").read_text())
    assert pid == said["pid"]
    assert os.getsid(pid) == pid
    pidfd = os.pidfd_open(pid)
    with PageSender(ServerAddress(port=said["port"]), None) as sender:
        send_image(sender, "pagemap-7", RUNS, DATA)
        sender.close()
    assert select.select([pidfd], [], [], 60)[0], "it does not end"
    os.close(pidfd)
    assert names(images) == RECEIVED
    assert "Error" not in (logs / "log").read_text()
    again = command("-D", tmp_path, *options[2:])
    assert again.returncode == 2, "a pidfile that is there is not replaced"
    assert "pidfile" in again.stderr


@pytest.mark.parametrize("more", [(), ("--daemon",)], ids=["foreground", "daemon"])
def test_a_port_in_use(tmp_path: Path, more: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = command("-D", tmp_path, "--port", taken.getsockname()[1], *more)
    assert done.returncode == 7
    assert "can't listen" in done.stderr
    assert names(tmp_path) == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_other_machines_only_with_tls_or_on_demand(tmp_path: Path, address: str) -> None:
    done = command("-D", tmp_path, "--address", address)
    assert done.returncode == 2
    assert "--insecure" in done.stderr
    with page_server(tmp_path, "--address", address, "--insecure") as server:
        local = "127.0.0.1" if address == "0.0.0.0" else "::1"
        with PageSender(ServerAddress(local, server.port), None) as sender:
            send_image(sender, "pagemap-7", RUNS, DATA)
            sender.close()
        server.ends(0)


def test_an_address_that_there_is_not(tmp_path: Path) -> None:
    assert command("-D", tmp_path, "--address", "256.1.1.1").returncode == 2
    assert command("-D", tmp_path / "nowhere").returncode == 5
    assert command("-D", tmp_path, "--port", "65536").returncode == 2
    assert command("-D", tmp_path, "--ps-socket", "77").returncode == 2


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(PeerError, match="can't be reached"):
        PageSender(ServerAddress(port=port), None)


STAGES = ("connected", "opened", "in the middle", "all sent")


def until(stage: str, sender: PageSender) -> None:
    """As far as `stage` into a session; the image has 8 MiB, more than sockets hold."""
    if stage == "connected":
        return
    sender.open("pagemap-7")
    if stage == "opened":
        return
    sink = sender.sink([present(BASE, 2048)])
    nr_pages = 1024 if stage == "in the middle" else 2048
    for _ in range(nr_pages // 16):
        os.write(sink, bytes(16 * PAGE))
    if stage == "all sent":
        sender.finish()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_the_server_is_killed(tmp_path: Path, stage: str, signum: signal.Signals) -> None:
    with page_server(tmp_path) as server:
        with server.sender() as sender:
            until(stage, sender)
            server.process.send_signal(signum)
            server.process.wait(60)
            with pytest.raises(ImageError):
                if stage == "in the middle":
                    # Where the thread waits for pages it sees the end of the connection.
                    sender.finish()
                else:
                    sender.close()
        assert names(tmp_path) == ([".ckpt-pages.tmp"] if signum == signal.SIGKILL else [])
    with page_server(tmp_path) as server:
        with server.sender() as sender:
            send_image(sender, "pagemap-7", RUNS, DATA)
            sender.close()
        server.ends(0)
    assert names(tmp_path) == RECEIVED


SENDER = """
import os, signal, sys
from ckpt.images.pageserver.sender import PageSender, ServerAddress
from tests.process.test_page_server import until
with PageSender(ServerAddress(port=int(sys.argv[1])), None) as sender:
    until(sys.argv[2], sender)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("stage", STAGES)
def test_the_sender_is_killed(tmp_path: Path, stage: str) -> None:
    with page_server(tmp_path) as server:
        done = subprocess.run(
            [sys.executable, "-c", SENDER, str(server.port), stage],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
            timeout=60,
        )
        assert done.returncode == -signal.SIGKILL
        server.ends(10, "sender")
    assert names(tmp_path) == []


def send_until_it_fails(sender: PageSender, nr_pages: int) -> None:
    with pytest.raises(ImageError):
        try:
            send_image(sender, "pagemap-7", [present(BASE, nr_pages)], bytes(nr_pages * PAGE))
        except BrokenPipeError:
            sender.finish()
        sender.close()


def test_a_full_disk(tmp_path: Path) -> None:
    images = tmp_path / "small"
    images.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", images], capture_output=True, check=False
    )
    require(mounted.returncode == 0, "tmpfs can't be mounted")
    try:
        with page_server(images) as server:
            with server.sender() as sender:
                send_until_it_fails(sender, 4096)
            server.ends(5, "no space left", "make room")
        assert names(images) == []
    finally:
        subprocess.run(["umount", "-l", images], check=True)


def test_a_limit_of_file_size(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    with page_server(tmp_path, prepare=limit) as server:
        with server.sender() as sender:
            send_until_it_fails(sender, 4096)
        server.ends(5, "file too large")
    assert names(tmp_path) == []


def test_the_commit_fails(tmp_path: Path) -> None:
    """All pages are there, and then they can't be kept: the sender is told."""
    with page_server(tmp_path) as server:
        with server.sender() as sender:
            send_image(sender, "pagemap-7", RUNS, DATA)
            (tmp_path / "pages-9.img").write_bytes(b"")
            with pytest.raises(PeerError, match="could not keep the images: it answered 5"):
                sender.close()
        server.ends(5, "holds pages already")
    assert names(tmp_path) == ["pages-9.img"]


def test_a_server_that_stands_holds_the_producer_up(tmp_path: Path) -> None:
    """Back-pressure: what the pipe and the sockets hold, no more, is taken; then it goes on."""
    size = 64 << 20
    with page_server(tmp_path) as server:
        with server.sender() as sender:
            sender.open("pagemap-7")
            sink = sender.sink([present(BASE, size // PAGE)])
            server.process.send_signal(signal.SIGSTOP)
            os.set_blocking(sink, False)
            taken = _write_what_fits(sink, size)
            assert taken < size // 2
            server.process.send_signal(signal.SIGCONT)
            os.set_blocking(sink, True)
            while taken < size:
                taken += os.write(sink, bytes(min(1 << 20, size - taken)))
            sender.close()
        server.ends(0)
    assert (tmp_path / "pages-1.img").stat().st_size == size


def _write_what_fits(sink: int, most: int) -> int:
    """Until nothing was taken for a quarter of a second."""
    poll = select.poll()
    poll.register(sink, select.POLLOUT)
    taken = 0
    while taken < most and poll.poll(250):
        try:
            taken += os.write(sink, bytes(64 << 10))
        except OSError as error:
            assert error.errno == errno.EAGAIN, error
    return taken


def test_a_dump_into_the_same_folder(tmp_path: Path) -> None:
    """The other images are written there meanwhile, and become whole after the pages."""
    with page_server(tmp_path) as server, ImageSetWriter(tmp_path) as writer:
        with server.sender() as sender:
            send_image(sender, "pagemap-7", RUNS, DATA)
            writer.write("inventory", [inventory()])
            writer.sync()
            sender.close()
        writer.commit()
        server.ends(0)
    with ImageSet(tmp_path) as images:
        assert images.pagemap("pagemap-7").nr_present == 305
        images.verify_pages().wait()


def second(tmp_path: Path, *options: str, nr_new: int = 100) -> Path:
    """A set of 305 pages in `first`, and one upon it with its first `nr_new` pages anew."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with page_server(tmp_path / "first") as server:
        with server.sender() as sender:
            send_image(sender, "pagemap-7", RUNS, DATA)
            sender.close()
        server.ends(0)
    runs = [present(BASE, nr_new), Run(BASE + nr_new * PAGE, 300 - nr_new, PE_PARENT)]
    with page_server(tmp_path / "second", "--prev-images-dir", "../first", *options) as server:
        with server.sender() as sender:
            assert send_image(sender, "pagemap-7", runs, pages(nr_new, seed=1000)) is True
            sender.close()
        server.ends(0)
    return tmp_path / "second"


def test_a_set_upon_another(tmp_path: Path) -> None:
    images = second(tmp_path)
    assert str((images / "parent").readlink()) == "../first"
    with Chain(images, pages_only=True) as chain:
        pieces = chain.resolve("pagemap-7")
        assert [(piece.layer, piece.range.nr_pages) for piece in pieces] == [(0, 100), (1, 200)]
        chain.verify_pages().wait()


def test_what_came_anew_is_freed(tmp_path: Path) -> None:
    images = second(tmp_path, "--auto-dedup", nr_new=250)
    first = (tmp_path / "first/pages-1.img").stat()
    assert first.st_size == len(DATA)
    assert first.st_blocks * 512 <= (305 - 250) * PAGE
    with Chain(images, pages_only=True) as chain:
        assert [piece.layer for piece in chain.resolve("pagemap-7")] == [0, 1]
        chain.verify_pages().wait()


def test_a_parent_that_is_none(tmp_path: Path) -> None:
    done = command("-D", tmp_path, "--prev-images-dir", "../nowhere")
    assert done.returncode == 5
    assert "nowhere" in done.stderr
    assert names(tmp_path) == []
