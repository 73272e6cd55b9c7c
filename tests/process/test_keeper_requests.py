"""What the keeper does with requests, over engines that fail when they are told to."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt.errors import KernelError
from ckpt.kerndat.uffd import userfaultfd
from ckpt.mem.extents import Extents
from ckpt.mem.tracking import serving
from ckpt.mem.tracking.engine import NO_ROOM, Engine, Found, Mode
from ckpt.mem.tracking.protocol import VERSION, Message, ProtocolError
from ckpt.mem.tracking.requests import Refused, Requests
from ckpt.mem.tracking.serving import Server
from ckpt.procfs.tree import look
from tests.requirements import require

ALL = Extents.of([(0x1000, 0x9000)])


class Fake(Engine):
    """Finds everything written each time it rearms, nothing else."""

    def __init__(self, uffd: int, pagemap: int) -> None:
        super().__init__(uffd, pagemap)
        self.fails = False
        self.closed = False

        self.served = True

    def arm(self, ranges: Extents, room: Extents = NO_ROOM) -> Extents:
        del ranges, room
        return Extents.none()

    def lend(self) -> tuple[int, Extents]:
        self.served = False
        return self._uffd, Extents.of([(0x1000, 0x2000)])

    def take_back(self, moved: Extents, registered: Extents) -> None:
        del moved, registered
        if self.fails:
            raise KernelError("on purpose")
        self.served = True

    def look(self, ranges: Extents, *, rearm: bool) -> Found:
        if self.fails:
            raise KernelError("on purpose")
        return Found(ranges if rearm else Extents.none(), ranges, Extents.none())

    def alive(self) -> bool:
        return not self.fails

    def close(self) -> None:
        self.closed = True
        super().close()

    def _look(self, tracked: Extents, *, rearm: bool) -> tuple[Extents, Extents]:
        raise NotImplementedError

    def _lost(self, tracked: Extents) -> Extents:
        raise NotImplementedError


class Tried:
    """Two tasks, sleeping, in the hands of one Requests."""

    def __init__(self) -> None:
        self.engines: list[Fake] = []
        self.processes = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
        self.pids = [process.pid for process in self.processes]
        self.requests = Requests(self.pids[0], Mode.ASYNC, self._make)
        for pid in self.pids:
            self.adopt(pid)

    def _make(self, mode: Mode, uffd: int, pagemap: int) -> Engine:
        assert mode is Mode.ASYNC
        self.engines.append(Fake(uffd, pagemap))
        return self.engines[-1]

    def adopt(self, pid: int, start_time: int | None = None) -> None:
        task = look(pid)
        assert task
        with userfaultfd() as uffd:
            fds = [os.dup(uffd), os.open("/proc/self/pagemap", os.O_RDONLY)]
        head: dict[str, object] = {
            "op": "adopt",
            "pid": pid,
            "start_time": task.starttime if start_time is None else start_time,
        }
        message = Message(head, [], fds)
        try:
            self.requests.answer(message)
        finally:
            message.close()

    def ask(self, op: str, pids: list[int], **more: object) -> dict[str, object]:
        blobs = [memoryview(ALL.to_bytes()) for _ in pids for _ in range(1 + (op == "round"))]
        tasks = [[pid, True, False] if op == "commit" else [pid] for pid in pids]
        return self.requests.answer(Message({"op": op, "tasks": tasks, **more}, blobs)).head

    def sizes(self) -> dict[int, list[int]]:
        rows = self.requests.answer(Message({"op": "status"})).head["tasks"]
        assert isinstance(rows, list)
        return {row[0]: row[2:] for row in rows}


@pytest.fixture
def tried() -> Iterator[Tried]:
    require(os.geteuid() == 0, "a userfaultfd of one's own needs root")
    made = Tried()
    yield made
    made.requests.close()
    assert all(engine.closed for engine in made.engines)
    for process in made.processes:
        process.kill()
        process.wait()


def test_an_engine_that_fails_is_let_go_alone(tried: Tried) -> None:
    """The other one's pages are not lost with it."""
    one, other = tried.pids
    tried.engines[0].fails = True
    head = tried.ask("round", tried.pids, rearm=True)
    assert head["answers"] == [[other, False]]
    assert head["lost"] == [[one, "on purpose"]]
    assert tried.engines[0].closed
    assert not tried.engines[1].closed
    assert tried.sizes() == {other: [0, 8, 0]}
    tried.ask("commit", tried.pids, round=head["round"], set="first")
    assert tried.sizes() == {other: [8, 0, 0]}


