"""TCP connections whose other end is outside of the tree, and what is left of the lock."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ckpt.files.inetaddr import of_call
from ckpt.files.netlock import Connection, NetLock
from ckpt.files.tcpguard import TcpGuard
from tests.requirements import require
from tests.support import visible
from tests.support.case import Case
from tests.support.nftables import own_network, tables
from tests.support.programs import program
from tests.support.victim import Victim, start
from tests.support.waiting import wait_until

ESTABLISHED = "--tcp-established"
TCP_REPAIR = 19
TEXT = bytes(range(256)) * 1000


def exactly(sock: socket.socket, size: int) -> bytes:
    """A socket with a timeout does not wait for all that was asked for by itself."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


@dataclass
class Served:
    """A victim that echoes, and our end of its connection."""

    victim: Victim
    peer: socket.socket

    def echoes(self, text: bytes) -> None:
        """What is sent comes back, byte by byte."""
        got = bytearray()
        left = memoryview(text)
        while left or len(got) < len(text):
            if left:
                left = left[self.peer.send(left[:8192]) :]
            piece = self.peer.recv(8192)
            assert piece, "the connection ended"
            got += piece
        assert bytes(got) == text

    def finish(self) -> None:
        """Our half ends, then the victim's."""
        self.peer.shutdown(socket.SHUT_WR)
        assert self.peer.recv(100) == b"end"
        assert self.peer.recv(100) == b""
        self.victim.verdict()


@contextmanager
def served(case: Case) -> Iterator[Served]:
    folder = case.folder / "echo"
    victim = start([str(program("outside/tcp_echo").build(case.built))], folder)
    case.victims.append(victim)
    wait_until(victim.pid, (folder / "port").exists)
    port = int((folder / "port").read_text())
    with closing(socket.create_connection(("127.0.0.1", port))) as peer:
        peer.settimeout(60)
        victim.wait_ready()
        yield Served(victim, peer)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with own_network():
        yield
        assert tables() == set()


def dumped(case: Case, it: Served, *options: str) -> None:
    pids = it.victim.tree
    case.ckpt.dump(it.victim.pid, case.images, *options).ok()
    it.victim.await_gone(pids)


def test_the_peer_notices_nothing(case: Case) -> None:
    """It goes on sending while there is nobody, and gets its answer in the end."""
    with served(case) as it:
        it.peer.sendall(b"before")
        dumped(case, it, ESTABLISHED)
        assert len(tables()) == 1
        it.peer.sendall(b"while it was away")
        case.ckpt.restore(case.images, ESTABLISHED).ok()
        assert tables() == set()
        it.victim.go()
        assert exactly(it.peer, 6) == b"before"
        assert exactly(it.peer, 17) == b"while it was away"
        it.echoes(TEXT)
        it.finish()


@pytest.mark.parametrize(
    "where", ["ckpt.files.tcpguard:TcpGuard.silence", "ckpt.tracee.freeze:_send"]
)
def test_killed_in_the_midst_of_the_end(case: Case, where: str) -> None:
    """The whole of the end is done: the victim sees nothing of it, nor does its peer."""
    with served(case) as it:
        pids = it.victim.tree
        driver = [sys.executable, "-P", "-m", "tests.support.killedat", where, "parent"]
        argv = case.ckpt.argv("dump", "-t", it.victim.pid, "-D", case.images, ESTABLISHED)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        case.images.mkdir()
        killed = subprocess.run([*driver, *argv[1:]], env=env, check=False, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        it.victim.await_gone(pids)
        assert len(tables()) == 1
        it.peer.sendall(b"while it was away")
        case.ckpt.restore(case.images, ESTABLISHED).ok()
        assert tables() == set()
        it.victim.go()
        assert exactly(it.peer, 17) == b"while it was away"
        it.echoes(TEXT)
        it.finish()


def test_crit_reads_a_connection(case: Case) -> None:
    """Debian's crit, which knows CRIU's format and not our code."""
    require(shutil.which("crit"), "crit is not installed")
    with served(case) as it:
        it.peer.sendall(b"unread")
        options = ("--leave-running", ESTABLISHED)
        case.ckpt.dump(it.victim.pid, case.images, *options).ok()
        entries = _decoded(case.images / "files.img")
        (socket_,) = [e["isk"] for e in entries if e.get("isk", {}).get("state") == 1]
        assert socket_["dst_port"] == it.peer.getsockname()[1]
        assert socket_["src_port"] == it.peer.getpeername()[1]
        (stream,) = _decoded(case.images / f"tcp-stream-{socket_['ino']:x}.img")
        assert (stream["inq_len"], stream["outq_len"]) == (6, 0)
        assert base64.b64decode(stream["extra"]["inq"]) == b"unread"
        it.victim.go()
        assert exactly(it.peer, 6) == b"unread"
        it.finish()


def _decoded(path: Path) -> Any:
    argv = ["crit", "decode", "-i", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)["entries"]


def test_leave_running_leaves_no_rule(case: Case) -> None:
    with served(case) as it:
        case.ckpt.dump(it.victim.pid, case.images, "--leave-running", ESTABLISHED).ok()
        assert tables() == set()
        assert it.peer.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR) == 0
        it.victim.go()
        it.echoes(TEXT)
        it.finish()


