"""A server of missing pages is killed between its note that it closes a userfaultfd and the close:
its successor closes it, and nothing else that has got the number meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from ckpt._native import lib
from ckpt.kerndat import uffd
from ckpt.lazy.layout import Job, Task
from ckpt.mem.missing.contents import Contents


@pytest.fixture
def number() -> int:
    """Of a userfaultfd, which whoever uses this closes."""
    with uffd.userfaultfd() as lfd:
        return os.dup(lfd)


@pytest.fixture
def job(number: int) -> Iterator[Job]:
    """That of a server whose only space lacks nothing, so that it lets go of it at once."""
    job = Job([Task(1, number, -1, [], [], tracked=False)], Contents())
    yield job
    for lfd in (*job.job.layouts, *job.job.journals):
        os.close(lfd)


def killed_while_it_closes(job: Job) -> None:
    lib.ckpt_fault_arm(1)
    try:
        pid = job.start()
    finally:
        lib.ckpt_fault_arm(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def comes_to_its_end(job: Job) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(job.start(), 0)[1]) == 0


def is_open(number: int) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


def test_a_successor_closes_what_was_to_be_closed(job: Job, number: int) -> None:
    killed_while_it_closes(job)
    assert is_open(number)
    comes_to_its_end(job)
    assert not is_open(number)


def test_a_number_that_is_used_anew_is_left_alone(job: Job, number: int) -> None:
    killed_while_it_closes(job)
    other = os.eventfd(7, os.EFD_CLOEXEC)
    os.dup2(other, number)
    os.close(other)
    comes_to_its_end(job)
    assert os.eventfd_read(number) == 7
    os.close(number)
