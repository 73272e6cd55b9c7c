"""Terminals of programs under test."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.procfd import libc

TIOCGPTN = 0x80045430
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 1 << 18


def have_own_terminals() -> None:
    """From here on this process and its children number their pseudo terminals by themselves, in
    a mount namespace with a devpts of its own: nobody else gets a number between a dump and a
    restore. Where that is not allowed all goes on without."""
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"", b"/", b"", _MS_REC | _MS_PRIVATE, b""):
        return
    libc.mount(b"devpts", b"/dev/pts", b"devpts", 0, b"mode=620,ptmxmode=666,gid=5")


def opened_up_to(number: int) -> list[int]:
    """Masters of ours until one has at least this number; nobody in the tests, nor ckpt, opens
    any meanwhile."""
    held: list[int] = []
    lock = os.open("/dev/pts", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as ckpt does while it takes numbers
        while True:
            held.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
            if struct.unpack("i", fcntl.ioctl(held[-1], TIOCGPTN, bytes(4)))[0] >= number:
                return held
    finally:
        os.close(lock)


@contextmanager
def high_numbers() -> Iterator[None]:
    """Who opens a pseudo terminal in this scope gets a high number: others on this machine get the
    lowest free ones, and must not get that of a dumped program before its restore."""
    held = opened_up_to(100 + os.getpid() % 300)
    try:
        yield
    finally:
        for lfd in held:
            os.close(lfd)
