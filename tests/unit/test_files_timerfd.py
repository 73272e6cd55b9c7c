"""Timerfds whose time comes while they are looked at, or set."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest

from ckpt._native import ffi
from ckpt.files import timerfd
from ckpt.files.anonymous import address, made

HOUR_NS = 3600 * 10**9
ABSTIME = 1


@pytest.fixture
def lfd() -> int:
    return made("timerfd_create", time.CLOCK_MONOTONIC, os.O_CLOEXEC)


def ticks(lfd: int) -> int:
    return int.from_bytes(os.read(lfd, 8), "little")


def wanted(ticks: int, flags: int = 0, clock: int = time.CLOCK_MONOTONIC) -> SimpleNamespace:
    return SimpleNamespace(clockid=clock, settime_flags=flags, ticks=ticks)


@pytest.mark.parametrize("flags", [0, ABSTIME])
def test_a_tick_while_ticks_are_set(lfd: int, flags: int) -> None:
    """It comes beside those that had not been read."""
    timerfd.start(lfd, wanted(5, flags), None, 1, HOUR_NS)
    found = ticks(lfd)
    while found < 6:
        found += ticks(lfd)
    assert found == 6
    os.close(lfd)


def test_dates_that_have_passed() -> None:
    lfd = made("timerfd_create", time.CLOCK_REALTIME, os.O_CLOEXEC)
    date = time.clock_gettime_ns(time.CLOCK_REALTIME) - 5 * HOUR_NS // 2
    timerfd.start(lfd, wanted(5, ABSTIME, time.CLOCK_REALTIME), date, 1, HOUR_NS)
    assert ticks(lfd) == 5 + 3
    timerfd.start(lfd, wanted(2**64 - 2, ABSTIME, time.CLOCK_REALTIME), date, 1, HOUR_NS)
    assert ticks(lfd) == 2**64 - 1
    os.close(lfd)


def test_all_processors_are_visited_and_left(lfd: int) -> None:
    before = os.sched_getaffinity(0)
    timerfd._visit_processors()
    assert os.sched_getaffinity(0) == before
    os.close(lfd)


def test_one_that_is_not_set_seems_still(lfd: int) -> None:
    assert timerfd._SEEMS_STILL(timerfd._ask(lfd).info)
    times = ffi.new("uint64_t[4]", [0, 0, 3600, 0])
    made("timerfd_settime", lfd, 0, address(times), 0)
    assert not timerfd._SEEMS_STILL(timerfd._ask(lfd).info)
    os.close(lfd)
