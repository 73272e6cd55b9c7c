"""System calls that Python lacks, as far as looking at processes from outside needs them.

pidfd_getfd(2), kcmp(2), prctl(2). Errors are OSError.
"""

from __future__ import annotations

import ctypes
import os

SYS_KCMP = 312
SYS_PIDFD_GETFD = 438
KCMP_FILE = 0
PR_SET_CHILD_SUBREAPER = 36

libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """Our duplicate (close-on-exec) of descriptor `fd` of the process behind `pidfd`."""
    return _check(libc.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0))


def same_description(pid_a: int, fd_a: int, pid_b: int, fd_b: int) -> bool:
    """Do both descriptors name one open file description?"""
    return (
        _check(
            libc.syscall(
                SYS_KCMP, pid_a, pid_b, KCMP_FILE, ctypes.c_ulong(fd_a), ctypes.c_ulong(fd_b)
            )
        )
        == 0
    )


def become_subreaper() -> None:
    """Orphans below this process become its children from now on, restored ones included."""
    _check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
