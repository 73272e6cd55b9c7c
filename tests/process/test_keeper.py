"""The keeper of a running target: found, asked, killed, told to go; the target never notices."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt.mem.extents import Extents
from ckpt.mem.tracking import where
from ckpt.mem.tracking.adopt import adopt_new
from ckpt.mem.tracking.client import Keeper, KeeperBusy, KeeperGone, KeeperRefused
from ckpt.mem.tracking.engine import Mode
from ckpt.report import Report
from ckpt.tracee.freeze import seize
from tests.support import processes
from tests.support.case import Case
from tests.support.commanded import Commanded, Said, outside, private
from tests.support.programs import program
from tests.support.waiting import wait_until

NOBODY = 65534
EVERY_SECOND = set(range(0, 64, 2))


@pytest.fixture(params=list(Mode))
def mode(request: pytest.FixtureRequest) -> Mode:
    return Mode(request.param)


@pytest.fixture
def target(built: Path) -> Iterator[Commanded]:
    with Commanded(built) as started:
        yield started


def socket_of(target: Commanded) -> Path:
    (folder,) = where.existing(os.geteuid(), os.environ)
    return folder.path / where.socket_name(target.pid, target.start_time)


def tracking(target: Commanded, mode: Mode = Mode.ASYNC) -> Keeper:
    """A keeper that has committed everything once, as set "first"."""
    keeper = Keeper.start(target.pid, mode)
    assert adopt_new(keeper, target.pid, Report()) == [target.pid]
    commit(keeper, target, "first")
    return keeper


def commit(keeper: Keeper, target: Commanded, name: str, *, settled: bool = True) -> Extents:
    """One whole transaction; what had to be written."""
    answer = keeper.round({target.pid: private(target.pid)}, rearm=True)[target.pid]
    keeper.commit(
        name, {target.pid: answer.populated}, settled={target.pid: settled}, io_contexts={}
    )
    return answer.must


def found(target: Commanded) -> Keeper:
    keeper = Keeper.find(target.pid)
    assert keeper is not None
    return keeper


def test_a_chain_of_rounds(target: Commanded, mode: Mode) -> None:
    """Find, start, adopt, round, commit, untrack; nothing of it is left in the target."""
    before, maps = outside([target.pid], smaps=True), outside([target.pid], smaps=False)
    assert Keeper.find(target.pid) is None
    with Keeper.start(target.pid, mode) as keeper:
        assert (keeper.mode, keeper.base, keeper.tracked()) == (mode, None, {})
        assert adopt_new(keeper, target.pid, Report()) == [target.pid]
        assert adopt_new(keeper, target.pid, Report()) == []
        known = keeper.tracked()[target.pid]
        assert (known.start_time, known.io_contexts) == (target.start_time, False)
        answer = keeper.round({target.pid: private(target.pid)}, rearm=True)[target.pid]
        assert target.numbers(answer.must) == target.numbers(answer.populated) == EVERY_SECOND
        assert not answer.stored
        keeper.commit(
            "first", {target.pid: answer.populated}, settled={target.pid: True}, io_contexts={}
        )
        assert keeper.base == "first"
        assert maps == outside([target.pid], smaps=False)
    target.write(3, 4)
    with found(target) as keeper:
        assert (keeper.mode, keeper.base) == (mode, "first")
        answer = keeper.round({target.pid: private(target.pid)}, rearm=True)[target.pid]
        assert target.numbers(answer.must) == {3, 4}
        assert target.numbers(answer.stored) == EVERY_SECOND
        assert target.numbers(answer.populated) == EVERY_SECOND | {3}
        status = keeper.status()
        assert (status.root_pid, status.mode, status.base) == (target.pid, mode, "first")
        assert status.tasks[target.pid].nr_owed >= 2
        keeper.untrack()
    assert Keeper.find(target.pid) is None
    assert before == outside([target.pid], smaps=True)
    target.finish()


def test_a_round_that_is_not_committed_merges_into_the_next(target: Commanded, mode: Mode) -> None:
    with tracking(target, mode) as keeper:
        target.write(8)
        keeper.round({target.pid: private(target.pid)}, rearm=True)
        target.write(9)
        assert target.numbers(commit(keeper, target, "second")) == {8, 9}
        assert target.numbers(commit(keeper, target, "third")) == set()
        with pytest.raises(KeeperRefused, match="round"):
            keeper.commit("fourth", {}, settled={}, io_contexts={})
        assert keeper.base == "third"
        keeper.untrack()
    target.finish()


def test_what_is_not_settled_comes_again(target: Commanded) -> None:
    with tracking(target) as keeper:
        target.write(8)
        assert target.numbers(commit(keeper, target, "second", settled=False)) == {8}
        assert target.numbers(commit(keeper, target, "third", settled=True)) == {8}
        assert target.numbers(commit(keeper, target, "fourth")) == set()
        keeper.untrack()
    target.finish()


DIES = """
import os, signal, sys
from ckpt.mem.tracking.client import Keeper
from ckpt.mem.extents import Extents
pid, start, end = (int(word, 0) for word in sys.argv[1:])
keeper = Keeper.find(pid)
keeper.round({pid: Extents.of([(start, end)])}, rearm=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_client_killed_between_round_and_commit(target: Commanded, mode: Mode) -> None:
    """The next client is told of the pages that the dead one had been told of."""
    tracking(target, mode).close()
    target.write(10, 11)
    area = [str(word) for word in (target.pid, target.addr, target.addr + 64 * 4096)]
    done = subprocess.run([sys.executable, "-Pc", DIES, *area], check=False)
    assert done.returncode == -signal.SIGKILL
    target.write(12)
    with found(target) as keeper:
        assert target.numbers(commit(keeper, target, "second")) == {10, 11, 12}
        keeper.untrack()
    target.finish()


def test_keeper_killed(target: Commanded, mode: Mode) -> None:
    """The target runs on; nobody is found, and the stale socket goes."""
    before = outside([target.pid], smaps=True)
    with tracking(target, mode) as keeper:
        path = socket_of(target)
        assert path.is_socket()
        keeper_pid = keeper.status().keeper_pid
        os.kill(keeper_pid, signal.SIGKILL)
        with pytest.raises(KeeperGone):
            keeper.tracked()
        processes.wait_end(keeper_pid)  # the connection may end before the userfaultfd does
    target.write(5, 6)
    assert Keeper.find(target.pid) is None
    assert not path.exists()
    assert before == outside([target.pid], smaps=True)
    with tracking(target, mode) as keeper:
        assert keeper.base == "first"
        keeper.untrack()
    target.finish()


def test_sigterm_untracks(target: Commanded, mode: Mode) -> None:
    before = outside([target.pid], smaps=True)
    with tracking(target, mode) as keeper:
        path = socket_of(target)
        keeper_pid = keeper.status().keeper_pid
    os.kill(keeper_pid, signal.SIGTERM)
    processes.wait_end(keeper_pid)
    assert not path.exists()
    assert before == outside([target.pid], smaps=True)
    target.finish()


def test_keeper_ends_with_its_target(target: Commanded, mode: Mode) -> None:
    with tracking(target, mode) as keeper:
        path = socket_of(target)
        keeper_pid = keeper.status().keeper_pid
    target.finish()
    processes.wait_end(keeper_pid)
    assert not path.exists()


def test_keeper_holds_nothing_of_its_starter(target: Commanded) -> None:
    with tracking(target) as keeper:
        pid = keeper.status().keeper_pid
        kinds = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)}  # noqa: PTH115
        assert kinds == {"/dev/null"}
        assert Path(f"/proc/{pid}/cwd").resolve() == Path("/")
        assert os.getsid(pid) not in (os.getsid(0), pid)
        open_files = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}  # noqa: PTH115
        ours = {name for name in open_files if name.startswith("/")}
        assert ours == {"/dev/null", "/run/ckpt", *(n for n in ours if n.startswith("/proc/"))}
        path = socket_of(target)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        keeper.untrack()


