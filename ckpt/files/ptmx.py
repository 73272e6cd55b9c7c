"""Masters of pseudo terminals under given numbers.

Nobody can ask for a number: /dev/ptmx gives the lowest free one. So it is opened until the wanted
one has come, and what came before is closed again. Programs of ckpt that do this at the same time
would take one another's numbers: they wait for one another by a lock on the folder /dev/pts, which
ends with its holder. Others take the lowest free number and are rarely in the way.

Source: ptmx(4), fs/devpts/inode.c (devpts_new_index); CRIU's criu/tty.c does the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ckpt.errors import RestoreError
from ckpt.files import ttystate
from ckpt.files.openflags import O_LARGEFILE, open_as

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PTMX, PTS = "/dev/ptmx", "/dev/pts"


@contextmanager
def only_one() -> Iterator[None]:
    """No other ckpt takes numbers within this scope. Raises OSError."""
    lock = os.open(PTS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def open_masters(flags: Mapping[int, int]) -> dict[int, int]:
    """Our descriptors of masters by number, which the caller closes; `flags`: open flags of each.

    Within `only_one`. Raises RestoreError where a number is in use, OSError.
    """
    found: dict[int, int] = {}
    others: list[int] = []
    try:
        for number in sorted(flags):
            found[number] = _open_one(number, flags[number], others)
    except BaseException:
        for lfd in found.values():
            os.close(lfd)
        raise
    finally:
        for lfd in others:
            os.close(lfd)
    return found


def _open_one(number: int, flags: int, others: list[int]) -> int:
    """Open until it is there; what else came is added to `others`."""
    while True:
        try:
            lfd = open_as(PTMX, flags)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise RestoreError(
                    "can't be made: this machine has as many pseudo terminals as it may",
                    resource=f"{PTS}/{number}",
                    hint="raise /proc/sys/kernel/pty/max",
                ) from error
            raise
        got = ttystate.ask(lfd, ttystate.TIOCGPTN)
        if got == number:
            return lfd
        others.append(lfd)
        if got > number:
            raise RestoreError(
                "its number is taken by another terminal",
                resource=f"{PTS}/{number}",
                hint="end what uses that terminal, or restore on another devpts",
            )


def open_slave(master: int, number: int, flags: int) -> int:
    """A slave of our master, as whoever opened it has it: by its path where `flags` have
    O_LARGEFILE, which open(2) sets, else by TIOCGPTPEER, as openpty(3) does. Raises OSError."""
    if flags & O_LARGEFILE:
        return open_as(f"{PTS}/{number}", flags)
    # O_CLOEXEC would stay in the flags of the description, and fdinfo show it of every descriptor.
    lfd = fcntl.ioctl(master, ttystate.TIOCGPTPEER, flags | os.O_NOCTTY)
    os.set_inheritable(lfd, False)
    return lfd
