"""Messages between keeper and client: what is sent arrives, and what lies is told from it."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.mem.tracking.protocol import ProtocolError, checked, receive, send

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@settings(max_examples=50)
@given(blobs=st.lists(st.binary(max_size=3000), max_size=40))
def test_messages_arrive_as_they_were(pair: Pair, blobs: list[bytes]) -> None:
    for text in ("one", "two"):
        send(pair[0], {"op": text}, blobs)
    for text in ("one", "two"):
        message = receive(pair[1])
        assert message
        assert message.get("op", str) == text
        assert [bytes(blob) for blob in message.blobs] == blobs


def test_more_blobs_than_one_call_takes(pair: Pair) -> None:
    send(pair[0], {}, [b"x"] * 2000)
    message = receive(pair[1])
    assert message
    assert b"".join(message.blobs) == b"x" * 2000


def test_descriptors_arrive_close_on_exec_and_are_closed(pair: Pair) -> None:
    before = descriptors()
    with open(os.devnull) as null:  # noqa: PTH123
        send(pair[0], {}, fds=(null.fileno(), null.fileno()))
    message = receive(pair[1])
    assert message
    assert len(message.fds) == 2
    assert not any(os.get_inheritable(lfd) for lfd in message.fds)
    message.close()
    assert descriptors() == before


@pytest.mark.parametrize("said", [0, 1, 3])
def test_another_number_of_descriptors_than_said(pair: Pair, said: int) -> None:
    before = descriptors()
    head = json.dumps({"fds": said}).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("2i", 0, 0))]
    pair[0].sendmsg([struct.pack("<I", len(head)) + head], rights)
    with pytest.raises(ProtocolError):
        receive(pair[1])
    assert descriptors() == before


def test_more_descriptors_than_there_is_room_for(pair: Pair) -> None:
    before = descriptors()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("50i", *[0] * 50))]
    pair[0].sendmsg([b"\2\0\0\0{}"], rights)
    with pytest.raises(ProtocolError):
        receive(pair[1])
    assert descriptors() == before


def test_the_end_between_messages_is_none(pair: Pair) -> None:
    pair[0].close()
    assert receive(pair[1]) is None


@given(raw=st.binary(min_size=1, max_size=100))
def test_whatever_comes_is_a_message_or_refused(raw: bytes) -> None:
    """Nothing waits for ever, and no other error comes out."""
    ours, theirs = socket.socketpair()
    nr = 0
    with ours, theirs:
        ours.sendall(raw)
        ours.shutdown(socket.SHUT_WR)
        try:
            while receive(theirs) is not None:
                nr += 1
        except ProtocolError:
            nr += 1
    assert nr


def test_a_message_that_does_not_go_on(pair: Pair) -> None:
    pair[0].sendall(b"\5\0\0\0{")
    with pytest.raises(ProtocolError, match="in time"):
        receive(pair[1], rest_s=0.05)


def test_a_receiver_that_does_not_take_it(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        send(pair[0], {}, [bytes(1 << 22)], timeout_s=0.05)


def test_types_are_exact() -> None:
    assert checked(True, bool, "x") is True
    wrong: list[tuple[object, Any]] = [(True, int), (1, bool), (1.0, int), (None, str)]
    for value, kind in wrong:
        with pytest.raises(ProtocolError):
            checked(value, kind, "x")
