"""Frames of a migration: whole, broken and hostile."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from ckpt.errors import PeerError
from ckpt.images.pageserver.stream import Stream
from ckpt.migrate import hello, wire


@pytest.fixture
def ends() -> Iterator[tuple[Stream, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield Stream(ours, "peer"), theirs
    ours.close()
    theirs.close()


def test_a_frame_comes_as_it_was_sent(ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    wire.send(Stream(other, ""), "set", b"bytes", name="pre-1", pids=[1, 2], first=True)
    frame = wire.receive(stream)
    assert (frame.kind, frame.data) == ("set", b"bytes")
    assert frame.text("name") == "pre-1"
    assert frame.numbers("pids") == [1, 2]
    assert frame.flag("first") is True


def framed(head: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<IQ", len(head), len(data)) + head + data


HOSTILE = {
    "nothing": b"",
    "half of the lengths": b"\1\0\0",
    "cut short": framed(b'{"kind": "set"}')[:-3],
    "a head too long": struct.pack("<IQ", wire.MAX_HEAD + 1, 0),
    "too many bytes": struct.pack("<IQ", 2, 1 << 63),
    "no JSON": framed(b"{kind}"),
    "not UTF-8": framed(b'{"kind": "\xff"}'),
    "no object": framed(b"[1]"),
    "a number": framed(b"7"),
    "no kind": framed(b"{}"),
    "a kind that is no text": framed(b'{"kind": ["set"]}'),
    "nested without end": framed(b"[" * 100_000),
}


@pytest.mark.parametrize("sent", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_frame(sent: bytes, ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    other.sendall(sent)
    other.close()
    with pytest.raises(PeerError):
        wire.receive(stream)


def test_what_is_due(ends: tuple[Stream, socket.socket]) -> None:
    stream, other = ends
    peer = Stream(other, "")
    wire.send(peer, "failed", why="no room")
    with pytest.raises(PeerError, match="peer: can't go on: no room"):
        wire.expect(stream, "kept")
    wire.send(peer, "kept")
    with pytest.raises(PeerError, match="'kept' where ready was due"):
        wire.expect(stream, "ready")


@pytest.mark.parametrize("value", [None, "7", -1, 1 << 63, 1.5, True, [1]], ids=repr)
def test_a_number_that_is_none(value: object) -> None:
    with pytest.raises(PeerError):
        wire.Frame("x", {"n": value}).number("n")
    with pytest.raises(PeerError):
        wire.Frame("x", {"n": [value]}).numbers("n")


@pytest.mark.parametrize("ident", ["", "..", "a" * 31, "A" * 32, "/" * 32, "0" * 32 + "\n"])
def test_an_identity_that_is_none(ident: str) -> None:
    with pytest.raises(PeerError):
        hello.ident_of(wire.Frame("data", {"id": ident}))
    assert hello.ident_of(wire.Frame("data", {"id": "0" * 32})) == "0" * 32


def test_options_that_are_none() -> None:
    good = {
        "file_locks": True,
        "tcp_established": False,
        "tcp_close": False,
        "file_validation": "buildid",
        "network_lock": "skip",
    }
    assert hello.passed_options(wire.Frame("migrate", {"options": good})) == good
    bad: list[object] = [None, "", "other", 1, [], {}]
    for name in good:
        for value in bad:
            frame = wire.Frame("migrate", {"options": {**good, name: value}})
            with pytest.raises(PeerError):
                hello.passed_options(frame)
    with pytest.raises(PeerError):
        hello.passed_options(wire.Frame("migrate", {}))