def test_a_request_is_checked_whole_first(tried: Tried) -> None:
    """One bad set among good ones, or a range that is not in its room, and nothing is scanned or
    committed."""
    broken, elsewhere = memoryview(b"odd"), memoryview(Extents.of([(0, 4096)]).to_bytes())
    tasks = [[pid] for pid in tried.pids]
    good = memoryview(ALL.to_bytes())
    for last in (broken, elsewhere):
        message = Message({"op": "round", "rearm": True, "tasks": tasks}, [good, good, good, last])
        with pytest.raises(ProtocolError):
            tried.requests.answer(message)
    assert list(tried.sizes().values()) == [[0, 0, 0]] * 2
    number = tried.ask("round", tried.pids, rearm=True)["round"]
    with pytest.raises(Refused):
        tried.ask("commit", tried.pids, round=-1, set="first")
    assert list(tried.sizes().values()) == [[0, 8, 0]] * 2
    tried.ask("commit", tried.pids, round=number, set="first")
    assert list(tried.sizes().values()) == [[8, 0, 0]] * 2


def committed(tried: Tried) -> None:
    number = tried.ask("round", tried.pids, rearm=True)["round"]
    tried.ask("commit", tried.pids, round=number, set="first")


def test_a_borrower_that_leaves(tried: Tried) -> None:
    """It may have protected what was written: nothing is known any more, of anybody."""
    committed(tried)
    reply = tried.requests.answer(Message({"op": "lend", "pid": tried.pids[0]}))
    assert [Extents.from_bytes(blob).nr_pages for blob in reply.blobs] == [1, 8]
    assert reply.fds == [tried.engines[0]._uffd]
    assert [engine.served for engine in tried.engines] == [False, True]
    for pid in (tried.pids[0], 1):
        with pytest.raises(Refused, match="not to be had"):
            tried.requests.answer(Message({"op": "lend", "pid": pid}))
    tried.requests.hung_up()
    assert all(engine.served for engine in tried.engines)
    assert list(tried.sizes().values()) == [[0, 0, 0]] * 2
    assert tried.requests.answer(Message({"op": "hello", "version": VERSION})).head["base"] is None


def test_what_is_given_back_is_a_round(tried: Tried) -> None:
    """One that can't be had back is let go alone."""
    committed(tried)
    for pid in tried.pids:
        tried.requests.answer(Message({"op": "lend", "pid": pid}))
    tried.engines[1].fails = True
    written = Extents.of([(0x2000, 0x4000)])
    sets = [memoryview(one.to_bytes()) for one in (ALL, written, ALL, Extents.none())]
    message = Message({"op": "give_back", "tasks": [[pid] for pid in tried.pids]}, 2 * sets)
    with pytest.raises(ProtocolError):
        tried.requests.answer(Message(message.head, message.blobs[:-1]))
    head = tried.requests.answer(message).head
    assert head["lost"] == [[tried.pids[1], "on purpose"]]
    assert tried.engines[0].served
    assert tried.engines[1].closed
    assert tried.sizes() == {tried.pids[0]: [8, 3, 0]}
    tried.ask("commit", tried.pids[:1], round=head["round"], set="second")
    tried.requests.hung_up()
    assert tried.sizes() == {tried.pids[0]: [8, 0, 0]}


def test_adopting_anew_replaces(tried: Tried) -> None:
    number = tried.ask("round", tried.pids, rearm=True)["round"]
    tried.ask("commit", tried.pids, round=number, set="first")
    tried.adopt(tried.pids[0])
    assert [engine.closed for engine in tried.engines] == [True, False, False]
    assert tried.sizes() == {tried.pids[0]: [0, 0, 0], tried.pids[1]: [8, 0, 0]}


def test_another_process_under_the_number_is_refused(tried: Tried) -> None:
    gc.collect()  # else it may close what other tests have left
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Refused, match="not the process"):
        tried.adopt(tried.pids[0], start_time=1)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not tried.engines[0].closed


def test_who_has_ended_is_let_go(tried: Tried) -> None:
    """A zombie too; descriptors of the keeper are closed."""
    engine = tried.engines[1]
    lfds = [engine._uffd, engine._pagemap]
    pidfd = next(fd for fd, pid in tried.requests.pidfds().items() if pid == tried.pids[1])
    tried.processes[1].send_signal(signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    head = tried.ask("round", tried.pids, rearm=True)
    assert head["answers"] == [[tried.pids[0], False]]
    for lfd in (*lfds, pidfd):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(lfd)


def test_a_keeper_of_nothing_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its starter died before it handed anything over."""
    monkeypatch.setattr(serving, "IDLE_S", 0.05)
    requests = Requests(os.getpid(), Mode.ASYNC, lambda *_: pytest.fail("no engine is wanted"))
    before = {number: signal.getsignal(number) for number in (1, 2, 15)}
    pidfd = os.pidfd_open(os.getpid())
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "socket"))
            listening.listen()
            Server(listening, requests, pidfd).run()
    finally:
        os.close(pidfd)
        for number, handler in before.items():
            signal.signal(number, handler)
