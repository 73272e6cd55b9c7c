"""The folder in which a page server makes its images: `.ckpt-pages.tmp` in the images directory.

It is locked while a server has it. One without lock was left by a server that was killed; what is
in it belongs to nobody. Only the temporary names of images are ever removed from it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress

from ckpt.errors import ImageError
from ckpt.images.directory import cannot_write, is_temporary

STAGE = ".ckpt-pages.tmp"
_TRIES = 10


def enter(dir_lfd: int, directory: str) -> int:
    """A descriptor of the empty, locked folder. Raises ImageError if another server has it."""
    for _ in range(_TRIES):
        lfd = _open(dir_lfd, directory)
        try:
            _lock(lfd, directory)
            # Between the two steps the one that had it may have removed it.
            if os.fstat(lfd).st_nlink:
                _empty(lfd)
                return lfd
        except OSError as error:
            os.close(lfd)
            raise cannot_write(f"{directory}/{STAGE}", error) from error
        except BaseException:
            os.close(lfd)
            raise
        os.close(lfd)
    raise ImageError("other page servers come and go there", resource=directory)


def leave(dir_lfd: int, lfd: int) -> None:
    """Remove the folder with what is in it, and close `lfd`."""
    try:
        _empty(lfd)
        _remove(dir_lfd)
    finally:
        os.close(lfd)


def _lock(lfd: int, directory: str) -> None:
    try:
        fcntl.flock(lfd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems know no locks: there the user keeps servers apart.
        if error.errno == errno.EWOULDBLOCK:
            raise ImageError(
                "another page server writes images there", resource=directory
            ) from error


def _open(dir_lfd: int, directory: str) -> int:
    made = False
    try:
        with suppress(FileExistsError):
            os.mkdir(STAGE, 0o700, dir_fd=dir_lfd)
            made = True
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(STAGE, flags, dir_fd=dir_lfd)
    except OSError as error:
        if made:
            _remove(dir_lfd)
        raise cannot_write(f"{directory}/{STAGE}", error) from error


def _remove(dir_lfd: int) -> None:
    """What somebody else put there stays, and the folder with it."""
    with suppress(OSError):
        os.rmdir(STAGE, dir_fd=dir_lfd)


def _empty(lfd: int) -> None:
    for file in os.listdir(lfd):
        if is_temporary(file):
            os.unlink(file, dir_fd=lfd)
