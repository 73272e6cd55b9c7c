"""What is read of a task that runs: its threads come and go meanwhile."""

from __future__ import annotations

import os
import threading

import pytest

from ckpt.dump.facts import look
from ckpt.procfs import reader
from ckpt.procfs.reader import ProcDir


@pytest.mark.parametrize("name", ["stat", "status", "cgroup"])
def test_a_thread_that_ends_while_its_files_are_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between open(2) and read(2), which says ESRCH then."""
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    wanted = f"task/{thread.native_id}/{name}"
    asked: list[str] = []
    read_at = reader.read_at

    def read_late(dirfd: int, path: str) -> bytes:
        if path != wanted:
            return read_at(dirfd, path)
        asked.append(path)
        fd = os.open(path, os.O_RDONLY, dir_fd=dirfd)
        leave.set()
        thread.join()
        try:
            while True:  # until the kernel has let go of the thread
                os.pread(fd, 1, 0)
        finally:
            os.close(fd)

    monkeypatch.setattr(reader, "read_at", read_late)
    with ProcDir(os.getpid()) as proc:
        facts = look(proc)
    assert asked == [wanted]
    assert thread.native_id not in facts.threads
    assert os.getpid() in facts.threads
