"""What is on its way through a pseudo terminal: taken, put back, put into another."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator

import pytest

from ckpt.errors import KernelError
from ckpt.files import ttyqueue
from ckpt.files.ttyqueue import BY_CALL, BY_CHARACTER, Pair, Queues, may_hold, put
from ckpt.files.ttystate import Settings


def opened() -> Pair:
    master, slave = os.openpty()
    os.set_blocking(slave, False)
    return Pair(master, slave)


def close(pair: Pair) -> None:
    os.close(pair.master)
    os.close(pair.slave)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = opened()
    yield made
    close(made)


def taken(pair: Pair) -> Queues:
    """What is in there, after three looks that must agree and change no setting."""
    settings = Settings.of(pair.slave)
    first, second = (ttyqueue.take_and_put_back([pair])[0] for _ in range(2))
    assert first == second
    assert Settings.of(pair.slave) == settings
    return first


def moved(pair: Pair) -> tuple[Queues, Pair]:
    """What is in there, and another terminal that it was put into."""
    queues, other = taken(pair), opened()
    put(other, queues, Settings.of(pair.slave))
    assert taken(other) == queues
    return queues, other


def readable(lfd: int) -> bool:
    poll = select.poll()
    poll.register(lfd, select.POLLIN)
    return bool(poll.poll(0))


def test_lines_come_as_lines(pair: Pair) -> None:
    os.write(pair.master, b"one\ntwo\x04th\x16\x03r\x16\n\x04\x04rest")
    os.write(pair.slave, b"out\n")
    queues, other = moved(pair)
    assert queues.lines == (b"one\n", b"two", b"th\x03r\n", b"")
    assert queues.rest == b"rest" and b"out\r\n" in queues.output
    for each in (pair, other):
        os.write(each.master, b"\x7f\x7f!\n")
        read: list[bytes] = []
        while len(read) < 5:
            if readable(each.slave):
                read.append(os.read(each.slave, 100))
        assert read == [b"one\n", b"two", b"th\x03r\n", b"", b"re!\n"]
    close(other)


@pytest.mark.parametrize("size", [1, 250, 1000, 3900])
def test_raw_bytes(pair: Pair, size: int) -> None:
    tty.setraw(pair.slave)
    assert not may_hold(pair)
    data = bytes(i * 7 % 256 for i in range(size))
    os.write(pair.master, data)
    queues, other = moved(pair)
    assert queues == Queues(rest=data)
    assert os.read(other.slave, 4096) == data
    close(other)


@pytest.mark.parametrize("portion", [1, 100, 256, 1000, 4096])
def test_full_buffers_fit_again(pair: Pair, portion: int) -> None:
    tty.setraw(pair.slave)
    os.set_blocking(pair.master, False)
    for lfd in pair:
        with pytest.raises(BlockingIOError):
            while True:
                os.write(lfd, b"x" * portion)
    queues = taken(pair)
    assert len(queues.output) > 8192 and len(queues.rest) > 8192


def test_stopped_output(pair: Pair) -> None:
    settings = Settings.of(pair.slave)
    os.write(pair.master, b"half\x13")
    poll = select.poll()
    poll.register(pair.slave, select.POLLOUT)
    while poll.poll(0):
        os.sched_yield()
    queues, other = moved(pair)
    assert queues == Queues(b"half", rest=b"half", stopped=BY_CHARACTER)
    os.write(other.master, b"\x11")
    poll = select.poll()
    poll.register(other.slave, select.POLLOUT)
    assert poll.poll(60000)
    fcntl.ioctl(other.slave, termios.TCXONC, 0)
    queues, third = moved(other)
    assert queues.stopped == BY_CALL
    fcntl.ioctl(third.slave, termios.TCXONC, 1)
    assert not taken(third).stopped
    assert Settings.of(third.slave) == settings
    close(other)
    close(third)


def test_packets_and_locks_stay(pair: Pair) -> None:
    tty.setraw(pair.slave)
    fcntl.ioctl(pair.master, termios.TIOCPKT, b"\1\0\0\0")
    os.write(pair.slave, b"abc")
    assert taken(pair).output == b"abc"
    assert os.read(pair.master, 100) == b"\0abc"


def test_the_death_of_the_dump_loses_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL while what was there is with nobody but the child."""
    os.write(pair.master, b"typed\nahead")
    ready, go = os.pipe(), os.pipe()
    take = ttyqueue._take

    def slow(pair: Pair) -> object:
        found = take(pair)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        return found

    monkeypatch.setattr(ttyqueue, "_take", slow)
    dump = os.fork()
    if dump == 0:
        try:
            ttyqueue.take_and_put_back([pair])
        finally:
            os._exit(1)
    assert os.read(ready[0], 1) == b"x"
    os.kill(dump, signal.SIGKILL)
    assert not readable(pair.slave)
    assert os.waitpid(dump, os.WNOHANG) == (0, 0)
    os.write(go[1], b"x")
    os.waitpid(dump, 0)
    poll = select.poll()
    poll.register(pair.slave, select.POLLIN)
    assert poll.poll(60000)
    os.close(ready[1])
    assert os.read(ready[0], 1) == b""  # the child is gone, all is put back
    monkeypatch.undo()
    assert ttyqueue.take_and_put_back([pair])[0][1:3] == ((b"typed\n",), b"ahead")
    for lfd in (ready[0], *go):
        os.close(lfd)


def test_a_child_that_fails_is_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Pair) -> object:
        raise OSError

    monkeypatch.setattr(ttyqueue, "_one", fail)
    with pytest.raises(KernelError, match="can't be taken"):
        ttyqueue.take_and_put_back([pair])
