"""Namespaces that exist already, which a tree is restored into: network, IPC and UTS.

The process that restores joins them for as long as that takes, so what it opens and the tasks that
it makes belong there; then it goes back. All are opened before any is joined.

Source: setns(2), namespaces(7).
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ckpt._native import lib
from ckpt.errors import RestoreError
from ckpt.infect.batch import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KINDS = {"net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000}
"""CLONE_NEWNET, NEWIPC, NEWUTS."""
_HINTS = {
    errno.EPERM: "ckpt restore needs CAP_SYS_ADMIN, there as well",
    errno.ENOENT: "NS:PID or NS:FILE, of a process or namespace that is there",
}


class Joined(NamedTuple):
    """One that shall be joined: its kind, and a file that stands for it."""

    kind: str
    path: str

    def __str__(self) -> str:
        return f"{self.kind} namespace {self.path}"


@contextmanager
def joined(wanted: Sequence[Joined]) -> Iterator[None]:
    """Be in these namespaces. Raises RestoreError where that can't be."""
    with ExitStack() as scope:
        opened = [(one, _open(one, scope)) for one in wanted]
        for one, lfd in opened:
            own = os.open(f"/proc/thread-self/ns/{one.kind}", os.O_RDONLY | os.O_CLOEXEC)
            scope.callback(os.close, own)
            _enter(one, lfd)
            scope.callback(_enter, one, own)
        yield


def _open(one: Joined, scope: ExitStack) -> int:
    try:
        lfd = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(one, error.errno or 0) from error
    scope.callback(os.close, lfd)
    return lfd


def _enter(one: Joined, lfd: int) -> None:
    done = lib.ckpt_call(number("setns"), lfd, KINDS[one.kind], 0, 0, 0, 0)
    if done < 0:
        raise _failed(one, -int(done))


def _failed(one: Joined, code: int) -> RestoreError:
    why = "it is no such namespace" if code == errno.EINVAL else os.strerror(code)
    return RestoreError("can't be joined", resource=str(one), why=why, hint=_HINTS.get(code, ""))
