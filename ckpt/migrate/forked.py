"""Processes of ours that must not have certain numbers: those of the tree that moves here.

A fork gets any number that is free, and a restore could not give it to its task then.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from typing import NoReturn

from ckpt.errors import KernelError

_TRIES = 200
_WRONG = 77


def fork_outside(numbers: Collection[int], work: Callable[[], NoReturn]) -> int:
    """Have a child of ours do `work`, which never returns; its pid, not one of `numbers`.

    The child begins with SIGINT, SIGTERM and SIGHUP blocked, which it may change. Raises
    KernelError where no other number is to be had.
    """
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    )
    try:
        for _ in range(_TRIES):
            pid = os.fork()
            if pid == 0:
                _begin(numbers, work)
            if pid not in numbers:
                return pid
            os.waitpid(pid, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    raise KernelError("every process that is made has a number of the tree")


def _begin(numbers: Collection[int], work: Callable[[], NoReturn]) -> NoReturn:
    code = _WRONG
    try:
        if os.getpid() not in numbers:
            work()
    finally:
        os._exit(code)
