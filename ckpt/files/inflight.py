"""Descriptors in flight: sent to a UNIX socket (SCM_RIGHTS) and not received yet.

A look into the queue makes duplicates of them in our own table. There they are descriptors like any
other, of this process, and described by the same kinds; some are sockets with more in flight. What
a task has open as well is that task's. What nobody else has may not be of a kind, or have a state,
which a restore can give to nobody but a task.

Source: unix(7), unix_peek_fds() in net/unix/af_unix.c.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from ckpt.errors import Refusal
from ckpt.files.descriptor import look
from ckpt.files.kind import FLYING_ALONE, FdType, Obstacle
from ckpt.files.refused import unclaimed_obstacle
from ckpt.procfs.reader import ProcDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.kind import DumpKind
    from ckpt.files.unix import UnixDump

    Claimed = tuple[Descriptor, DumpKind | None]


class InFlight:
    """Those of one dump, which must stand still."""

    def __init__(self, view: DumpView) -> None:
        self._view = view
        self._carriers: dict[int, Descriptor] = {}

    def collect(
        self,
        claimed: Iterable[Claimed],
        claim: Callable[[list[Descriptor]], list[Claimed]],
    ) -> list[Claimed]:
        """Everything in flight to sockets of `claimed`, and to what is in flight."""
        found: list[Claimed] = []
        todo = list(claimed)
        while todo:
            new: list[Claimed] = []
            for d, kind in todo:
                if kind and kind.type is FdType.UNIXSK:
                    new += claim(self._received(d, cast("UnixDump", kind)))
            found += new
            todo = new
        return found

    def _received(self, carrier: Descriptor, kind: UnixDump) -> list[Descriptor]:
        lfds = kind.in_flight(carrier)
        if not lfds:
            return []
        own = os.getpid()
        if own not in self._view.pidfds:
            self._view.pidfds[own] = self._view.keep(os.pidfd_open(own))
        self._carriers.update(dict.fromkeys(lfds, carrier))
        with ProcDir(own) as proc:
            return look(proc, self._view.pidfds[own], lfds)

    def obstacles(self, alone: Iterable[Claimed]) -> Iterator[Refusal]:
        """`alone`: those that no task has open."""
        for d, kind in alone:
            if obstacle := _obstacle(d, kind):
                carrier = self._carriers[d.fd]
                while carrier.pid == d.pid:
                    carrier = self._carriers[carrier.fd]
                why = f"{d.link} is in flight to it (SCM_RIGHTS): {obstacle.why}"
                yield Refusal(carrier.pid, str(carrier), why, obstacle.hint)


def _obstacle(d: Descriptor, kind: DumpKind | None) -> Obstacle | None:
    hint = "dump it when it was received"
    if kind is None:
        return Obstacle(unclaimed_obstacle(d).why, hint)
    if kind.type not in FLYING_ALONE:
        return Obstacle("nobody else has it open, and only a task could", hint)
    if d.locks or d.owner:
        return Obstacle("it has a lock or an owner, and nobody else has it open", hint)
    return kind.obstacle(d)
