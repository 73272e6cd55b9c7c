"""Terminals of programs under test."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

TIOCGPTN = 0x80045430


@contextmanager
def high_numbers() -> Iterator[None]:
    """Who opens a pseudo terminal in this scope gets a high number: others on this machine get the
    lowest free ones, and must not get that of a dumped program before its restore."""
    lowest = 100 + os.getpid() % 300
    held: list[int] = []
    lock = os.open("/dev/pts", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as ckpt does while it takes numbers
        number = -1
        while number < lowest - 1:
            held.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
            number = struct.unpack("i", fcntl.ioctl(held[-1], TIOCGPTN, bytes(4)))[0]
        yield
    finally:
        for lfd in (*held, lock):
            os.close(lfd)
