"""Flags of open file descriptions, as F_GETFL, fdinfo and the images have them.

Source: open(2), fcntl(2), include/uapi/asm-generic/fcntl.h.

On x86-64 the kernel sets O_LARGEFILE in every file that is opened by a path (openat2(2) is no way
around it), and Python's own O_LARGEFILE is 0. Pipes and the terminals of openpty(3) are without it.
It has no effect there, but F_GETFL and fdinfo show it.
"""

from __future__ import annotations

import os

from ckpt.errors import ImageError

O_LARGEFILE = 0o100000
O_TMPFILE_ALONE = 0o20000000
"""__O_TMPFILE: O_TMPFILE without the O_DIRECTORY that always comes with it."""

SETTABLE = os.O_APPEND | os.O_NONBLOCK | os.O_DIRECT | os.O_NOATIME
"""What F_SETFL changes. O_ASYNC is one too, but it comes when there is an owner: see owner."""

_REOPEN = os.O_ACCMODE | SETTABLE | os.O_SYNC | os.O_DSYNC | O_LARGEFILE
_REOPEN |= os.O_DIRECTORY | os.O_NOFOLLOW | os.O_PATH
_HARMLESS = os.O_NOCTTY | os.O_CLOEXEC | os.O_ASYNC | O_TMPFILE_ALONE


def checked(flags: int, where: str) -> int:
    """`flags` of an image, fit for open(2): never one that creates, truncates or sends signals.

    A file that was made with O_TMPFILE and has got a name since is opened by that name.
    """
    unknown = flags & ~(_REOPEN | _HARMLESS)
    if unknown:
        raise ImageError(f"has open flags {unknown:#o} that no open file has", resource=where)
    flags &= _REOPEN | O_TMPFILE_ALONE
    if flags & O_TMPFILE_ALONE:
        flags &= ~(O_TMPFILE_ALONE | os.O_DIRECTORY)
    return flags


def open_as(path: str, flags: int) -> int:
    """Open `path` so that F_GETFL says `flags`, O_LARGEFILE aside. Close-on-exec, never a
    controlling terminal. Raises OSError."""
    return os.open(path, (flags & ~O_LARGEFILE) | os.O_NOCTTY | os.O_CLOEXEC)


def shown(flags: int) -> str:
    """Flags as open(2) spells them: "O_RDWR|O_APPEND"."""
    names = [("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[flags & os.O_ACCMODE]]
    known = ("O_APPEND", "O_NONBLOCK", "O_DIRECT", "O_DIRECTORY", "O_NOFOLLOW", "O_PATH")
    names += [name for name in known if flags & getattr(os, name)]
    return "|".join(names)
