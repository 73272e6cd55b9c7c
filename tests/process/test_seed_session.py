"""A seed, the parasite in it, and batches: what a restore builds on, in a task of its own."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ckpt._native import ffi, lib
from ckpt.errors import KernelError, TargetError
from ckpt.images.pb.timer_pb2 import task_timers_entry
from ckpt.infect.batch import SOCK, Batch, Load
from ckpt.infect.blob import Layout, blob, layout_at, seed_path
from ckpt.infect.lend import Lender
from ckpt.infect.session import Session
from ckpt.procfs.timers import parse_timers
from ckpt.task import timers
from ckpt.units import PAGE

WINDOW = 0x1000_0000_0000
HOURS_NS = 7200 * 10**9


def start(layout: Layout, sock: socket.socket, theirs: socket.socket) -> int:
    seed = os.open(seed_path(), os.O_RDONLY | os.O_CLOEXEC)
    spawn = ffi.new("struct ckpt_spawn *")
    spawn.sock, spawn.seed, spawn.timens = theirs.fileno(), seed, 1
    spawn.monotonic[0] = spawn.boottime[0] = HOURS_NS // 10**9
    pid = int(lib.ckpt_spawn_seed(spawn))
    os.close(seed)
    assert pid > 0, os.strerror(-pid)
    window = layout.window
    sock.send(struct.pack("<QQQ", window.start, len(window), layout.code_len))
    assert struct.unpack("<IIq", sock.recv(16))[2] == window.start
    for addr, raw in (
        (window.start, blob().code),
        (layout.data, layout.session(sock=lib.CKPT_SEED_SOCK, exit_on_eof=True)),
    ):
        assert lib.ckpt_vm_write(pid, addr, ffi.from_buffer(raw), len(raw)) == len(raw)
    sock.send(struct.pack("<IIQ", lib.CKPT_CMD_RUN, 0, layout.data))
    return pid


@pytest.fixture
def session() -> Iterator[Session]:
    layout = layout_at(WINDOW, 1 << 20)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        pid = start(layout, ours, theirs)
    made = Session(pid, ours, layout)
    try:
        made.hello()
        yield made
    finally:
        made.close()
        os.waitpid(pid, 0)


def test_results_feed_later_calls(session: Session) -> None:
    batch = Batch()
    fd = batch.call("openat", -100, batch.text("/proc/self/stat"), 0, 0)
    buffer = batch.space(64)
    got = batch.call("read", fd, buffer, 64)
    batch.call("close", fd)
    outcome = session.run(batch)
    assert outcome.of(got) == 64
    assert outcome.read(buffer, 64).startswith(b"%d (" % session.pid)


def test_a_batch_of_hundreds_is_one_round_trip(session: Session) -> None:
    batch = Batch()
    answers = [batch.call("getpid") for _ in range(800)]
    outcome = session.run(batch)
    assert {outcome.of(a) for a in answers} == {session.pid}


def test_the_first_unexpected_result_ends_it(session: Session) -> None:
    batch = Batch()
    batch.call("close", 999, also=errno.EBADF)
    batch.call("close", 999, any_result=True)
    batch.call("openat", -100, batch.text("/no/such"), 0, 0, note="the file")
    batch.call("exit_group", 1)
    with pytest.raises(KernelError, match=r"the file: openat.*ENOENT"):
        session.run(batch)
    after = Batch()
    after.call("getpid", want=session.pid)
    session.run(after)


def test_exact_results(session: Session) -> None:
    batch = Batch()
    batch.call("getpid", want=1)
    with pytest.raises(KernelError, match="it returned"):
        session.run(batch)


def test_descriptors_are_lent_and_closed(session: Session) -> None:
    before = os.listdir(f"/proc/{session.pid}/fd")
    reader, writer = os.pipe()
    lender = Lender(session)

    def write(batch: Batch, fd: Load) -> None:
        batch.call("write", fd, batch.put(b"lent"), 4, want=4)

    lender.add(writer, write)
    lender.flush()
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        assert stream.read() == b"lent"
    assert os.listdir(f"/proc/{session.pid}/fd") == before


def test_a_slot_that_was_not_filled_fails(session: Session) -> None:
    batch = Batch()
    slots = batch.receive_fds(SOCK, 2)
    batch.call("dup", slots[1], note="second descriptor")
    with pytest.raises(KernelError, match=r"second descriptor.*EBADF"):
        session.run(batch, fds=[0])


def test_vectors_are_repeated_until_done(session: Session) -> None:
    reader, writer = os.pipe()
    size = 1 << 18
    batch = Batch()
    addr = 0x2000_0000_0000
    batch.call("mmap", addr, size, 3, 0x100022, -1, 0, want=addr)
    slot = batch.receive_fds(SOCK, 1)[0]
    batch.call_all("writev", slot, [(addr, size // 2), (addr + size // 2, size // 2)])
    batch.call("close", slot)
    raw = session.start(batch, fds=[writer])
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        assert len(stream.read()) == size
    session.finish(batch, len(raw))


def test_own_clock(session: Session) -> None:
    batch = Batch()
    place = batch.space(16)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    batch.call("clock_gettime", time.CLOCK_MONOTONIC, place)
    seconds, ns = struct.unpack("<qq", session.run(batch).read(place, 16))
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before <= seconds * 10**9 + ns - HOURS_NS <= after


def test_death_is_an_error_not_a_hang(session: Session) -> None:
    os.kill(session.pid, signal.SIGKILL)
    batch = Batch()
    batch.call("getpid")
    with pytest.raises(TargetError):
        session.run(batch)


def test_it_ends_with_its_controller(session: Session) -> None:
    pidfd = os.pidfd_open(session.pid)
    session.close()
    info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    os.close(pidfd)
    assert info is not None
    assert info.si_status == signal.SIGKILL


def test_code_is_never_writable(session: Session) -> None:
    with Path(f"/proc/{session.pid}/maps").open(encoding="ascii") as stream:
        perms = {line.split()[1] for line in stream}
    assert not any("w" in p and "x" in p for p in perms)
    assert session.layout.code_len >= PAGE


@pytest.mark.parametrize("create", [timers.create, timers.create_by_counting])
def test_timers_get_their_numbers(session: Session, create: Callable[[Session, Any], None]) -> None:
    """With the help of the kernel and, as before Linux 6.15, without."""
    entry = task_timers_entry()
    for number in (3, 4, 700, 2011):
        entry.posix.add(it_id=number, clock_id=1, si_signo=10, it_sigev_notify=0)
    create(session, entry if create is timers.create else entry.posix)
    found = parse_timers(Path(f"/proc/{session.pid}/timers").read_bytes())
    assert sorted(timer.timer_id for timer in found) == [3, 4, 700, 2011]
    assert {timer.signo for timer in found} == {10}