def test_exec_ends_tracking_until_adopted_anew(target: Commanded, mode: Mode) -> None:
    with tracking(target, mode) as keeper:
        target.execute()
        assert keeper.round({target.pid: private(target.pid)}, rearm=False) == {}
        assert target.pid in keeper.lost
        assert keeper.tracked() == {}
        assert adopt_new(keeper, target.pid, Report()) == [target.pid]
        answer = keeper.round({target.pid: private(target.pid)}, rearm=True)[target.pid]
        assert target.numbers(answer.must) == EVERY_SECOND
        assert not answer.stored
        keeper.untrack()
    target.finish()


def test_a_child_is_adopted_by_itself(target: Commanded, mode: Mode) -> None:
    with tracking(target, mode) as keeper:
        child = int(target.ask("f"))
        assert adopt_new(keeper, target.pid, Report()) == [child]
        wanted = {pid: private(pid) for pid in (target.pid, child)}
        answers = keeper.round(wanted, rearm=True)
        assert target.numbers(answers[child].must) == EVERY_SECOND
        assert target.numbers(answers[target.pid].must) == set()
        os.kill(child, signal.SIGKILL)
        wait_until(target.pid, lambda: set(keeper.tracked()) == {target.pid})
        keeper.untrack()
    target.finish()


def test_shared_memory_of_two_tasks_is_not_tracked(target: Commanded) -> None:
    said = Said()
    child = int(target.ask("v"))
    with Keeper.start(target.pid, Mode.ASYNC) as keeper:
        assert adopt_new(keeper, target.pid, said) == []
        assert [f"pid {target.pid}" in said.warnings[0], f"pid {child}" in said.warnings[1]]
        assert all("shares its memory" in text for text in said.warnings)
        assert len(said.warnings) == 2
        keeper.untrack()


