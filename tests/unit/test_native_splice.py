"""Pages from a pipe into another one, as into the sink of a page sender."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ckpt._native import lib

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 64 << 10


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """Two pipes (reader, writer, reader, writer), the second one full."""
    ends = [*os.pipe(), *os.pipe()]
    os.write(ends[1], b"new" + bytes(SIZE - 3))
    os.write(ends[3], b"old" + bytes(SIZE - 3))
    yield ends
    for lfd in ends:
        if lfd >= 0:
            os.close(lfd)


def test_a_full_pipe_is_waited_for_without_a_busy_loop(pipes: list[int]) -> None:
    other, sock = os.pipe()
    moved: list[int] = []
    thread = threading.Thread(
        target=lambda: moved.append(lib.ckpt_splice(pipes[0], pipes[3], SIZE, other))
    )
    before = time.process_time()
    thread.start()
    assert not select.select([other], [], [], 0.5)[0]
    assert time.process_time() - before < 0.2, "it spins"
    assert moved == []
    data = b""
    while len(data) < 2 * SIZE:
        data += os.read(pipes[2], SIZE)
    thread.join(60)
    assert moved == [SIZE]
    assert data == b"old" + bytes(SIZE - 3) + b"new" + bytes(SIZE - 3)
    os.close(other)
    os.close(sock)


def test_a_pipe_without_reader_ends_it(pipes: list[int]) -> None:
    other, sock = os.pipe()
    moved: list[int] = []
    thread = threading.Thread(
        target=lambda: moved.append(lib.ckpt_splice(pipes[0], pipes[3], SIZE, other))
    )
    thread.start()
    assert not select.select([other], [], [], 0.05)[0]
    os.close(pipes[2])
    pipes[2] = -1
    thread.join(60)
    assert moved == [-errno.EPIPE]
    os.close(other)
    os.close(sock)
