"""Descriptors of kinds that are restored, in states that are not: refused by name all the same."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ckpt.files import FileOptions, FilesDump
from ckpt.files.descriptor import Descriptor
from ckpt.files.dumping import DumpView
from ckpt.files.eventfd import EventfdDump
from ckpt.files.ghost import obstacle as ghost_obstacle
from ckpt.files.inet import Held, InetDump
from ckpt.files.locks import obstacle as lock_obstacle
from ckpt.files.refused import path_obstacle
from tests.requirements import require
from tests.support import descriptors as ds

PRELUDE = """
import ctypes, select
call = ctypes.CDLL(None, use_errno=True).syscall

def abroad(make):
    '''What `make` gives in another network namespace; this one is the caller's again.'''
    home = os.open('/proc/self/ns/net', os.O_RDONLY)
    assert call(272, 0x40000000) == 0
    fd = make()
    assert call(308, home, 0x40000000) == 0
    os.close(home)
    return fd

def connected():
    '''The server's end of a connection, and the client's.'''
    listener = socket.create_server(('127.0.0.1', 0))
    client = socket.create_connection(listener.getsockname())
    return listener.accept()[0], client

def settled(sock, state):
    '''The descriptor of a socket that has come into that state.'''
    while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != state:
        select.select([], [], [], 0.001)
    return sock.detach()

def half_over(text):
    server, client = connected()
    client.send(text)
    client.close()
    select.select([server], [], [])
    server.shutdown(socket.SHUT_WR)
    return settled(server, 7)

def refused_connection():
    sock = socket.socket()
    sock.bind(('127.0.0.1', 0))
    other = socket.socket()
    other.setblocking(False)
    other.connect_ex(sock.getsockname())
    sock.close()
    return settled(other, 7)

def peeking():
    server, client = connected()
    client.detach()
    server.setsockopt(socket.SOL_SOCKET, 42, 0)
    return server.detach()

def overrun():
    '''A member of a group of netlink that has no room for what it is sent.'''
    group = 1 << 30
    member, sender = (socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2) for _ in range(2))
    member.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    member.bind((0, group))
    poll = select.poll()
    poll.register(member, 0)
    while not poll.poll(0):
        try:
            sender.sendto(struct.pack('=IHHII', 1016, 16, 0, 0, 0) + bytes(1000), (0, group))
        except ConnectionRefusedError:
            pass  # it is sent to the kernel as well, which takes none
    return member.detach()

def busy():
    poll = select.epoll()
    fcntl.ioctl(poll.fileno(), 0x40088A01, struct.pack('IHBB', 50, 8, 1, 0))
    return os.dup(poll.fileno())

def fifo(flags):
    os.mkfifo(F)
    return os.open(F, flags)