def test_full_descriptor_table_is_a_warning(built: Path) -> None:
    """There is no room for a userfaultfd: the target is whole in each layer, and goes on."""

    said = Said()
    with Commanded(built) as target:
        resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (3, 3))
        before = outside([target.pid], smaps=True)
        with Keeper.start(target.pid, Mode.ASYNC) as keeper:
            assert adopt_new(keeper, target.pid, said) == []
            assert keeper.round({target.pid: private(target.pid)}, rearm=True) == {}
            keeper.untrack()
        assert len(said.warnings) == 1
        assert "descriptor table is full" in said.warnings[0]
        assert before == outside([target.pid], smaps=True)
        target.finish()


def test_seccomp_is_a_warning(case: Case) -> None:
    said = Said()
    victim = case.start(program("refused/seccomp_kills"))
    with Keeper.start(victim.pid, Mode.ASYNC) as keeper:
        assert adopt_new(keeper, victim.pid, said) == []
        assert "seccomp" in said.warnings[0]
        keeper.untrack()


def test_target_of_another_user(built: Path, mode: Mode) -> None:
    with Commanded(built, user=NOBODY) as target:
        with tracking(target, mode) as keeper:
            target.write(1, 2)
            assert target.numbers(commit(keeper, target, "second")) == {1, 2}
            keeper.untrack()
        target.finish()


def test_a_standing_target_is_asked(target: Commanded, mode: Mode) -> None:
    """The last round of a dump: nothing is consumed, the answer is exact."""
    with tracking(target, mode) as keeper:
        target.write(30, 31)
        with seize(target.pid, deadline_s=60):
            wanted = {target.pid: private(target.pid)}
            for _ in range(2):
                answer = keeper.round(wanted, rearm=False)[target.pid]
                assert target.numbers(answer.must) == {30, 31}
        keeper.untrack()
    target.finish()


def test_one_client_at_a_time(target: Commanded) -> None:
    """The second waits for the first, but not for ever."""
    first = tracking(target)
    with pytest.raises(KeeperBusy, match=str(os.getpid())):
        Keeper.find(target.pid)
    first.close()
    with found(target) as second:
        second.untrack()
    target.finish()


def test_started_twice(target: Commanded) -> None:
    with tracking(target) as keeper:
        with pytest.raises(Exception, match="tracked already"):
            Keeper.start(target.pid, Mode.ASYNC)
        keeper.untrack()
    target.finish()


def headed(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode()


GARBAGE = [
    b"",
    b"\0",
    b"\xff\xff\xff\xff",
    struct.pack("<I", 1000) + b"{",
    headed("xyz"),
    headed("[]"),
    headed("{}"),
    headed("[" * 20000),
    headed('{"op":"nothing"}'),
    headed('{"op":["hello"]}'),
    headed('{"op":"status","blobs":[100]}') + b"short",
    headed('{"op":"status","blobs":[-1]}'),
    headed('{"op":"status","blobs":[true]}'),
    headed('{"op":"status","blobs":[99999999999]}'),
    headed('{"op":"adopt","pid":1,"start_time":1,"fds":2}'),
    headed('{"op":"adopt","pid":1,"start_time":1}'),
    headed('{"op":"round","rearm":true,"tasks":[[1]],"blobs":[16]}') + b"0123456789abcdef",
    headed('{"op":"round","rearm":1,"tasks":[]}'),
    headed('{"op":"round","rearm":true,"tasks":[[1],[1]],"blobs":[0,0]}'),
    headed('{"op":"commit","round":1,"set":"","tasks":[]}'),
    headed('{"op":"commit","round":77,"set":"x","tasks":[]}'),
]


def test_garbage_on_the_socket(target: Commanded, mode: Mode) -> None:
    """Whatever is sent, and whenever its sender goes away, the keeper keeps what it has."""
    tracking(target, mode).close()
    target.write(20)
    for raw in GARBAGE:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(socket_of(target)))
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1000):
                pass
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(socket_of(target)))
        sock.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("9i", *[0] * 9))])
    with found(target) as keeper:
        held = Path(f"/proc/{keeper.status().keeper_pid}/fd")
        kinds = [os.readlink(fd) for fd in held.iterdir()]  # noqa: PTH115
        assert kinds.count("/dev/null") == 3
        assert target.numbers(commit(keeper, target, "second")) == {20}
        keeper.untrack()
    target.finish()


def test_requests_that_make_no_sense(target: Commanded) -> None:
    """They are refused, and the next one is answered."""
    with tracking(target) as keeper:
        target.write(20)
        with pytest.raises(KeeperRefused, match="userfaultfd"):
            null = os.open("/dev/null", os.O_RDWR)
            keeper.adopt(target.pid, target.start_time, null, null)
    os.close(null)
    with found(target) as keeper:
        unsorted = Extents.of([(0x5000, 0x6000), (0x1000, 0x2000)])
        with pytest.raises(KeeperRefused, match="ascending"):
            keeper.round({target.pid: unsorted}, rearm=True)
    with found(target) as keeper:
        assert (
            set(keeper.round({1: Extents.none(), 99999999: private(target.pid)}, rearm=True))
            == set()
        )
        assert target.numbers(commit(keeper, target, "second")) == {20}
        keeper.untrack()
    target.finish()
