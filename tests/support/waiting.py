"""Waiting for what a program that knows no handshake does, bounded, watching that it lives."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(
    pid: int, happened: Callable[[], bool], timeout_s: float = 60, *, every_ms: int = 3
) -> None:
    """Look again every few milliseconds until `happened()`, which may use files of /proc.

    Fails when `pid` ends before, or after `timeout_s`.
    """
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        while not happened():
            assert not poll.poll(every_ms), f"pid {pid} ended too early"
            assert time.monotonic() < deadline, f"not seen in {timeout_s} s"
    finally:
        os.close(pidfd)


def position(pid: int, fd: int) -> int:
    """The offset of descriptor `fd` of `pid`, -1 while it has none."""
    try:
        with Path(f"/proc/{pid}/fdinfo/{fd}").open() as text:
            return int(text.readline().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return -1