def test_refused_without_the_option(case: Case) -> None:
    with served(case) as it:
        before = visible.look(it.victim.pid, exact=True)
        result = case.ckpt.dump(it.victim.pid, case.images)
        result.failed(3, "TCP connection (ESTABLISHED)", ESTABLISHED, f"pid {it.victim.pid}")
        visible.assert_same(before, visible.look(it.victim.pid, exact=True))
        it.victim.go()
        it.echoes(b"as before")
        it.finish()


def test_a_failed_restore_can_be_done_again(case: Case) -> None:
    """Nothing was sent to the peer, and the lock of the dump still stands."""
    with served(case) as it:
        dumped(case, it, ESTABLISHED)
        locked = tables()
        case.ckpt.restore(case.images).failed(6, "connected at the dump", ESTABLISHED)
        pidfile = case.folder / "pidfile"
        pidfile.mkdir()
        late = case.ckpt.restore(case.images, ESTABLISHED, "--pidfile", str(pidfile))
        late.failed(6, "pidfile")
        assert tables() == locked
        case.ckpt.restore(case.images, ESTABLISHED).ok()
        it.victim.go()
        it.echoes(b"here again")
        it.finish()


def test_a_peer_that_has_closed_its_half(case: Case) -> None:
    with served(case) as it:
        it.peer.sendall(b"last")
        it.peer.shutdown(socket.SHUT_WR)
        dumped(case, it, ESTABLISHED)
        case.ckpt.restore(case.images, ESTABLISHED).ok()
        it.victim.go()
        assert exactly(it.peer, 7) == b"lastend"
        assert it.peer.recv(1) == b""
        it.victim.verdict()


@pytest.mark.parametrize(
    ("dump", "restore"),
    [(["--tcp-close"], []), ([ESTABLISHED, "--network-lock", "skip"], ["--tcp-close"])],
    ids=["dump", "restore"],
)
def test_closed_connections(case: Case, dump: list[str], restore: list[str]) -> None:
    """The victim finds its connection ended, and nothing is locked."""
    with served(case) as it:
        dumped(case, it, *dump)
        assert tables() == set()
        case.ckpt.restore(case.images, *restore).ok()
        it.victim.finish()


def test_iptables_is_refused_by_name(case: Case) -> None:
    result = case.ckpt.run("dump", "-t", 1, "-D", case.folder, "--network-lock", "iptables")
    result.failed(2, "iptables", "nftables")


def test_a_guard_and_a_lock_outlive_nobody() -> None:
    """Killed with a socket in repair mode, the lock in place: all is as before."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        closing(listener.accept()[0]) as server,
    ):
        server.settimeout(60)
        began, begun = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                guard = TcpGuard()
                lock = NetLock(f"ckpt-test-{os.getpid()}", owned=True)
                lock.add([Connection(*map(of_call, (client.getsockname(), client.getpeername())))])
                guard.hold([client.fileno()])
                client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
                os.write(begun, b"1")
                signal.pause()
            finally:
                os._exit(1)
        os.close(begun)
        assert os.read(began, 1) == b"1"
        os.close(began)
        name = f"ckpt-test-{pid}"
        assert name in tables()
        assert client.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR) == 1
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        wait_until(os.getpid(), lambda: client.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR) == 0)
        wait_until(os.getpid(), lambda: name not in tables())
        client.send(b"free")
        assert server.recv(4) == b"free"


@pytest.mark.parametrize("how", ["polls", "waits"])
def test_what_nobody_has_answered_is_asked_for_anew(case: Case, how: str) -> None:
    """A connection that is being opened: its peer, which had no room for it, takes it then."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        server.settimeout(60)
        with socket.create_connection(server.getsockname()):
            binary = str(program("outside/tcp_opening").build(case.built))
            victim = case.start_command(binary, how, str(server.getsockname()[1]))
            victim.wait_ready()
            before = visible.look(victim.pid)
            case.ckpt.dump(victim.pid, case.images).failed(3, "SYN-SENT", ESTABLISHED)
            case.ckpt.dump(victim.pid, case.images, ESTABLISHED).ok()
            victim.await_gone([victim.pid])
            case.ckpt.restore(case.images).failed(6, ESTABLISHED)
            case.ckpt.restore(case.images, ESTABLISHED).ok()
            visible.assert_same(before, visible.look(victim.pid))
            server.accept()[0].close()
        taken = server.accept()[0]
        taken.settimeout(60)
        victim.go()
        assert exactly(taken, 5) == b"hello"
        victim.verdict(60)
        taken.close()
