"""The holder of missing pages and clients that don't keep to what was agreed: they lose their
connection, and a restore that comes then is served."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ckpt.mem.missing.client import connect
from ckpt.mem.tracking import protocol
from tests.support.lazily import LazyPages, until_all_is_in
from tests.support.programs import program

if TYPE_CHECKING:
    from tests.support.case import Case


def ask(sock: socket.socket, **head: object) -> dict[str, object]:
    protocol.send(sock, head)
    answer = protocol.receive(sock, first_s=60)
    assert answer
    return answer.head


def connected(case: Case) -> socket.socket:
    sock = connect(case.images)
    assert sock
    return sock


def refuses(case: Case, **head: object) -> None:
    with connected(case) as sock:
        assert "error" in ask(sock, **head), head


def test_odd_clients(case: Case) -> None:
    victim = case.start(program("memory/private"))
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone([victim.pid])
    other = LazyPages(case.images)
    with connected(case) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n" * 4)
        assert b"not understood" in sock.recv(1000)
    with connected(case) as sock:
        sock.sendall(b"\x05")
    refuses(case, op="hello", version=99)
    refuses(case, op="no such thing")
    refuses(case, op="end", base="")  # of nothing that has begun
    refuses(case, op="task", pid=1, tracked=False)
    for part in ({"op": "runs", "pid": 1}, {"op": "source", "kind": 1}, {"op": "folder"}):
        with connected(case) as sock:
            assert "error" not in ask(sock, op="begin")
            assert "error" in ask(sock, **part), part
    case.ckpt.restore(case.images, "--lazy-pages").ok()
    other.done()
    victim.finish()
    until_all_is_in(case.images)
