"""python3 -m http.server with a transfer in progress."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.case import Case
from tests.support.nftables import own_network, tables
from tests.support.waiting import wait_until

PORT = 8123
SIZE = 64 << 20
TCP = ["--tcp-established"]


def _body(sock: socket.socket) -> tuple[bytes, bytes]:
    """The head of the answer, and what has come of the body with it."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = sock.recv(4096)
        assert piece, got
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    return head, body


@pytest.fixture
def served(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    return path


def test_a_transfer_goes_on(case: Case, served: Path) -> None:
    """Dumped and restored twice in the middle of it; the client gets every byte, and a new client
    is served afterwards."""
    words = ("-m", "http.server", str(PORT), "--bind", "127.0.0.1", "--directory")
    with own_network():
        server = case.start_command(sys.executable, *words, str(served.parent))
        wait_until(server.pid, _listens)
        with closing(socket.create_connection(("127.0.0.1", PORT))) as client:
            client.settimeout(60)
            client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
            head, body = _body(client)
            assert b" 200 " in head.splitlines()[0]
            digest, size = hashlib.sha256(body), len(body)
            # Who served the probes that found it listening may not have ended yet.
            wait_until(server.pid, lambda: len(os.listdir(f"/proc/{server.pid}/task")) == 2)
            for _ in range(2):
                case.dump_and_restore(server, TCP, TCP, ["*/maps/*", "*/pos"])
                assert tables() == set()
                piece = client.recv(1 << 20)
                digest.update(piece)
                size += len(piece)
            assert size < SIZE, "the transfer was over before"
            while piece := client.recv(1 << 20):
                digest.update(piece)
                size += len(piece)
        assert size == SIZE
        assert digest.digest() == hashlib.sha256(served.read_bytes()).digest()
        with closing(socket.create_connection(("127.0.0.1", PORT))) as client:
            client.settimeout(60)
            client.sendall(b"HEAD /large HTTP/1.0\r\n\r\n")
            assert f"Content-Length: {SIZE}".encode() in _body(client)[0]


def _listens() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0
