"""Engines held by this very process: tracking that lasts no longer than it does.

Where the process ends, by whatever, the kernel closes the engines' descriptors and with them drops
all protection; nothing is left in the targets.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.mem.tracking.asynchronous import Asynchronous
from ckpt.mem.tracking.client import Known
from ckpt.mem.tracking.engine import Mode
from ckpt.mem.tracking.holding import Held
from ckpt.mem.tracking.synchronous import Synchronous
from ckpt.record import record

if TYPE_CHECKING:
    from ckpt.mem.tracking.engine import Engine


@record
class Holder:
    """Takes over tasks as a keeper does. `events`: -1, or a pipe for Synchronous."""

    mode: Mode
    events: int
    held: dict[int, Held]

    def tracked(self) -> dict[int, Known]:
        """The tasks whose memory is still the one that was handed over; others are let go."""
        for pid in [pid for pid, held in self.held.items() if not held.alive()]:
            self.held.pop(pid).close()
        return {pid: Known(held.start_time, False) for pid, held in self.held.items()}

    def adopt(self, pid: int, start_time: int, uffd: int, pagemap: int) -> None:
        """Takes duplicates of both descriptors. Raises TargetError: it has ended."""
        lfds = [os.dup(lfd) for lfd in (uffd, pagemap)]
        self.held[pid] = Held(pid, start_time, self._engine(*lfds))

    def close(self) -> None:
        """Let go of all."""
        while self.held:
            held = self.held.popitem()[1]
            held.release()
            held.close()

    def _engine(self, uffd: int, pagemap: int) -> Engine:
        if self.mode is Mode.ASYNC:
            return Asynchronous(uffd, pagemap)
        # Of a stream of addresses one wants those that were written, and no others.
        run_max = 1 if self.events >= 0 else 64
        return Synchronous(uffd, pagemap, run_max=run_max, events=self.events)
