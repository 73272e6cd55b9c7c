"""Descriptors as seen from outside: what, position, flags, locks, and who shares a description."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.procfd import pidfd_getfd, same_description
from tests.support.tokens import Tokens

F_GETPIPE_SZ = 1032
F_GET_SEALS = 1034
NUMBERED = re.compile(r"(\w+):\[(\d+)\]")


def descriptors(pids: Iterable[int], tokens: Tokens) -> Iterator[tuple[str, str]]:
    """("PID/fd/N/ASPECT", value) for every descriptor of these tasks."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for pid in pids:
        pidfd = os.pidfd_open(pid)
        try:
            for fd in sorted(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()):
                for aspect, value in _one(pid, pidfd, fd, tokens):
                    yield f"{pid}/fd/{fd}/{aspect}", value
                link = str(Path(f"/proc/{pid}/fd/{fd}").readlink())
                first = _first_sharer(groups.setdefault(link, []), pid, fd)
                yield f"{pid}/fd/{fd}/description", "{}:{}".format(*first)
        finally:
            os.close(pidfd)


def _first_sharer(known: list[tuple[int, int]], pid: int, fd: int) -> tuple[int, int]:
    """The first (pid, fd) with the same open file description, itself if there was none."""
    for other in known:
        if same_description(pid, fd, *other):
            return other
    known.append((pid, fd))
    return pid, fd


def _one(pid: int, pidfd: int, fd: int, tokens: Tokens) -> Iterator[tuple[str, str]]:
    link = str(Path(f"/proc/{pid}/fd/{fd}").readlink())
    if match := NUMBERED.fullmatch(link):
        link = tokens.name(match[1], match[2])
    yield "what", link
    locks = []
    for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("pos", "flags"):
            yield name, value.strip()
        elif name == "lock":
            locks.append(" ".join(value.split()[1:]))  # without the running number
    if locks:
        yield "locks", "; ".join(sorted(locks))
    lfd = pidfd_getfd(pidfd, fd)
    try:
        yield from _asked(lfd)
    finally:
        os.close(lfd)


def _asked(lfd: int) -> Iterator[tuple[str, str]]:
    stat = os.fstat(lfd)
    yield "mode", f"{stat.st_mode:o}"
    if stat.st_mode & 0o170000 == 0o010000:
        if not fcntl.fcntl(lfd, fcntl.F_GETFL) & os.O_PATH:
            waiting = fcntl.ioctl(lfd, termios.FIONREAD, b"\0\0\0\0")
            yield "in flight", str(struct.unpack("i", waiting)[0])
            yield "pipe size", str(fcntl.fcntl(lfd, F_GETPIPE_SZ))
    elif stat.st_mode & 0o170000 == 0o100000:
        yield "size", str(stat.st_size)
        if stat.st_nlink == 0:
            yield "seals", str(fcntl.fcntl(lfd, F_GET_SEALS)) if _sealable(lfd) else "none"
        else:
            yield "file", f"{stat.st_dev}:{stat.st_ino}"


def _sealable(lfd: int) -> bool:
    try:
        fcntl.fcntl(lfd, F_GET_SEALS)
    except OSError:
        return False
    return True