def unreadable():
    reader = fifo(os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(F, os.O_WRONLY)
    os.write(writer, b'left')
    os.close(reader)
    return writer

def without_its_folder():
    os.mkdir(D + '/folder')
    fd = os.open(D + '/folder/file', os.O_CREAT | os.O_RDWR)
    os.link(D + '/folder/file', D + '/other')
    os.unlink(D + '/folder/file')
    os.rmdir(D + '/folder')
    return fd

def leased():
    fd = os.open(F, os.O_CREAT | os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    os.unlink(F)
    return fd

def watching():
    fd = call(294, 0)
    open(F, 'w').close()
    kept = os.open(F, os.O_RDONLY)
    assert call(254, fd, F.encode(), 1) > 0
    os.unlink(F)
    return fd

def notified(leave):
    fd = call(300, 0, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), 'fanotify_init')
    open(F, 'w').close()
    kept = os.open(F, os.O_RDONLY)
    assert call(301, fd, 1, ctypes.c_uint64(0x20), -100, F.encode()) == 0
    leave(F)
    return fd
"""

STATES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "inet abroad": (
        "abroad(lambda: socket.socket().detach())",
        "it belongs to another network namespace",
        {},
    ),
    "unix abroad": (
        "abroad(lambda: socket.socket(socket.AF_UNIX).detach())",
        "it is of another network namespace",
        {},
    ),
    "packet abroad": (
        "abroad(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).detach())",
        "it is of another network namespace",
        {},
    ),
    "netlink abroad": (
        "abroad(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).detach())",
        "it belongs to another network namespace",
        {},
    ),
    "netlink, overrun": ("overrun()", "has yet to tell of lost messages (ENOBUFS)", {}),
    "tunnel": (
        "(s := socket.socket(type=socket.SOCK_DGRAM), s.setsockopt(17, 100, 2), s.detach())[2]",
        "a UDP tunnel",
        {},
    ),
    "over, with data": ("half_over(b'data')", "its connection is over, and data", {}),
    "failed": ("refused_connection()", "its connection failed, and the error", {}),
    "peeking": ("peeking()", "a TCP connection that uses SO_PEEK_OFF", {"tcp_established": True}),
    "busy polling": ("busy()", "its settings for busy polling", {}),
    "unreadable": ("unreadable()", "a FIFO with 4 bytes in it that nobody can read now", {}),
    "without its folder": (
        "without_its_folder()",
        "it was removed with its folder",
        {"link_remap": True},
    ),
    "leased": ("leased()", "it was removed, and holds a lease", {"file_locks": True}),
    "memfd": ("os.memfd_create(b'\\xff')", "its name is not UTF-8", {}),
    "marked": ("notified(os.unlink)", "it has a mark on", {}),
    "with events": (
        "notified(lambda path: os.close(os.open(path, os.O_RDONLY)))",
        "bytes of events that can't be put back",
        {},
    ),
    "watched": ("watching()", "which no known path leads to (--irmap-scan-path", {}),
}


@pytest.mark.parametrize(("opening", "text", "options"), STATES.values(), ids=STATES.keys())
def test_refused_in_this_state(
    opening: str, text: str, options: dict[str, Any], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    code = (
        f"{PRELUDE}F, D = {str(tmp_path / 'file')!r}, {str(tmp_path)!r}\n"
        "wrong = 0\n"
        f"try: fd = {opening}\n"
        "except OSError as error: fd, wrong = -1, error.errno\n"
        "stand(fd, wrong)"
    )
    with ds.Stander(code) as child:
        _, fd, wrong = child.said[0]
        require(fd >= 0, f"the kernel refuses it: {os.strerror(wrong)}")
        saved = ds.save(child, images, **options)
        assert any(
            f"pid {child.pid}: descriptor {fd} (" in line and text in line
            for line in saved.refusals
        ), saved.refusals
        assert not list(images.iterdir())


def seen(link: str, size: int = 0, info: bytes = b"", mode: int = stat.S_IFREG) -> Descriptor:
    """What a test can't open."""
    return Descriptor(
        *(7, 3, link, 0, False, 0, mode, 1, 2, 0, size),
        *(0, 0, 0, 0, 0, False, 0, 0, 0, info),
    )


def test_tls_in_the_kernel() -> None:
    """As a socket tells it that was given keys (TCP_ULP); many kernels are built without."""

    class Encrypting:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option) == (6, 31) and size >= 4
            return b"tls\0"

    view: Any = DumpView(FileOptions(), None)
    found = InetDump(view)._look_tcp(Held(seen("socket:[2]"), 1, None), Encrypting())  # type: ignore[arg-type]
    assert found is not None and "an upper protocol (TLS)" in found.why


def test_a_removed_file_that_nobody_carries() -> None:
    found = path_obstacle(seen("/x (deleted)"))
    assert found is not None and "the file was removed" in found.why and "--external" in found.hint


def test_a_ghost_larger_than_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 8192)
    monkeypatch.setattr("ckpt.files.ghost.MAX_IMAGE", (1 << 20) + 4096)
    found = ghost_obstacle(seen("/x (deleted)", size=8192), 5000, str(file))
    assert found is not None and "8192 bytes are more than an image holds" in found.why


def test_a_delegation() -> None:
    """Which the kernel gives to servers of NFS only."""
    lock = b"lock:\t1: DELEG  ACTIVE    READ 7 00:01:2 0 EOF\n"
    info = b"pos:\t0\nflags:\t02\nmnt_id:\t1\nino:\t2\n" + lock
    found = lock_obstacle(seen("/x", info=info), file_locks=True)
    assert found is not None and "a delegation is not restored yet" in found.why


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("eventfd-count:                5\n", "whether an eventfd is a semaphore"),
        ("eventfd-count: ffffffffffffffff\neventfd-semaphore: 0\n", "that was overrun"),
    ],
)
def test_eventfds(lines: str, text: str) -> None:
    """Old kernels say less; only the kernel itself overruns one."""
    info = f"pos:\t0\nflags:\t02\nmnt_id:\t1\nino:\t2\n{lines}".encode()
    with FilesDump(FileOptions()) as files:
        found = EventfdDump(files._view).obstacle(seen("anon_inode:[eventfd]", info=info))
    assert found is not None and text in found.why
