"""Work that goes on where the process that wants it is killed, and the death of that process, which
waits for it. That a target does not run meanwhile is seen by its own record in
tests/process/test_traffic.py."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path

import pytest

from ckpt.errors import KernelError
from ckpt.tracee import lasting
from ckpt.tracee.lasting import lasting as done
from tests.support import processes


def dead_child() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_the_answer() -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert done(lambda: {"size": 3, "parts": [b"x" * 300_000, b""]}) == {
        "size": 3,
        "parts": [b"x" * 300_000, b""],
    }
    assert len(os.listdir("/proc/self/fd")) == before


def test_work_that_fails() -> None:
    assert done(lambda: 1 // 0) is None
    assert done(lambda: os.kill(os.getpid(), signal.SIGKILL)) is None


@pytest.mark.parametrize("name", ["memfd_create", "pipe2", "fork", "pidfd_open"])
def test_what_the_system_refuses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, "refused")

    before, children = len(os.listdir("/proc/self/fd")), processes.children(os.getpid())
    monkeypatch.setattr(os, name, refuse)
    with pytest.raises(KernelError, match="a child of ours"):
        done(lambda: 1)
    assert len(os.listdir("/proc/self/fd")) == before
    assert set(processes.children(os.getpid())) <= set(children)


def test_in_any_thread() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(done(lambda: 4)))
    thread.start()
    thread.join()
    assert found == [4]


def test_the_dead_get_nothing_done() -> None:
    assert not lasting._stands(dead_child())


def test_sigkill_waits_for_the_end_of_the_work() -> None:
    begun, go, ended = os.pipe(), os.pipe(), os.pipe()

    def work() -> None:
        os.write(begun[1], str(os.getpid()).encode())
        os.read(go[0], 1)
        os.write(ended[1], b"x")

    pid = os.fork()
    if pid == 0:
        try:
            done(work)
        finally:
            os._exit(1)
    worker = int(os.read(begun[0], 16))
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "D"
    os.write(go[1], b"x")
    assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)
    assert os.read(ended[0], 1) == b"x"
    processes.wait_end(worker)  # it is ours, if orphans are
    for lfd in (*begun, *go, *ended):
        os.close(lfd)
